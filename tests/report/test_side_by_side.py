"""Several runs side by side: what each is called, what is compared with what, and where doubt is marked."""

from dataclasses import replace

import pytest

from nameplate.report.charts.data import MOST_BARS
from nameplate.report.run import run_document
from nameplate.report.side_by_side import side_by_side_view

FIRST, SECOND = "20261122T120000-standard-a800", "20261123T120000-standard-a801"


def table(found, heading):
    (table,) = (each for each in found.tables if each.heading.startswith(heading))
    return table


def cells(found, heading):
    """The rows of a table by their first cell."""
    shown = table(found, heading)
    return {row[0]: dict(zip(shown.column_names[1:], row[1:], strict=True)) for row in shown.rows}


def of_part(run, part):
    """The same run on another part."""
    entries = tuple(entry.model_copy(update={"part": part}) for entry in run.manifest.devices)
    return replace(run, manifest=run.manifest.model_copy(update={"devices": entries}))


def without(run, keep):
    return replace(run, records=tuple(each for each in run.records if keep(each)))


@pytest.fixture
def runs(a800_run):
    """Two runs of one part, the second a tenth slower."""
    return a800_run(), a800_run(0.9, run=SECOND)


def test_runs_of_one_part_are_named_by_the_end_of_their_ids(runs):
    found = side_by_side_view(runs)
    assert found.title == "2 runs side by side"
    for heading in ("From nominal to delivered", "Cases that the runs share"):
        assert table(found, heading).column_names[1:] == ("a800", "a801")
    assert [row[:2] for row in table(found, "The runs").rows] == [("a800", FIRST), ("a801", SECOND)]
    assert found.meaning.splitlines()[1].startswith("a801: Nominal is 320 TFLOPS in bf16")


def test_where_ids_end_alike_the_whole_of_them_tells_runs_apart(a800_run):
    twin = "20261123T120000-standard-a800"
    assert table(side_by_side_view([a800_run(), a800_run(run=twin)]), "Cases").column_names[1:] == (
        FIRST,
        twin,
    )


def test_runs_of_different_parts_are_named_by_them(runs):
    first, second = runs
    found = side_by_side_view([first, of_part(second, "nvidia-h100-sxm5-80gb")])
    names = ("nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb")
    assert table(found, "Cases that the runs share").column_names[1:] == names
    assert [line.partition(":")[0] for line in found.meaning.splitlines()] == list(names)


def test_where_one_part_is_not_known_ids_are_used(runs):
    first, second = runs
    assert table(side_by_side_view([first, of_part(second, None)]), "The runs").rows[1][0] == "a801"


def test_the_runs_are_listed_with_what_they_ran_on(runs):
    row = cells(side_by_side_view(runs), "The runs")["a801"]
    assert row == {
        "run": SECOND,
        "device": "NVIDIA A800-SXM4-80GB",
        "part": "nvidia-a800-sxm4-80gb",
        "begun": "2026-11-22T12:00:00+00:00",
        "torch": "2.13.0",
        "cases measured": "13 / 14",
    }


def test_stages_stand_beside_each_other_of_nominal(runs):
    rows = cells(side_by_side_view(runs), "From nominal to delivered")
    first, second = rows["transformer block"].values()
    assert (first, second) == ("64.1% ± 0.6", "57.7% ± 0.6")
    assert list(rows) == [
        "nominal",
        "datasheet",
        "best product, burst",
        "best product, sustained",
        "the model's products",
        "transformer block",
    ]
    assert rows["best product, burst"]["a800"] == "85.9% ± 0.9"
    assert set(rows["datasheet"].values()) == {"97.5%"}  # a rating has no interval


def test_stages_keep_the_chains_order_whichever_run_comes_first(runs):
    def unphased(records):
        only = next(each for each in records if each.dtype == "bf16" and each.phase == "sustained")
        return [only.model_copy(update={"phase": None, "case": "matmul/bf16/8x8x8/normal/warm/-/torch"})]

    plain_run = replace(runs[1], records=tuple(unphased(runs[1].records)))
    for order in ((plain_run, runs[0]), (runs[0], plain_run)):
        rows = cells(side_by_side_view(order), "From nominal to delivered")
        assert list(rows)[:5] == [
            "nominal",
            "datasheet",
            "best product",
            "best product, burst",
            "best product, sustained",
        ]
        assert rows["best product"]["a800"] == "–"
        assert rows["best product, burst"]["a801"] == "–"


def test_of_several_devices_the_slowest_stands_beside_the_other_run(a800_run, runs):
    found = side_by_side_view([runs[0], a800_run(1.0, 0.7, run=SECOND)])
    stages = cells(found, "From nominal to delivered")["transformer block"]
    assert stages["a801"] == "44.8% ± 0.4"
    case = cells(found, "Cases that the runs share")["matmul bf16 2048x2048x2048"]
    assert case == {"a800": "57.8%", "a801": "40.5%"}


def test_only_cases_that_two_runs_have_are_shown(runs):
    first, second = runs
    second = without(second, lambda record: record.dtype != "tf32")
    rows = cells(side_by_side_view([first, second]), "Cases that the runs share")
    assert not any("tf32" in case for case in rows)
    assert any("fp16" in case for case in rows)
    third = replace(
        first, manifest=first.manifest.model_copy(update={"run": "20261124T120000-standard-a802"})
    )
    row = cells(side_by_side_view([first, second, third]), "Cases that the runs share")[
        "matmul tf32 8192x8192x8192"
    ]
    assert list(row.values()) == ["81.9%", "–", "81.9%"]


def test_runs_that_share_nothing_have_no_table_of_cases(runs):
    first, second = runs
    first = without(first, lambda record: record.dtype == "tf32")
    second = without(second, lambda record: record.dtype == "fp16")
    headings = [each.heading for each in side_by_side_view([first, second]).tables]
    assert not any(heading.startswith("Cases that the runs share") for heading in headings)


def test_a_figure_in_doubt_is_marked(runs):
    first, second = runs
    loud = {"verdict": "contended", "verdicts": ("contended",)}
    second = replace(
        second,
        records=tuple(
            each.model_copy(update=loud) if each.dtype == "tf32" else each for each in second.records
        ),
    )
    found = side_by_side_view([first, second])
    rows = cells(found, "Cases that the runs share")
    assert list(rows["matmul tf32 8192x8192x8192"].values()) == ["81.9%", "73.7% ?"]
    # Throttled is what a settled figure is: no doubt stands beside it.
    assert list(rows["matmul bf16 8192x8192x8192"].values()) == ["81.2%", "73.1%"]
    assert table(found, "Cases that the runs share").lead.startswith("? marks a figure in doubt.")


def test_without_a_rating_the_figure_stands_in_its_unit(runs):
    rows = cells(side_by_side_view(runs), "Cases that the runs share")
    assert list(rows["memory fp32 copy-4096MiB"].values()) == ["1,680 GB/s", "1,512 GB/s"]
    unrated = dict.fromkeys(("efficiency", "efficiency_low", "efficiency_high", "nominal_tflops"))
    bare = [
        replace(run, records=tuple(each.model_copy(update=unrated) for each in run.records)) for run in runs
    ]
    rows = cells(side_by_side_view(bare), "Cases that the runs share")
    assert list(rows["matmul tf32 8192x8192x8192"].values()) == ["131 TFLOPS", "118 TFLOPS"]
    assert [chart.name for each in side_by_side_view(bare).tables for chart in each.charts] == []


def test_a_run_without_a_product_has_dashes_and_says_so(runs):
    first, second = runs
    second = without(second, lambda record: record.workload == "memory")
    found = side_by_side_view([first, second])
    assert {row["a801"] for row in cells(found, "From nominal to delivered").values()} == {"–"}
    assert "No matrix product was measured" in found.meaning.splitlines()[1]
    assert [chart.kinds for chart in table(found, "From nominal").charts] == [("a800",)]


def named(run, count):
    ids = (f"20261122T12{n:04}-standard-a800" for n in range(count))
    return [replace(run, manifest=run.manifest.model_copy(update={"run": each})) for each in ids]


def test_a_chart_of_more_runs_than_it_holds_shows_whole_runs_and_says_so(runs):
    """Rather than cutting the last stage off, which matters most."""
    found = side_by_side_view(named(runs[0], 9))
    (stages,) = table(found, "From nominal").charts
    assert stages.title.endswith(": the first 6 of 9")
    assert len(stages.bars) == 36 <= MOST_BARS
    assert {bar.label for bar in stages.bars if bar.kind == stages.kinds[-1]} >= {"transformer block"}
    (cases,) = table(found, "Cases that the runs share").charts
    assert cases.title.endswith(": the first 4 of 11")
    assert len(cases.bars) == 36
    assert len(table(found, "From nominal").columns) == 10


def test_bars_of_a_case_stand_side_by_side_a_run_each(runs):
    (chart,) = table(side_by_side_view(runs), "Cases that the runs share").charts
    burst = [bar for bar in chart.bars if bar.label.endswith("burst")]
    assert [(bar.kind, bar.value) for bar in burst] == [
        ("a800", pytest.approx(275 / 320)),
        ("a801", pytest.approx(0.9 * 275 / 320)),
    ]
    assert chart.side_by_side
    assert chart.is_share


def test_a_run_has_the_same_stages_alone_as_beside_another(runs):
    """From the document of the run: the product of the chain's links."""
    share = 1.0
    for link in run_document(runs[1])["chain"]:
        share *= link["value"]
    row = cells(side_by_side_view(runs), "From nominal to delivered")["transformer block"]
    assert row["a801"].split(" ± ")[0] == f"{share:.1%}"
