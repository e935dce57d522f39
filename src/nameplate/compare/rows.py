"""One case of a comparison: the word for it, the ratio with its interval, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nameplate.base.messages import Message, message, ours
from nameplate.compare.basis import choose
from nameplate.compare.estimate import FEWEST_MEASURED, independent, paired
from nameplate.compare.looks import Basis, Figure, Look, State
from nameplate.compare.spreads import Spread, spread_of
from nameplate.compare.terms import Terms
from nameplate.stats.interval import Interval

# The last three say nothing of speed. missing: base has a figure, new has none; added: the other way round.
Word = Literal["slower", "faster", "same", "ambiguous", "incomparable", "missing", "added"]
WORDS: tuple[Word, ...] = ("slower", "faster", "same", "ambiguous", "incomparable", "missing", "added")
_MANY = 100  # runs, more than which nobody takes
# Which of a side's runs a look is from, and on which of its devices.
Place = tuple[int, str]
Looks = Mapping[Place, Look]


@dataclass(frozen=True)
class Row:
    """One case. `ratio` is new ÷ base with its interval: above 1, new is the faster one.

    `base` and `new` are the geometric means of their figures in `unit`, `base_runs` and `new_runs` how many
    there are (of pairs: as many pairs). `scatter` is whether the runs show how far they scatter, or that was
    allowed for. `broken`: new lacks, failed or got wrong what base has. `device` is a kind, such as `cuda`,
    where a side's devices of it were taken together. What isn't known is None.
    """

    case: str
    device: str
    word: Word
    ratio: Interval | None = None
    basis: Basis | None = None
    unit: str | None = None
    base: float | None = None
    new: float | None = None
    base_runs: int = 0
    new_runs: int = 0
    scatter: Literal["measured", "allowed for"] | None = None
    broken: bool = False
    reason: Message | None = None

    def as_json(self) -> dict[str, Any]:
        """Every field, flat, the reason as a sentence; an end that isn't finite is null."""
        ratio = self.ratio
        found: dict[str, Any] = {"case": self.case, "device": self.device, "word": self.word}
        for name, end in (("ratio", "value"), ("ratio_low", "low"), ("ratio_high", "high")):
            value = None if ratio is None else getattr(ratio, end)
            found[name] = value if value is not None and math.isfinite(value) else None
        found |= {name: value for name, value in vars(self).items() if name not in found}
        return found | {"reason": None if self.reason is None else str(self.reason)}


@dataclass(frozen=True)
class Matched:
    """A case that both sides have figures of, by one basis. `doubt` is why its runs can't decide anything.

    Its word waits until it's known how many such cases there are.
    """

    case: str
    device: str
    basis: Basis
    base: Mapping[Place, Figure]
    new: Mapping[Place, Figure]
    spread: Spread
    broken: bool = False
    doubt: Message | None = None
    notes: tuple[Message, ...] = ()

    @property
    def shows_scatter(self) -> bool:
        """Whether a side has as many runs as show how far they scatter."""
        return max(len(self.base), len(self.new)) >= FEWEST_MEASURED

    @property
    def pairs(self) -> list[tuple[Place, float, float]]:
        """The figures of base and new that were taken in one turn, by their place."""
        common = sorted(self.base.keys() & self.new.keys())
        return [(place, self.base[place].value.value, self.new[place].value.value) for place in common]


def match(
    case: str, device: str, base: Looks, new: Looks, terms: Terms, *, in_pairs: bool
) -> Row | Matched | None:
    """What can be said of one case before its ratio is looked at; None: neither side has a figure."""
    of_base, of_new = _good(base), _good(new)
    broken = next((look for look in new.values() if look.state in ("wrong", "failed")), None)
    if not of_base:
        return _without_base(case, device, base) if of_new else None
    if broken is not None and broken.state == "wrong":
        reason = message("of_new", why=broken.reason)
        return Row(case, device, "incomparable", broken=True, reason=reason)
    if not of_new:
        return Row(case, device, "missing", broken=True, reason=_why_none(new))
    apart = _apart(of_base, of_new, terms)
    if apart is not None:
        return Row(case, device, "incomparable", reason=apart)
    choice = choose([*of_base.values()], [*of_new.values()], terms)
    figures = _figures(of_base, choice.basis), _figures(of_new, choice.basis)
    if not all(figures):
        return Row(case, device, "incomparable", reason=_no_figures(choice.basis))
    notes = [choice.why, _some(new, "failed", "new_failed_in"), _some(base, "wrong", "base_wrong_in")]
    return Matched(
        case,
        device,
        choice.basis,
        *figures,
        spread=spread_of(next(iter(of_base.values())).kind, choice.basis),
        broken=broken is not None,
        doubt=None if in_pairs else _doubt(of_base, "base_doubted") or _doubt(of_new, "new_doubted"),
        notes=tuple(note for note in notes if note is not None),
    )


def _apart(base: Looks, new: Looks, terms: Terms) -> Message | None:
    """Why figures of one case can't be compared: it isn't the same work, or not the same part."""
    if not terms.across_parts and len({look.part for look in (*base.values(), *new.values())}) > 1:
        return message("two_parts")
    works = [dict.fromkeys(look.work for look in looks.values()) for looks in (base, new)]
    if len(works[0] | works[1]) == 1:
        return None
    return message("two_works", base=list(works[0]), new=list(works[1]))


def _good(looks: Looks) -> dict[Place, Look]:
    return {place: look for place, look in looks.items() if look.state == "ok"}


def _figures(looks: Looks, basis: Basis) -> dict[Place, Figure]:
    return {place: look.figures[basis] for place, look in looks.items() if basis in look.figures}


def _without_base(case: str, device: str, base: Looks) -> Row:
    if not base:
        return Row(case, device, "added", reason=message("base_lacks"))
    return Row(case, device, "incomparable", reason=message("of_base", why=_why_none(base)))


# The message that a look of each state without a figure has its reason in.
_WITHOUT = {"missing": "is_missing", "failed": "is_failed", "skipped": "is_skipped", "wrong": "is_wrong"}


def _why_none(looks: Looks) -> Message:
    """The reason of the first look that has no figure; of none at all, that there is none."""
    look = next(iter(looks.values()), None)
    return message("new_lacks") if look is None else message(_WITHOUT[look.state], why=look.reason)


def _no_figures(basis: Basis) -> Message:
    code = "nothing_achieved" if basis == "achieved" else "nothing_by_basis"
    return message(code, basis=ours(basis))


def _some(looks: Looks, state: State, code: str) -> Message | None:
    """`new: failed in 1 of 5 runs: …`; None where none did."""
    found = [look for look in looks.values() if look.state == state]
    return message(code, count=len(found), all=len(looks), why=found[0].reason) if found else None


def _doubt(looks: Looks, code: str) -> Message | None:
    """Why a side's runs can't decide: too few to show their scatter, and one that isn't to be believed."""
    found = next((look.doubt for look in looks.values() if look.doubt), None)
    if found is None or len(looks) >= FEWEST_MEASURED:
        return None
    return message(code, verdicts=[ours(verdict) for verdict in found], least=FEWEST_MEASURED)


def row_of(case: Matched, terms: Terms, confidence: float, *, in_pairs: bool) -> Row:
    """The word for a case, by an interval of that confidence."""
    if in_pairs and not case.pairs:
        reason = message("no_pair")
        return Row(case.case, case.device, "ambiguous", broken=case.broken, reason=reason)
    ratio = _paired(case, confidence) if in_pairs else _independent(case, terms, confidence)
    runs = (len(case.pairs), len(case.pairs)) if in_pairs else (len(case.base), len(case.new))
    said = word(ratio, terms.threshold) if case.doubt is None else "ambiguous"
    why = case.doubt or (
        _why_ambiguous(ratio, runs, terms.threshold, in_pairs) if said == "ambiguous" else None
    )
    return Row(
        case.case,
        case.device,
        said,
        ratio,
        case.basis,
        next(iter(case.base.values())).unit,
        _geometric_mean(case.base.values()),
        _geometric_mean(case.new.values()),
        *runs,
        scatter="measured" if in_pairs or case.shows_scatter else "allowed for",
        broken=case.broken,
        reason=_clauses([*([why] if why else []), *case.notes]),
    )


def _clauses(found: Sequence[Message]) -> Message | None:
    """One message of several; None of none."""
    if len(found) > 1:
        return message("clauses", each=found)
    return found[0] if found else None


def word(ratio: Interval, threshold: float) -> Word:
    """What an interval supports: it lies wholly beyond the margin, wholly within, or reaches across."""
    if ratio.high < 1 - threshold:
        return "slower"
    if ratio.low > 1 + threshold:
        return "faster"
    return "same" if ratio.low >= 1 - threshold and ratio.high <= 1 + threshold else "ambiguous"


def _paired(case: Matched, confidence: float) -> Interval:
    return paired([math.log(new / base) for _, base, new in case.pairs], confidence)


def _independent(case: Matched, terms: Terms, confidence: float) -> Interval:
    spread = case.spread.value if terms.restart_spread is None else terms.restart_spread
    base, new = ([figure.value for figure in side.values()] for side in (case.base, case.new))
    return independent(base, new, spread, confidence)


def _why_ambiguous(ratio: Interval, runs: tuple[int, int], threshold: float, in_pairs: bool) -> Message:
    """With a number and a next step: an interval narrows with the root of the runs that it's taken from."""
    half = math.log(ratio.high / ratio.low) / 2 if ratio.low > 0 else math.inf
    if not math.isfinite(half):
        return message("few_pairs" if in_pairs else "few_runs")
    if half <= threshold:
        return message("at_threshold")
    mean_runs = 2 / sum(1 / count for count in runs)  # as many a side would give the same interval
    needed = math.ceil(mean_runs * (half / (threshold / 2)) ** 2)
    if needed <= _MANY:
        would = message("pairs_would_tell" if in_pairs else "runs_would_tell", count=needed)
    else:
        would = message("no_pairs_would_tell" if in_pairs else "no_runs_would_tell")
    return message("wider_than_threshold", half_width=half, would=would)


def _geometric_mean(figures: Iterable[Figure]) -> float:
    logarithms = [math.log(figure.value.value) for figure in figures]
    return math.exp(sum(logarithms) / len(logarithms))


def regressions(rows: Sequence[Row]) -> list[Row]:
    """The slower ones, the worst first."""
    slower = [row for row in rows if row.word == "slower" and row.ratio is not None]
    return sorted(slower, key=lambda row: row.ratio.value if row.ratio else 1.0)
