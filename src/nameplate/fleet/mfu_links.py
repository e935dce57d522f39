"""Links of the chain that come from published training runs: predicted for a fleet's own size, or one run's.

A predicted link spans all from the datasheet to many devices at work, so it contains the loss of matrix
products and of scaling. Behind a run that measured the product of its card, it begins there instead: the
predicted MFU ÷ what is published of that product, so that no loss counts twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from nameplate.base.formatting import count, ratio, scientific, stated
from nameplate.base.language import N_, _
from nameplate.chain.link import Link, SharedVariance
from nameplate.chain.published import UNKNOWN_CONVENTION, Published, load_published
from nameplate.chain.stage import Stage
from nameplate.fleet.mfu import MfuEstimate, TrainingSetup, estimate_mfu, name_year
from nameplate.fleet.mfu_model import generation_of, load_mfu_model
from nameplate.fleet.mfu_runs import PEAK_DTYPES, TrainingRun, load_training_runs
from nameplate.models.conventions import OWN
from nameplate.models.published import load_published_models
from nameplate.specs.part import Part
from nameplate.specs.registry import Registry

_PRODUCTS = (Stage.GEMM, Stage.GEMM_SUSTAINED, Stage.GEMM_BURST)
_BILLION = 1e9


def predict_link(part: Part, cards: int | None, training: TrainingSetup) -> Link | None:
    """The link datasheet → scaled of a training run on so many cards; None without a rating or a size.

    Its 90 % interval is the model's. Parts of one generation have the same draws, and those of two have what
    is a study's own in common: who trains efficiently on one card does so on another.
    """
    if cards is None or PEAK_DTYPES[training.precision] not in part.datasheet:
        return None
    found = estimate_mfu(part, cards, training)
    low, high = found.predicted.ends
    return Link(
        Stage.DATASHEET,
        Stage.SCALED,
        found.p50,
        PEAK_DTYPES[training.precision],
        "modelled",
        _describe_source(found),
        low=low,
        high=high,
        law="logitnormal",
        id=f"mfu-{generation_of(part, training.precision)}",
        scope=describe_training(training, cards),
        convention=OWN,
        n_to=cards,
        parts=(part.id,),
        note="; ".join(found.notes) or None,
        shared_variance=SharedVariance("mfu, the study's own", _share_of_study(found)),
    )


def predict_rest(
    part: Part, cards: int | None, training: TrainingSetup, measured: Sequence[Link]
) -> list[Link]:
    """The measured links up to the last product with a published figure, then the rest, predicted.

    The rest is the predicted MFU ÷ that published figure. Empty where no product has one.
    """
    whole = predict_link(part, cards, training)
    for kept in range(len(measured), 0, -1):
        stage = measured[kept - 1].to
        usual = find_usual_product(part.id, stage) if whole is not None and stage in _PRODUCTS else None
        if whole is None or usual is None:
            continue
        source = N_("the MFU {mfu} of {source}, ÷ {usual}, which is published of its product ({id})")
        rest = Link(
            stage,
            Stage.SCALED,
            whole.value / usual.value,
            whole.dtype,
            "modelled",
            _(source, mfu=ratio(whole.value), source=whole.source, usual=ratio(usual.value), id=usual.id),
            low=whole.low / usual.value,
            high=whole.high / usual.value,
            law="lognormal",
            id=whole.id,
            scope=whole.scope,
            convention=OWN,
            n_to=cards,
            parts=whole.parts,
            note=whole.note,
            shared_variance=whole.shared_variance,
        )
        return [*measured[:kept], rest]
    return []


def find_usual_product(part: str, stage: Stage) -> Published | None:
    """What is published of a part's matrix product at that stage, of the part itself before its twin's.

    The product of a run without phases (`gemm`) is compared with a sustained one, else with a burst.
    """
    stages = (Stage.GEMM_SUSTAINED, Stage.GEMM_BURST) if stage is Stage.GEMM else (stage,)
    for wanted in stages:
        found = [
            each
            for each in load_published()
            if (each.from_, each.to) == (Stage.DATASHEET, wanted) and each.dtype == "bf16"
            if each.quantity == "derate" and each.serves(part)
        ]
        if found:
            return min(found, key=lambda each: each.part != part)
    return None


def find_training_run(name: str) -> TrainingRun | None:
    """The published training run of that id; None where there is none."""
    return next((each for each in load_training_runs() if each.id == name), None)


def link_training_run(run: TrainingRun, registry: Registry) -> Link:
    """What one published run reached of its datasheet's peak, by the convention of this chain.

    A whole run contains its interruptions, so it reaches goodput. It may stand in for parts of the same
    generation and rating; where the source doesn't say which variant ran (910B), for every variant.
    """
    part, dtype = registry.parts[run.part], PEAK_DTYPES[run.precision]
    low, high = run.mfu_by(load_published_models()[run.model].shape, part)
    generation, rated = generation_of(part, run.precision), part.datasheet.get(dtype)
    alike = [
        each.id
        for each in registry.parts.values()
        if each.id != part.id and dtype in each.datasheet
        if rated is None or each.datasheet[dtype].value == rated.value
        if generation_of(each, run.precision) == generation
    ]
    return Link(
        Stage.DATASHEET,
        Stage.GOODPUT if run.whole_run else Stage.SCALED,
        (low + high) / 2,
        dtype,
        "published",
        f"{run.source} ({name_year(run.year)}), {run.read}",
        low=low,
        high=high,
        law="uniform" if low < high else "exact",
        id=run.id,
        device=part.name,
        scope=_(
            "{model}, context {context}, {devices} devices, {precision}",
            model=load_published_models()[run.model].name,
            context=count(run.context),
            devices=_("unknown") if run.devices is None else count(run.devices),
            precision=run.precision,
        ),
        convention=UNKNOWN_CONVENTION if low < high else OWN,
        n_from=1,
        n_to=run.devices,
        parts=(part.id, *alike),
        note=run.note,
    )


def describe_training(training: TrainingSetup, cards: int) -> str:
    """`7B parameters, context 4,096, 1,024 devices, bf16, tuned, 2024`."""
    model = _("{count}B parameters", count=stated(training.parameters / _BILLION))
    if training.parameters < _BILLION:
        model = _("{count} parameters", count=scientific(training.parameters))
    if training.has_experts:
        active = stated((training.active_parameters or 0) / _BILLION)
        model = _("{model} ({active}B at work on a token)", model=model, active=active)
    return _(
        "{model}, context {context}, {cards} devices, {precision}, {stack}, {year}",
        model=model,
        context=count(training.context),
        cards=count(cards),
        precision=training.precision,
        stack=_(training.stack),
        year=name_year(training.year),
    )


def _describe_source(found: MfuEstimate) -> str:
    said = N_("the model of MFU: {runs} published runs in {families} families, {own} on its generation")
    return _(
        said,
        runs=count(found.n_runs),
        families=count(found.n_families),
        own=count(found.runs_of_generation),
    )


def _share_of_study(found: MfuEstimate) -> float:
    """The share of the prediction's variance that is the study's: the same on every part."""
    return min(load_mfu_model().sd_study ** 2 / found.predicted.deviation**2, 1.0)
