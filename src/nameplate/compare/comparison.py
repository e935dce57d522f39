"""Compare two sides, case by case: which cases are slower beyond the threshold, faster, or the same.

All intervals of a comparison hold together in 95 of 100 comparisons, however many cases there are, so a gate
over many cases fails on real regressions alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.exit_status import ExitStatus
from nameplate.base.messages import Message, message
from nameplate.base.notebook import ShownInNotebooks
from nameplate.chain.power_limits import LimitCurve, join_curves
from nameplate.compare.estimate import RestartSpread, share_confidence
from nameplate.compare.read import read_side
from nameplate.compare.results import CaseResult, Side
from nameplate.compare.rows import OUTCOMES, CaseResults, PairedCase, Row, RunDevice, make_row, pair_case
from nameplate.compare.validate import THRESHOLD, WHERE, By, CompareOptions, FailOn, check_compatible

_Key = tuple[str, str]  # device, or kind of device, and case


@dataclass(frozen=True)
class Difference:
    """A fact (software, host or setting) that differs between the sides; it may be what is compared."""

    what: str
    base: str
    new: str


@dataclass(frozen=True)
class Comparison(ShownInNotebooks):
    """Every case of which either side has a figure, and what the outcomes rest on.

    `in_pairs`: the runs were measured in turn, and each pair of runs is one observation. `confidence` is that
    of each interval. `restart_spreads` are those that were allowed for. `pairs` are the figures of each pair.
    """

    base: Side
    new: Side
    options: CompareOptions
    rows: tuple[Row, ...]
    in_pairs: bool
    confidence: float
    restart_spreads: tuple[RestartSpread, ...] = ()
    pairs: tuple[Mapping[str, Any], ...] = ()

    @property
    def differences(self) -> list[Difference]:
        """The facts that differ between the sides."""
        base, new = self.base.facts(), self.new.facts()
        names = dict.fromkeys([*base, *new])
        found = (Difference(name, base.get(name, "–"), new.get(name, "–")) for name in names)
        return [each for each in found if each.base != each.new]

    @property
    def power_limits(self) -> list[LimitCurve]:
        """The best products of both sides by power limit, where their devices had several."""
        runs = (*self.base.runs, *self.new.runs)
        return join_curves(product for run in runs for product in run.limited_products)

    @property
    def counts(self) -> dict[str, int]:
        """The number of rows with each outcome."""
        found = Counter(row.outcome for row in self.rows)
        return {outcome: found[outcome] for outcome in OUTCOMES}

    @property
    def slower(self) -> list[Row]:
        """The regressions, the worst first."""
        rows = [row for row in self.rows if row.outcome == "slower" and row.ratio is not None]
        return sorted(rows, key=lambda row: row.ratio.value if row.ratio else 1.0)

    @property
    def broken(self) -> list[Row]:
        """The cases of base that failed, are missing or have a wrong result in new."""
        return [row for row in self.rows if row.broken]

    @property
    def undecided(self) -> list[Row]:
        """The ambiguous cases, where the caller wants them to end the command with 3; otherwise none."""
        return [row for row in self.rows if self.options.fail_on and row.outcome == "ambiguous"]

    @property
    def exit_status(self) -> ExitStatus:
        """1 for a regression, else 3 for a broken case or one that had to be decided and isn't, else 0."""
        if self.slower:
            return ExitStatus.CHECK_FAILED
        return ExitStatus.INCOMPLETE if self.broken or self.undecided else ExitStatus.DONE

    @property
    def problems(self) -> list[Message]:
        """What could not be read."""
        return [*self.base.problems, *self.new.problems]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as one JSON document."""
        return {
            "base": _side_as_json(self.base),
            "new": _side_as_json(self.new),
            "differences": [vars(each) for each in self.differences],
            "threshold": self.options.threshold,
            "confidence": self.confidence,
            "in_pairs": self.in_pairs,
            "restart_spreads": [spread.model_dump(by_alias=True) for spread in self.restart_spreads],
            "rows": [row.as_json() for row in self.rows],
            "pairs": [dict(pair) for pair in self.pairs],
            "power_limits": [curve.as_json() for curve in self.power_limits],
            "summary": {
                **self.counts,
                "worst": self.slower[0].as_json() if self.slower else None,
                "broken": len(self.broken),
                "exit_status": self.exit_status,
            },
            "problems": [str(problem) for problem in self.problems],
        }


def _side_as_json(side: Side) -> dict[str, Any]:
    return {"name": side.name, "runs": [run.name for run in side.runs], "facts": side.facts()}


def compare(
    base: str | PathLike[str],
    new: str | PathLike[str],
    *,
    threshold: float = THRESHOLD,
    by: By = "auto",
    across_parts: bool = False,
    across_libraries: bool = False,
    restart_spread: float | None = None,
    only: str | None = None,
    results: str | PathLike[str] | None = None,
    fail_on: FailOn | None = None,
) -> Comparison:
    """Compare two sides; the parameters are the flags of `bench compare`.

    A side is a run (as `find_run` finds it: its folder, its id or the beginning of one, or `latest`), a
    folder of runs, a pytest-benchmark file or a folder of such files. `results` is the only folder to look
    in for ids. Raises InputError for what can't be used or compared.
    """
    options = CompareOptions(threshold, by, across_parts, restart_spread, only, across_libraries, fail_on)
    sides = read_side(base, results), read_side(new, results)
    return compare_sides(sides[0], _note_shared(*sides), options)


def _note_shared(base: Side, new: Side) -> Side:
    """The new side, with a problem for the runs that are on both: they say nothing of a change."""
    of_base = {run.identity for run in base.runs}
    shared = [run.name for run in new.runs if run.identity in of_base]
    if not shared:
        return new
    found = message("side_shared", count=len(shared), run=shared[0])
    return replace(new, unread=(*new.unread, found))


def compare_sides(
    base: Side, new: Side, options: CompareOptions, *, in_pairs: bool = False, alpha_share: float = 1.0
) -> Comparison:
    """Compare sides that were read already. `in_pairs`: the n-th runs of both sides form a pair.

    `alpha_share` is the fraction of the significance level that this look may use, where the same data are
    looked at several times. Raises InputError where nothing can be compared.
    """
    check_compatible(base, new, options)
    cases = [case for case in _pair_cases(base, new, options, in_pairs) if case is not None]
    paired = [case for case in cases if isinstance(case, PairedCase)]
    confidence = share_confidence(len(paired), alpha_share)
    rows = tuple(
        make_row(case, options, confidence, in_pairs=in_pairs) if isinstance(case, PairedCase) else case
        for case in cases
    )
    _check_something_compared(rows)
    return Comparison(
        base,
        new,
        options,
        rows,
        in_pairs,
        confidence,
        () if in_pairs else _list_used_spreads(paired, options),
        tuple(_list_pairs(paired)) if in_pairs else (),
    )


def _pair_cases(
    base: Side, new: Side, options: CompareOptions, in_pairs: bool
) -> Iterator[PairedCase | Row | None]:
    """Pair each case, in base's order: by device where both sides have the same ones, else by kind."""
    by_device = {result.device for result in base.results} == {result.device for result in new.results}
    of_base, of_new = _group_results(base, by_device), _group_results(new, by_device)
    for device, case in dict.fromkeys([*of_base, *of_new]):
        if options.selects(case):
            base_results, new_results = (side.get((device, case), {}) for side in (of_base, of_new))
            yield pair_case(case, device, base_results, new_results, options, in_pairs=in_pairs)


def _group_results(side: Side, by_device: bool) -> Mapping[_Key, CaseResults]:
    found: dict[_Key, dict[RunDevice, CaseResult]] = {}
    for number, run in enumerate(side.runs):
        for result in run.cases:
            key = (result.device if by_device else result.kind, result.case)
            found.setdefault(key, {})[number, result.device] = result
    return found


def _list_used_spreads(cases: list[PairedCase], options: CompareOptions) -> tuple[RestartSpread, ...]:
    """Return the shipped spreads that were allowed for; none where the user gave one."""
    if options.restart_spread is not None:
        return ()
    allowed = (case for case in cases if case.find_scatter_basis(options) == "allowed for")
    return tuple(dict.fromkeys(case.restart_spread for case in allowed))


def _list_pairs(cases: list[PairedCase]) -> Iterator[dict[str, Any]]:
    for case in cases:
        for (number, _device), base, new in case.pairs:
            yield {
                "pair": number,
                "case": case.case,
                "device": case.device,
                "basis": case.metric,
                "base": base,
                "new": new,
            }


def _check_something_compared(rows: tuple[Row, ...]) -> None:
    """Raise InputError, with the first reason, where no case could be compared and new broke none."""
    rows = tuple(row for row in rows if row.outcome != "added")
    if all(row.outcome == "incomparable" and not row.broken for row in rows):
        got = f"{rows[0].case}: {rows[0].reason}" if rows else "no figure in base"
        expected = "a case of the same work with a figure on either side"
        raise InputError("nothing can be compared", where=WHERE, got=got, expected=expected)
