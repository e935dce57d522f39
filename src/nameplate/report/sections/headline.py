"""The answer of a run in a few named lines: what it delivers of nominal, what a model gets, the chain.

`report.run` puts them at the head of the view. Each is short: with the banners, the advice and where the rest
is, they fill at most twelve lines of 80 columns (`report/media/terminal.py`).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from nameplate.base.formatting import (
    count,
    figure,
    percent,
    percent_with_half_width,
    ratio,
    throughput_unit,
    with_half_width,
)
from nameplate.base.language import N_, _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.chain.from_run import (
    DeviceChain,
    find_chains,
    find_fastest_product,
    find_furthest,
    find_slowest,
)
from nameplate.chain.published import find_best_gemm
from nameplate.chain.stage import Stage
from nameplate.record import Record
from nameplate.report.labels import Labels, name_stage
from nameplate.report.sections.answers import describe_unmeasured
from nameplate.report.sections.collectives import list_collectives
from nameplate.report.sections.memory import list_memory
from nameplate.report.sections.model import ModelRate, choose_rate, find_model_rates
from nameplate.report.sections.throughput import measured_records
from nameplate.report.view import Answer, Fact, translate_verdicts
from nameplate.store.folder import Run

_MOST_ANSWERS = 4
# The longest name of a device, a model or a case that a line quotes whole.
_LONGEST_NAME = 40
_KINDS = {"run_to_run": N_("95 % run-to-run"), "within": N_("95 % within a process")}


def list_summary(run: Run) -> Iterator[Fact]:
    """Name and text of each line: the best product of nominal, a model's tokens a second, the chain.

    Where nothing was measured: why.
    """
    why = describe_unmeasured(run)
    if why is not None:
        yield _("measured"), _("nothing: {why}", why=why)
        return
    chains = find_chains(run.records)
    shown = find_slowest(chains)
    links = list(list_collectives(run.records))
    if links:  # a run of nothing else
        yield from links
        return
    if run.records and shown is None and all(each.memory_level is not None for each in run.records):
        yield from list_memory(run.records)
        return
    if shown is None:
        yield from _unrated_product(run)
    else:
        yield _("product"), _describe_product(shown, run, len(find_furthest(chains)))
    rate = choose_rate(find_model_rates(run), None if shown is None else shown.device)
    if rate is not None:
        yield _("model"), _describe_rate(rate)
    elif _could_ask_for_model(run):
        said = _("not known: no full layer of a model was measured; try `bench run --model llama3-8b`")
        yield _("model"), said
    if shown is not None and len(shown.stages) > 1:
        yield _("chain"), _describe_links(shown)


def list_footer(run: Run) -> Iterator[Fact]:
    """Where the run is, in the command that shows the rest of it."""
    folder = plain(shlex.quote(str(run.folder)))
    if run.manifest.options.trace:
        yield _("traces"), _describe_traces(run)
    yield _("more"), _("`bench show {run} --details` (sections: -h)", run=folder)


def _describe_traces(run: Run) -> str:
    """Say where the traces of launches are, and of how many cases: one may break under the profiler."""
    found = [each.profile.trace for each in run.records if each.profile is not None and each.profile.trace]
    if not found:
        return _("none: no case could be traced")
    folder = plain(shlex.quote(str((run.folder / found[0]).parent)))
    return _(
        "{count} of {all} cases, in {folder} (ui.perfetto.dev)",
        count=count(len(found)),
        all=count(len(run.manifest.expected)),
        folder=folder,
    )


def list_answers(run: Run) -> tuple[Answer, ...]:
    """Return the figures that matter most, at most four: of nominal by stage, and a model's tokens a second.

    Of several devices they are the slowest one's.
    """
    shown = find_slowest(find_chains(run.records))
    answers = []
    if shown is not None:
        nominal = shown.stages[0].throughput.tflops
        product = next(each.stage for each in reversed(shown.stages) if each.stage in _PRODUCTS)
        for stage in shown.stages:
            if stage.records:
                share = percent_with_half_width(shown.share_of_nominal(stage))
                detail = _(
                    "of nominal: {achieved} of {nominal} TFLOPS in {dtype}",
                    achieved=figure(stage.throughput.tflops.value),
                    nominal=figure(nominal.value),
                    dtype=shown.dtype,
                )
                if stage.stage is product:
                    published = _describe_published(shown, run)
                    detail = _("{said}; {published}", said=detail, published=published)
                answers.append(Answer(name_stage(stage.stage), share, stage.verdict, detail))
    rate = choose_rate(find_model_rates(run), None if shown is None else shown.device)
    if rate is not None:
        answers = answers[-(_MOST_ANSWERS - 1) :]
        said = N_("tokens a second in {dtype}, estimated: {layers} × the layer measured")
        if rate.is_step:
            said = N_("tokens a second in {dtype}, estimated: a step of {layers} layers from its pieces")
        detail = _(said, dtype=rate.record.dtype, layers=rate.layers)
        name = _("training {model}", model=_shorten(rate.model))
        answers.append(Answer(name, with_half_width(rate.per_second), rate.record.verdict, detail))
    return tuple(answers[-_MOST_ANSWERS:])


def _describe_product(shown: DeviceChain, run: Run, reaching: int) -> str:
    """`225 of 320 TFLOPS nominal in bf16: 70.3% ± 0.7 (95 % run-to-run); published best …`.

    `shown` is the slowest of the `reaching` devices whose chain comes as far.
    """
    stage = next(each for each in reversed(shown.stages) if each.stage in _PRODUCTS)
    said = _(
        "{achieved} of {nominal} TFLOPS nominal in {dtype}: {share}{aside}; {published}",
        achieved=figure(stage.throughput.tflops.value),
        nominal=figure(shown.stages[0].throughput.tflops.value),
        dtype=shown.dtype,
        share=percent_with_half_width(shown.share_of_nominal(stage)),
        aside=_aside(stage.records, with_kind=True),
        published=_describe_published(shown, run),
    )
    if len(run.manifest.devices) == 1:
        return said
    return _("{said}; slowest of {count}: {device}", said=said, count=reaching, device=plain(shown.device))


_PRODUCTS = (Stage.GEMM, Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)


def _aside(records: Sequence[Record], *, with_kind: bool = False) -> str:
    """In parentheses: why a figure is in doubt, and which interval ± is half of."""
    doubt = next((each.verdict for each in records if not each.trusted), None)
    kind = _KINDS.get(str(records[0].interval_kind)) if records and with_kind else None
    said = [
        *([_("in doubt: {verdict}", verdict=translate_verdicts(doubt))] if doubt else []),
        *([_(kind)] if kind else []),
    ]
    return _(" ({kind})", kind=_("; ").join(said)) if said else ""


def _describe_published(shown: DeviceChain, run: Run) -> str:
    """Say what the best published product of the part reaches, of the nominal that this run is held to."""
    part = next((entry.part for entry in run.manifest.devices if entry.name == shown.device), None)
    best = find_best_gemm(part, shown.dtype) if part else None
    if best is None:
        return _("none is published for this part")
    stages = {stage.stage: stage.throughput.tflops.value for stage in shown.stages}
    of_nominal = stages.get(Stage.DATASHEET)
    if of_nominal is None:
        return _(
            "published best: {share} of datasheet ({device})",
            share=percent(best.value),
            device=best.device,
        )
    return _(
        "published best: {share} ({device})",
        share=percent(best.value * of_nominal / stages[Stage.NOMINAL]),
        device=best.device,
    )


def _unrated_product(run: Run) -> Iterator[Fact]:
    """The best product without a share of nominal; without a product, the fastest work of another kind."""
    best = find_fastest_product(run.records)
    labels = Labels.of(run)
    if best is not None:
        reached = {"tflops": with_half_width(best.interval("tflops")), "unit": throughput_unit(best.dtype)}
        if best.efficiency is not None:
            share = percent_with_half_width(best.interval("efficiency"))
            yield (
                _("product"),
                _("{tflops} {unit} in {dtype}: {share} of nominal", dtype=best.dtype, share=share, **reached),
            )
            return
        said = _("{tflops} {unit} in {dtype}; its share of nominal isn't known", dtype=best.dtype, **reached)
        why = plain(render(best.nominal_source or ""))
        yield _("product"), _("{said}: {why}", said=said, why=why) if why else said
        return
    yield _("product"), _("no matrix product with a nominal rating was measured")
    right = [each for each in measured_records(run) if not each.is_wrong]
    # What computes has a bandwidth too, by the bytes that it must move: that says nothing of the memory.
    moved = [each for each in right if each.tflops is None and each.bandwidth_gb_s is not None]
    computed = [each for each in right if each.tflops is not None]
    if moved:
        fastest = max(moved, key=lambda each: (each.trusted, each.bandwidth_gb_s or 0.0))
        case = _shorten(labels.row(fastest.device, fastest.case))
        gb_s = with_half_width(fastest.interval("bandwidth_gb_s"))
        yield _("memory"), _("{gb_s} GB/s in {case}", gb_s=gb_s, case=case)
    if computed:
        fastest = max(computed, key=lambda each: each.tflops or 0.0)
        case = _shorten(labels.row(fastest.device, fastest.case))
        tflops = with_half_width(fastest.interval("tflops"))
        unit = throughput_unit(fastest.dtype)
        said = _("{tflops} {unit} in {case}", tflops=tflops, unit=unit, case=case)
        yield _("fastest"), said + _aside([fastest])


def _describe_rate(rate: ModelRate) -> str:
    """Tokens a second of the whole model, how they were estimated, and what they leave out."""
    record = rate.record
    said = N_(
        "{rate} tokens a second{aside} training {model} in {dtype} on one device; estimated: {layers} × the "
        "layer measured, no logits, no optimizer"
    )
    if rate.is_step:
        said = N_(
            "{rate} tokens a second{aside} training {model} in {dtype} on one device; estimated: {layers} × "
            "the layer measured, logits and AdamW of one batch, as measured each"
        )
    return _(
        said,
        rate=with_half_width(rate.per_second),
        model=_shorten(rate.model),
        dtype=record.dtype,
        aside=_aside([record]),
        layers=rate.layers,
    )


def _could_ask_for_model(run: Run) -> bool:
    """Whether a reader may miss the model: not where the run was asked for something else."""
    axes = run.manifest.options.axes
    return not axes.shapes and run.manifest.options.only is None


def _describe_links(shown: DeviceChain) -> str:
    """`nominal → datasheet 0.975 → gemm 0.833 → block 0.851: 69.1% of nominal`."""
    doubtful = {stage.stage for stage in shown.stages if not all(each.trusted for each in stage.records)}
    steps = [str(shown.stages[0].stage)]
    for link in shown.links():
        mark = "?" if link.to in doubtful else ""
        steps.append(f"{link.to} {ratio(link.value)}{mark}")
    said = _(
        "{steps}: {share} of nominal",
        steps=" → ".join(steps),
        share=percent(shown.share_of_nominal(shown.stages[-1]).value),
    )
    return _("{said} (? in doubt)", said=said) if doubtful else said


def _shorten(name: str) -> str:
    text = plain(name)
    return text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…"
