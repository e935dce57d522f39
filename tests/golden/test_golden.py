"""Golden files: JSON and figures of every command, record lines on disk, and the data of the page.

Each scenario has one file in `files/`: `COMMAND/what.json`, or `store/…` and `page/…` for what isn't printed.
They are frozen: a change is named in the CHANGELOG. CONTRIBUTING.md says how to renew them and to add one.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import time
from datetime import date
from pathlib import Path

import pandas
import pytest
import typer.main

import nameplate.device.survey
import nameplate.selftest.draws
import nameplate.selftest.parallel
import nameplate.suite
from golden_devices import capped_gpus, recorded_survey, simulated_cases, steady_cpu
from golden_documents import Page, kinds, parse_csv, parse_lines, stable, without_words
from nameplate.cli import app
from nameplate.record import columns
from nameplate.selftest.card_scenarios import load_card_scenarios
from nameplate.store.folder import RecordWriter, create, mark_done
from nameplate.suite import Suite

REPOSITORY = Path(__file__).parents[2]
DATA = REPOSITORY / "tests" / "data"

PUBLISHED = "results/intel-emerald-rapids/20261122T165536-standard-1901"
SCHEMA_1 = "runs/20261122T165536-standard-0001"
SCHEMA_2 = "runs/20261129T010000-golden-0002"
TWO_A800 = "runs/20261122T120000-standard-a800"
PYTEST_JSON = "compare/pytest-benchmark"
ONE_RUN = "compare/base/20261122T120000-base-0000"

# What `bench …` prints as JSON and on a terminal.
COMMANDS = {
    "show/published": f"show {PUBLISHED}",
    "show/schema-1": f"show {SCHEMA_1}",
    "show/schema-2": f"show {SCHEMA_2}",
    "show/two-a800": f"show {TWO_A800}",
    "show/side-by-side": f"show {ONE_RUN} compare/slower/20261122T120000-slower-0000",
    "list/schemas": "list --results runs",
    "check/two-a800": f"check {TWO_A800}",
    "check/folder": "check runs --expect-hosts node[17-19]",
    "compare/same": "compare compare/base compare/same",
    "compare/slower": "compare compare/base compare/slower",
    "compare/faster": "compare compare/base compare/faster --threshold 0.03",
    "compare/broken": "compare compare/base compare/broken",
    "compare/wrong": "compare compare/base compare/wrong",
    "compare/convention": "compare compare/base compare/convention",
    "compare/one-run-each": "compare compare/noisy-base compare/noisy-new",
    "compare/achieved": "compare compare/quiet-base compare/quiet-new --by achieved",
    "compare/other-torch": "compare compare/base compare/other-torch",
    "compare/other-part": "compare compare/base compare/other-part --across-parts",
    "compare/pytest-benchmark": f"compare {PYTEST_JSON}/base.json {PYTEST_JSON}/slower.json",
    "devices/recorded": "devices",
    "specs/a800": "specs nvidia-a800-sxm4-80gb",
    "specs/bare-name": "specs A800",
    "specs/h100": "specs nvidia-h100-sxm5-80gb",
    "specs/h20": "specs nvidia-h20-96gb",
    "specs/model": "specs --model llama3-8b --tokens 2048,8192,32768,131072",
    "specs/products": "specs --model mixtral-8x7b --tokens 4096 --shapes",
    "suites/all": "suites",
    "fleet-list/all": "fleet list",
    "fleet-cards/some": "fleet cards A800 H20 910B3 P800 Trn2",
    "fleet-cost/li-auto": "fleet cost li-auto-2024-08 --draws 2000 --seed 1",
    "fleet-cost/huawei": "fleet cost huawei-2024-10 --draws 2000 --seed 1",
    "fleet-cost/goodput": "fleet cost nio-2024-10 --goodput --draws 2000 --seed 1",
    "fleet-cost/by-run": f"fleet cost xpeng-2024-10 --run {TWO_A800} --draws 2000 --seed 1",
    "fleet-cost/given": (
        "fleet cost --part nvidia-a800-sxm4-80gb --eflops 2 --derate datasheet:scaled=0.6"
        " --price nvidia-a800-sxm4-80gb=900000..1000000 --assume pue=1.3 --draws 2000 --seed 1"
    ),
    "fleet-own/a800": "fleet own --part A800 --goodput --draws 2000 --seed 1",
    "fleet-plan/eflops": "fleet plan --eflops 1 --part nvidia-a800-sxm4-80gb --draws 2000 --seed 1",
    "fleet-plan/budget": "fleet plan --budget-rmb 1e9 --part nvidia-a800-sxm4-80gb --draws 2000 --seed 1",
    "fleet-plan/site": "fleet plan --site-mw 20 --part A800 --draws 2000 --seed 1",
    "fleet-plan/training": (
        "fleet plan --parameters 1e9..2e9..4e9 --clips 10000000 --every-days 30 --fleet li-auto-2024-08"
        " --draws 2000 --seed 1"
    ),
    "fleet-audit/article": "fleet audit",
    "fleet-goodput/sizes": "fleet goodput",
    "fleet-goodput/given": "fleet goodput --cards 1000 --failures-per-node-day 0.002..0.004",
    "fleet-goodput/cases": "fleet goodput --validate",
    "fleet-validate/cases": "fleet validate",
    "fleet-derate/a800": "fleet derate --part A800 --devices 1024 --params 7e9 --context 4096",
    "fleet-derate/experts": (
        "fleet derate --part H800 --devices 2048 --params 671e9 --active-params 37e9 --precision fp8"
        " --stack off-the-shelf --year 2025 --convention 6n"
    ),
    "selftest/scenarios": "selftest --runs 4",
}


class RecordedDay(date):
    """The day that the golden files are of."""

    @classmethod
    def today(cls):
        return cls(2026, 11, 29)


class World:
    """A working directory with recorded runs, and the ways to run a command in it."""

    def __init__(self, bench, simulate, monkeypatch, golden):
        self._run, self._simulate, self._patch, self.figures = bench, simulate, monkeypatch, golden.figures

    def bench(self, line):
        return self._run(*shlex.split(line))

    def json(self, line):
        return json.loads(self.bench(f"{line} --json").out)

    def command(self, line):
        """The exit status of a command, its JSON and the figures of its screen."""
        as_json, screen = self.bench(f"{line} --json"), self.bench(line)
        assert as_json.status == screen.status
        figures = self.figures(screen.out)
        return {
            "command": f"bench {line}",
            "status": screen.status,
            "json": json.loads(as_json.out),
            "figures": figures,
        }

    def measure(self, *devices):
        """`bench run` of a made-up suite on simulated devices."""
        suite = Suite("golden", "simulated", 60.0, lambda target: simulated_cases())
        self._patch.setattr(nameplate.suite, "find_suite", lambda name: suite)
        # A budget counts from the start of the command; with this clock held, loading takes nothing of it.
        self._patch.setattr(time, "monotonic", lambda: 0.0)
        self._simulate(*devices)
        return self.bench("run golden --json")


@pytest.fixture(scope="session")
def recorded(tmp_path_factory, a800_run):
    """A folder of recorded runs; not to be written into."""
    folder = tmp_path_factory.mktemp("recorded")
    shutil.copytree(DATA / "compare", folder / "compare")
    shutil.copytree(DATA / "runs", folder / "runs")
    published = folder / PUBLISHED
    shutil.copytree(REPOSITORY / PUBLISHED, published)
    run = a800_run(1.0, 0.9)
    create(folder / "runs", run.manifest)
    with RecordWriter(folder / TWO_A800, "cuda0") as writer:
        for record in run.records:
            writer.append(record)
    mark_done(folder / TWO_A800)
    return folder


@pytest.fixture
def world(recorded, bench, simulate, monkeypatch, golden, tmp_path):
    for folder in recorded.iterdir():
        shutil.copytree(folder, tmp_path / folder.name)
    key = tmp_path / "data" / "nameplate" / "publish.key"
    key.parent.mkdir(parents=True)
    key.write_text("17" * 32)  # what `bench publish` hashes by, elsewhere a secret
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "2000")  # no line breaks, and no column left out
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NAMEPLATE_PARTS"):
        monkeypatch.delenv(name, raising=False)
    for module in ("assumptions", "plan"):  # what is given on the command line is as of today
        monkeypatch.setattr(f"nameplate.fleet.{module}.date", RecordedDay)
    monkeypatch.setattr(nameplate.device.survey, "survey", recorded_survey)
    monkeypatch.setattr(nameplate.selftest.parallel, "usable_cpus", frozenset)  # no processes of their own
    # Of the cards one kind: each draw takes a second.
    one = {"cards with a power brake": load_card_scenarios()["cards with a power brake"]}
    monkeypatch.setattr(nameplate.selftest.draws, "load_card_scenarios", lambda: one)
    # Drawing takes seconds, and pictures hold no data that their definitions don't.
    monkeypatch.setattr("nameplate.report.charts.vega.draw_svg", lambda spec: "<svg></svg>")
    monkeypatch.setattr("nameplate.report.charts.vega.start_bundling_library", lambda: lambda: "")
    return World(bench, simulate, monkeypatch, golden)


# ---- scenarios that are more than one command ----


def run_on_one_device(world):
    return measured(world, steady_cpu())


def run_on_two_gpus(world):
    return measured(world, *capped_gpus())


def measured(world, *devices):
    result = world.measure(*devices)
    return {"command": "bench run golden", "status": result.status, "json": stable(json.loads(result.out))}


def run_on_screen(world):
    """The screen of a run; its moment, host and versions are no figures."""
    run = json.loads(world.measure(steady_cpu()).out)["run"]["folder"]
    result = world.bench(f"run --resume {run}")
    return {
        "command": "bench run --resume RUN",
        "status": result.status,
        "figures": world.figures(result.out),
    }


def run_folder(world):
    """What stands on disk: the manifest, the record lines, and which files there are."""
    folder = Path(json.loads(world.measure(steady_cpu()).out)["run"]["folder"])
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    lines = {
        path.name: parse_lines(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("records-*.jsonl"))
    }
    files = sorted(path.name for path in folder.iterdir())
    return stable({"files": files, "manifest": manifest, "records": lines}, manifest["run"])


def loaded(world):
    """What `nameplate.load` gives: the kind of each column, and the values of some."""
    table = nameplate.load("runs")
    held = ["run", "case", "device", "tflops", "efficiency", "verdict"]
    rows = json.loads(table[held].to_json(orient="values", double_precision=15))
    return {"types": kinds(table), "rows": rows}


def record_columns(world):
    """The columns of `--json` and `nameplate.load`, in order, each with its unit."""
    return [[name, column.unit] for name, column in columns().items()]


def table_of_parts(world):
    """Every part: its figures, and a digest of all that is said of it (sources, notes, conflicts …)."""
    held = ("nominal_tflops", "datasheet_tflops", "memory_gb", "memory_bandwidth_gb_s", "tdp_w", "link_gb_s")
    held += ("multiprocessors", "maximum_mhz", "rated_clock_mhz", "devices_per_part")
    parts = world.json("specs")
    found = {
        part["part"]: {
            **{name: part[name] for name in held},
            "digest": hashlib.sha256(json.dumps(part, sort_keys=True).encode()).hexdigest()[:12],
        }
        for part in parts
    }
    return {"keys": list(parts[0]), "parts": found, "figures": world.figures(world.bench("specs").out)}


def leaderboard(world):
    """The published run and a run of two A800s, published here."""
    world.bench(f"publish {TWO_A800}")
    found = world.json("leaderboard")
    readme = Path("results/README.md").read_text(encoding="utf-8")
    return {
        "json": found,
        "status": world.bench("leaderboard --check").status,
        "figures": world.figures(readme),
    }


def publish(world):
    found = world.json(f"publish {TWO_A800}")
    manifest = json.loads(Path(found[0], "manifest.json").read_text(encoding="utf-8"))
    lines = [
        parse_lines(path.read_text(encoding="utf-8"))
        for path in sorted(Path(found[0]).glob("records-*.jsonl"))
    ]
    recorded = parse_lines(Path(TWO_A800, "records-cuda0-0.jsonl").read_text(encoding="utf-8"))
    return {"json": found, "manifest": manifest, "same_records": lines == [recorded]}


def exported(name, suffix, read):
    def scenario(world):
        line = f"export {ONE_RUN} --format {name}"
        result = world.bench(line)
        told = world.json(f"{line} -o exported.{suffix}")
        assert Path(f"exported.{suffix}").read_text(encoding="utf-8") == result.out
        return {
            "command": f"bench {line}",
            "status": result.status,
            "json": told,
            "content": read(result.out),
        }

    return scenario


def exported_parquet(world):
    found = world.json(f"export {TWO_A800} -o runs.parquet")
    table = pandas.read_parquet("runs.parquet")
    return {"json": found, "types": kinds(table), "tflops": table["tflops"].dropna().tolist()}


def merged(world):
    line = f"merge compare/base {SCHEMA_2} -o merged.jsonl"
    found = world.json(line)
    rows = parse_lines(Path("merged.jsonl").read_text(encoding="utf-8"))
    held = ("run", "device_name", "case", "status", "tflops", "bandwidth_gb_s", "efficiency", "verdict")
    return {
        "command": f"bench {line}",
        "json": found,
        "keys": list(rows[0]),
        "rows": [[row[name] for name in held] for row in rows],
    }


def page_of_one_run(world):
    page = read_page(world, TWO_A800)
    panel = without_words(json.loads(page.scripts["whatif-model"]))
    # One fleet a part: the others differ by their size alone.
    panel["fleets"] = list({fleet["part"]: fleet for fleet in reversed(panel["fleets"])}.values())
    return data_of(page, world) | {"whatif": panel}


def page_side_by_side(world):
    return data_of(read_page(world, SCHEMA_1, SCHEMA_2), world)


def read_page(world, *runs):
    world.bench(f"report {' '.join(runs)} -o page.html")
    page = Page()
    page.feed(Path("page.html").read_text(encoding="utf-8"))
    return page


def data_of(page, world):
    """The figures of each table, and the data of each chart; how they are said and drawn is free."""
    tables = [
        [line for row in table for found in world.figures(row) for line in found] for table in page.tables
    ]
    charts = {name: chart["datasets"] for name, chart in json.loads(page.scripts["charts"]).items()}
    return {"tables": tables, "charts": charts}


def markdown(world):
    found = world.json(f"report {TWO_A800} -o report.md")
    return {"json": found, "figures": world.figures(Path("report.md").read_text(encoding="utf-8"))}


def every_fleet(world):
    """The whole screen of `bench fleet cost`; some fleets have their JSON in files of their own."""
    line = "fleet cost --draws 2000 --seed 1"
    return {"command": f"bench {line}", "figures": world.figures(world.bench(line).out)}


def fleets_as_csv(world):
    line = "fleet cost li-auto-2024-08 xpeng-2024-10 --draws 2000 --seed 1 --csv"
    return {"command": f"bench {line}", "content": parse_csv(world.bench(line).out)}


SCENARIOS = {
    **{name: lambda world, line=line: world.command(line) for name, line in COMMANDS.items()},
    "run/one-device": run_on_one_device,
    "run/two-gpus": run_on_two_gpus,
    "run/screen": run_on_screen,
    "store/run-folder": run_folder,
    "store/columns": record_columns,
    "store/load": loaded,
    "fleet-cost/all": every_fleet,
    "fleet-cost/csv": fleets_as_csv,
    "specs/all": table_of_parts,
    "leaderboard/two-parts": leaderboard,
    "publish/two-a800": publish,
    "export/csv": exported("csv", "csv", parse_csv),
    "export/jsonl": exported("jsonl", "jsonl", parse_lines),
    "export/prometheus": exported("prometheus", "prom", str.splitlines),
    "export/github-action-benchmark": exported("github-action-benchmark", "json", json.loads),
    "export/pytest-benchmark": exported("pytest-benchmark", "json", json.loads),
    "export/parquet": exported_parquet,
    "merge/two-schemas": merged,
    "report/markdown": markdown,
    "page/two-a800": page_of_one_run,
    "page/side-by-side": page_side_by_side,
}


# It takes seconds, while tests/selftest and tests/report/test_screens.py hold its verdicts and tables.
SLOW = {"selftest/scenarios"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long) if name in SLOW else name for name in SCENARIOS]
)
def test_golden(name, world, golden):
    golden.check(name, SCENARIOS[name](world))


# ---- the net has no holes ----


def command_names(group, names=()):
    """Every command of the command line, as the name of its folder of golden files."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from command_names(command, (*names, name))
        else:
            yield "-".join((*names, name))


def test_every_command_has_a_golden_file():
    known = set(command_names(typer.main.get_command(app)))
    assert "fleet-cost" in known
    missing = known - {name.partition("/")[0] for name in SCENARIOS}
    assert not missing, f"add a scenario to COMMANDS or SCENARIOS for {missing}, and renew"


def test_every_golden_file_has_a_scenario(golden):
    unused = golden.names() - set(SCENARIOS)
    assert not unused, f"nothing is compared with {unused}: delete these files"


def test_old_run_folders_hold_what_their_schema_is_about():
    """They are recorded data, readable for good: nobody makes them anew."""
    for folder, schema in ((SCHEMA_1, 1), (SCHEMA_2, 2)):
        manifest = json.loads((DATA / folder / "manifest.json").read_text(encoding="utf-8"))
        lines = [
            path.read_text(encoding="utf-8").splitlines()[0]
            for path in (DATA / folder).glob("records-*.jsonl")
        ]
        assert {manifest["schema_version"], *(json.loads(line)["schema_version"] for line in lines)} == {
            schema
        }
