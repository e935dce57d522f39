"""Which node, or which link, makes a group of processes slow or fail: found by halving the group.

Members are nodes, or the processes of one node. A group of them is tried by a collective in a group of its
own, with a time limit, so that a member that is dead or hangs costs that limit and nothing more. What a group
should reach is the median of disjoint pairs: most links are sound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

# A group that is this share of the usual pair's speed, or less, is slow. Speeds of sound groups of different
# sizes differ by less on one fabric: bus bandwidth is what doesn't depend on the size.
SLOW = 0.7
Group = tuple[int, ...]
# Speeds of groups that share no member, tried at the same time; None: it failed or timed out.
Try = Callable[[Sequence[Group]], Sequence[float | None]]


@dataclass(frozen=True)
class Culprit:
    """What makes a group slow or fail.

    A member that is `dead` (it doesn't answer), a `member` that slows whoever works with it, the `link`
    between two that work with others, or `together`: every pair is sound, all at once aren't. `share` is the
    speed that the smallest bad group reached, as a share of the usual pair's; None: it failed.
    """

    kind: Literal["dead", "member", "link", "together"]
    members: Group
    share: float | None = None


def find_culprits(members: Sequence[int], try_groups: Try, dead: Sequence[int] = ()) -> tuple[Culprit, ...]:
    """Return what makes the group of `members` slow or fail; none where it is sound.

    `dead` are those already known not to answer. Of two members nothing tells which is at fault, so the link
    between them is named.
    """
    found = [Culprit("dead", (each,)) for each in dead]
    alive = [each for each in members if each not in set(dead)]
    if len(alive) >= 2:
        found += _Halving(try_groups, alive).search()
    return tuple(found)


class _Halving:
    """The members that are left, and the usual speed of a pair of them."""

    def __init__(self, try_groups: Try, members: Sequence[int]) -> None:
        self._try, self._members = try_groups, list(members)
        # Each time with other partners: a sound member isn't judged by one bad partner. Of an odd number one
        # is left out each time.
        turns = [[*members[by:], *members[:by]] for by in range(3 if len(members) % 2 else 2)]
        speeds = [each for turn in turns for each in try_groups(_pair(turn))]
        known = sorted(each for each in speeds if each is not None)
        # The upper quartile: a fault makes pairs slower, never faster, and of three it reaches two.
        self._usual = known[3 * len(known) // 4] if known else None

    def search(self) -> list[Culprit]:
        """Name one culprit after the other, each time without those named before."""
        found: list[Culprit] = []
        while len(self._members) >= 2 and self._is_bad(tuple(self._members)):
            found.append(self._narrow(tuple(self._members)))
            if found[-1].kind == "together":
                break
            # Of a link one end: without it the link is in no group any more.
            self._members = [each for each in self._members if each != found[-1].members[-1]]
        return found

    def _narrow(self, group: Group) -> Culprit:
        """Halve a bad group until a pair is left, or two halves that are bad only together."""
        while len(group) > 2:
            halves = group[: len(group) // 2], group[len(group) // 2 :]
            tried = [each for each in halves if len(each) > 1]
            speeds = self._try(tried)
            bad = [each for each, speed in zip(tried, speeds, strict=True) if self._is_slow(speed)]
            if not bad:
                return self._narrow_between(*halves)
            group = bad[0]
        return self._judge_pair(group)

    def _narrow_between(self, first: Group, second: Group) -> Culprit:
        """Of two halves that are bad only together, find a member of each that are so as a pair."""
        whole = (*first, *second)
        for _ in range(2):
            while len(first) > 1:
                front, back = first[: len(first) // 2], first[len(first) // 2 :]
                first = front if self._is_bad((*front, *second)) else back
            first, second = second, first
        pair = (*first, *second)
        return (
            self._judge_pair(pair) if self._is_bad(pair) else Culprit("together", whole, self._share(whole))
        )

    def _judge_pair(self, pair: Group) -> Culprit:
        """Say which of a bad pair it is, by a third that works with one of them; else it is their link."""
        share, thirds = self._share(pair), [each for each in self._members if each not in pair]
        for third in thirds:
            with_first, with_second = self._is_bad((pair[0], third)), self._is_bad((pair[1], third))
            if with_first != with_second:
                return Culprit("member", (pair[0] if with_first else pair[1],), share)
            if not with_first:
                return Culprit("link", pair, share)
        # Neither works with anybody; without a third nothing tells.
        return Culprit("member", pair[:1], share) if thirds else Culprit("link", pair, share)

    def _is_bad(self, group: Group) -> bool:
        return self._is_slow(self._try([group])[0])

    def _is_slow(self, speed: float | None) -> bool:
        return speed is None or (self._usual is not None and speed < SLOW * self._usual)

    def _share(self, group: Group) -> float | None:
        (speed,) = self._try([group])
        return None if speed is None or not self._usual else speed / self._usual


def _pair(members: Sequence[int]) -> list[Group]:
    return [(members[n], members[n + 1]) for n in range(0, len(members) - 1, 2)]
