"""What a run makes of the fleets: by its own product where it may price them, and else why not."""

from dataclasses import replace

import pytest

from nameplate.chain.stage import Stage
from nameplate.device.identity import CpuIdentity
from nameplate.fleet.mfu import estimate_mfu
from nameplate.fleet.mfu_links import find_usual_product
from nameplate.report.charts.data import FLEETS, MOST_BARS
from nameplate.report.fleet.priced import _price_by_published, price, priced_tables
from nameplate.store.manifest import DeviceEntry

A800, PCIE = "nvidia-a800-sxm4-80gb", "nvidia-h100-pcie-80gb"
LI_AUTO_CARDS, NIO_CARDS = 16_844, 4_375
PRODUCT, BLOCK = 260, 205  # TFLOPS of the run of the fixture, sustained


@pytest.fixture(scope="module", autouse=True)
def ten_thousand_draws():
    """A tenth of the usual draws: their middle is within 0.2 % all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nameplate.fleet.montecarlo.DRAWS", 10_000)
        _price_by_published.cache_clear()
        yield
    _price_by_published.cache_clear()


def published(cards):
    """Delivered ÷ nominal of so many A800 by published runs of that size."""
    return estimate_mfu(A800, cards).p50 * 312 / 320


def measured(cards):
    """The same by the product that the run measured, and what published runs reach of such a product."""
    return published(cards) * (PRODUCT / 312) / find_usual_product(A800, Stage.GEMM_SUSTAINED).value


def table(priced):
    (found,) = priced_tables(priced)
    return found


def rows(priced):
    found = table(priced)
    return {row[0]: dict(zip(found.column_names, row, strict=True)) for row in found.rows}


def delivered(priced, fleet):
    """Delivered ÷ nominal EFLOPS of a fleet."""
    (one,) = (each for each in priced.costs if each.size.id == fleet)
    return one.delivered_eflops / one.size.nominal_eflops


@pytest.fixture
def cpu_run(make_run, make_record):
    identity = CpuIdentity(
        name="AMD EPYC", architecture="x86_64", logical_cpus=4, usable_cores=2.0, memory_bytes=1 << 34
    )
    entry = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
    return make_run(make_record(), devices=(entry,))


def test_a_clean_a800_run_prices_a800_fleets_by_its_product_and_the_others_by_published_runs(a800_run):
    priced = price(a800_run())
    assert priced.why is None
    assert delivered(priced, "li-auto-2024-08") == pytest.approx(measured(LI_AUTO_CARDS), rel=2e-3)
    by = {fleet: (row["part"], row["by"]) for fleet, row in rows(priced).items()}
    assert by["Li Auto"] == ("A800", "this run, modelled")
    assert by["Tesla"] == ("H100", "modelled")
    assert {each for part, each in by.values() if part == "A800"} == {"this run, modelled"}
    lead = table(priced).lead
    assert "(run 20261122T120000-standard-a800: 0.833, then model of MFU: 0.6" in lead
    assert "By published training runs" not in lead


def test_of_several_devices_the_slowest_prices(a800_run):
    found = delivered(price(a800_run(1.0, 0.8)), "nio-2024-10")
    assert found == pytest.approx(0.8 * measured(NIO_CARDS), rel=2e-3)


def test_a_cpu_run_says_why_and_takes_published_runs(cpu_run):
    priced = price(cpu_run)
    assert "the run is of a CPU" in priced.why
    assert delivered(priced, "li-auto-2024-08") == pytest.approx(published(LI_AUTO_CARDS))
    assert {row["by"] for row in rows(priced).values()} == {"modelled"}
    lead = table(priced).lead
    assert f"By published training runs ({priced.why})." in lead


def test_a_simulated_device_is_no_evidence(make_run, make_record):
    assert "a simulated device is no evidence" in price(make_run(make_record())).why


def test_a_run_whose_records_arent_admitted_says_so_and_falls_back(a800_run):
    loud = {"verdict": "contended", "verdicts": ("contended",)}

    def contended(records):
        return [each if each.status != "ok" else each.model_copy(update=loud) for each in records]

    priced = price(a800_run(records=contended))
    for part in ("no record of this run is trusted enough to price a fleet", "contended"):
        assert part in priced.why
        assert part in table(priced).lead
    assert "--run" not in priced.why  # a flag of another command
    assert delivered(priced, "li-auto-2024-08") == pytest.approx(published(LI_AUTO_CARDS))
    assert {row["by"] for row in rows(priced).values()} == {"modelled"}


def test_a_run_measured_against_another_datasheet_figure_says_so(a800_run):
    def rated(records):
        return [
            each.model_copy(update={"datasheet_tflops": 300.0}) if each.dtype == "bf16" else each
            for each in records
        ]

    assert "another bf16 datasheet figure than the registry's" in price(a800_run(records=rated)).why


def on(part, run, tflops):
    """The run as one on another part that is rated for so much in every dtype."""
    entries = tuple(entry.model_copy(update={"part": part}) for entry in run.manifest.devices)
    rated = {"part": part, "nominal_tflops": tflops, "datasheet_tflops": tflops}
    return replace(
        run,
        manifest=run.manifest.model_copy(update={"devices": entries}),
        records=tuple(
            each.model_copy(update=rated)
            for each in run.records
            if each.dtype == "bf16" and each.status == "ok"
        ),
    )


def test_a_part_of_no_fleet_is_priced_as_one_eflops(a800_run):
    priced = price(on(PCIE, a800_run(3.0), 756.0))
    assert priced.why is None
    (one,) = priced.costs
    assert (one.size.part.id, one.size.nominal_eflops) == (PCIE, 1.0)
    assert one.delivered_eflops == pytest.approx(3 * BLOCK / 756, rel=1e-3)
    (row,) = rows(priced).values()
    assert (row["nominal"], row["part"], row["by"]) == ("1.00", "H100 PCIe", "this run")
    assert row["per delivered EFLOPS"] == "–"  # nobody states what such a server costs
    assert "the price of its servers isn't known" in table(priced).lead


def test_a_device_of_no_known_part_prices_nothing_and_says_so(a800_run):
    run = a800_run()
    entries = tuple(entry.model_copy(update={"part": None}) for entry in run.manifest.devices)
    unknown = replace(run, manifest=run.manifest.model_copy(update={"devices": entries}))
    priced = price(unknown)
    assert priced.why
    assert delivered(priced, "li-auto-2024-08") == pytest.approx(published(LI_AUTO_CARDS))


def test_the_table_is_what_the_model_says(a800_run):
    priced = price(a800_run())
    (li_auto,) = (each for each in priced.costs if each.size.id == "li-auto-2024-08")
    row = rows(priced)["Li Auto"]
    assert row["cards"] == f"{li_auto.size.cards:,}"
    assert row["nominal"] == "5.39"
    assert float(row["delivered"]) == pytest.approx(5.39 * measured(LI_AUTO_CARDS), rel=3e-3)
    assert row["delivered"] == f"{li_auto.delivered_eflops:.2f}"
    assert row["per nominal EFLOPS"] == "371"
    assert float(row["per delivered EFLOPS"]) == pytest.approx(371.09375 / measured(LI_AUTO_CARDS), rel=3e-3)
    assert row["per delivered EFLOPS"] == f"{li_auto.rmb_per_delivered_eflops / 1e6:.0f}"
    ends = li_auto.estimates["delivered_eflops"]
    assert row["p5 … p50 … p95"] == f"{ends.p5:.2f} … {ends.p50:.2f} … {ends.p95:.2f}"


def test_fleets_of_which_it_isnt_known_what_they_deliver_are_counted(a800_run):
    priced = price(a800_run())
    left = len(priced.costs) - len(priced.delivering)
    assert left > 0
    assert f"What {left} more fleets deliver isn't known" in table(priced).lead
    assert len(table(priced).rows) == len(priced.delivering)


def test_the_chart_has_nominal_and_delivered_of_every_fleet_in_the_table(a800_run):
    priced = price(a800_run())
    (chart,) = table(priced).charts
    assert chart.name == FLEETS
    assert chart.kinds == ("nominal", "delivered")
    assert [bar.value for bar in chart.bars] == [
        value for each in priced.delivering for value in (each.size.nominal_eflops, each.delivered_eflops)
    ]
    assert len(chart.bars) <= MOST_BARS
    ends = [each.estimates["delivered_eflops"] for each in priced.delivering]
    assert [(bar.low, bar.high) for bar in chart.bars[1::2]] == [(each.p5, each.p95) for each in ends]


def test_a_catalogue_of_which_nothing_is_known_has_no_table(a800_run):
    priced = price(a800_run())
    unknown = tuple(each for each in priced.costs if each.delivered_eflops is None)
    assert priced_tables(replace(priced, costs=unknown)) == []
