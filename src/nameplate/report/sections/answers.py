"""What a run means for someone who has to decide by it: the answer, how sure it is, what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

from nameplate.base.formatting import figure, percent, percent_with_half_width
from nameplate.base.language import N_, _, in_a_row
from nameplate.base.messages import render
from nameplate.chain.from_run import REAL_FILL, ReachedStage, Stages, furthest, left, slowest, stages
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.labels import slowest_words, stage_words
from nameplate.report.view import Answer, verdict_words
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run


def answers(found: Sequence[Stages]) -> tuple[Answer, ...]:
    """What a device delivers of its nameplate at each measured stage; of several devices the slowest."""
    shown = slowest(found)
    if shown is None:
        return ()
    nominal = shown.stages[0]
    return tuple(
        Answer(stage_words(stage.stage), _share(left(stage, nominal)), stage.verdict)
        for stage in shown.stages
        if stage.provenance == "measured"
    )


def _share(of: Interval) -> str:
    return percent_with_half_width(of.value, of.low, of.high)


def meaning(run: Run) -> str:
    """Say in one sentence what the run means for someone who has to decide by it."""
    products = [
        record
        for record in measured(run)
        if record.workload == "matmul" and record.tflops is not None and "unverified" not in record.verdicts
    ]
    if not products:
        return _("No product was measured, so nothing can be said of what this device delivers.")
    # One chain: another device's derates are another product.
    found = stages(run.records)
    shown = slowest(found)
    if shown is None:
        return _best_alone(products)
    return _delivers(products, shown, len(furthest(found)), len(run.manifest.devices))


def _best_alone(products: Sequence[Record]) -> str:
    """What can be said where there is no chain."""
    real = [record for record in products if record.fill == REAL_FILL]
    best = max(real or products, key=lambda record: record.tflops or 0.0)
    reached = _(
        "The best product reached {tflops} TFLOPS ({dtype})", tflops=figure(best.tflops), dtype=best.dtype
    )
    if best.efficiency is None:
        why = best.nominal_source and render(best.nominal_source)
        return _("{reached}; of what nominal can't be said: {why}.", reached=reached, why=why)
    share = percent(best.efficiency)
    if best.fill == REAL_FILL:
        return _("{reached}, {share} of nominal.", reached=reached, share=share)
    return _(
        "{reached}, {share} of nominal, on {fill} inputs, which no real work has.",
        reached=reached,
        share=share,
        fill=best.fill,
    )


def _delivers(products: Sequence[Record], shown: Stages, reaching: int, devices: int) -> str:
    """What is left of nominal, stage by stage; whether to rely on it; and what held the best product down."""
    mine = [record for record in products if (record.device, record.dtype) == (shown.device, shown.dtype)]
    rated = next(record.nominal_tflops for record in mine if record.nominal_tflops)
    told = {"tflops": figure(rated), "dtype": shown.dtype, "parts": _and(_parts(shown))}
    doubt = _(", ").join(map(verdict_words, _doubt(shown.stages)))
    said = [
        _("Nominal is {tflops} TFLOPS in {dtype}; this device delivers {parts}.", **told)
        if devices == 1
        else _(
            "Nominal is {tflops} TFLOPS in {dtype}; {device}, {slowest}, delivers {parts}.",
            device=shown.device,
            slowest=slowest_words(reaching, devices),
            **told,
        ),
        *_conditions(mine, shown.stages),
        *([_("Don't rely on it yet: {doubt}.", doubt=doubt)] if doubt else []),
    ]
    return in_a_row(said)


def _parts(shown: Stages) -> list[str]:
    """`86% of it in its best matrix product from cool`, and so on, a stage each."""
    parts: list[str] = []
    before: Stage | None = None
    for stage in shown.stages:
        if stage.stage.reached:
            too = (before, stage.stage) == (Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
            words = _(_SETTLED_TOO if too else stage.stage.reached)
            share = percent(left(stage, shown.stages[0]).value)
            first_of_all = N_("{share} of it {where}")
            parts.append(_("{share} {where}" if parts else first_of_all, share=share, where=words))
        before = stage.stage
    return parts


_PRODUCTS = (Stage.GEMM, Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
_SETTLED_TOO = N_("once that has settled")


def _doubt(reached: Sequence[ReachedStage]) -> list[str]:
    """The verdicts that stand against the chain; from gemm_sustained on `throttled` isn't one of them."""
    found, settled = set[str](), False
    for stage in reached:
        settled = settled or stage.stage is Stage.GEMM_SUSTAINED
        found |= {stage.verdict} - ({"clean", "throttled"} if settled else {"clean"})
    return sorted(found)


def _conditions(products: Sequence[Record], reached: Sequence[ReachedStage]) -> Iterator[str]:
    """What the device could have done in the conditions of its best product, and how near that one came."""
    sources = [each.source for each in reached if each.stage in _PRODUCTS]
    best = next((record for record in products if sources and record.case == sources[-1]), None)
    if best is not None and best.ceiling_tflops is not None and best.normalized_efficiency is not None:
        yield _(
            "In the conditions it held it could do {tflops} TFLOPS{lost}, and that product reached "
            "{share} of it.",
            tflops=figure(best.ceiling_tflops),
            lost=_(" (lost to {loss})", loss=render(best.loss)) if best.loss else "",
            share=percent(best.normalized_efficiency),
        )


def _and(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return _("{first} and {last}", first=_(", ").join(parts[:-1]), last=parts[-1])


def advice(run: Run) -> list[str]:
    """What stood in the way of a clean figure, and what to do about it."""
    found = measured(run)
    verdicts = {verdict for record in found for verdict in record.verdicts}
    said = [_(text) for verdict, text in _ADVICE.items() if verdict in verdicts]
    said += _throttled({record.phase for record in found if "throttled" in record.verdicts})
    skipped = sum(record.reason_code in ("needs_time", "budget_spent") for record in run.records)
    if skipped:
        said.append(_("{count} cases didn't fit the budget: give a larger --budget.", count=skipped))
    if run.missing:
        said.append(
            _(
                "{count} cases have no record: go on with `bench run --resume {folder}`.",
                count=len(run.missing),
                folder=_quoted(run.folder),
            )
        )
    if any(record.workload == "transformer_block" and not record.represents for record in found):
        said.append(
            _("The block was measured below full width: it stands for no model, and is no link above.")
        )
    return said


def _throttled(phases: set[str | None]) -> Iterator[str]:
    """The clock was held down by heat or the power limit: for a settled figure that is as it should be."""
    if "sustained" in phases:
        yield _(
            "Heat or the power limit held the clock down once settled: that is what a sustained figure "
            "shows, and such a figure counts."
        )
    if phases - {"sustained"}:
        yield _(
            "Heat or the power limit held the clock down in a figure that isn't a sustained one: it counts "
            "for neither burst nor sustained; let the device cool, and run quick or soak."
        )


def _quoted(folder: Path) -> str:
    """The folder as a shell takes it, so that the command can be pasted."""
    return shlex.quote(str(folder))


_ADVICE = {
    "unverified": N_(
        "A result was wrong beyond rounding, or changed between launches: don't trust this device "
        "before that is explained."
    ),
    "above_peak": N_("A figure is above the rated peak: the rating or its clock is wrong for this device."),
    "launch_bound": N_("The host couldn't launch fast enough: that figure is the host's, not the device's."),
    "contended": N_("Something else used the device or its cores meanwhile: run again on a quiet machine."),
    "unstable": N_(
        "A figure spread by more than 5 %, drifted, kept to two levels or hadn't settled: run again "
        "with a larger --budget."
    ),
    "unknown": N_("Some evidence could not be read, so a record can't be called clean."),
}


def measured(run: Run) -> list[Record]:
    """The records that hold a figure."""
    return [record for record in run.records if record.status == "ok"]
