"""`bench export` and `bench merge` at the command line, and every command of docs/export.md."""

import csv
import io
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nameplate.export.formats import FORMATS
from nameplate.record import METHOD

pytestmark = pytest.mark.usefixtures("made_up_figures")

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
COLLECTOR = "/var/lib/node_exporter/textfile_collector/"


@pytest.fixture
def bench(bench, monkeypatch, tmp_path):
    """Run `bench …` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return bench


@pytest.fixture
def runs(make_record, store_run, tmp_path):
    """The folder `runs`, with two runs of two cases each."""
    for run, day in (("a1", 20), ("a2", 21)):
        records = make_record(power_w=120.0), make_record(case="other", status="skipped")
        store_run(tmp_path / "runs", *records, run=run, created=f"2026-11-{day}T12:00:00+00:00")
    return tmp_path / "runs"


@pytest.mark.parametrize("name", FORMATS)
def test_export_writes_the_format_and_says_where(bench, runs, name):
    output = f"out{FORMATS[name].suffix}"
    result = bench("export", "runs", "-o", output, "--format", name)
    assert (result.status, result.out) == (0, f"{output}\n")
    assert Path(output).stat().st_size > 100


@pytest.mark.parametrize("output", ["out.csv", "out.parquet", "out.jsonl", "out.prom"])
def test_the_suffix_alone_tells_the_format(bench, runs, output):
    document = json.loads(bench("export", "runs", "-o", output, "--json").out)
    assert document["written"] == output
    assert FORMATS[document["format"]].suffix == Path(output).suffix


def test_json_tells_what_was_written_and_what_was_not(bench, runs):
    result = bench("export", "runs", "a1", "-o", "out.prom", "--json")
    assert json.loads(result.out) == {
        "written": "out.prom",
        "format": "prometheus",
        "rows": 2,
        "problems": [
            "run a1 is named twice, and counts once",
            "run a1: 2 records left out; of one machine, device and case the newest is written",
        ],
    }
    assert result.err.splitlines() == [f"bench: {each}" for each in json.loads(result.out)["problems"]]


@pytest.mark.parametrize("arguments", [(), ("-o", "-")])
def test_without_a_file_text_is_printed_and_nothing_else(bench, runs, arguments):
    table = bench("export", "a1", "--format", "csv", *arguments)
    assert [row["case"] for row in csv.DictReader(io.StringIO(table.out))][1:] == ["other"]
    metrics = bench("export", "runs", "--format", "prometheus", *arguments)
    assert list(text_string_to_metric_families(metrics.out))
    assert "left out" in metrics.err


@pytest.mark.process
@pytest.mark.parametrize("name", [name for name, each in FORMATS.items() if each.is_text])
def test_nothing_is_printed_where_no_run_can_be_read(bench, runs, name):
    for manifest in runs.glob("*/manifest.json"):
        manifest.write_text("{}")
    result = bench("export", "runs", "--format", name)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)


def test_what_is_printed_is_utf_8_whatever_the_terminal_is(runs):
    done = subprocess.run(
        [Path(sys.executable).with_name("bench"), "export", "runs", "--format", "csv"],
        cwd=runs.parent,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert "64 FLOP per cycle per core × 2 cores" in done.stdout.decode()


def test_merge_writes_a_data_set(bench, runs):
    result = bench("merge", "runs", "-o", "all.csv", "--json")
    assert json.loads(result.out) == {
        "written": "all.csv",
        "format": "csv",
        "rows": 4,
        "problems": [],
        "missing": [],
    }
    assert len(Path("all.csv").read_text().splitlines()) == 5


def test_merge_refuses_what_does_not_compare_unless_told_otherwise(bench, runs):
    path = runs / "a2" / "records-cpu-0.jsonl"
    path.write_text(path.read_text().replace(f'"method":{METHOD}', '"method":1'))
    refused = bench("merge", "runs", "-o", "all.csv")
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("bench: run a2: two measuring methods, whose figures don't compare; got ")
    assert not Path("all.csv").exists()
    taken = bench("merge", "runs", "-o", "all.csv", "--mixed")
    assert (taken.status, taken.out) == (0, "all.csv\n")
    assert (
        taken.err == f"bench: mixed: method is 1 in run a2, {METHOD} in run a1; its column tells them apart\n"
    )


def test_what_a_file_says_moves_no_cursor(bench, runs):
    with (runs / "a1" / "records-cpu-0.jsonl").open("a") as file:
        file.write('{"\x1b[2J": 1}\n')
    result = bench("merge", "runs", "-o", "all.csv")
    assert result.status == 0
    assert "records-cpu-0.jsonl line 3: skipped" in result.err
    assert "\x1b" not in result.err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["export", "runs", "-o", "out.json"],
            (
                "--output: can't tell the format; got 'out.json'; expected --format with one of "
                "github-action-benchmark, pytest-benchmark"
            ),
        ),
        (
            ["export", "runs"],
            (
                "--output: can't tell the format; got '-'; expected --format with one of csv, parquet, "
                "jsonl, github-action-benchmark, prometheus, pytest-benchmark"
            ),
        ),
        (
            ["export", "runs", "-o", "out.xlsx"],
            (
                "--output: no such format; got 'out.xlsx'; expected a name ending in .csv, .parquet, .jsonl, "
                ".json or .prom"
            ),
        ),
        (
            ["export", "runs", "-o", "out.txt", "--format", "prometheus"],
            "--output: no such format; got 'out.txt'; expected a name ending in .prom",
        ),
        (
            ["export", "runs", "-o", "out.csv", "--format", "excel"],
            (
                "--format: no such format; got 'excel'; expected csv, parquet, jsonl, "
                "github-action-benchmark, prometheus or pytest-benchmark"
            ),
        ),
        (
            ["export", "runs", "--format", "parquet"],
            "--format: not for a terminal or a pipe; got 'parquet'; expected -o FILE",
        ),
        (
            ["export", "runs", "--format", "csv", "--json"],
            "bench export: --json describes a written file; expected -o FILE too",
        ),
        (
            ["export", "runs", "-o", "missing/out.csv"],
            (
                "--output: can't write there: No such file or directory; got 'missing/out.csv'; expected a "
                "folder that can be written"
            ),
        ),
        (
            ["export", "a9", "-o", "out.csv"],
            (
                "no such run; got 'a9'; expected a run folder, or the id of one in runs, its beginning, or "
                "latest, or a folder of runs; `bench list` lists all"
            ),
        ),
        (
            ["merge", "runs", "-o", "all.prom"],
            "--output: no such format; got 'all.prom'; expected a name ending in .csv, .parquet or .jsonl",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence(bench, runs, arguments, sentence):
    result = bench(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err == f"bench: {sentence}\n"


def test_help_names_every_format(bench):
    said = " ".join(bench("export", "--help").out.split())
    for name in FORMATS:
        assert re.search(rf"\b{name}\b", said), name


@pytest.mark.process
def test_exporting_text_loads_neither_torch_nor_pandas(runs):
    program = (
        "import sys; from nameplate.export import merge; merge(['runs'], 'all.csv');"
        "print(*{'torch', 'pandas', 'numpy', 'scipy', 'pyarrow', 'altair'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=runs.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def documented():
    """The `bench …` lines of the document's blocks."""
    return re.findall(r"^    (bench .+)$", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("command", documented())
def test_every_command_of_the_document_works(bench, runs, command):
    arguments = shlex.split(command.replace(COLLECTOR, ""))[1:]
    result = bench(*arguments)
    assert result.status == 0, result.err
    assert Path(result.out.strip()).stat().st_size > 100


def test_the_document_has_a_command_for_every_format():
    text = " ".join(documented())
    for name, format in FORMATS.items():
        assert name in text or format.suffix in text, name


def test_the_query_of_the_document_works(bench, runs, capsys):
    bench("merge", "runs", "-o", "fleet.parquet")
    (code,) = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    exec(code, {})
    printed = capsys.readouterr().out
    assert "amd-zen4" in printed
    assert "0.8" in printed


def test_the_queries_metric_names_of_the_document_are_real(bench, runs):
    bench("export", "runs", "-o", "out.prom")
    families = text_string_to_metric_families(Path("out.prom").read_text())
    real = {family.name for family in families}
    named = set(re.findall(r"\bnameplate_[a-z_]+", DOCUMENT)) - {"nameplate_version"}
    assert named
    assert named <= real
