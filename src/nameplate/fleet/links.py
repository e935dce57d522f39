"""A fleet's chain: derates that begin with nominal → datasheet and each begin where the one before ends.

`join` is the one place that checks this: a loss counted twice, or left out, is refused there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from nameplate.derate.chain import Link, Provenance
from nameplate.derate.published import STAGES, Published
from nameplate.errors import InputError
from nameplate.specs.parts import Part
from nameplate.specs.recognition import rating

# Fleets are counted in dense FP16: the article's "320 TFLOPS at FP16".
DTYPE = "fp16"
_SERVE_EACH_OTHER = frozenset({"fp16", "bf16"})


@dataclass(frozen=True)
class Derate:
    """One link of a fleet's chain: the ratio of stage `to` to stage `from_`.

    `low` and `high` are a measured link's 95 % interval; None for a published one, which is a point figure.
    `n_from` and `n_to` are how many devices worked together at either end, None where the source is silent.
    """

    from_: str
    to: str
    value: float
    dtype: str
    provenance: Provenance
    source: str
    low: float | None = None
    high: float | None = None
    id: str | None = None  # of the published figure
    run: str | None = None
    device: str | None = None
    scope: str | None = None
    convention: str | None = None
    confidence: str | None = None
    n_from: int | None = None
    n_to: int | None = None

    @property
    def span(self) -> str:
        """`datasheet → scaled`."""
        return f"{self.from_} → {self.to}"

    def as_json(self) -> dict[str, Any]:
        """The link as a JSON row; `from_` is called `from`."""
        row = asdict(self)
        return {"from": row.pop("from_"), **row}


def rated(part: Part, dtype: str = DTYPE) -> Derate:
    """The first link, nominal → datasheet: the ratio of two ratings. KeyError where the part lacks one."""
    nominal, datasheet = part.nominal[dtype], part.datasheet[dtype]
    source = f"nominal {nominal.value:g}: {nominal.source}"
    if datasheet is not nominal:
        source += f"; datasheet {datasheet.value:g}: {datasheet.source}"
    value = datasheet.value / nominal.value
    return Derate("nominal", "datasheet", value, dtype, "published", source, device=part.name)


def from_published(figure: Published) -> Derate:
    """A published derate as a link. InputError for a figure that is no derate."""
    if figure.from_ is None or figure.to is None or figure.quantity != "derate":
        raise InputError(
            f"a published figure, but of {figure.quantity}", got=figure.id, expected="the id of a derate"
        )
    return Derate(
        figure.from_,
        figure.to,
        figure.value,
        figure.dtype,
        "published",
        f"{figure.source} ({figure.date})",
        id=figure.id,
        device=figure.device,
        scope=figure.scope,
        convention=figure.convention,
        confidence=figure.confidence,
        n_from=figure.n_from,
        n_to=figure.n_to,
    )


def from_run(link: Link, run: str, convention: str | None) -> Derate:
    """A link that a run measured, on one device; an end of its interval that isn't finite is None."""
    low, high = (end if math.isfinite(end) else None for end in (link.low, link.high))
    return Derate(
        link.from_,
        link.to,
        link.value,
        link.dtype,
        "measured",
        link.source,
        low=low,
        high=high,
        run=run,
        device=link.device,
        scope="1 device",
        convention=convention,
        n_from=1,
        n_to=1,
    )


def join(derates: Sequence[Derate]) -> tuple[Derate, ...]:
    """The derates as one chain from nominal on.

    Raises InputError, naming both spans, where two overlap (a loss would count twice) or leave a gap (a loss
    would not count at all), in stages or in devices; and for a chain that doesn't begin at nominal.
    """
    if derates and derates[0].from_ != STAGES[0]:
        raise InputError(
            "a chain begins at nominal", got=derates[0].span, expected="nominal → datasheet first"
        )
    for before, after in pairwise(derates):
        if after.from_ != before.to:
            twice = _position(after.from_) < _position(before.to)
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
    spans = " and ".join(f"{each.span} ({each.id or each.run or 'rated'})" for each in (before, after))
    return InputError(
        f"a chain that {problem}", got=spans, expected=f"derates that follow one another: next from {begin}"
    )


def _position(stage: str) -> float:
    """Where a stage stands; `gemm`, with phases not measured apart, is neither of the two it stands for."""
    return STAGES.index("gemm_burst") + 0.5 if stage == "gemm" else STAGES.index(stage)


def not_yet(stage: str) -> tuple[str, ...]:
    """The stages that follow `stage` and so aren't in a chain that ends there."""
    after = "gemm_sustained" if stage == "gemm" else stage
    return tuple(STAGES[STAGES.index(after) + 1 :])


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
    return f"the {dtype} derate serves {DTYPE}: both are rated {peak:g} TFLOPS on {part.name}"


def device_peaks(part: Part, dtype: str) -> float | None:
    """The datasheet figure of one device of the part, in TFLOPS (MI250X is two devices)."""
    return rating(part, "").datasheet_for(dtype).tflops
