"""The screens of MFU: `bench fleet derate`, and the model's part of `bench fleet validate`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nameplate.base.formatting import change, count, figure, interval, percent, ratio, scientific, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.fleet.mfu import MfuEstimate, name_year
from nameplate.fleet.mfu_model import FEATURES, MfuModel
from nameplate.fleet.mfu_study import BoundCheck, FamilyCheck, MfuStudy, WholeRun
from nameplate.models.conventions import CONVENTIONS, OWN
from nameplate.report.view import Column, Field, Table, View, table_of

_MEASURES = {
    "median error": N_("median error"),
    "runs inside": N_("runs inside the 90 % interval"),
    "median width": N_("median width of the interval ÷ p50"),
}
_FEATURES = {
    "constant": N_("dense, 10 billion parameters, 64 devices, bf16, tuned, 2024"),
    "devices": N_("log2(devices ÷ 64) ÷ 10"),
    "parameters": N_("log10(parameters at work on a token ÷ 10 billion)"),
    "attention": N_("attention's share of the FLOPs"),
    "fp8": N_("fp8"),
    "off_the_shelf": N_("off-the-shelf"),
    "year": N_("years since 2024"),
    "experts": N_("mixture of experts"),
}


def derate_view(found: MfuEstimate) -> View:
    """The MFU of a training run, what it was asked for, and what it rests on."""
    training = found.training
    model = _("{count} parameters", count=scientific(training.parameters))
    if training.has_experts:
        active = scientific(training.active_parameters)
        model = _("{model}, {active} of them at work on a token", model=model, active=active)
    facts = (
        (_("part"), _("{part}, {count} devices", part=found.part.name, count=count(found.devices))),
        (_("model"), _("{model}, context {count} tokens", model=model, count=count(training.context))),
        (
            _("software"),
            _(
                "{stack}, {precision}, {year}",
                stack=_(training.stack),
                precision=training.precision,
                year=name_year(training.year),
            ),
        ),
        (
            _("counted by"),
            _(
                "{convention}: {formula}",
                convention=found.convention,
                formula=CONVENTIONS[found.convention].formula,
            ),
        ),
    )
    columns = (Column("quantity"), *(Column(name, is_number=True) for name in ("p5", "p50", "p95")))
    shares = (found.p5, found.p50, found.p95)
    rows = (
        (_("share of {peak} TFLOPS", peak=stated(found.peak_tflops)), *map(percent, shares)),
        (_("TFLOPS a device"), *(figure(each * found.peak_tflops) for each in shares)),
    )
    title = _(
        "MFU {mfu} of the datasheet's dense {precision} peak (nine runs in ten: {range})",
        mfu=percent(found.p50),
        precision=training.precision,
        range=interval(percent, found.p5, found.p95),
    )
    return View(
        title=plain(title),
        facts=tuple((name, plain(value)) for name, value in facts),
        tables=(Table(_("MFU by published runs"), columns, rows),),
        meaning=_(
            "From {runs} published runs in {families} families, {own} of them on parts of this generation; "
            "without interruptions (goodput).",
            runs=count(found.n_runs),
            families=count(found.n_families),
            own=count(found.runs_of_generation),
        ),
        advice=tuple(plain(_("{said}.", said=each)) for each in found.notes),
    )


def mfu_validation_view(study: MfuStudy, *, details: bool = True) -> View:
    """How well the model predicts families that it hasn't seen; in detail also whole runs, coefficients."""
    tables = [_bounds_table(study.checks), _families_table(study.families)]
    if details:
        tables += [_whole_runs_table(study), _coefficients_table(study.model)]
    values = {check.measure: check.value for check in study.checks}
    return View(
        title=_(
            "Of runs that it hasn't seen, the model predicts half within {error}, and {inside} lie inside "
            "its interval of nine in ten.",
            error=percent(values["median error"]),
            inside=percent(values["runs inside"]),
        ),
        tables=tuple(tables),
        meaning=_(
            "{runs} published runs in {families} families; each family is predicted by the runs of all "
            "others. MFU is by {convention}, of the dense peak of the run's precision.",
            runs=count(study.model.n_runs),
            families=count(study.model.n_families),
            convention=CONVENTIONS[OWN].formula,
        ),
        advice=(_("`bench fleet derate` predicts a run of your own; `make mfu` fits the model again."),),
    )


def list_mfu_failures(study: MfuStudy) -> list[str]:
    """Return each figure past its bound, in a few words."""
    return [
        f"{each.measure} {percent(each.value)} (bound {percent(each.bound)})"
        for each in study.checks
        if not each.passed
    ]


def _bounds_table(checks: Sequence[BoundCheck]) -> Table:
    fields = [
        Field[BoundCheck]("quantity", lambda check: _(_MEASURES[check.measure])),
        Field[BoundCheck]("value", lambda check: percent(check.value), is_number=True),
        Field[BoundCheck]("bound", _bound, is_number=True),
        Field[BoundCheck]("within", lambda check: _("yes") if check.passed else _("NO")),
    ]
    return table_of(_("MFU of families left out"), fields, checks)


def _bound(check: BoundCheck) -> str:
    sign = "≥" if check.measure == "runs inside" else "≤"
    return f"{sign} {percent(check.bound)}"


def _families_table(families: Sequence[FamilyCheck]) -> Table:
    fields = [
        Field[FamilyCheck]("family", lambda each: plain(each.family)),
        Field[FamilyCheck]("runs", lambda each: count(each.runs), is_number=True),
        Field[FamilyCheck]("error", lambda each: change(each.error), is_number=True),
        Field[FamilyCheck]("size of error", lambda each: percent(each.absolute_error), is_number=True),
        Field[FamilyCheck]("inside", lambda each: percent(each.inside), is_number=True),
        Field[FamilyCheck]("width", lambda each: percent(each.width), is_number=True),
    ]
    heading = _(
        "Each family, predicted by the others: median error (predicted ÷ published − 1) and its size, runs "
        "inside the 90 % interval, its median width ÷ p50"
    )
    return table_of(heading, fields, families)


def _whole_runs_table(study: MfuStudy) -> Table:
    fields = [
        Field[WholeRun]("run", lambda each: plain(each.observation.run.id)),
        Field[WholeRun]("published", lambda each: percent(each.observation.mfu), is_number=True),
        Field[WholeRun](
            "predicted",
            lambda each: interval(percent, each.predicted.p5, each.predicted.p50, each.predicted.p95),
        ),
        Field[WholeRun]("ratio", lambda each: ratio(each.share), is_number=True),
    ]
    heading = _(
        "Whole runs, which aren't fitted: MFU from tokens and device-hours, interruptions included, beside "
        "p5 … p50 … p95 without them; the ratio to p50 has their goodput in it"
    )
    return table_of(heading, fields, study.whole_runs)


def _coefficients_table(model: MfuModel) -> Table:
    deviations = [math.sqrt(row[index]) for index, row in enumerate(model.covariance)]
    names = [*(_(_FEATURES[name]) for name in FEATURES), *model.generations]
    rows = [
        (plain(name), ratio(value), ratio(deviation))
        for name, value, deviation in zip(names, model.mean, deviations, strict=True)
    ]
    spreads = {
        N_("spread between generations"): model.sd_generation,
        N_("spread between studies"): model.sd_study,
        N_("spread between runs"): model.sd_run,
    }
    rows += [(_(name), ratio(value), "") for name, value in spreads.items()]
    columns = (Column("feature"), Column("coefficient", is_number=True), Column("±", is_number=True))
    return Table(_("The model: logit(MFU) = sum of coefficient × feature"), columns, tuple(rows))
