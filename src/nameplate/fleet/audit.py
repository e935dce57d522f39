"""The audit: every claim recomputed by its formula from other claims and the registry, and judged.

    relative error = stated ÷ recomputed − 1

    holds           equal at the digits stated; "over": at least the stated; "on the order of": within √10
    holds_rounded   not that, but within 3 %
    contradicted    beyond
    cannot_check    nothing to recompute it from; `why` is what is missing

A formula takes other claims as stated, whatever became of them, so that an error is found where it is made.
Where a claim is a range (15–30 s), what is recomputed from it is one too, and holds where it reaches the
stated figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from nameplate.base.formatting import interval, stated
from nameplate.base.language import _
from nameplate.base.toml import bad_value
from nameplate.fleet.claims import (
    CLAIMS_FILE,
    Claim,
    Claims,
    Qualifier,
    Reading,
    Unit,
    load,
    part_figure,
    read,
    shipped,
)
from nameplate.fleet.expression import Formula, Span
from nameplate.specs.parts import Registry, registry

if TYPE_CHECKING:
    import pandas

TOLERANCE = Fraction(3, 100)
# Of what is recomputed, so that it can be held against what is claimed.
_DIGITS = 5
_SMALLEST, _LARGEST = Fraction(1, 10**30), Fraction(10**30)

Verdict = Literal["contradicted", "holds_rounded", "holds", "cannot_check"]


@dataclass(frozen=True)
class Row:
    """One claim, or another reading of it (`claim/reading`), against what it is recomputed as.

    `stated` and `recomputed` are single figures; of a range, the value nearest the other. `words` and
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
        """The id of the claim that the row is of."""
        return self.id.partition("/")[0]

    @property
    def is_reading(self) -> bool:
        """Whether the row is another reading of a claim rather than the claim itself."""
        return self.id != self.claim

    def as_json(self) -> dict[str, Any]:
        """The row as JSON; what isn't known is null."""
        return {**asdict(self), "builds_on": list(self.builds_on)}


def audit(claims: str | Path | None = None, parts: Sequence[str | Path] = ()) -> tuple[Row, ...]:
    """Recompute and judge every claim of the file `claims`, or of the article; a claim before its readings.

    `parts` are files of parts beside the registry's. Raises InputError for a file that fails.
    """
    known = registry(parts)
    where = CLAIMS_FILE if claims is None else str(claims)
    loaded = load(shipped() if claims is None else read(claims), where, known)
    audited = _Audit(loaded, known, where)
    return tuple(row for claim in loaded.claim for row in audited.rows(claim))


def frame(rows: Sequence[Row]) -> pandas.DataFrame:
    """One row a claim or reading, with the columns of `--json`."""
    import pandas

    return pandas.DataFrame([row.as_json() for row in rows])


def judge(stated: Fraction, recomputed: Fraction, qualifier: Qualifier, place: Fraction) -> Verdict:
    """The verdict on a figure whose last digit stated is at `place`; 0 for one without digits of its own."""
    if _AGREES[qualifier](stated, recomputed, place):
        return "holds"
    return "holds_rounded" if abs(stated - recomputed) <= TOLERANCE * abs(recomputed) else "contradicted"


def _equal(stated: Fraction, recomputed: Fraction, place: Fraction) -> bool:
    return 2 * abs(stated - recomputed) <= place


def _reached(stated: Fraction, recomputed: Fraction, place: Fraction) -> bool:
    return recomputed >= stated


def _of_that_order(stated: Fraction, recomputed: Fraction, place: Fraction) -> bool:
    """Within a factor of √10 either way."""
    if recomputed <= 0:
        return False
    ratio = stated / recomputed
    return Fraction(1, 10) <= ratio * ratio <= 10


_AGREES: Mapping[Qualifier, Callable[[Fraction, Fraction, Fraction], bool]] = {
    "exact": _equal,
    "about": _equal,
    "nearly": _equal,
    "over": _reached,
    "on the order of": _of_that_order,
}


def shown(value: float) -> str:
    """A figure to five digits, as a person writes it: 0.034146, 66.758, 16,844, 371.45 million."""
    for size, word in ((10**9, " billion"), (10**6, " million")):
        if abs(value) >= size:
            return stated(value / size, _DIGITS) + word
    return stated(value, _DIGITS)


class _Held(NamedTuple):
    """What is held against a formula: a figure in its words, its value, the place of its last digit."""

    figure: str
    stated: Span
    place: Fraction
    unit: Unit


class _Audit:
    """The claims of one file, with the values and words that formulas take from them and the registry."""

    def __init__(self, claims: Claims, parts: Registry, where: str) -> None:
        self._source, self._where = claims.source, where
        stated = {claim.id: claim.figure for claim in claims.claim if claim.figure is not None}
        rated = {
            text: part_figure(wanted, parts)
            for claim in claims.claim
            for _key, each in claim.formulas()
            for text, wanted in each.parts.items()
        }
        self._values = {id_: figure.span for id_, figure in stated.items()} | rated
        self._words = {id_: figure.text for id_, figure in stated.items()}
        self._words |= {text: shown(float(span.low)) for text, span in rated.items()}

    def rows(self, claim: Claim) -> Iterator[Row]:
        """The claim's own row, then its readings'."""
        if claim.cannot_check is not None:
            yield self._unchecked(claim, claim.cannot_check)
        if claim.figure is None or claim.unit is None:
            return
        key, figure = f"claim[{claim.id}]", claim.figure
        held = _Held(figure.text, figure.span, figure.place(claim.qualifier), claim.unit)
        if claim.formula is not None:
            yield self._checked(claim, claim.id, f"{key}.formula", held, claim.formula, claim.why)
        for reading in claim.reading:
            yield self._read(claim, reading, held, f"{key}.reading[{reading.id}]")

    def _read(self, claim: Claim, reading: Reading, held: _Held, key: str) -> Row:
        """The claim by a reading's formula; what the claim implies is held against it where that is given."""
        id_, formula_key = f"{claim.id}/{reading.id}", f"{key}.formula"
        if reading.implies is None:
            return self._checked(claim, id_, formula_key, held, reading.formula, reading.why)
        span = self._evaluate(reading.implies, f"{key}.implies")
        # It has no digits of its own: only what is equal to it holds.
        implied = _Held(_words(span), span, Fraction(0), reading.unit or held.unit)
        worked = self._worked(reading.implies, span)
        why = _("implied is {formula}; {why}", formula=worked, why=reading.why)
        row = self._checked(claim, id_, formula_key, implied, reading.formula, why)
        return replace(row, builds_on=tuple(dict.fromkeys((*reading.implies.claims, *row.builds_on))))

    def _checked(
        self, claim: Claim, id_: str, key: str, held: _Held, formula: Formula, why: str | None
    ) -> Row:
        recomputed = self._evaluate(formula, key)
        ours, theirs = recomputed.nearest(held.stated), held.stated.nearest(recomputed)
        return self._row(
            claim,
            id=id_,
            figure=held.figure,
            unit=held.unit,
            stated=float(theirs),
            stated_low=float(held.stated.low),
            stated_high=float(held.stated.high),
            recomputed=float(ours),
            recomputed_low=float(recomputed.low),
            recomputed_high=float(recomputed.high),
            relative_error=float(theirs / ours - 1) if ours else None,
            verdict=judge(theirs, ours, claim.qualifier, held.place),
            why=": ".join(filter(None, [self._worked(formula, recomputed), why])),
            formula=formula.text,
            builds_on=formula.claims,
        )

    def _worked(self, formula: Formula, value: Span) -> str:
        """`5.39 × 1,000,000 ÷ 320 = 16,844`; a figure alone is its own answer."""
        worked, answer = formula.worked(self._words), _words(value)
        return answer if worked == answer else f"{worked} = {answer}"

    def _unchecked(self, claim: Claim, missing: str) -> Row:
        low, high = (None, None) if claim.figure is None else map(float, claim.figure.span)
        return self._row(
            claim,
            id=claim.id,
            figure=claim.figure and claim.figure.text,
            unit=claim.unit,
            stated=low if low == high else None,
            stated_low=low,
            stated_high=high,
            recomputed=None,
            recomputed_low=None,
            recomputed_high=None,
            relative_error=None,
            verdict="cannot_check",
            why=missing,
            formula=None,
            builds_on=(),
        )

    def _row(self, claim: Claim, **figures: Any) -> Row:
        """A row with what it says of the statement itself."""
        return Row(
            words=claim.words,
            qualifier=claim.qualifier,
            as_of=claim.as_of,
            source=claim.source or self._source or "",
            note=claim.note,
            **figures,
        )

    def _evaluate(self, formula: Formula, key: str) -> Span:
        """The formula's value. InputError where it has none, or none of a size that can be told."""
        try:
            span = formula.evaluate(self._values)
        except ZeroDivisionError:
            raise bad_value(self._where, key, formula.text, "no division by what may be 0") from None
        if not all(end == 0 or _SMALLEST <= abs(end) <= _LARGEST for end in span):
            raise bad_value(self._where, key, formula.text, "a value from 1e-30 to 1e30")
        return span


def _words(span: Span) -> str:
    return interval(shown, float(span.low), float(span.high))
