"""The command line: what it lists, its exit statuses, where it prints what; on made-up devices and cases."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

import nameplate.run.measure
import nameplate.run.worker
import nameplate.selftest.bare
from nameplate.cli import app
from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.record import Verification
from nameplate.report.section_names import SECTIONS
from nameplate.selftest.bare import BareResult
from nameplate.store.folder import create
from nameplate.suite import Case, Suite, list_suite_names

PROMISED = {"run", "selftest", "show", "suites", "devices", "report", "publish"}
COMMANDS = {command.name for command in app.registered_commands} | {"fleet"}


@dataclass(frozen=True)
class Work:
    """A workload that allocates nothing; it breaks in the way it is told."""

    shape: str
    breaks: BaseException | None = None
    name: str = "matmul"
    dtype: str = "fp32"
    dimensions: dict = field(default_factory=dict)
    flops: int = 2_000_000_000
    bytes: int = 3_000_000
    convention: str = "2MNK"
    represents: str | None = None
    resident_bytes: int = 3_000_000
    launches: tuple = (None,)

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        if self.breaks is not None:
            raise self.breaks
        return self

    def numerics(self):
        return contextlib.nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return Verification(reference="fp64", error=0.1, rule="rounding", passed=True)

    def digest(self):
        return None


@pytest.fixture
def measured(monkeypatch, simulate, tmp_path):
    """Let `bench run` measure these works on a simulated device; returns its usual arguments."""

    def prepare(*works):
        suite = Suite("fake", "a test's own", 20.0, lambda target: [Case(work) for work in works])
        device = SimulatedDevice(make_steady(1e-3, 0.01), nominal_tflops=4.0)
        monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: suite)
        simulate(device)
        return ["run", "fake", "--results", tmp_path / "runs"]

    return prepare


@pytest.fixture
def stored(make_record, store_run, tmp_path):
    """A finished run on disk."""

    def store(*records, **changes):
        return store_run(tmp_path / "runs", *(records or (make_record(),)), **changes)

    return store


def listed(text):
    return set(re.findall(r"^  ([a-z]+) ", text.partition("Commands:")[2], re.MULTILINE))


def test_help_lists_every_command(bench):
    result = bench("--help")
    assert result.status == 0
    assert listed(result.out) == COMMANDS >= PROMISED


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_explains_itself(bench, command):
    result = bench(command, "--help")
    assert result.status == 0
    assert re.match(rf"Usage: .*\b{command} \[OPTIONS\]", result.out)
    assert "--help" in result.out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_prints_json_when_asked(bench, command):
    assert "--json" in bench(command, "--help").out


def test_run_has_the_flags_of_its_contract(bench):
    text = bench("run", "--help").out
    for flag in ("--device", "--only", "--budget", "--nominal", "--results", "--resume", "--json"):
        assert flag in text


def test_no_arguments_show_the_help(bench):
    result = bench()
    assert "Commands:" in result.out + result.err


def test_a_run_ends_with_0_and_one_screen(bench, measured):
    result = bench(*measured(Work("a"), Work("b")))
    assert result.status == 0
    assert "50.0% ±" in result.out
    assert len(result.out.splitlines()) <= 12
    assert "--details" in result.out.splitlines()[-2]


def test_a_run_that_had_time_for_no_case_measured_nothing_and_gives_the_reason(bench, measured):
    result = bench(*measured(Work("a")), "--budget", "0.000001")
    assert result.status == 3
    assert "budget" in result.out
    assert re.match(
        r"bench: nothing was measured: skipped: .*budget.* \(1 of 1 cases\)", result.err.splitlines()[-1]
    )


def test_json_is_one_document_on_standard_output_and_nothing_else(bench, measured):
    result = bench(*measured(Work("a"), Work("b")), "--json")
    document = json.loads(result.out)
    assert list(document) == ["run", "records", "health", "chain"]
    assert [record["status"] for record in document["records"]] == ["ok", "ok"]
    assert document["records"][0]["efficiency"] == pytest.approx(0.5, rel=0.01)


def test_progress_is_on_standard_error(bench, measured):
    result = bench(*measured(Work("a"), Work("b")), "--json")
    simulated, started, waits, first, last = result.err.strip().splitlines()
    assert simulated.startswith("simulated: ")
    assert waits == "waiting until the device is ready; the 20 s to measure count from then"
    assert "2 cases on simulated" in started
    assert first.startswith("0 of 2 cases, about 20 s left: measuring matmul fp32 a")
    assert last == "2 of 2 cases: last matmul fp32 b"


def test_a_hostile_reason_moves_no_cursor_in_the_progress(bench, measured):
    result = bench(*measured(Work("a", RuntimeError("\x1b[2J\u202e[red]gone"))))
    assert "[2J[red]gone" in result.err
    assert not re.search("[\x1b\u202e]", result.err + result.out)


def test_a_failed_case_is_3_and_the_others_are_kept(bench, measured):
    result = bench(*measured(Work("a", RuntimeError("no memory")), Work("b")), "--json")
    assert result.status == 3
    records = json.loads(result.out)["records"]
    assert [record["status"] for record in records] == ["failed", "ok"]
    assert records[0]["reason"] == "RuntimeError: no memory"


def test_a_case_that_ends_its_process_is_3_and_the_others_are_kept(bench, measured):
    result = bench(*measured(Work("a"), Work("b", SystemExit(-11)), Work("c")), "--json")
    assert result.status == 3
    document = json.loads(result.out)
    assert [record["status"] for record in document["records"]] == ["ok", "failed", "ok"]
    assert document["run"]["finished"]


def test_a_process_that_dies_before_it_begins_is_3_with_what_is_missing_and_why(bench, measured, monkeypatch):
    arguments = measured(Work("a"), Work("b"))

    def dying(name, begun):
        raise SystemExit(-9)

    monkeypatch.setattr(nameplate.run.worker, "open_device", dying)
    result = bench(*arguments)
    assert result.status == 3
    assert "note     simulated: its process ended early: signal SIGKILL" in result.out
    assert "Cases without a record: 2. Go on with `bench run --resume" in " ".join(result.out.split())


def test_an_interrupt_is_130_and_says_how_to_go_on(bench, measured, tmp_path):
    result = bench(*measured(Work("a"), Work("b", KeyboardInterrupt())), "--json")
    (folder,) = (tmp_path / "runs").iterdir()
    assert result.status == 130
    assert result.out == ""
    assert result.err.splitlines()[-1].startswith("bench: interrupted")
    assert f"bench run --resume {folder}" in result.err
    again = bench(*measured(Work("a"), Work("b")), "--resume", folder, "--json")
    assert again.status == 0
    assert len(json.loads(again.out)["records"]) == 2


def test_an_interrupt_before_the_first_case_is_130(bench, measured, monkeypatch):
    arguments = measured(Work("a"))

    def interrupted(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(nameplate.run.measure, "describe", interrupted)
    result = bench(*arguments)
    assert (result.status, result.err) == (130, "bench: interrupted before the first case\n")


def test_the_command_that_goes_on_can_be_pasted(bench, measured, tmp_path):
    (tmp_path / "my results").mkdir()
    arguments = measured(Work("a", KeyboardInterrupt()))[:2]
    result = bench(*arguments, "--results", tmp_path / "my results")
    (folder,) = (tmp_path / "my results").iterdir()
    assert shlex.split(result.err.partition("kept: ")[2]) == ["bench", "run", "--resume", str(folder)]


@pytest.mark.parametrize(("ratio", "half", "status"), [(1.001, 0.01, 0), (1.5, 0.01, 1), (1.001, 0.5, 3)])
def test_a_self_test_ends_by_its_verdict(bench, monkeypatch, ratio, half, status):
    """With 3 where too few rounds were measured to tell: 1 would say that it failed."""
    made = BareResult("matmul/…", 2.0, 2.0 / ratio, ratio, ratio - half, ratio + half, rounds=20)
    monkeypatch.setattr(nameplate.selftest.bare, "compare_with_bare_loop", lambda **_: made)
    result = bench("selftest", "--bare")
    assert result.status == status
    assert result.out == made.describe() + "\n"
    result = bench("selftest", "--bare", "--json")
    assert result.status == status
    assert json.loads(result.out) == made.as_json()


def test_an_interrupted_self_test_is_130_and_not_a_failed_check(bench, monkeypatch):
    def interrupted(**_):
        raise KeyboardInterrupt

    monkeypatch.setattr(nameplate.selftest.bare, "compare_with_bare_loop", interrupted)
    assert bench("selftest", "--bare").status == 130


def test_only_that_matches_nothing_is_2(bench, measured):
    result = bench(*measured(Work("a")), "--only", "conv*")
    assert result.status == 2
    assert (
        "--only: no case of suite fake matches; got 'conv*'; expected a glob over ids such as matmul/"
        in result.err
    )


def test_a_file_in_the_place_of_the_results_is_2(bench, measured, tmp_path):
    arguments = measured(Work("a"))
    (tmp_path / "runs").write_text("in the way")
    result = bench(*arguments)
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert line.startswith("bench: --results: can't write a run here: ")


def test_show_prints_the_screen_and_its_document(bench, stored, tmp_path):
    folder = stored()
    screen = bench("show", folder).out
    assert screen.startswith("unknown  cpu")
    assert len(screen.splitlines()) <= 12
    assert "matmul bf16 1024x1024x1024" in bench("show", folder, "--details").out
    by_id = bench("show", folder.name, "--results", tmp_path / "runs", "--json")
    assert (by_id.status, by_id.err) == (0, "")
    assert json.loads(by_id.out)["run"]["run"] == folder.name


def test_show_names_what_it_passed_over_and_goes_on(bench, stored):
    folder = stored()
    (folder / "records-zz-0.jsonl").write_bytes(b"\x00\xff\n{}\n")
    (folder / "records-zz-1.jsonl").write_bytes(b'{"case": "to')
    result = bench("show", folder, "--json")
    assert result.status == 0
    document = json.loads(result.out)
    assert len(document["records"]) == 1
    assert len(document["run"]["problems"]) == 3
    assert "torn last line" in bench("show", folder, "advice").out


MANIFESTS = {
    "none of JSON": b"\x89PNG",
    "of a newer version": b'{"schema_version": 99}',
    "of another program": b'{"name": "x"}',
    "without a device": None,
    "with a key that moves the cursor": b'{"\\u001b[2J\\u202e": 1}',
}


@pytest.mark.parametrize("kind", MANIFESTS)
@pytest.mark.parametrize("command", [["show"], ["publish"], ["report", "-o", "x.md"]])
def test_a_run_with_a_manifest_like_this_is_2(bench, stored, tmp_path, monkeypatch, command, kind):
    monkeypatch.chdir(tmp_path)
    folder = stored()
    data = MANIFESTS[kind]
    if data is None:
        data = json.dumps(json.loads((folder / "manifest.json").read_text()) | {"devices": []}).encode()
    (folder / "manifest.json").write_bytes(data)
    result = bench(command[0], folder, *command[1:])
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert str(folder / "manifest.json") in line


def test_an_error_never_moves_the_cursor(bench, stored):
    """A folder of someone else's may have any key in its manifest, and pydantic quotes it."""
    folder = stored()
    fields = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(fields | {"\x1b[2J\u202e": 1}))
    result = bench("show", folder)
    assert result.status == 2
    assert not re.search("[\x1b\u202e]", result.err)


def test_suites_are_listed_with_their_time(bench):
    rows = json.loads(bench("suites", "--json").out)
    times = {"smoke": 10.0, "quick": 60.0, "standard": 600.0, "soak": 600.0, "custom": 60.0}
    assert {row["suite"]: row["budget_s"] for row in rows}.items() >= times.items()
    assert [row["suite"] for row in rows] == list_suite_names()
    text = " ".join(bench("suites").out.split())
    assert all(row["suite"] in text and row["description"] in text for row in rows)


@pytest.mark.process
@pytest.mark.usefixtures("one_library")
def test_report_prints_the_names_of_what_it_wrote(bench, stored, tmp_path):
    page, text = tmp_path / "report.html", tmp_path / "report.md"
    result = bench("report", stored(), "-o", page)
    assert (result.status, result.err) == (0, "")
    assert result.out.split() == [str(page)]
    result = bench(
        "report", "20261122T120000-fake-0001", "-o", text, "--results", tmp_path / "runs", "--json"
    )
    assert result.status == 0
    written = json.loads(result.out)
    assert written == [str(text), *(str(tmp_path / f"report-{name}.svg") for name in CHARTS)]
    assert all(os.path.getsize(path) > 500 for path in written)


CHARTS = ("chain", "efficiency")


@pytest.mark.usefixtures("one_library")
def test_report_takes_several_runs(bench, stored, tmp_path):
    folders = [stored(), stored(run="20261123T120000-fake-0002")]
    result = bench("report", *folders, "-o", tmp_path / "both.html")
    assert result.status == 0
    text = (tmp_path / "both.html").read_text()
    assert "2 runs side by side" in text
    assert all(folder.name in text for folder in folders)


@pytest.mark.usefixtures("one_library")
def test_a_report_is_written_in_the_readers_language(bench, stored, tmp_path):
    assert bench("report", stored(), "-o", tmp_path / "report.html", "--lang", "zh").status == 0
    assert '<html lang="zh-Hans">' in (tmp_path / "report.html").read_text()


def test_a_run_is_shown_in_the_readers_language(bench, stored):
    folder = stored()
    english, chinese = (bench("show", folder, "--details", "--lang", lang).out for lang in ("en", "zh"))
    assert english == bench("show", folder, "--details").out
    assert not re.search("[\u4e00-\u9fff]", english)
    assert len(re.findall("[\u4e00-\u9fff]", chinese)) > 200
    assert "matmul bf16 1024x1024x1024" in chinese


@pytest.mark.parametrize("command", [["show"], ["report", "-o", "x.md"]])
def test_a_language_that_nobody_translated_to_is_2(bench, stored, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    result = bench(command[0], stored(), *command[1:], "--lang", "tlh")
    assert (result.status, result.out) == (2, "")
    assert result.err == "bench: --lang: no such language; got 'tlh'; expected en or zh\n"
    assert not (tmp_path / "x.md").exists()


def test_a_report_in_another_format_is_2(bench, stored, tmp_path):
    result = bench("report", stored(), "-o", tmp_path / "report.pdf")
    assert result.status == 2
    (line,) = result.err.splitlines()
    assert "--output: no such format; got " in line
    assert line.endswith("expected a name ending in .html or .md")


def test_several_runs_are_shown_side_by_side_and_then_each(bench, stored):
    folders = [stored(), stored(run="20261123T120000-fake-0002", hostname="node18")]
    out = bench("show", *folders, "--details").out
    places = [
        out.index(text) for text in ("2 runs side by side", "Cases that the runs share", "node17", "node18")
    ]
    assert places == sorted(places)
    documents = json.loads(bench("show", *folders, "--json").out)
    assert [each["run"]["run"] for each in documents] == [folder.name for folder in folders]
    assert isinstance(json.loads(bench("show", folders[0], "--json").out), dict)


def test_one_run_of_several_that_isnt_there_is_2(bench, stored, tmp_path):
    for command in (["show"], ["report", "-o", tmp_path / "x.html"]):
        result = bench(command[0], stored(run=f"20261124T120000-fake-{command[0]}"), "gone", *command[1:])
        assert (result.status, result.out) == (2, "")
        assert "no such run; got 'gone'" in result.err
    assert not (tmp_path / "x.html").exists()


def test_fleets_are_shown_of_a_run_but_not_when_it_has_just_been_measured(bench, measured, tmp_path):
    """The screen after a run is the answer; what it makes of fleets is asked for."""
    screen = bench(*measured(Work("a"))).out
    (folder,) = (tmp_path / "runs").iterdir()
    shown = bench("show", folder, "--details").out + bench("show", folder, "fleets").out
    for heading in ("Fleets: nominal and delivered EFLOPS", "Method", "Every record", "How to reproduce"):
        assert heading in shown
        assert heading not in screen
    assert "2.00 of 4.00 TFLOPS nominal in fp32" in screen


def test_publish_prints_the_folder_it_made(bench, stored, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    folder = stored()
    result = bench("publish", folder, "--to", tmp_path / "results")
    assert result.status == 0
    assert result.out.strip() == str(tmp_path / "results" / "amd-zen4" / folder.name)
    again = bench("publish", folder, "--to", tmp_path / "results")
    assert again.status == 2
    assert "already published" in again.err


def test_an_unfinished_run_is_not_published(bench, stored, make_record, make_manifest, tmp_path):
    folder = create(tmp_path / "runs", make_manifest(["matmul/fp32/a/normal/warm/-/torch"]))
    result = bench("publish", folder, "--to", tmp_path / "results")
    assert result.status == 2
    assert f"bench run --resume {folder.name} first" in result.err
    assert not (tmp_path / "results").exists()


@pytest.mark.process
def test_a_terminal_that_lacks_a_character_gets_another_not_a_traceback(begun_run):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "100"}
    command = [sys.executable, "-m", "nameplate", "show", str(begun_run)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "0.4" in done.stdout


def test_the_version_is_told(bench):
    from nameplate import __version__

    assert bench("--version") == (0, f"nameplate {__version__}\n", "")


def test_two_ratings_of_one_dtype_are_refused(bench):
    result = bench("run", "--nominal", "bf16=1", "--nominal", "bf16=2")
    assert result.status == 2
    assert "two ratings of one dtype" in result.err


@pytest.fixture
def begun_run(tmp_path, make_record, store_run):
    return store_run(tmp_path, make_record(), done=False)


def test_a_floor_under_the_share_of_nominal_is_a_gate(bench, measured, stored, make_record):
    """Half of nominal is reached: a floor below is met, one above missed, one of another dtype unknown."""
    arguments = measured(Work("a"))
    missed = bench(*arguments, "--expect", "fp32=0.80")
    assert missed.status == 1
    sentence = missed.err.splitlines()[-1]
    assert re.match(r"bench: simulated matmul/fp32/a/\S+: got 50\.\d% ± \S+ of nominal; expected", sentence)
    assert sentence.endswith("expected 80.0% of nominal in fp32")
    assert bench(*arguments, "--fail-under", "0.8").status == 1
    assert bench(*arguments, "--expect", "fp32=0.4", "--fail-under", "0.4").status == 0
    unknown = bench(*arguments, "--expect", "fp32=0.4", "--expect", "bf16=0.4")
    assert unknown.status == 3
    assert "not judged: no product was measured; expected 40.0% of nominal in bf16" in unknown.err
    # A finished run can be held to a floor too: 80 % ± 2 was reached.
    loud = stored(make_record(verdict="contended", verdicts=("contended",)), run="20261123T120000-loud-0001")
    folder = stored()
    ends = {floor: bench("show", folder, "--expect", f"bf16={floor}") for floor in ("0.79", "0.81", "0.83")}
    assert {floor: end.status for floor, end in ends.items()} == {"0.79": 0, "0.81": 3, "0.83": 1}
    assert "whose interval reaches what was expected" in ends["0.81"].err
    judged = bench("show", loud, "--expect", "bf16=0.99")
    assert (judged.status, "which can't be judged (contended)" in judged.err) == (3, True)
    for flags in (
        ["--expect", "bf16=80"],
        ["--expect", "bf61=0.8"],
        ["--expect", "0.8"],
        ["--fail-under", "0"],
    ):
        refused = bench("show", folder, *flags)
        assert (refused.status, refused.out) == (2, "")


def test_sections_are_shown_by_name_and_an_unknown_word_lists_them(bench, stored):
    folder = stored()
    shown = bench("show", folder, "throughput", "machine", "idle").out
    assert "Achieved, in TFLOPS" in shown
    assert "node17" in shown
    assert "nothing of it: throughput from idle" in " ".join(shown.split())
    assert "How to reproduce" not in shown
    unknown = bench("show", folder, "thruput")
    assert unknown.status == 2
    assert all(name in unknown.err for name in SECTIONS)
    assert all(f"  {name} " in bench("show", "--help").out for name in SECTIONS)
    both = bench("show", folder, "chain", "--details")
    assert (both.status, both.out) == (2, "")
