"""The audit: every claim recomputed by its formula from other claims and the registry, and judged.

    relative error = stated ÷ recomputed − 1

    holds           equal at the digits stated; "over": at least the stated; "on the order of": within √10
    holds_rounded   within 3 %, where the claim says "about", "nearly" or "over"; an exact figure must also be
                    a rounding of what was recomputed: 390 is one of 390.6, 320 is none of 312
    contradicted    neither
    cannot_check    there is nothing to recompute it from, or only a bound that excludes nothing; `why` says
                    what is missing

A formula takes other claims as they are stated, even where they are contradicted, so that each error is found
where it is made. From a claim that is a range (15–30 s) a range is recomputed, which holds where it reaches
the stated figure. From a lower bound ("over", at least) only a bound is recomputed: one that lies below
another lower bound contradicts nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nameplate.base.formatting import interval, stated
from nameplate.base.language import N_, _
from nameplate.base.toml import bad_value, read_file
from nameplate.fleet.claims import (
    CLAIMS_FILE,
    Claim,
    Claims,
    Qualifier,
    Reading,
    Unit,
    find_part_figure,
    load_claims,
    read_shipped_claims,
)
from nameplate.fleet.expression import Formula, Span
from nameplate.specs.registry import Registry, load_registry

if TYPE_CHECKING:
    import pandas

TOLERANCE = Fraction(3, 100)
_DIGITS = 5  # of a recomputed figure: more than any claim states
_EXACT_DIGITS = 8  # … of one that needs no more to be exact, as a reader who recomputes it by hand finds it
_SMALLEST, _LARGEST = Fraction(1, 10**30), Fraction(10**30)
_PLACES = tuple(Fraction(10) ** power for power in range(-12, 19))  # of the digits of a figure

# What a figure is that was recomputed from a lower bound: the least or the most that the true one can be, or
# neither, where one bound raises it and another lowers it.
Bound = Literal["lower", "upper", "open"]
Verdict = Literal["contradicted", "holds_rounded", "holds", "cannot_check"]


@dataclass(frozen=True)
class AuditRow:
    """One claim, or another reading of it (`claim/reading`), beside its recomputed figure.

    `stated` and `recomputed` are single figures; of a range, the value nearest to the other. `words` and
    `figure` are as stated. What isn't known is None.
    """

    id: str
    stated: float | None
    recomputed: float | None
    unit: Unit | None
    relative_error: float | None
    verdict: Verdict
    why: str
    words: str
    figure: str | None
    qualifier: Qualifier
    formula: str | None
    builds_on: tuple[str, ...]
    stated_low: float | None
    stated_high: float | None
    recomputed_low: float | None
    recomputed_high: float | None
    as_of: str | None
    source: str
    note: str | None

    @property
    def claim(self) -> str:
        """The id of the row's claim."""
        return self.id.partition("/")[0]

    @property
    def is_reading(self) -> bool:
        """Whether the row is another reading of a claim rather than the claim itself."""
        return self.id != self.claim

    def as_json(self) -> dict[str, Any]:
        """The row as JSON; what isn't known is null."""
        return {**asdict(self), "builds_on": list(self.builds_on)}


def audit(claims: str | Path | None = None, parts: Sequence[str | Path] = ()) -> tuple[AuditRow, ...]:
    """Recompute and judge every claim of the file `claims`, or of the article; a claim before its readings.

    `parts` are files of parts beside the registry's. Raises InputError for a file that fails.
    """
    registry = load_registry(parts)
    where = CLAIMS_FILE if claims is None else str(claims)
    text = read_shipped_claims() if claims is None else read_file(claims, "claims")
    loaded = load_claims(text, where, registry)
    auditor = _Auditor(loaded, registry, where)
    return tuple(row for claim in loaded.claim for row in auditor.rows(claim))


def frame(rows: Sequence[AuditRow]) -> pandas.DataFrame:
    """One row a claim or reading, with the columns of `--json`."""
    import pandas

    return pandas.DataFrame([row.as_json() for row in rows])


def judge(
    stated: Fraction,
    recomputed: Fraction,
    qualifier: Qualifier,
    place: Fraction,
    bound: Bound | None = None,
) -> Verdict:
    """The verdict on a figure whose last digit stated is at `place`; 0 for one without digits of its own.

    `bound`: the recomputed figure is only the least, or the most, that the true one can be.
    """
    match qualifier:
        case "exact" | "about" | "nearly":
            holds = 2 * abs(stated - recomputed) <= place
        case "over":
            holds = recomputed >= stated
        case "on the order of":  # within a factor of √10 either way
            holds = recomputed > 0 and Fraction(1, 10) <= (stated / recomputed) ** 2 <= 10
    if bound is not None and _leaves_open(stated, recomputed, qualifier, bound):
        return "cannot_check"
    if holds:
        return "holds"
    near = abs(stated - recomputed) <= TOLERANCE * abs(recomputed)
    rounded = qualifier != "exact" or _is_rounding(stated, recomputed, place)
    return "holds_rounded" if near and rounded else "contradicted"


def _leaves_open(stated: Fraction, recomputed: Fraction, qualifier: Qualifier, bound: Bound) -> bool:
    """Whether values that the bound allows agree with the claim, and others don't.

    "At least 8,333" says nothing of "at least 10,000", nor of "10,000".
    """
    match bound:
        case "lower":
            return recomputed < stated or (recomputed == stated and qualifier != "over")
        case "upper":
            return recomputed >= stated
        case "open":
            return True


def _is_rounding(stated: Fraction, recomputed: Fraction, place: Fraction) -> bool:
    """Whether `stated` is `recomputed` rounded, at the last digit or to the nearest at a larger place.

    Larger places are those after which all digits of `stated` are 0: of 320, tens; of 1,000, thousands.
    """
    if abs(stated - recomputed) < place:
        return True
    larger = (place_ for place_ in _PLACES if stated % place_ == 0)
    return any(2 * abs(stated - recomputed) <= place_ for place_ in larger)


def format_figure(value: float) -> str:
    """A figure as a person writes it: whole where eight digits are enough, else to five.

    0.034146, 66.7575, 16,843.75, 371.09375 million.
    """
    for size, word in ((10**9, " billion"), (10**6, " million")):
        if abs(value) >= size:
            return _write(value / size) + word
    return _write(value)


def _write(value: float) -> str:
    exact = stated(value, _EXACT_DIGITS)
    is_exact = math.isclose(float(exact.replace(",", "")), value, rel_tol=1e-12)
    return exact if is_exact else stated(value, _DIGITS)


# Why a bound checks nothing.
_OPEN: Mapping[Bound, str] = {
    "lower": N_("this is only a lower bound, which doesn't contradict what is stated"),
    "upper": N_("this is only an upper bound, which doesn't contradict what is stated"),
    "open": N_("it builds on lower bounds, so it may be more or less"),
}


def _format_span(span: Span) -> str:
    return interval(format_figure, float(span.low), float(span.high))


class _Target(NamedTuple):
    """The figure that a formula has to meet: its text, its value, the place of its last digit, its unit."""

    text: str
    span: Span
    place: Fraction
    unit: Unit


class _Auditor:
    """The claims of one file, with the values and texts that formulas take from them and the registry."""

    def __init__(self, claims: Claims, parts: Registry, where: str) -> None:
        self._source, self._where = claims.source, where
        stated = {claim.id: claim.figure for claim in claims.claim if claim.figure is not None}
        self._lower_bounds = {claim.id for claim in claims.claim if claim.qualifier == "over"}
        rated = {
            text: find_part_figure(wanted, parts)
            for claim in claims.claim
            for _key, each in claim.formulas()
            for text, wanted in each.parts.items()
        }
        self._values = {id_: figure.span for id_, figure in stated.items()} | rated
        self._texts = {id_: figure.text for id_, figure in stated.items()}
        self._texts |= {text: format_figure(float(span.low)) for text, span in rated.items()}

    def rows(self, claim: Claim) -> Iterator[AuditRow]:
        """The claim's own row, then its readings'."""
        if claim.figure is None or claim.unit is None:
            yield self._row(claim, claim.id, None, claim.cannot_check or "")
            return
        key, figure = f"claim[{claim.id}]", claim.figure
        target = _Target(figure.text, figure.span, figure.place(claim.qualifier), claim.unit)
        if claim.formula is None:
            yield self._row(claim, claim.id, target, claim.cannot_check or "")
        else:
            yield self._check(claim, claim.id, f"{key}.formula", target, claim.formula, claim.why)
        for reading in claim.reading:
            yield self._check_reading(claim, reading, target, f"{key}.reading[{reading.id}]")

    def _check_reading(self, claim: Claim, reading: Reading, target: _Target, key: str) -> AuditRow:
        """The claim, or what it implies where the reading names that, checked by the reading's formula."""
        id_, formula_key = f"{claim.id}/{reading.id}", f"{key}.formula"
        if reading.implies is None:
            assert reading.formula, "a reading has one of the two"
            return self._check(claim, id_, formula_key, target, reading.formula, reading.why)
        span = self._evaluate(reading.implies, f"{key}.implies")
        # An implied figure has no digits of its own: only an equal one holds.
        implied = _Target(_format_span(span), span, Fraction(0), reading.unit or target.unit)
        why = _("implied is {formula}; {why}", formula=self._work_out(reading.implies, span), why=reading.why)
        if reading.formula is None:
            row = self._row(claim, id_, implied, why)
        else:
            row = self._check(claim, id_, formula_key, implied, reading.formula, why)
        return replace(row, builds_on=tuple(dict.fromkeys((*reading.implies.claims, *row.builds_on))))

    def _check(
        self, claim: Claim, id_: str, key: str, target: _Target, formula: Formula, why: str | None
    ) -> AuditRow:
        span = self._evaluate(formula, key)
        worked = self._work_out(formula, span)
        return self._row(claim, id_, target, f"{worked}: {why}" if why else worked, formula, span)

    def _bound(self, formula: Formula, value: Span) -> Bound | None:
        """What the formula's value is where it builds on lower bounds; None where it builds on none."""
        found: set[Bound] = set()
        for id_ in self._lower_bounds.intersection(formula.claims):
            raised = Span(*(2 * end for end in self._values[id_]))
            try:
                other = formula.evaluate({**self._values, id_: raised})
            except ZeroDivisionError:
                found.add("open")
                continue
            if other != value:
                found.add("lower" if other.high > value.high or other.low > value.low else "upper")
        return found.pop() if len(found) == 1 else "open" if found else None

    def _evaluate(self, formula: Formula, key: str) -> Span:
        """The formula's value. Raises InputError where there is none, and for one beyond 1e-30 to 1e30."""
        try:
            span = formula.evaluate(self._values)
        except ZeroDivisionError:
            raise bad_value(self._where, key, formula.text, "no division by what may be 0") from None
        if not all(end == 0 or _SMALLEST <= abs(end) <= _LARGEST for end in span):
            raise bad_value(self._where, key, formula.text, "a value from 1e-30 to 1e30")
        return span

    def _work_out(self, formula: Formula, value: Span) -> str:
        """`5.39 × 1,000,000 ÷ 320 = 16,844`; where the formula is one figure, that figure alone."""
        worked, answer = formula.show_working(self._texts), _format_span(value)
        return answer if worked == answer else f"{worked} = {answer}"

    def _row(
        self,
        claim: Claim,
        id_: str,
        target: _Target | None,
        why: str,
        formula: Formula | None = None,
        span: Span | None = None,
    ) -> AuditRow:
        """The row of a claim that can't be checked, or with the value `span` of its formula."""
        stated = recomputed = None
        verdict: Verdict = "cannot_check"
        if target and span and formula:
            stated, recomputed = target.span.nearest(span), span.nearest(target.span)
            bound = self._bound(formula, span)
            verdict = judge(stated, recomputed, claim.qualifier, target.place, bound)
            if verdict == "cannot_check" and bound:
                why = _("{why}; {bound}", why=why, bound=_(_OPEN[bound]))
        elif target and target.span.low == target.span.high:
            stated = target.span.low
        return AuditRow(
            id=id_,
            stated=_as_float(stated),
            recomputed=_as_float(recomputed),
            unit=claim.unit if target is None else target.unit,
            relative_error=(
                float(stated / recomputed - 1)
                if stated is not None and recomputed and verdict != "cannot_check"
                else None
            ),
            verdict=verdict,
            why=why,
            words=claim.words,
            figure=target and target.text,
            qualifier=claim.qualifier,
            formula=formula.text if formula else None,
            builds_on=formula.claims if formula else (),
            stated_low=_as_float(target and target.span.low),
            stated_high=_as_float(target and target.span.high),
            recomputed_low=_as_float(span and span.low),
            recomputed_high=_as_float(span and span.high),
            as_of=claim.as_of,
            source=claim.source or self._source or "",
            note=claim.note,
        )


def _as_float(value: Fraction | None) -> float | None:
    return None if value is None else float(value)
