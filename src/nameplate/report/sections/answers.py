"""What a run answers in sentences: what it delivers, to decide by, and what to do next."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import count, duration, figure, percent, throughput_unit, with_half_width
from nameplate.base.language import N_, _, join_sentences
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.from_run import (
    REAL_FILL,
    DeviceChain,
    ReachedStage,
    find_chains,
    find_furthest,
    find_slowest,
)
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.labels import describe_slowest
from nameplate.report.sections.model import find_model_rates
from nameplate.report.sections.throughput import measured_records
from nameplate.report.view import translate_verdicts
from nameplate.store.folder import Run

# A case whose launches were timed for so long, over its processes, has had its time. A budget that would have
# to be more than twenty times as long isn't what is wrong.
_ENOUGH_S, _MOST_TIMES = 3.0, 20.0
# Above its ceiling by more than this, a product shows that the ceiling isn't known.
_MOST_ABOVE = 1.1
# Of reasons why nothing was measured, so many are quoted.
_MOST_REASONS = 2
# The advice for each verdict; that for `power_capped` depends on the phase too (`_advise_on_power_cap`).
_ADVICE = {
    "contradictory": N_(
        "Figures of a record contradict each other, so none of them can be relied on: measure it again."
    ),
    "unverified": N_(
        "A result was wrong beyond rounding error, or changed between launches: don't trust this device "
        "until the cause is known."
    ),
    "above_peak": N_(
        "A figure is above the peak of this device's rating, known or given: the rating is wrong for this "
        "device."
    ),
    "launch_bound": N_(
        "The host couldn't launch fast enough: that figure shows the host's limit, not the device's."
    ),
    "contended": N_("Other programs used the device or its cores meanwhile: run again on an idle machine."),
    "throttled": N_(
        "Heat or a power brake lowered the clock, which is a fault of the device, its cooling or its "
        "power supply: such figures don't count. Fix it, and run again."
    ),
    "unstable": N_(
        "A figure varied by more than 5 %, drifted, was bimodal or hadn't settled: run again with a larger "
        "--budget."
    ),
    "unknown": N_("Some evidence could not be read, so a record can't be called clean."),
}


def describe_run(run: Run) -> str:
    """Say in one or a few sentences what the run means for someone who has to decide by it."""
    return join_sentences([*_describe_model(run), _describe_products(run)])


def _describe_model(run: Run) -> Iterator[str]:
    """Say how many tokens a second the layers of the model that was asked for would train on."""
    asked = run.manifest.options.axes.model
    for each in find_model_rates(run):
        if asked is None or each.model != asked.name:
            continue
        yield _(
            "All {layers} layers of {model} would train on {rate} tokens a second in {dtype} ({tokens} "
            "tokens a sequence, on {device}): {layers} × the layer measured, forward and backward, without "
            "embedding, logits, optimizer and communication.",
            layers=each.layers,
            model=plain(each.model),
            rate=with_half_width(each.per_second),
            dtype=each.record.dtype,
            tokens=count(each.tokens),
            device=plain(each.record.device),
        )


def _describe_products(run: Run) -> str:
    products = [
        record
        for record in measured_records(run)
        if record.workload == "matmul" and record.tflops is not None and not record.is_wrong
    ]
    if not products:
        why = describe_unmeasured(run)
        if why is not None:
            return _("Nothing was measured, so it isn't known what this device delivers: {why}.", why=why)
        return _("No matrix product was measured, so it isn't known what this device delivers.")
    # The chain of one device only: derates of another device belong to other hardware.
    found = find_chains(run.records)
    shown = find_slowest(found)
    if shown is None:
        return _describe_best(products)
    return join_sentences(
        [
            _describe_chain(shown, len(find_furthest(found)), len(run.manifest.devices)),
            *_describe_faster(shown, products),
        ]
    )


def _describe_best(products: Sequence[Record]) -> str:
    """Describe the best matrix product, for a run without a chain."""
    real = [record for record in products if record.fill == REAL_FILL]
    best = max(real or products, key=lambda record: record.tflops or 0.0)
    reached = _(
        "The best product reached {tflops} {unit} ({dtype})",
        tflops=figure(best.tflops),
        unit=throughput_unit(best.dtype),
        dtype=best.dtype,
    )
    if best.efficiency is None:
        why = best.nominal_source and render(best.nominal_source)
        return _("{reached}; its share of nominal isn't known: {why}.", reached=reached, why=why)
    share = percent(best.efficiency)
    if best.fill == REAL_FILL:
        return _("{reached}, {share} of nominal.", reached=reached, share=share)
    return _(
        "{reached}, {share} of nominal, on {fill} inputs, which no real work has.",
        reached=reached,
        share=share,
        fill=best.fill,
    )


def _describe_chain(shown: DeviceChain, reaching: int, devices: int) -> str:
    """Say what is left of nominal at each stage, what limited the best product, and which verdicts warn.

    `reaching` of the run's `devices` have a chain as long as the one shown.
    """
    nominal = shown.stages[0].throughput.tflops.value
    values = {"tflops": figure(nominal), "dtype": shown.dtype, "parts": _and(_parts(shown))}
    doubt = _(", ").join(map(translate_verdicts, _doubtful_verdicts(shown.stages)))
    said = [
        _("Nominal is {tflops} TFLOPS in {dtype}; this device delivers {parts}.", **values)
        if devices == 1
        else _(
            "Nominal is {tflops} TFLOPS in {dtype}; {device}, {slowest}, delivers {parts}.",
            device=shown.device,
            slowest=describe_slowest(reaching, devices),
            **values,
        ),
        *_describe_ceiling(shown.best_product),
        *([_("Don't rely on it yet: {doubt}.", doubt=doubt)] if doubt else []),
    ]
    return join_sentences(said)


def _describe_faster(shown: DeviceChain, products: Sequence[Record]) -> Iterator[str]:
    """Say why a product that the tables show as faster isn't the best one of the chain."""
    best = shown.best_product
    faster = [
        each
        for each in products
        if (each.device, each.dtype, each.fill) == (best.device, best.dtype, REAL_FILL)
        and each.phase == best.phase
        and not each.trusted
        and (each.efficiency or 0.0) > (best.efficiency or 0.0)
    ]
    if best.trusted and faster:
        fastest = max(faster, key=lambda each: each.efficiency or 0.0)
        yield _(
            "A faster product, {share} of nominal, is {verdict} and doesn't count.",
            share=percent(fastest.efficiency),
            verdict=translate_verdicts(fastest.verdict),
        )


def _parts(shown: DeviceChain) -> list[str]:
    """Return a phrase a stage, such as `86% of it in its best matrix product from cool`."""
    parts: list[str] = []
    before: Stage | None = None
    for stage in shown.stages:
        if stage.stage.reached:
            after_burst = (before, stage.stage) == (Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
            where = _(N_("once that has settled") if after_burst else stage.stage.reached)
            share = percent(shown.share_of_nominal(stage).value)
            template = "{share} {where}" if parts else N_("{share} of it {where}")
            parts.append(_(template, share=share, where=where))
        before = stage.stage
    return parts


def _doubtful_verdicts(reached: Sequence[ReachedStage]) -> list[str]:
    """Return the verdicts that stand against the chain, sorted."""
    return sorted({stage.verdict for stage in reached if not all(each.trusted for each in stage.records)})


def _describe_ceiling(best: Record) -> Iterator[str]:
    """Say what the best product's ceiling was, what lowered it, and how much of it the product reached.

    Nothing where the product was above it beyond the error of both: such a ceiling was none.
    """
    normalized = best.interval("normalized_efficiency")
    if best.ceiling_tflops is None or normalized is None or normalized.low > 1:
        return
    if normalized.value > _MOST_ABOVE:
        yield _("Its ceiling under the conditions measured isn't known: the probe beside it varied as much.")
        return
    tflops = figure(best.ceiling_tflops)
    lost = _(" (lost to {loss})", loss=render(best.loss)) if best.loss else ""
    if normalized.value > 1:
        yield _(
            "Under the conditions measured, its ceiling was {tflops} TFLOPS{lost}; that product reached all "
            "of it, within the error of both figures.",
            tflops=tflops,
            lost=lost,
        )
        return
    yield _(
        "Under the conditions measured, its ceiling was {tflops} TFLOPS{lost}; that product reached "
        "{share} of it.",
        tflops=tflops,
        lost=lost,
        share=percent(normalized.value),
    )


def _and(parts: Sequence[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    return _("{first} and {last}", first=_(", ").join(parts[:-1]), last=parts[-1])


def describe_unmeasured(run: Run) -> str | None:
    """Say why no case that has a record was measured: the commonest reasons, and of how many cases.

    Reasons of one kind differ in their numbers (how much memory is needed, of how much): the first is quoted.
    None where a case was measured, and where none has a record: its process ended, which is said elsewhere.
    """
    if not run.records or any(record.status == "ok" for record in run.records):
        return None
    by_kind: dict[tuple[str, str], list[str]] = {}
    for record in run.records:
        text = plain(render(record.reason or ""))
        kind = text if record.reason_code == "text" else str(record.reason_code)
        by_kind.setdefault((record.status, kind), []).append(
            _("{name}: {said}", name=_(record.status), said=text)
        )
    if run.missing:
        why = plain(render(run.why_missing))
        said = _("{name}: {said}", name=_("missing"), said=why)
        by_kind["missing", ""] = [said] * len(run.missing)
    commonest = sorted(by_kind.values(), key=len, reverse=True)
    shown = [
        _("{reason} ({count} of {all} cases)", reason=of[0], count=len(of), all=len(run.manifest.expected))
        for of in commonest[:_MOST_REASONS]
    ]
    more = len(commonest) - len(shown)
    return _("; ").join([*shown, *([_("{count} other reasons", count=more)] if more else [])])


def advise_on_wrong(run: Run) -> list[str]:
    """Say what makes figures wrong: a reader of one sentence must read this one."""
    verdicts = {verdict for record in measured_records(run) for verdict in record.verdicts}
    return [_(_ADVICE[verdict]) for verdict in ("contradictory", "unverified") if verdict in verdicts]


def give_advice(run: Run) -> list[str]:
    """Say what stood in the way of a clean figure, and what to do about it."""
    found = measured_records(run)
    verdicts = {verdict for record in found for verdict in record.verdicts}
    said = []
    if run.missing:
        said.append(
            _(
                "Cases without a record: {count}. Go on with `bench run --resume {folder}`.",
                count=len(run.missing),
                folder=shlex.quote(str(run.folder)),
            )
        )
    said += [_(text) for verdict, text in _ADVICE.items() if verdict in verdicts]
    said += _advise_budget(run, [record for record in found if _may_lack_time(record)])
    said += _advise_on_power_cap([record for record in found if "power_capped" in record.verdicts])
    skipped = sum(record.reason_code in ("needs_time", "budget_spent") for record in run.records)
    if skipped:
        said.append(_("Cases that didn't fit the budget: {count}. Give a larger --budget.", count=skipped))
    if any(record.workload == "transformer_block" and not record.represents for record in found):
        said.append(
            _(
                "The block was measured below full width, so it stands for no model and isn't a link of the "
                "chain."
            )
        )
    return said


def _may_lack_time(record: Record) -> bool:
    """Whether more time may be what a figure lacks: it varies, or was too short to tell if it had settled."""
    return "unstable" in record.verdicts or "settling_unknown" in record.warning_codes


def _advise_budget(run: Run, doubtful: Sequence[Record]) -> Iterator[str]:
    """Say which budget gives each case in doubt enough time, where one had less, or hadn't settled in it."""
    timed_s = [sum(batch.elapsed_s for batch in record.batches) for record in doubtful]
    short_s = [each for each in timed_s if 0 < each < _ENOUGH_S]
    if short_s:
        yield _(
            "Of cases in doubt, {count} had less than {enough} of timed launches: `--budget {budget}`.",
            count=count(len(short_s)),
            enough=duration(_ENOUGH_S),
            budget=_choose_budget(run, _ENOUGH_S / min(short_s)),
        )
    settling = [times for record in doubtful if (times := _find_lacking(run, record)) is not None]
    if settling:
        yield _(
            "Cases that hadn't settled, and would have with more time: {count}: `--budget {budget}`.",
            count=count(len(settling)),
            budget=_choose_budget(run, 1 + max(settling)),
        )


def _choose_budget(run: Run, times: float) -> int:
    """Return a round budget that is so many times what the run took."""
    used_s = run.manifest.options.budget_s or sum(record.cost_s or 0.0 for record in run.records)
    needed_s = used_s * min(times, _MOST_TIMES)
    step_s = 60 if needed_s > 60 else 10
    return math.ceil(needed_s / step_s) * step_s


def _find_lacking(run: Run, record: Record) -> float | None:
    """Return how much more time a record's group lacked to be seen settled, as a share of what it had; None
    where that isn't known.
    """
    found = next(filter(None, (each.find("still_settling") for each in record.warnings)), None)
    lacking_s = None if found is None else found.values.get("lacking_s")
    group = [each for each in run.records if (each.device, each.group) == (record.device, record.group)]
    had_s = sum(each.cost_s or 0.0 for each in group)
    return lacking_s / had_s if isinstance(lacking_s, int | float) and had_s > 0 else None


def _advise_on_power_cap(capped: Sequence[Record]) -> Iterator[str]:
    if any(record.phase != "burst" for record in capped):
        yield _(
            "The device was held at its power limit, which is normal for sustained work: such figures count."
        )
    if any(record.phase == "burst" for record in capped):
        yield _(
            "A burst figure was held at its power limit, so it is no burst and doesn't count: let the device "
            "cool, and run again."
        )
