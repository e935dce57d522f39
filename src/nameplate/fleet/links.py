"""A fleet's chain: derates that begin with nominal → datasheet and each begin where the one before ends.

`join` is the one place that checks this: a loss counted twice, or left out, is refused there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

from nameplate.base.errors import InputError
from nameplate.base.formatting import stated
from nameplate.base.language import N_, _
from nameplate.chain.from_run import Link
from nameplate.chain.published import Published
from nameplate.chain.stage import Stage
from nameplate.fleet.catalogues import AssumedDerate
from nameplate.fleet.uncertain import Law, Uncertain, exact
from nameplate.specs.part import Part
from nameplate.specs.recognition import rating

# Fleets are counted in dense FP16: the article's "320 TFLOPS at FP16".
DTYPE = "fp16"
_SERVE_EACH_OTHER = frozenset({"fp16", "bf16"})

# `measured` in a run, `published` by others, `assumed` by somebody, `modelled` from other figures.
Provenance = Literal["measured", "published", "assumed", "modelled"]

# An MFU counts FLOPs by a convention, this chain by Megatron's. nanoGPT's counts 1.10 times as many for
# Llama-3-8B at 2k tokens, so a figure by another convention is up to that much above what Megatron's gives.
_OWN_CONVENTION = "Megatron"
_WIDEST_CONVENTION = 1.10


@dataclass(frozen=True)
class Derate:
    """One link of a fleet's chain: the ratio of stage `to` to stage `from_`.

    `low`, `high` and `law` say how sure it is: where it was measured, a 95 % interval and a lognormal law;
    None where it is a point figure. `n_from` and `n_to` are how many devices worked together at either end,
    None where the source is silent. `parts` are those it serves: None for any, () for none that the registry
    knows.
    """

    from_: Stage
    to: Stage
    value: float
    dtype: str
    provenance: Provenance
    source: str
    low: float | None = None
    high: float | None = None
    law: Law = "exact"
    id: str | None = None  # of a published or assumed figure
    run: str | None = None
    device: str | None = None
    scope: str | None = None
    convention: str | None = None
    confidence: str | None = None
    n_from: int | None = None
    n_to: int | None = None
    parts: tuple[str, ...] | None = ()
    note: str | None = None

    def __post_init__(self) -> None:
        """Take stages by their names too. Raises ValueError for a name that no stage has."""
        object.__setattr__(self, "from_", Stage(self.from_))
        object.__setattr__(self, "to", Stage(self.to))

    @property
    def span(self) -> str:
        """`datasheet → scaled`."""
        return f"{self.from_} → {self.to}"

    @property
    def part(self) -> str | None:
        """The part it was measured on; None where that is no one part of the registry."""
        return self.parts[0] if self.parts and self.provenance == "published" else None

    @property
    def uncertain(self) -> Uncertain:
        """The ratio with its spread."""
        if self.low is None or self.high is None:
            return exact(self.value)
        return Uncertain(self.value, self.low, self.high, self.law)

    @property
    def input(self) -> str:
        """The name its draws go by: figures by one stated convention are off by the same, and together."""
        stated = self.convention not in (None, "unknown")
        if stated and self.provenance == "published" and _widened(self.from_, self.to, self.convention):
            return f"FLOPs counted by {self.convention}"
        return f"{self.span} ({self.id or self.run or self.provenance})"

    def may_serve(self, part: str) -> bool:
        """Whether it serves that part; one of no part of the registry serves whichever it is asked for."""
        return not self.parts or part in self.parts

    def as_json(self) -> dict[str, Any]:
        """The link as a JSON row; `from_` is called `from`."""
        row = asdict(self)
        del row["parts"], row["from_"]
        return {"from": self.from_.value, **row, "to": self.to.value}


def rated(part: Part, dtype: str = DTYPE) -> Derate:
    """The first link, nominal → datasheet: the ratio of two ratings. KeyError where the part lacks one."""
    nominal, datasheet = part.nominal[dtype], part.datasheet[dtype]
    source = _("nominal {tflops}: {source}", tflops=stated(nominal.value), source=nominal.source)
    if datasheet is not nominal:
        said = N_("datasheet {tflops}: {source}")
        more = _(said, tflops=stated(datasheet.value), source=datasheet.source)
        source = _("; ").join((source, more))
    value = datasheet.value / nominal.value
    return Derate(Stage.NOMINAL, Stage.DATASHEET, value, dtype, "published", source, device=part.name)


def unrated(part: Part) -> Derate:
    """The first link of a part whose ratings conflict: its owner counts by the datasheet's, whichever."""
    why = _("assumed: {part} is counted by its datasheet, whose figures conflict", part=part.name)
    return Derate(Stage.NOMINAL, Stage.DATASHEET, 1.0, DTYPE, "assumed", why, device=part.name)


def from_published(figure: Published) -> Derate:
    """A published derate as a link; InputError for a figure that is no derate.

    An MFU by a convention other than Megatron's, or by an unknown one, is from value ÷ 1.10 to value, 1.10
    being nanoGPT's convention over Megatron's at 2k tokens. Its value stays the published one.
    """
    if figure.from_ is None or figure.to is None or figure.quantity != "derate":
        raise InputError(
            f"a published figure, but of {figure.quantity}", got=figure.id, expected="the id of a derate"
        )
    wide = _widened(figure.from_, figure.to, figure.convention)
    return Derate(
        figure.from_,
        figure.to,
        figure.value,
        figure.dtype,
        "published",
        f"{figure.source} ({figure.date})",
        low=figure.value / _WIDEST_CONVENTION if wide else None,
        high=figure.value if wide else None,
        law="uniform" if wide else "exact",
        id=figure.id,
        device=figure.device,
        scope=figure.scope,
        convention=figure.convention,
        confidence=figure.confidence,
        n_from=figure.n_from,
        n_to=figure.n_to,
        parts=(figure.part, *figure.stands_in_for) if figure.part else (),
        note=figure.note,
    )


def _widened(from_: Stage, to: Stage, convention: str | None) -> bool:
    """Whether the ratio depends on how a model's FLOPs are counted: they are from block on."""
    counts = from_.reach < Stage.BLOCK.reach <= to.reach
    return counts and not (convention or "").startswith(_OWN_CONVENTION)


def assumed(from_: str, to: str, ratio: Uncertain, source: str, **more: Any) -> Derate:
    """A ratio of two stages that somebody assumes, for any part; `more` are other fields of a Derate.

    Raises InputError unless it leads onward and is above 0.
    """
    first, last = (Stage(each) if each in set(Stage) else None for each in (from_, to))
    if first is None or last is None or first.reach >= last.reach:
        raise InputError("no derate", got=f"{from_} → {to}", expected="a later stage after an earlier one")
    if ratio.low <= 0:
        raise InputError("no derate", got=ratio.low, expected="a ratio above 0")
    fields: dict[str, Any] = {"dtype": "any", "parts": None, "provenance": "assumed", **more}
    if ratio.law != "exact":
        fields |= {"low": ratio.low, "high": ratio.high, "law": ratio.law}
    return Derate(first, last, ratio.value, source=source, **fields)


def modelled(from_: str, to: str, ratio: Uncertain, source: str, **more: Any) -> Derate:
    """A ratio that a formula gives from other figures: goodput from failures and checkpoints, say."""
    return assumed(from_, to, ratio, source, provenance="modelled", **more)


def from_assumption(entry: AssumedDerate) -> Derate:
    """A derate that a file assumes, as a link."""
    return assumed(
        entry.from_,
        entry.to,
        entry.uncertain,
        _("assumed: {source} ({date})", source=entry.source, date=entry.as_of),
        dtype=entry.dtype,
        id=entry.id,
        n_from=entry.n_from,
        n_to=entry.n_to,
        parts=entry.parts or None,
        note=entry.note,
    )


def from_run(link: Link, run: str, convention: str | None) -> Derate:
    """A link that a run measured, on one device: lognormal, or exact without a finite interval."""
    low, high = (end if math.isfinite(end) and end > 0 else None for end in (link.low, link.high))
    known = low is not None and high is not None and low < high and low <= link.value <= high
    return Derate(
        link.from_,
        link.to,
        link.value,
        link.dtype,
        "measured",
        link.source,
        low=low if known else None,
        high=high if known else None,
        law="lognormal" if known else "exact",
        run=run,
        device=link.device,
        scope=_("1 device"),
        convention=convention,
        n_from=1,
        n_to=1,
    )


def join(derates: Sequence[Derate]) -> tuple[Derate, ...]:
    """The derates as one chain from nominal on.

    Raises InputError, naming both spans, where two overlap (a loss would count twice) or leave a gap (a loss
    would not count at all), in stages or in devices; and for a chain that doesn't begin at nominal.
    """
    if derates and derates[0].from_ != Stage.NOMINAL:
        raise InputError(
            "a chain begins at nominal", got=derates[0].span, expected="nominal → datasheet first"
        )
    for before, after in pairwise(derates):
        if after.from_ != before.to:
            twice = after.from_.reach < before.to.reach
            raise _refused("counts a loss twice" if twice else "leaves a loss out", before, after, before.to)
        if None not in (before.n_to, after.n_from) and before.n_to != after.n_from:
            raise _refused(
                f"goes on at {after.n_from} devices where it had reached {before.n_to}",
                before,
                after,
                f"{before.to} at {before.n_to} devices",
            )
    return tuple(derates)


def _refused(problem: str, before: Derate, after: Derate, begin: str) -> InputError:
    spans = " and ".join(f"{each.span} ({_who(each)})" for each in (before, after))
    return InputError(
        f"a chain that {problem}", got=spans, expected=f"derates that follow one another: next from {begin}"
    )


def _who(link: Derate) -> str:
    return link.id or link.run or ("rated" if link.from_ is Stage.NOMINAL else link.provenance)


def unserved(part: Part, dtype: str) -> str | None:
    """Why a derate of `dtype` can't serve this part's fp16; None where it can."""
    if dtype in (DTYPE, "any"):
        return None
    if not {dtype, DTYPE} <= _SERVE_EACH_OTHER:
        return f"a derate of {dtype} says nothing of {DTYPE}"
    mine, theirs = (part.datasheet.get(each) for each in (DTYPE, dtype))
    if mine is None or theirs is None or mine.value != theirs.value:
        return f"{part.name} isn't rated alike in {dtype} and {DTYPE}: one's derate doesn't serve the other"
    return None


def served(part: Part, dtype: str) -> str | None:
    """The sentence that says a derate of another dtype serves; None where there is nothing to say."""
    if dtype in (DTYPE, "any"):
        return None
    peak = part.datasheet[DTYPE].value
    return _(
        "the {dtype} derate serves {served}: both are rated {tflops} TFLOPS on {part}",
        dtype=dtype,
        served=DTYPE,
        tflops=stated(peak),
        part=part.name,
    )


def device_peaks(part: Part, dtype: str) -> float | None:
    """The datasheet figure of one device of the part, in TFLOPS (MI250X is two devices)."""
    return rating(part, "").datasheet_for(dtype).tflops
