"""Turns: how cases of a GPU, each so long at a stretch, share a window, and what counts of a turn.

A power limit looks at the mean of power over some 0.2 s, so a turn begins at the clock that the case before
left. What counts comes after that; ten readings a second then still tell the cases apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.engine.window import TimedBatch

# What counts of a turn comes after `_LEAD_S`; of a shorter one the last `_COUNTED_S`, or its last half.
_LEAD_S, _COUNTED_S, LEAD_SHARE = 0.5, 0.25, 0.5


def fill_up(shares: Sequence[float], least: float) -> list[float]:
    """Return shares of the same sum of which none is below `least`, or all are equal where that is too much.

    What smaller ones lack comes from what the others have above it, in proportion.
    """
    least = min(least, sum(shares) / max(len(shares), 1))
    lacking = sum(max(least - each, 0.0) for each in shares)
    above = sum(max(each - least, 0.0) for each in shares)
    kept = 1 - lacking / above if above > 0 else 0.0
    return [least + kept * max(each - least, 0.0) for each in shares]


def drop_leads(batches: Sequence[TimedBatch]) -> list[TimedBatch]:
    """Return the batches without those at the beginning of each turn, during which the clock follows.

    That is half a second; of a turn shorter than 0.75 s all but the last 0.25 s, or its first half. The
    batches of one round are one turn. Its last one is always kept.
    """
    return [each for turn in _split_by_turn(batches) for each in _drop_lead(turn)]


def find_lead_s(batches: Sequence[TimedBatch]) -> float:
    """Return the least time by which `drop_leads` shortens the turns of these batches at their beginning."""
    turns = _split_by_turn(batches)
    return min(_drop_lead(turn)[0].timing.start_s - turn[0].timing.start_s for turn in turns)


def _split_by_turn(batches: Sequence[TimedBatch]) -> list[list[TimedBatch]]:
    turns: dict[int, list[TimedBatch]] = {}
    for each in batches:
        turns.setdefault(each.round, []).append(each)
    return list(turns.values())


def _drop_lead(turn: Sequence[TimedBatch]) -> Sequence[TimedBatch]:
    begin_s, turn_s = turn[0].timing.start_s, turn[-1].timing.end_s - turn[0].timing.start_s
    since_s = begin_s + min(_LEAD_S, max(turn_s - _COUNTED_S, LEAD_SHARE * turn_s))
    return [each for each in turn if each.timing.start_s >= since_s] or turn[-1:]
