"""CSV, Parquet and JSON Lines, each read back by what reads it."""

import csv
import io
import json
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from nameplate.base.errors import InputError
from nameplate.device.identity import CudaIdentity
from nameplate.export.fields import list_fields, make_entries
from nameplate.export.formats import DATA_SETS
from nameplate.export.json_lines import SCHEMA_FILE, format_lines, make_schema
from nameplate.record import Derate, Moment, Record
from nameplate.store.folder import read_run
from nameplate.store.manifest import DeviceEntry

pytestmark = pytest.mark.usefixtures("made_up_figures")

ROOT = Path(__file__).parents[2]
HOSTILE = "<img src=x onerror=alert(1)>\"',;\\\n\r\x1b[2J\u202e\x85=1+1"
PLAIN = "<img src=x onerror=alert(1)>\"',;\\  [2J=1+1"


@pytest.fixture
def write(tmp_path):
    """Write runs in a format; returns the file, and adds to `problems` what was left out."""

    def to_file(name, *runs, problems=None):
        problems = [] if problems is None else problems
        path = tmp_path / f"table{DATA_SETS[name].suffix}"
        with path.open("wb") as file:
            DATA_SETS[name].write(make_entries(runs), file, problems)
        return path

    return to_file


@pytest.fixture
def hostile(make_record, make_run):
    """A run whose every text from outside does its worst."""
    identity = CudaIdentity(name=HOSTILE, index=0, driver=HOSTILE)
    device = DeviceEntry(name=HOSTILE, part=None, evidence=HOSTILE, identity=identity)
    record = make_record(
        device=HOSTILE, status="failed", reason=HOSTILE, warnings=(HOSTILE, "second"), workload=HOSTILE
    )
    return make_run(record, hostname=HOSTILE, devices=(device,), software={"torch": HOSTILE})


@pytest.fixture
def mixture(make_record, make_run):
    """A run with a measured record, one without FLOPs, and a skipped one."""
    memory = {"case": "memory", "workload": "memory", "flops": None, "convention": None}
    no_flops = {name: None for name in Record.model_fields if "tflops" in name or "efficiency" in name}
    return make_run(
        make_record(verdict="contended", verdicts=("contended", "unstable"), warnings=("one", "two")),
        make_record(**memory, **no_flops),
        make_record(case="other", status="skipped", reason="no such dtype, here"),
    )


def rows_of_csv(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_csv_row_is_a_record_by_the_csv_module(write, mixture):
    first, second, third = rows_of_csv(write("csv", mixture))
    assert list(first) == [field.name for field in list_fields()]
    assert first["run"] == mixture.id
    assert float(first["tflops"]) == 0.4
    assert first["verdicts"] == "contended; unstable"
    assert first["warnings"] == "one; two"
    assert first["published"] == "False"
    assert second["tflops"] == "", "not known is empty, never 0"
    assert float(second["bandwidth_gb_s"]) == 1.171875
    assert (third["status"], third["reason"], third["time_s"]) == ("skipped", "no such dtype, here", "")


def test_figures_come_back_from_csv_to_the_last_digit(write, make_record, make_run):
    record = make_record(time_s=1 / 3 * 1e-5)
    (row,) = rows_of_csv(write("csv", make_run(record)))
    assert float(row["time_s"]) == record.time_s


def test_pandas_reads_the_csv(write, mixture):
    table = pd.read_csv(write("csv", mixture))
    assert list(table.columns) == [field.name for field in list_fields()]
    assert table["tflops"].dtype == float
    assert table["tflops"].isna().tolist() == [False, True, True]
    assert table["launches"].tolist()[:2] == [200, 200]


def test_duckdb_reads_the_csv(write, mixture):
    path = write("csv", mixture)
    assert duckdb.sql(f"select part, median(efficiency) from '{path}' group by part").fetchall() == [
        ("amd-zen4", 0.8)
    ]
    assert duckdb.sql(f"select count(*) from '{path}' where tflops is null").fetchall() == [(2,)]


def test_hostile_text_forges_neither_row_nor_column_of_a_csv(write, hostile):
    path = write("csv", hostile)
    (row,) = rows_of_csv(path)
    assert row["hostname"] == row["device_name"] == row["reason"] == PLAIN
    assert row["warnings"] == f"{PLAIN}; second"
    assert path.read_text(encoding="utf-8").count("\n") == 2
    table = pd.read_csv(path)
    assert table.shape == (1, len(list_fields()))
    assert table["hostname"].item() == PLAIN


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "＝", " =", "\t=", "\r@", "\x00="])
def test_a_csv_cell_never_begins_as_a_formula(write, make_record, make_run, begins):
    text = f"{begins}cmd|' /C calc'!A0"
    (row,) = rows_of_csv(write("csv", make_run(make_record(), hostname=text)))
    assert row["hostname"].lstrip().startswith("'")
    assert row["hostname"].endswith("cmd|' /C calc'!A0")


def test_a_csv_cell_that_is_no_formula_stays_as_it_is(write, make_record, make_run):
    (row,) = rows_of_csv(write("csv", make_run(make_record(), hostname="a=b")))
    assert row["hostname"] == "a=b"


@pytest.mark.parametrize("hostname", ["a;=1+1", 'a; "=1+1', "a;;@b"])
def test_a_spreadsheet_that_splits_at_semicolons_finds_no_formula(write, make_record, make_run, hostname):
    path = write("csv", make_run(make_record(), hostname=hostname))
    cells = [cell for row in csv.reader(io.StringIO(path.read_text()), delimiter=";") for cell in row]
    assert len(cells) > 2
    assert not [cell for cell in cells if cell.lstrip().startswith(("=", "+", "-", "@"))]


def test_parquet_has_the_rows_and_null_where_nothing_is_known(write, mixture):
    first, second, third = pq.read_table(write("parquet", mixture)).to_pylist()
    assert list(first) == [field.name for field in list_fields()]
    assert (first["tflops"], first["launches"], first["published"]) == (0.4, 200, False)
    assert first["verdicts"] == ["contended", "unstable"]
    assert second["tflops"] is None
    assert third["reason"] == "no such dtype, here"
    assert third["warnings"] == []


def test_parquet_types_hold_where_a_whole_column_is_unknown(write, make_record, make_run):
    path = write("parquet", make_run(make_record(status="skipped")))
    types = {field.name: field.type for field in pq.read_schema(path)}
    assert types["power_w"] == types["tflops"] == pa.float64()
    assert types["launches"] == types["flops"] == pa.int64()
    assert types["phase"] == types["driver_version"] == pa.string()
    assert types["published"] == pa.bool_()
    assert types["verdicts"] == types["warnings"] == pa.list_(pa.string())


def test_a_parquet_column_says_its_unit_and_meaning(write, mixture):
    schema = pq.read_schema(write("parquet", mixture))
    for field in list_fields():
        metadata = schema.field(field.name).metadata
        assert metadata[b"description"].decode() == field.column.text
        assert metadata.get(b"unit") == (field.column.unit.encode() if field.column.unit else None)
    assert schema.field("tflops").metadata[b"unit"] == b"TFLOPS"


def test_pandas_and_duckdb_read_the_parquet(write, mixture):
    path = write("parquet", mixture)
    assert pd.read_parquet(path)["tflops"].isna().tolist() == [False, True, True]
    assert duckdb.sql(f"select part, median(efficiency) from '{path}' group by part").fetchall() == [
        ("amd-zen4", 0.8)
    ]
    assert duckdb.sql(
        f"select count(*) from '{path}' where list_contains(verdicts, 'unstable')"
    ).fetchall() == [(1,)]


def test_more_rows_than_are_written_at_once_make_one_parquet_table(write, mixture, monkeypatch):
    monkeypatch.setattr("nameplate.export.parquet._ROWS_AT_ONCE", 2)
    table = pq.read_table(write("parquet", mixture))
    assert table.column("case").to_pylist() == [record.case for record in mixture.records]


def test_hostile_text_is_one_cell_of_the_parquet(write, hostile):
    (row,) = pq.read_table(write("parquet", hostile)).to_pylist()
    assert row["hostname"] == row["device"] == row["reason"] == PLAIN
    assert row["warnings"] == [PLAIN, "second"]


def test_a_number_too_large_for_parquet_costs_itself_alone_and_is_named(write, make_record, make_run):
    problems = []
    run = make_run(make_record(case="huge", flops=2**64), make_record(case="usual", flops=2**62))
    huge, usual = pq.read_table(write("parquet", run, problems=problems)).to_pylist()
    assert (huge["flops"], usual["flops"]) == (None, 2**62)
    assert huge["tflops"] == usual["tflops"] is not None
    assert problems == [f"run {run.id}: flops of huge is 2^63 or more and null here; CSV has room for it"]


def test_without_pyarrow_parquet_says_what_to_install(write, mixture, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError) as caught:
        write("parquet", mixture)
    assert str(caught.value) == "Parquet needs pyarrow; pip install 'nameplate[export]'"


@pytest.fixture
def burst(make_record):
    """A record with all that only a burst case has."""
    return make_record(
        phase="burst",
        course=(Moment(at_s=0.5, tflops=0.41, temperature_c=40.0), Moment(at_s=1.0, tflops=0.4)),
        derates=(Derate(at_s=1.0, tflops=0.4, efficiency=0.8),),
        power_w=120.0,
    )


def parsed(*runs):
    return [json.loads(line) for line in format_lines(make_entries(runs))]


def test_a_json_line_holds_the_whole_record_and_its_run(burst, make_run):
    (line,) = parsed(make_run(burst))
    assert line["$schema"] == SCHEMA_FILE
    assert (line["hostname"], line["torch_version"]) == ("node17", "2.13.0")
    record = burst.model_dump(mode="json")
    assert {name: line[name] for name in record} == record
    assert line["batches"][1] == {
        "start_s": 0.6,
        "elapsed_s": 0.533741824,
        "launches": 100,
        "round": 0,
        "process": 1,
        "cpu_s": None,
    }
    assert line["course"][1]["temperature_c"] is None


def test_hostile_text_stays_in_its_json_line(hostile):
    text = "".join(format_lines(make_entries([hostile])))
    assert text.count("\n") == 1
    assert text.isascii()
    line = json.loads(text)
    assert line["hostname"] == line["reason"] == line["warnings"][0] == PLAIN


def test_lines_are_written_while_records_are_read(mixture):
    def once(runs):
        yield from runs
        raise AssertionError("read on before the first lines were asked for")

    written = format_lines(make_entries(once([mixture])))
    assert json.loads(next(written))["case"] == mixture.records[0].case


@pytest.fixture(scope="module")
def check():
    Draft202012Validator.check_schema(make_schema())
    return Draft202012Validator(make_schema())


def test_every_kind_of_line_is_valid(check, mixture, burst, hostile, make_run):
    for line in parsed(mixture, make_run(burst), hostile):
        check.validate(line)


def test_the_published_results_are_valid_lines(check):
    (folder,) = (ROOT / "results").glob("*/20261122T165536-standard-1901")
    run = read_run(folder)
    exported = parsed(run)
    assert len(exported) == len(run.records) > 30
    for line in exported:
        check.validate(line)


@pytest.mark.parametrize(
    "breaks",
    [
        {"tflops": "0.4"},
        {"tflops": 0},
        {"verdict": "fine"},
        {"unheard_of": 1},
        {"case": None},
        {"batches": [{"start_s": 0.0}]},
        {"time_s": None},
        {"status": "skipped"},
        {"$schema": "another.schema.json"},
        {"hostname": 17},
    ],
    ids=str,
)
def test_a_broken_line_is_not_valid(check, make_record, make_run, breaks):
    (line,) = parsed(make_run(make_record()))
    assert check.is_valid(line)
    assert not check.is_valid(line | breaks)


def test_a_line_without_one_of_its_keys_is_not_valid(check, make_record, make_run):
    (line,) = parsed(make_run(make_record()))
    for name in line:
        assert not check.is_valid({key: value for key, value in line.items() if key != name}), name


def test_the_schema_says_what_a_column_means():
    assert make_schema()["properties"]["power_w"]["unit"] == "W"
    assert (
        make_schema()["properties"]["hostname"]["description"] == "the machine; a published run's is a hash"
    )


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "docs/schema" / SCHEMA_FILE).read_text(encoding="utf-8"))
    assert published == make_schema(), f"write make_schema() to docs/schema/{SCHEMA_FILE}"
