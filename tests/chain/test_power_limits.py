"""A part's best product by the power limits that its owner had set: one curve over several runs."""

import math
from dataclasses import replace

import pytest

from nameplate.chain.power_limits import find_limit_curves
from nameplate.fleet.power import find_published_curve
from nameplate.report.labels import Labels
from nameplate.report.run import run_document, sections_view
from nameplate.report.sections.power_limits import power_limits_table
from nameplate.report.side_by_side import side_by_side_view

A800 = "nvidia-a800-sxm4-80gb"


@pytest.fixture
def limited(a800_run):
    """A run of A800s: of each its limit, its share of the usual throughput, and the watts it drew."""

    def make(number, *devices, records=lambda found: found, **changes):
        scales = [scale for _limit, scale, _watts in devices]
        drew = {f"cuda:{n}": watts for n, (_limit, _scale, watts) in enumerate(devices)}

        def kept(found):
            return records([each.model_copy(update={"power_w": drew[each.device]}) for each in found])

        run = a800_run(*scales, run=f"20261122T12000{number}-standard-a80{number}", records=kept)
        entries = tuple(
            entry.model_copy(
                update={"identity": entry.identity.model_copy(update={"power_limit_w": limit}), **changes}
            )
            for entry, (limit, _scale, _watts) in zip(run.manifest.devices, devices, strict=True)
        )
        return replace(run, manifest=run.manifest.model_copy(update={"devices": entries}))

    return make


def test_runs_under_several_limits_make_one_curve(limited):
    runs = [limited(1, (400.0, 1.0, 380.0)), limited(2, (300.0, 0.9, 290.0), (250.0, 0.8, 240.0))]
    runs.append(limited(3, (300.0, 0.94, 296.0)))
    (curve,) = find_limit_curves(runs)
    assert (curve.part, curve.case) == (A800, "matmul/bf16/8192x8192x8192/normal/rotating/sustained/torch")
    assert [(each.limit_w, len(each.products)) for each in curve.points] == [(250, 1), (300, 2), (400, 1)]
    low, both, usual = curve.points
    assert curve.speed_at(low) == pytest.approx(0.8)
    assert curve.speed_at(both) == pytest.approx(math.sqrt(0.9 * 0.94))
    assert both.tflops_per_w == pytest.approx(both.tflops.value / math.sqrt(290 * 296))
    ends = [each.tflops for each in both.products]
    assert (both.tflops.low, both.tflops.high) == (ends[0].low, ends[1].high)
    (said,) = run_document(runs[0], runs)["run"]["power_limits"]
    assert said == curve.as_json()
    assert said["points"][1]["of"] == [
        {"run": runs[1].id, "device": "cuda:0"},
        {"run": runs[2].id, "device": "cuda:0"},
    ]
    assert usual.trusted is all(each.trusted for each in usual.products)


def test_what_differs_in_more_than_the_limit_is_no_curve(limited):
    usual = limited(1, (400.0, 1.0, 380.0))
    alike, other = (
        limited(2, (400.0, 0.9, 380.0)),
        limited(2, (300.0, 0.9, 290.0), part="nvidia-a100-sxm4-80gb"),
    )
    lower = limited(2, (300.0, 0.9, 290.0))
    assert find_limit_curves([usual, lower])
    older = replace(lower, manifest=lower.manifest.model_copy(update={"method": 5}))
    twin = replace(
        lower, records=tuple(each.model_copy(update={"measured": False}) for each in lower.records)
    )
    unknown = limited(2, (None, 0.9, 290.0))
    burst = limited(2, (300.0, 0.9, 290.0), records=lambda found: [e for e in found if e.phase == "burst"])
    for each in (alike, other, older, twin, unknown, burst):
        assert find_limit_curves([usual, each]) == []


def test_a_limit_whose_power_isnt_known_has_a_speed_alone(limited):
    (curve,) = find_limit_curves([limited(1, (400.0, 1.0, None)), limited(2, (300.0, 0.9, 290.0))])
    assert [each.tflops_per_w is None for each in curve.points] == [False, True]
    (chart,) = power_limits_table([curve], Labels({})).charts
    assert [name for name, _values in chart.panels] == ["TFLOPS"]


def test_the_curve_is_on_the_screens_with_the_published_speed_beside_it(limited):
    runs = [limited(1, (400.0, 1.0, 380.0)), limited(2, (300.0, 0.9, 290.0))]
    (table,) = (each for each in side_by_side_view(runs).tables if each.heading == "By power limit")
    rows = [dict(zip(table.column_names, row, strict=True)) for row in table.rows]
    assert [(row["limit, W"], row["speed"]) for row in rows] == [("300", "0.900"), ("400", "1.000")]
    speeds = find_published_curve(A800).speeds(300.0, 400.0)
    assert float(rows[0]["published"]) == pytest.approx(math.prod(speeds) ** (1 / len(speeds)), abs=5e-4)
    assert table.lead.startswith(
        "At 300 W matmul bf16 8192x8192x8192 does 90.0% of what it does at 400 W; TFLOPS/W change by +17.9%."
    )
    both = limited(3, (400.0, 1.0, 380.0), (300.0, 0.9, 290.0))
    assert len(sections_view(both, ["power-limits"]).tables[0].rows) == 2
    assert "nothing of it" in sections_view(runs[0], ["power-limits"]).tables[0].lead
