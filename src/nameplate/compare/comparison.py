"""Two sides, case by case: what is slower beyond the threshold, what is faster, what is the same.

Every interval is of a confidence that lets all of them hold together in 95 of 100 comparisons, however many
cases there are: a gate that looks at many cases fails on a real regression, and on nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.exit_status import ExitStatus
from nameplate.base.messages import Message
from nameplate.compare.estimate import shared_confidence
from nameplate.compare.looks import Side, Taken
from nameplate.compare.refusals import WHERE, refuse
from nameplate.compare.rows import WORDS, Looks, Matched, Place, Row, match, regressions, row_of
from nameplate.compare.sides import read_side
from nameplate.compare.spreads import Spread
from nameplate.compare.terms import THRESHOLD, By, Terms

_Key = tuple[str, str]  # device, or a kind of them, and case


@dataclass(frozen=True)
class Difference:
    """Something figures depend on that the sides don't share; it may be what is compared."""

    what: str
    base: str
    new: str


@dataclass(frozen=True)
class Comparison:
    """Every case that either side has a figure of, and what the words rest on.

    `in_pairs`: the runs were taken in turn, and each pair of them is one observation. `confidence` is that of
    each interval; `spreads` are those that were allowed for.
    """

    base: Side
    new: Side
    terms: Terms
    rows: tuple[Row, ...]
    in_pairs: bool
    confidence: float
    spreads: tuple[Spread, ...] = ()
    pairs: tuple[Mapping[str, Any], ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """What isn't the same on both sides, beside the figures."""
        base, new = self.base.facts(), self.new.facts()
        names = dict.fromkeys([*base, *new])
        found = (Difference(name, base.get(name, "–"), new.get(name, "–")) for name in names)
        return [each for each in found if each.base != each.new]

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each word."""
        found = Counter(row.word for row in self.rows)
        return {each: found[each] for each in WORDS}

    @property
    def slower(self) -> list[Row]:
        """The regressions that the intervals support, the worst first."""
        return regressions(self.rows)

    @property
    def broken(self) -> list[Row]:
        """What base has, and new lacks, failed or got wrong."""
        return [row for row in self.rows if row.broken]

    @property
    def decided(self) -> bool:
        """Whether more of the same runs have nothing left to tell."""
        return not self.counts["ambiguous"]

    @property
    def exit_status(self) -> ExitStatus:
        """1: a regression beyond the threshold that the intervals support; 3: something is broken; else 0."""
        if self.slower:
            return ExitStatus.CHECK_FAILED
        return ExitStatus.INCOMPLETE if self.broken else ExitStatus.DONE

    @property
    def problems(self) -> list[Message]:
        """What could not be read."""
        return [*self.base.problems, *self.new.problems]

    def as_json(self) -> dict[str, Any]:
        """The comparison as one JSON document; figures of pairs stand in it, from which it follows."""
        worst = self.slower[0] if self.slower else None
        return {
            "base": _side(self.base),
            "new": _side(self.new),
            "differences": [vars(each) for each in self.differences],
            "threshold": self.terms.threshold,
            "confidence": self.confidence,
            "in_pairs": self.in_pairs,
            "restart_spreads": [spread.model_dump() for spread in self.spreads],
            "rows": [row.as_json() for row in self.rows],
            "pairs": [dict(pair) for pair in self.pairs],
            "summary": {
                **self.counts,
                "worst": None if worst is None else worst.as_json(),
                "broken": len(self.broken),
                "exit_status": self.exit_status,
            },
            "problems": [str(problem) for problem in self.problems],
        }


def _side(side: Side) -> dict[str, Any]:
    return {"name": side.name, "runs": [run.name for run in side.runs], "facts": side.facts()}


def compare(
    base: str | PathLike[str],
    new: str | PathLike[str],
    *,
    threshold: float = THRESHOLD,
    by: By = "auto",
    across_parts: bool = False,
    restart_spread: float | None = None,
    only: str | None = None,
    results: str | PathLike[str] | None = None,
) -> Comparison:
    """Compare two sides; the words are those of `bench compare` and its flags.

    A side is a run (as `find_run` finds it: its folder, its id or the beginning of one, or `latest`), a
    folder of runs, a file of pytest-benchmark's or a folder of those. `results` is the only folder to look in
    for ids. Raises InputError for anything that can't be used or compared.
    """
    terms = Terms(threshold, by, across_parts, restart_spread, only)
    one, other = (read_side(name, results) for name in (base, new))
    return compare_sides(one, other, terms)


def compare_sides(
    base: Side, new: Side, terms: Terms, *, in_pairs: bool = False, share: float = 1.0
) -> Comparison:
    """Compare sides that were read already; `in_pairs`, the n-th run of one belongs to the n-th of the other.

    `share` is this look's, where others come before or after it, of the chance that an interval misses.
    Raises InputError where nothing can be compared.
    """
    refuse(base, new, terms)
    told = [row for row in _told(base, new, terms, in_pairs) if row is not None]
    matched = [each for each in told if isinstance(each, Matched)]
    confidence = shared_confidence(len(matched), share)
    rows = (
        row_of(each, terms, confidence, in_pairs=in_pairs) if isinstance(each, Matched) else each
        for each in told
    )
    found = Comparison(
        base,
        new,
        terms,
        tuple(rows),
        in_pairs,
        confidence,
        () if in_pairs else _spreads(matched, terms),
        tuple(_pairs(matched)) if in_pairs else (),
    )
    _refuse_nothing_compared(found)
    return found


def _told(base: Side, new: Side, terms: Terms, in_pairs: bool) -> Iterator[Row | Matched | None]:
    """What can be said of each case, base's first; by device where both have the same ones, else by kind."""
    apart = _devices(base) == _devices(new)
    of_base, of_new = _by_key(base.runs, apart), _by_key(new.runs, apart)
    for device, case in dict.fromkeys([*of_base, *of_new]):
        if terms.takes(case):
            one, other = (side.get((device, case), {}) for side in (of_base, of_new))
            yield match(case, device, one, other, terms, in_pairs=in_pairs)


def _devices(side: Side) -> set[str]:
    return {look.device for run in side.runs for look in run.looks}


def _by_key(runs: tuple[Taken, ...], apart: bool) -> dict[_Key, Looks]:
    found: dict[_Key, dict[Place, Any]] = {}
    for number, run in enumerate(runs):
        for look in run.looks:
            key = (look.device if apart else look.kind, look.case)
            found.setdefault(key, {})[number, look.device] = look
    return dict(found)


def _spreads(matched: list[Matched], terms: Terms) -> tuple[Spread, ...]:
    """What was allowed for, where the user gave nothing else."""
    allowed = [each.spread for each in matched if not each.shows_scatter]
    return () if terms.restart_spread is not None else tuple(dict.fromkeys(allowed))


def _pairs(matched: list[Matched]) -> Iterator[Mapping[str, Any]]:
    for each in matched:
        for (number, _), base, new in each.pairs:
            yield {
                "pair": number,
                "case": each.case,
                "device": each.device,
                "basis": each.basis,
                "base": base,
                "new": new,
            }


def _refuse_nothing_compared(found: Comparison) -> None:
    """Where the sides leave nothing to compare, why is the answer; what broke in new is another one."""
    told = [row for row in found.rows if row.word != "added"]
    if all(row.word == "incomparable" and not row.broken for row in told):
        got = f"{told[0].case}: {told[0].reason}" if told else "no figure in base"
        expected = "a case of the same work with a figure on either side"
        raise InputError("nothing can be compared", where=WHERE, got=got, expected=expected)
