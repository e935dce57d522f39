"""`bench list`, and what a run may be called in the commands that take one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nameplate.device.identity import CudaIdentity
from nameplate.store.folder import RecordWriter, create, mark_done
from nameplate.store.manifest import DeviceEntry, Expected

pytestmark = pytest.mark.usefixtures("few_draws", "made_up_figures")

ONE, TWO, THREE = "20261101T090000-smoke-0a01", "20261102T090000-standard-0b02", "20261103T090000-quick-0c03"
PRODUCT = "matmul/bf16/1024x1024x1024/normal/warm/-/torch"
OTHER = "matmul/bf16/2048x2048x2048/normal/warm/-/torch"


@pytest.fixture
def store(make_record, make_manifest):
    """Write a run: these records, and as many cases more that it never came to."""

    def write(folder, run, records=None, missing=0, **changes):
        found = [make_record()] if records is None else records
        cases = [Expected(case=record.case, device=record.device) for record in found]
        cases += [Expected(case=f"matmul/fp32/{n}/-/-/-/torch", device="cpu") for n in range(missing)]
        made = create(Path(folder), make_manifest(cases, **({"run": run} | changes)))
        with RecordWriter(made, "cpu") as writer:
            for record in found:
                writer.append(record)
        if not missing:
            mark_done(made)
        return made

    return write


@pytest.fixture
def project(tmp_path, monkeypatch, store, make_record):
    """A project with a published run, a finished one, and the latest, which was broken off."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    store("results/amd-zen4", ONE, created="2026-11-01T09:00:00+00:00", suite="smoke", published=True)
    noisy = make_record(case=OTHER, tflops=0.45, tflops_high=0.46, verdict="unstable", verdicts=("unstable",))
    failed = make_record(case="memory/fp32/copy/-/-/-/torch", workload="memory", status="failed")
    changes = {"created": "2026-11-02T18:00:00+09:00", "suite": "standard"}
    store("runs", TWO, [make_record(), noisy, failed], **changes)
    store("runs", THREE, missing=4, created="2026-11-03T09:00:00+00:00", suite="quick")
    return tmp_path


def test_runs_are_listed_newest_first_with_what_each_found(bench, project):
    result = bench("list", "--json")
    assert (result.status, result.err) == (0, "")
    rows = {row["run"]: row for row in json.loads(result.out)}
    assert list(rows) == [THREE, TWO, ONE]
    two = rows[TWO]
    assert (two["suite"], two["recorded"], two["expected"], two["finished"]) == ("standard", 3, 3, True)
    assert two["devices"] == [{"device": "cpu", "name": "a simulated device", "part": "amd-zen4"}]
    assert (two["best"]["case"], two["best"]["tflops"], two["best"]["efficiency"]) == (PRODUCT, 0.4, 0.8)
    assert list(two["verdicts"].items()) == [("unstable", 1), ("clean", 1), ("failed", 1)]
    assert two["trusted"] == 1
    assert (two["source"], two["published"], two["folder"]) == ("runs", False, f"runs/{TWO}")
    assert (rows[ONE]["source"], rows[ONE]["published"]) == ("results", True)
    three = rows[THREE]
    assert (three["recorded"], three["expected"], three["finished"]) == (1, 5, False)


@pytest.mark.parametrize("columns", [20, 60, 80, 120, 160])
def test_an_id_stands_whole_on_its_line_at_any_width(bench, project, store, monkeypatch, columns):
    long = f"20261104T090000-{'long-' * 30}0d04"
    store("runs", long, created="2026-11-04T09:00:00+00:00")
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = bench("list").out.splitlines()
    began = [line.split()[0] for line in lines if line.startswith("2026110")]
    assert began == [long, THREE, TWO, ONE]


@pytest.mark.parametrize("columns", [60, 80, 120, 160])
def test_the_screen_fits_its_terminal_and_says_what_matters(bench, project, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = bench("list").out.splitlines()
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    for said in ("3/3", "1/5", "0.400", "80.0%", "failed"):
        assert said in text
    if columns == 160:  # nothing is left out
        for said in ("2026-11-02 09:00", "standard", "amd-zen4", "bf16", "results", "no"):
            assert said in text
    if columns >= 80:
        assert len([line for line in lines if line.startswith("2026110")]) == 3


def test_devices_are_counted_and_the_product_is_the_slowest_one_s(
    bench, tmp_path, store, make_record, monkeypatch
):
    def entry(n):
        identity = CudaIdentity(name="NVIDIA H200", index=n)
        return DeviceEntry(name=f"cuda:{n}", part="nvidia-h200-sxm-141gb", evidence="", identity=identity)

    low = {"tflops_low": 0.3, "efficiency_low": 0.6}
    records = [
        make_record(device=f"cuda:{n}", tflops=0.4 - n / 100, efficiency=0.8 - n / 50, **low)
        for n in range(8)
    ]
    store(tmp_path, ONE, records, devices=tuple(map(entry, range(8))))
    (row,) = json.loads(bench("list", "--results", tmp_path, "--json").out)
    assert row["best"]["device"] == "cuda:7"
    assert [each["device"] for each in row["devices"]] == [f"cuda:{n}" for n in range(8)]
    monkeypatch.setenv("COLUMNS", "160")
    assert "  8 × nvidia-h200-sxm-141gb  " in bench("list", "--results", tmp_path).out


def test_a_run_without_a_rated_product_has_its_fastest_or_none(bench, tmp_path, store, make_record):
    unrated = dict.fromkeys(
        ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops",
         "datasheet_efficiency")
    )  # fmt: skip
    store(tmp_path, ONE, [make_record(**unrated)])
    store(tmp_path, TWO, [])
    rows = {row["run"]: row for row in json.loads(bench("list", "--results", tmp_path, "--json").out)}
    assert (rows[ONE]["best"]["tflops"], rows[ONE]["best"]["efficiency"]) == (0.4, None)
    assert (rows[TWO]["best"], rows[TWO]["verdicts"]) == (None, {})
    assert bench("list", "--results", tmp_path).status == 0


def test_what_holds_no_run_is_counted_and_named_in_one_line_and_the_rest_is_listed(bench, project):
    (project / "runs" / "mine" / "deeper").mkdir(parents=True)
    broken = project / "runs" / "20261105T090000-smoke-0e05"
    broken.mkdir()
    (broken / "manifest.json").write_text('{"schema_version": 99}')
    for command in (("list",), ("list", "--json")):
        result = bench(*command)
        assert result.status == 0
        (line,) = result.err.splitlines()
        assert line.startswith("bench: passed over 2 folders that hold no run that can be read: ")
        assert "runs/mine" in line
        assert broken.name in line
        assert TWO in result.out
    for number in range(20):
        (project / "runs" / f"other{number:02d}").mkdir()
    assert bench("list").err.endswith(" and 17 more\n")


def test_no_runs_are_one_sentence_with_the_next_step(bench, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = bench("list")
    assert (result.status, result.err) == (0, "")
    assert result.out == "No run in runs or results; `bench run` measures this machine and keeps one.\n"
    Path("my runs").mkdir()
    assert bench("list", "--results", "my runs").out.startswith(
        "No run in my runs; `bench run --results 'my runs'` "
    )
    absent = bench("list", "--results", "nowhere")
    assert (absent.status, absent.out) == (2, "")
    assert absent.err == "bench: --results: no such folder; got 'nowhere'; expected a folder of runs\n"
    for command in ("list", "run"):
        unnamed = bench(command, "--results", "")
        assert (unnamed.status, unnamed.out) == (2, "")
        assert unnamed.err == "bench: --results: no folder; got ''; expected the name of a folder\n"
    assert (bench("list", "--json").out, bench("list", "--json").status) == ("[]\n", 0)


def test_a_hostile_manifest_moves_no_cursor(bench, tmp_path, store):
    store(tmp_path, ONE, suite="a\x1b[2Jsuite", created="\x1b[1A\nnever")
    out = bench("list", "--results", tmp_path).out
    assert "\x1b" not in out
    assert ONE in out


def test_listing_loads_neither_torch_nor_pandas(project):
    program = (
        "import sys; sys.argv = ['bench', 'list', '--json']\n"
        "from nameplate.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'pandas', 'altair') if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines()[-1] == "[]"
    assert len(json.loads(done.stdout)) == 3


# ---- names of runs ----


def test_without_a_name_the_latest_run_is_shown_and_standard_error_says_which(bench, project):
    result = bench("show")
    assert result.status == 0
    assert result.err == f"bench: this is the latest run, runs/{THREE}\n"
    assert result.out == bench("show", THREE).out == bench("show", "latest").out
    document = json.loads(bench("show", "--json").out)
    assert document["run"]["run"] == THREE
    assert (
        bench("show", "--results", "results").err
        == f"bench: this is the latest run, results/amd-zen4/{ONE}\n"
    )
    shutil.rmtree("runs")
    shutil.rmtree("results")
    result = bench("show")
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        "bench: runs or results: there is no run; got 'latest'; expected a run (`bench run` makes one)\n"
    )


@pytest.mark.parametrize("name", [TWO, TWO[:10], f"runs/{TWO}"])
def test_every_command_takes_every_name(bench, project, monkeypatch, name):
    if "/" not in name:  # an id holds wherever one is in the project
        (project / "below").mkdir()
        monkeypatch.chdir(project / "below")
    assert json.loads(bench("show", name, "--json").out)["run"]["run"] == TWO
    for command in (
        ("report", name, "-o", "x.md"),
        ("export", name, "-o", "x.csv"),
        ("merge", name, TWO[:9], "-o", "x.jsonl"),
        ("compare", name, TWO),
        ("fleet", "cost", "--run", name, "--draws", "1000"),
        ("fleet", "plan", "--eflops", "1", "--run", name, "--draws", "1000"),
    ):
        result = bench(*command)
        assert "no such run" not in result.err
        assert result.status == 0 or (command[0] == "compare" and result.status == 3), (command, result.err)
    assert "the run is a published copy" in bench("publish", ONE[:12]).err


def test_an_ambiguous_and_an_unknown_name_are_2_and_one_sentence(bench, project):
    for command in (
        ("show",),
        ("report",),
        ("publish",),
        ("merge", "-o", "x.csv"),
        ("compare", TWO),
        ("run", "--resume"),
    ):
        result = bench(*command, "202611")
        assert (result.status, result.out) == (2, "")
        assert result.err.startswith(
            "bench: more than one run's id begins like that; got '202611'; expected one"
        )
        assert result.err.count("\n") == 1
        result = bench(*command, "gone")
        assert (result.status, result.out) == (2, "")
        assert result.err.startswith(
            "bench: no such run; got 'gone'; expected a run folder, or the id of one in runs"
        )
        assert result.err.endswith("`bench list` lists all\n")


def test_the_latest_unfinished_run_is_gone_on_with(bench, project):
    mark_done(project / "runs" / THREE)
    result = bench("run", "--resume", "latest")
    assert result.status == 2
    assert "runs: no run is unfinished; got 'latest'" in result.err


# ---- the report's own name ----


@pytest.mark.usefixtures("one_library")
def test_a_report_is_named_as_its_run_and_replaces_only_a_report(bench, project):
    result = bench("report", TWO[:10])
    assert (result.status, result.err, result.out) == (0, "", f"{TWO}.html\n")
    page = project / f"{TWO}.html"
    first = page.read_text()
    assert bench("report", TWO, "--lang", "zh").out == f"{TWO}.html\n"  # a report gives way to another
    assert page.read_text() != first
    assert bench("report", TWO, ONE, "--json").out == '[\n  "report.html"\n]\n'
    result = bench("report")
    assert (result.out, result.err) == (f"{THREE}.html\n", f"bench: this is the latest run, runs/{THREE}\n")
    page.write_text("my own notes")
    result = bench("report", TWO)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        f"bench: bench report: a file is there that isn't a report; got '{TWO}.html'; expected -o FILE\n"
    )
    assert page.read_text() == "my own notes"
    assert bench("report", TWO, "-o", page).status == 0  # asked for, it is replaced
