"""Which runs are read, what may be pooled, and that a file is written whole or not at all."""

import json
import os

import duckdb
import pandas as pd
import pytest

from nameplate.base.errors import InputError, OutputError
from nameplate.export import export, merge
from nameplate.store import folder as store
from nameplate.store.publish import publish_run

pytestmark = pytest.mark.usefixtures("made_up_figures")


@pytest.fixture
def stored(make_record, store_run, tmp_path):
    """Put a run on disk, in `runs` unless told otherwise; returns its folder."""

    def to_disk(run, *records, results="runs", **changes):
        return store_run(tmp_path / results, *(records or (make_record(),)), run=run, **changes)

    return to_disk


@pytest.fixture
def merged(tmp_path):
    """Merge runs; returns what was written and its rows as pandas reads them."""

    def run(*runs, suffix="parquet", **options):
        written = merge(runs, tmp_path / f"all.{suffix}", results=tmp_path / "runs", **options)
        readers = {
            "parquet": pd.read_parquet,
            "csv": pd.read_csv,
            "jsonl": lambda path: pd.read_json(path, lines=True),
        }
        return written, readers[suffix](written.path)

    return run


@pytest.fixture
def fleet(stored, make_record, tmp_path):
    """The folder of three runs: two parts, two drivers' worth of hosts."""
    for run, part, efficiency in (("a1", "x", 0.5), ("a2", "x", 0.6), ("b1", "y", 0.9)):
        ends = {"efficiency_low": 0.4, "efficiency_high": 0.95}
        stored(run, make_record(part=part, efficiency=efficiency, **ends), hostname=f"host-{run}")
    return tmp_path / "runs"


@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_many_runs_become_one_data_set(merged, fleet, suffix):
    written, table = merged(fleet, suffix=suffix)
    assert table["run"].tolist() == ["a1", "a2", "b1"]
    assert table["hostname"].tolist() == ["host-a1", "host-a2", "host-b1"]
    assert table["efficiency"].tolist() == pytest.approx([0.5, 0.6, 0.9])
    assert (written.rows, written.problems) == (3, ())


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_duckdb_asks_the_data_set_for_a_median_a_part(merged, fleet, suffix):
    written, _ = merged(fleet, suffix=suffix)
    query = f"select part, median(efficiency) from '{written.path}' group by part order by part"
    assert duckdb.sql(query).fetchall() == [("x", pytest.approx(0.55)), ("y", 0.9)]


def test_a_run_is_named_by_folder_by_id_or_by_a_folder_of_runs(merged, stored, fleet):
    elsewhere = stored("c1", results="elsewhere")
    _, table = merged(elsewhere, "b1", fleet)
    assert table["run"].tolist() == ["c1", "b1", "a1", "a2"]


def test_a_run_named_twice_counts_once_and_is_said(merged, fleet):
    written, table = merged("a1", fleet)
    assert table["run"].tolist() == ["a1", "a2", "b1"]
    assert written.problems == ("run a1 is named twice, and counts once",)


def test_a_run_and_its_published_copy_count_once(merged, stored, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    folder = stored("a1")
    copy = publish_run(store.read_run(folder), tmp_path / "results")
    written, table = merged(copy, folder)
    assert table["published"].tolist() == [True]
    assert written.problems == (f"run a1 counts once, as {copy}; {folder} is left out",)


def test_what_is_lost_with_a_fuller_twin_is_said(merged, stored, make_record):
    short = stored("a1", results="backup")
    full = stored("a1", make_record(), make_record(case="other"))
    written, _ = merged(short, full)
    assert written.problems == (
        f"run a1 counts once, as {short}; {full} is left out, though it has 1 more records",
    )


def test_torn_lines_and_unreadable_runs_are_said_and_the_rest_is_written(merged, fleet):
    with (fleet / "a1" / "records-cpu-0.jsonl").open("a") as file:
        file.write('{"case": "to')
    (fleet / "a2" / "manifest.json").write_text("{")
    written, table = merged(fleet)
    assert table["run"].tolist() == ["a1", "b1"]
    torn, unreadable = written.problems
    assert torn == "a1/records-cpu-0.jsonl: skipped a torn last line of 12 bytes"
    assert unreadable.startswith(f"skipped a run: {fleet / 'a2' / 'manifest.json'}: not JSON: ")


def test_a_run_of_a_newer_schema_is_said(merged, fleet):
    path = fleet / "a1" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    written, table = merged(fleet)
    assert table["run"].tolist() == ["a2", "b1"]
    said = f"skipped a run: {path}: written by a newer Nameplate: schema_version 99, where"
    assert written.problems[0].startswith(said)


def test_nothing_is_written_where_no_run_can_be_read(merged, stored, tmp_path):
    folder = stored("a1")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match=r"manifest\.json: not JSON"):
        merged(folder)
    assert not list(tmp_path.glob("*all*"))


def test_a_name_without_a_run_is_refused_whatever_else_is_named(merged, fleet):
    with pytest.raises(InputError) as caught:
        merged(fleet, "a9")
    assert str(caught.value).startswith("no such run; got 'a9'; expected a run folder, or the id of one in ")


def test_two_methods_are_not_pooled(merged, stored, make_record, tmp_path):
    stored("a1", make_record(method=1))
    stored("a2", make_record(method=2, case="other"))
    with pytest.raises(InputError) as caught:
        merged(tmp_path / "runs")
    assert str(caught.value) == (
        "run a2: two measuring methods, whose figures don't compare; got 'method 2, and 1 in run a1'; "
        "expected one method, or --mixed"
    )
    assert not list(tmp_path.glob("*all*")), "neither the file nor a beginning of it"


@pytest.mark.parametrize(
    ("column", "values"), [("convention", ("2MNK", "MNK")), ("flops", (2, 4)), ("bytes", (6, None))]
)
def test_one_case_counted_in_two_ways_is_not_pooled(merged, stored, make_record, tmp_path, column, values):
    for run, value in zip(("a1", "a2"), values, strict=True):
        stored(run, make_record(**{column: value}))
    with pytest.raises(InputError) as caught:
        merged(tmp_path / "runs")
    assert caught.value.where == "run a2"
    assert caught.value.what == (
        "matmul/bf16/1024x1024x1024/normal/warm/-/torch is counted in two ways, so its figures don't compare"
    )
    assert caught.value.got == f"{column} {values[1]!r}, and {values[0]!r} in run a1"
    assert caught.value.expected == f"one {column}, or --mixed"


def test_two_cases_may_be_counted_each_in_its_way(merged, stored, make_record, tmp_path):
    stored("a1", make_record(), make_record(case="other", convention="Megatron", flops=7))
    assert len(merged(tmp_path / "runs")[1]) == 2


def test_what_carries_no_figure_need_not_agree(merged, stored, make_record, tmp_path):
    stored("a1")
    stored("a2", make_record(status="skipped", method=1, convention="MNK"))
    assert len(merged(tmp_path / "runs")[1]) == 2


def test_mixed_takes_them_all_and_says_so_once(merged, stored, make_record, tmp_path):
    for run, method in (("a1", 1), ("a2", 2), ("a3", 1), ("a4", 2)):
        stored(run, make_record(method=method))
    written, table = merged(tmp_path / "runs", mixed=True)
    assert table["method"].tolist() == [1, 2, 1, 2]
    assert written.problems == ("mixed: method is 2 in run a2, 1 in run a1; its column tells them apart",)


def test_an_export_takes_runs_that_do_not_compare(stored, make_record, tmp_path):
    stored("a1", make_record(method=1))
    stored("a2", make_record(method=2))
    assert export([tmp_path / "runs"], tmp_path / "all.csv").rows == 2


@pytest.mark.parametrize("name", ["all.csv", "all.parquet", "all.jsonl", "all.prom"])
def test_a_file_that_cannot_be_finished_leaves_the_one_before(fleet, tmp_path, monkeypatch, name):
    output = tmp_path / name
    output.write_text("before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError) as caught:
        export([fleet], output)
    assert str(caught.value) == f"--output: can't write there: No space left on device ({output})"
    assert output.read_text() == "before"
    assert sorted(tmp_path.iterdir()) == sorted([fleet, output])


def test_who_reads_the_file_meanwhile_reads_the_one_before(fleet, tmp_path):
    output = tmp_path / "nameplate.prom"
    output.write_text("before")
    with output.open() as reader:
        export([fleet], output)
        assert reader.read() == "before"
    assert output.read_text().startswith("# HELP ")


def test_a_file_is_readable_by_whom_the_umask_lets(fleet, tmp_path):
    """The textfile collector is another user."""
    before = os.umask(0o022)
    try:
        export([fleet], tmp_path / "nameplate.prom")
    finally:
        os.umask(before)
    assert (tmp_path / "nameplate.prom").stat().st_mode & 0o777 == 0o644


def test_a_link_is_written_through(fleet, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "deep" / "real.csv")
    export([fleet], tmp_path / "link.csv")
    assert (tmp_path / "link.csv").is_symlink()
    assert len((tmp_path / "deep" / "real.csv").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("missing/all.csv", "can't write there: No such file or directory"),
        ("runs/a1/records-all.jsonl", "in a run's own folder, which stays as it was measured"),
        ("folder.csv", "not a file"),
        ("n" * 300 + ".csv", "can't write there: File name too long"),
    ],
)
def test_where_it_cannot_be_written_is_said_in_a_sentence(fleet, tmp_path, output, sentence):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError) as caught:
        export([fleet], tmp_path / output)
    assert str(caught.value).startswith(f"--output: {sentence}; got {str(tmp_path / output)!r}; expected a")


def test_a_device_file_is_not_replaced(fleet, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(InputError, match="--output: not a file"):
        export([fleet], tmp_path / "pipe.csv")
    assert not (tmp_path / "pipe.csv").is_file()
