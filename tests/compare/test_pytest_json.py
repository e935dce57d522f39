"""pytest-benchmark's JSON as a side: files, folders of them, and what isn't one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.compare import compare

RECORDED = Path(__file__).parents[1] / "data" / "compare" / "pytest-benchmark"
SUM, SORTED = "bench_sums.py::bench_sum", "bench_sums.py::bench_sorted"


@pytest.fixture
def write(tmp_path):
    """Write a file like the recorded one, some of it changed; `mean` scales every mean."""

    def written(name, mean=1.0, **changes):
        data = json.loads((RECORDED / "base.json").read_text())
        for each in data["benchmarks"]:
            each["stats"]["mean"] *= mean
            each["stats"]["stddev"] = each["stats"]["mean"] / 100
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(json.dumps(data | changes))
        return path

    return written


def outcomes(found):
    return {row.case: row.outcome for row in found.rows}


def test_files_of_any_project_are_compared_by_mean_time():
    found = compare(RECORDED / "base.json", RECORDED / "slower.json")
    assert outcomes(found) == {SUM: "slower", SORTED: "ambiguous"}
    assert found.exit_status == 1
    base, new = (
        json.loads((RECORDED / name).read_text())["benchmarks"][0] for name in ("base.json", "slower.json")
    )
    (row,) = found.slower
    assert row.ratio.value == pytest.approx(base["stats"]["mean"] / new["stats"]["mean"])
    assert (row.unit, row.base) == ("calls/s", pytest.approx(1 / base["stats"]["mean"]))


def test_what_is_allowed_for_is_what_restarts_of_pytest_benchmark_showed():
    (spread,) = compare(RECORDED / "base.json", RECORDED / "slower.json").restart_spreads
    assert (spread.kind, spread.value) == ("pytest-benchmark", 0.181)


def test_folders_of_files_show_their_own_scatter(write):
    for number, mean in enumerate((1.0, 1.002, 0.998, 1.001)):
        write(f"base/{number}.json", mean)
        write(f"new/{number}.json", 1.03 * mean)
    found = compare(write("base/4.json").parent, write("new/4.json", 1.03).parent)
    assert outcomes(found) == {SUM: "slower", SORTED: "slower"}
    assert found.rows[0].base_runs == 5


def test_a_benchmark_that_new_lacks_is_missing(write):
    data = json.loads((RECORDED / "base.json").read_text())
    found = compare(RECORDED / "base.json", write("new.json", benchmarks=data["benchmarks"][:1]))
    assert outcomes(found)[SORTED] == "missing"
    assert found.exit_status == 3


def test_what_the_machine_and_the_commit_were_is_listed_where_it_differs(write):
    new = write("new.json", commit_info={"id": "abc"}, version="5.0.0")
    differ = {each.what: (each.base, each.new) for each in compare(RECORDED / "base.json", new).differences}
    assert differ == {"commit": ("unversioned", "abc"), "pytest-benchmark": ("5.3.1", "5.0.0")}


def test_files_of_two_processors_are_refused_unless_asked(write):
    new = write("new.json", machine_info={"cpu": {"brand_raw": "another"}})
    with pytest.raises(
        InputError, match="two parts; got 'AMD EPYC in base, another in new'; expected one part"
    ):
        compare(RECORDED / "base.json", new)
    found = compare(RECORDED / "base.json", new, across_parts=True, by="achieved")
    assert found.rows[0].ratio is not None


def test_our_own_files_name_the_part_and_how_flops_were_counted(write):
    machine = {"nameplate": {"device": "cuda:0", "part": "nvidia-h100", "software": {"torch": "2.13.0"}}}
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    mine, other = ([each | {"extra_info": {"convention": c}} for each in data] for c in ("2MNK", "other"))
    base = write("base.json", benchmarks=mine, machine_info=machine)
    found = compare(base, base)
    assert found.rows[0].device == "cuda:0"
    assert found.base.facts()["part"] == "nvidia-h100"
    assert found.base.facts()["torch"] == "2.13.0"
    with pytest.raises(InputError, match="the work differs: base FLOPs by 2MNK; new FLOPs by other"):
        compare(base, write("new.json", benchmarks=other, machine_info=machine))


def test_a_run_and_a_file_are_two_ways_of_measuring():
    with pytest.raises(
        InputError, match="measured by two methods; got 'pytest-benchmark in base, method 2 in new'"
    ):
        compare(RECORDED / "base.json", RECORDED.parent / "base")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "Invalid JSON"),
        ("[]", "can't be used: "),
        ('{"benchmarks": []}', "machine_info: Field required"),
        ("NaN", "can't be used: "),
        ("\x89PNG", "Invalid JSON"),
    ],
)
def test_what_is_not_such_a_file_is_refused_by_its_name(tmp_path, text, said):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="expected pytest-benchmark's JSON") as refused:
        compare(path, path)
    assert str(path) in str(refused.value)
    assert said in str(refused.value)


def test_a_mean_of_no_time_is_refused_with_its_place(write):
    with pytest.raises(InputError, match=r"benchmarks\.0\.stats\.mean: Input should be greater than 0"):
        compare(write("x.json", 0.0), RECORDED / "base.json")


def test_what_holds_neither_a_run_nor_a_file_is_refused(tmp_path):
    for name in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            InputError, match=r"run'?s?; got '.*'; expected a run folder, .* pytest-benchmark's JSON"
        ):
            compare(name, name)
