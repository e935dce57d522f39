"""pytest-benchmark's JSON as a side: files, folders of them, and what isn't one."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.compare import compare, pytest_json

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
    found = compare(write("base/4.json", 1.003).parent, write("new/4.json", 1.033).parent)
    assert outcomes(found) == {SUM: "slower", SORTED: "slower"}
    assert found.rows[0].base_runs == 5


def test_files_beside_runs_are_left_out_by_name(write, tmp_path):
    """Their figures don't compare with those of runs; without a word, a regression in them would pass."""
    shutil.copytree(RECORDED.parent / "same", tmp_path / "mixed")
    write("mixed/slower.json", 4.0)
    found = compare(RECORDED.parent / "base", tmp_path / "mixed")
    (left_out,) = [problem for problem in found.new.problems if problem.code == "side_files_left_out"]
    assert str(left_out) == (
        f"left out: JSON files that lie beside its runs (1), such as {tmp_path / 'mixed' / 'slower.json'}"
    )
    assert found.base.problems == []


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
        ("{", "not JSON"),
        ("[]", "can't be used: "),
        ('{"benchmarks": []}', "machine_info: Field required"),
        ("NaN", "can't be used: "),
        ("\x89PNG", "not JSON"),
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
    with pytest.raises(InputError, match=r"its entry: stats\.mean: Input should be greater than 0"):
        compare(write("x.json", 0.0), RECORDED / "base.json")


def test_what_holds_neither_a_run_nor_a_file_is_refused(tmp_path):
    for name in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(
            InputError, match=r"run'?s?; got '.*'; expected a run folder, .* pytest-benchmark's JSON"
        ):
            compare(name, name)


INPUTS = {
    "no stats": {"stats": None},
    "no mean": {"stats": {"mean": None, "stddev": 0.1, "rounds": 5}},
    "a mean of 0": {"stats": {"mean": 0, "stddev": 0, "rounds": 5}},
    "a mean that overflows": {"stats": {"mean": 1e-320, "stddev": 0, "rounds": 5}},
    "a huge whole number": {"stats": {"mean": 10**400, "stddev": 0, "rounds": 10**400}},
    "NaN": {"stats": {"mean": float("nan"), "stddev": 0, "rounds": 5}},
    "a negative spread": {"stats": {"mean": 1, "stddev": -1, "rounds": 5}},
    "no rounds": {"stats": {"mean": 1, "stddev": 1, "rounds": 0}},
    "extra_info that is a list": {"extra_info": [1]},
}


@pytest.mark.parametrize("change", INPUTS.values(), ids=INPUTS)
def test_one_bad_entry_costs_the_others_nothing(write, change):
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    bad = write("bad.json", benchmarks=[data[0] | change, data[1]])
    found = compare(RECORDED / "base.json", bad)
    assert outcomes(found) == {SUM: "incomparable", SORTED: "same"} or outcomes(found)[SORTED] == "ambiguous"
    (row,) = found.broken
    assert (row.case, found.exit_status) == (SUM, 3)
    assert "new: its entry: " in str(row.reason)
    assert compare(bad, RECORDED / "base.json").exit_status == 0  # only base lacks it


def test_an_entry_without_extra_info_is_as_good_as_any(write):
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    found = compare(
        RECORDED / "base.json", write("x.json", benchmarks=[each | {"extra_info": None} for each in data])
    )
    assert not found.broken


def test_an_entry_without_a_name_is_said(write):
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    found = compare(RECORDED / "base.json", write("x.json", benchmarks=[*data, {"stats": {}}, 7]))
    assert [str(each) for each in found.problems if each.code != "side_shared"] == [
        "x.json: entry 3 has no fullname",
        "x.json: entry 4 has no fullname",
    ]


def test_two_entries_of_one_name_cant_hide_a_regression(write):
    """The first is four times slower; the last alone would be the same."""
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    slow = data[0] | {"stats": data[0]["stats"] | {"mean": 4 * data[0]["stats"]["mean"]}}
    new = write("new.json", benchmarks=[slow, *data])
    for base in (RECORDED / "base.json", write("base.json", benchmarks=[data[0], *data])):
        found = compare(base, new)
        assert outcomes(found)[SUM] == "incomparable"
        assert found.exit_status == 3
        assert "is there 2 times, and it isn't known which one counts" in str(found.broken[0].reason)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "\ufeff{}", "[" * 5000, '{"benchmarks": []}', '{"a": 1, "a": 2}']
)
def test_one_bad_file_costs_its_side_nothing_and_is_named(write, text):
    write("side/a.json")
    write("side/b.json", 1.01)
    (write("side/c.json").parent / "c.json").write_text(text, encoding="utf-8")
    found = compare(RECORDED / "base.json", write("side/d.json", 1.02).parent)
    assert found.rows[0].new_runs == 3
    (problem,) = found.problems
    assert "c.json: can't be used: " in str(problem)


def test_a_copy_of_a_file_is_no_further_observation(write):
    write("side/a.json")
    write("side/b.json", 1.01)
    found = compare(RECORDED / "base.json", write("side/copy.json").parent)
    assert found.rows[0].new_runs == 2
    assert str(found.problems[0]).endswith("copy.json is a copy of a.json")


def test_a_spread_far_above_the_mean_decides_nothing(write):
    data = json.loads((RECORDED / "base.json").read_text())["benchmarks"]
    wide = data[0] | {"stats": {"mean": 1e-9, "stddev": 1e20, "rounds": 2}}
    assert outcomes(compare(RECORDED / "base.json", write("x.json", benchmarks=[wide])))[SUM] == "ambiguous"


def test_a_run_that_cant_be_read_costs_its_side_nothing(tmp_path):
    side = tmp_path / "side"
    shutil.copytree(RECORDED.parent / "base", side)
    broken = next(side.iterdir())
    (broken / "manifest.json").write_text("")
    shutil.copytree(next(each for each in side.iterdir() if each != broken), side / "a copy")
    found = compare(RECORDED.parent / "base", side)
    assert found.rows[0].new_runs == 4
    assert sorted(each.code for each in found.problems) == ["side_repeated", "side_shared", "side_unreadable"]


def test_files_without_end_are_refused(tmp_path, monkeypatch):
    side = tmp_path / "side"
    side.mkdir()
    os.mkfifo(side / "pipe.json")
    (side / "zero.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="not a regular file"):
        compare(RECORDED / "base.json", side)
    monkeypatch.setattr(pytest_json, "MOST_BYTES", 100)
    with pytest.raises(InputError, match="larger than"):
        compare(RECORDED / "base.json", RECORDED / "base.json")


@pytest.mark.parametrize("nameless", ["base", "new"])
@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"stats": {}}], "x.json: entry 1 has no fullname"),
        ([{"fullname": 3}, {"fullname": 4}], "x.json: entry 2 has no fullname"),
        ([1, None, "x", 2, 3], "x.json: entry 3 has no fullname; 2 more"),
    ],
)
def test_a_file_whose_entries_are_all_left_out_says_why(write, entries, said, nameless):
    sides = {"base": RECORDED / "base.json", "new": RECORDED / "base.json"}
    sides[nameless] = write("x.json", benchmarks=entries)
    with pytest.raises(InputError, match=f"x.json: there is nothing to compare; .*{said}"):
        compare(sides["base"], sides["new"])


@pytest.mark.parametrize("given", [1e-320, 1e-300, 0.9e-6, 0.0, 1.0, float("nan")])
@pytest.mark.parametrize("flag", ["threshold", "restart_spread"])
def test_a_fraction_that_nothing_resolves_is_refused_with_the_range(flag, given):
    with pytest.raises(InputError, match="between 0 and 1, and no less than 1e-06"):
        compare(RECORDED / "base.json", RECORDED / "slower.json", **{flag: given})


@pytest.mark.parametrize("flag", ["threshold", "restart_spread"])
def test_the_least_fraction_can_be_used(flag):
    assert compare(RECORDED / "base.json", RECORDED / "slower.json", **{flag: 1e-6}).rows
