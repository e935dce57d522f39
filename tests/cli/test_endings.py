"""How a command ends: its exit status, one sentence on standard error, and output that can't be written."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import nameplate.cli.measure
import nameplate.report.devices
import nameplate.run.measure
import nameplate.selftest.bare
import nameplate.store.publish
from nameplate.base import errors
from nameplate.base.errors import CheckFailed, InputError, NameplateError
from nameplate.base.exit_status import ExitStatus
from nameplate.cli import app, main
from nameplate.report.media import write as report_writing
from nameplate.selftest import contenders
from nameplate.selftest.bare import BareResult

ROOT = Path(__file__).parents[2]
BENCH = Path(sys.executable).with_name("bench")
PUBLISHED = ROOT / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"
SAME = ROOT / "tests" / "data" / "compare" / "same"
PATIENCE_S = 120


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Tracebacks are kept where they go with the test."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


def test_the_exit_statuses_are_those_of_the_contract():
    assert [(each.name, int(each)) for each in ExitStatus] == [
        ("DONE", 0),
        ("CHECK_FAILED", 1),
        ("BAD_INPUT", 2),
        ("INCOMPLETE", 3),
        ("UNFORESEEN", 70),
        ("HANGUP", 129),
        ("INTERRUPTED", 130),
        ("CLOSED_PIPE", 141),
        ("TERMINATED", 143),
    ]


def descendants(kind):
    yield kind
    for each in kind.__subclasses__():
        yield from descendants(each)


def test_only_a_check_that_was_asked_for_ends_with_1():
    with_1 = {each for each in descendants(NameplateError) if each.exit_status == ExitStatus.CHECK_FAILED}
    assert with_1 == {CheckFailed}


def test_an_error_of_ours_is_unforeseen_only_where_nobody_could_go_on():
    """One that a caller may let through must have a status of its own."""
    assert contenders.NoFigure.exit_status == ExitStatus.INCOMPLETE
    with_70 = {each for each in descendants(NameplateError) if each.exit_status == ExitStatus.UNFORESEEN}
    assert with_70 == {NameplateError, errors.OutputError, errors.Unsupported}


# Output that can't be written.

COMMANDS = {
    "help": ["--help"],
    "version": ["--version"],
    "run": ["run"],
    "show": ["show", PUBLISHED],
    "show --json": ["show", PUBLISHED, "--json"],
    "list": ["list", "--results", ROOT / "results"],
    "suites": ["suites"],
    "devices": ["devices", "--json"],
    "specs": ["specs", "nvidia-a800-sxm4-80gb"],
    "specs --model": ["specs", "--model", "llama3-8b"],
    "check": ["check", SAME],
    "compare": ["compare", SAME, SAME],
    "compare --markdown": ["compare", SAME, SAME, "--markdown"],
    "report": ["report", PUBLISHED, "-o", "r.html"],
    "publish": ["publish", PUBLISHED],
    "leaderboard": ["leaderboard", ROOT / "results", "--check"],
    "leaderboard --json": ["leaderboard", ROOT / "results", "--check", "--json"],
    "export": ["export", PUBLISHED, "--format", "csv"],
    "export -o": ["export", PUBLISHED, "-o", "out.csv"],
    "merge": ["merge", PUBLISHED, "-o", "out.jsonl"],
    "selftest": ["selftest", "--bare"],
    "fleet list": ["fleet", "list"],
    "fleet cards": ["fleet", "cards"],
    "fleet cost": ["fleet", "cost", "nio", "--draws", "1000"],
    "fleet cost --csv": ["fleet", "cost", "nio", "--draws", "1000", "--csv"],
    "fleet own": ["fleet", "own", "--part", "A800", "--draws", "1000"],
    "fleet audit": ["fleet", "audit"],
    "fleet plan": ["fleet", "plan", "--eflops", "1", "--part", "nvidia-a800-sxm4-80gb", "--draws", "1000"],
    "fleet derate": ["fleet", "derate", "--part", "A800", "--devices", "1024"],
    "fleet goodput": ["fleet", "goodput", "--cards", "1024"],
    "fleet validate": ["fleet", "validate"],
}


def test_every_command_is_among_them():
    named = {
        group.typer_instance.info.name or group.name: group.typer_instance for group in app.registered_groups
    }
    words = {command.name for command in app.registered_commands}
    words |= {f"{name} {each.name}" for name, group in named.items() for each in group.registered_commands}
    for word in words:
        assert any(" ".join(map(str, arguments)).startswith(word) for arguments in COMMANDS.values()), word


@pytest.fixture
def quick(monkeypatch, tmp_path, make_run, make_record):
    """What takes long, or looks at this machine, is made up: here it's about what comes after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nameplate.run.measure, "measure", lambda *_, **__: make_run(make_record()))
    monkeypatch.setattr(report_writing, "write_report", lambda *_, **__: [tmp_path / "r.html"])
    monkeypatch.setattr(nameplate.store.publish, "publish_run", lambda *_, **__: tmp_path)
    monkeypatch.setattr(nameplate.cli.measure, "_survey", lambda _: None)
    monkeypatch.setattr(nameplate.report.devices, "devices_document", lambda _: {"devices": [], "nvml": {}})
    bare = BareResult("matmul/…", 2.0, 2.0, 1.0, 0.99, 1.01, rounds=20)
    monkeypatch.setattr(nameplate.selftest.bare, "compare_with_bare_loop", lambda **_: bare)


def full():
    return open("/dev/full", "w", encoding="utf-8")


def closed():
    reading, writing = os.pipe()
    os.close(reading)
    return open(writing, "w", encoding="utf-8")


def unwritable():
    """What `>&-` leaves: a descriptor that takes nothing."""
    return open(os.open(os.devnull, os.O_RDONLY), "w", encoding="utf-8")


# All commands with one of the outputs, and a few with each; the rest is for `make test-long`.
UNWRITABLE = {
    "full": (full, 70, "No space left on device"),
    "takes nothing": (unwritable, 70, "Bad file descriptor"),
    "closed pipe": (closed, 141, None),
}
WITH_EACH = {"version", "show", "show --json", "fleet list", "export"}
ENDS = [
    pytest.param(
        COMMANDS[command],
        *UNWRITABLE[output],
        id=f"{output}-{command}",
        marks=[] if output == "full" or command in WITH_EACH else [pytest.mark.long],
    )
    for output in UNWRITABLE
    for command in COMMANDS
]


@pytest.mark.parametrize(("arguments", "output", "status", "reason"), ENDS)
def test_output_that_cant_be_written_is_70_and_a_closed_pipe_141_and_silent(
    bench, quick, monkeypatch, arguments, output, status, reason
):
    with output() as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        result = bench(*arguments)
    assert result.status == status
    own = [line for line in result.err.splitlines() if "can't be written" in line]
    if reason is None:
        assert not own
        assert "broken pipe" not in result.err.lower()
    else:
        (sentence,) = own
        assert sentence.startswith(f"bench: output can't be written: {reason}; its traceback is in /")


def test_so_it_is_with_a_stream_that_has_no_descriptor(bench, monkeypatch):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(sys, "stdout", Full())
    result = bench("fleet", "list")
    assert result.status == 70
    assert result.err.startswith("bench: output can't be written: Input/output error; its traceback is in /")


def test_a_pipe_that_doesnt_wait_gets_the_whole_document(bench, monkeypatch):
    """As some programs set the pipes that they share with others."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    said = []

    def read():
        time.sleep(0.2)  # the pipe is full by then
        with open(reading, encoding="utf-8") as stream:
            said.append(stream.read())

    reader = threading.Thread(target=read)
    reader.start()
    with open(writing, "w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert bench("specs", "--json").status == 0
        assert not os.get_blocking(writing)
    reader.join()
    assert len(said[0]) > 1 << 16
    assert json.loads(said[0])


def shell(script, **more):
    """Run a line of shell in which `bench` is this one."""
    return subprocess.run(
        ["bash", "-c", script.replace("bench", str(BENCH), 1)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        **more,
    )


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ("bench fleet list > /dev/full", 70, "bench: output can't be written: No space left on device; its"),
        pytest.param(
            "bench --version >&-",
            70,
            "bench: output can't be written: Bad file descriptor; its traceback is",
            marks=pytest.mark.long,
        ),
        ("bench --version >&- 2>&-", 70, None),
        ("bench fleet list | true; exit ${PIPESTATUS[0]}", 141, None),
        pytest.param(
            "bench run --zzz 2>&1 >&- | true; exit ${PIPESTATUS[0]}", 2, None, marks=pytest.mark.long
        ),
        pytest.param("bench --version <&- 2>&-", 0, None, marks=pytest.mark.long),
    ],
)
def test_python_itself_says_nothing_more_as_it_ends(script, status, said):
    done = shell(script)
    assert done.returncode == status
    assert (done.stderr == "") if said is None else (done.stderr.startswith(said))
    assert done.stderr.count("\n") == (said is not None)


@pytest.mark.parametrize("closed", ["<&- 2>&-", "2>&-", "<&- >&- 2>&-"])
def test_what_a_command_starts_has_streams_too_where_the_caller_closed_them(closed):
    looks = "import os; [os.fstat(number) for number in (0, 1, 2)]"
    code = (
        "import subprocess, sys; from nameplate.cli.exits import _open_closed_streams as reopen; reopen()\n"
        f"sys.exit(subprocess.call([sys.executable, '-S', '-c', {looks!r}]))"
    )
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 0


def test_a_working_directory_that_is_gone_is_bad_input(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell(f"cd {gone} && rmdir {gone} && bench run smoke")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "bench: the working directory can't be read: No such file or directory; "
        "expected to be run in one that exists\n"
    )


# Errors that nobody foresaw.


@pytest.fixture
def breaks(monkeypatch):
    """Let `bench run` break by this error, beneath everything that expects one."""

    def use(error):
        def measure(*_, **__):
            raise error

        monkeypatch.setattr(nameplate.run.measure, "measure", measure)

    return use


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("first line\nsecond"), "unforeseen RuntimeError: first line second"),
        (FileNotFoundError(2, "No such file or directory", "x"), "unforeseen FileNotFoundError: [Errno 2]"),
        (SystemExit(1), "unforeseen SystemExit: 1"),
        (SystemExit("a library's own idea"), "unforeseen SystemExit: a library's own idea"),
        (errors.Unsupported("no such thing here"), "no such thing here"),
        (MemoryError(), "unforeseen MemoryError: "),
        (ValueError("x" * 5000), f"unforeseen ValueError: {'x' * 300}…; its traceback"),
    ],
)
def test_an_error_nobody_foresaw_is_70_and_says_where_its_traceback_is(bench, breaks, error, said):
    breaks(error)
    result = bench("run")
    assert (result.status, result.out) == (70, "")
    (sentence,) = result.err.splitlines()
    assert sentence.startswith(f"bench: {said}")
    trace = Path(sentence.rpartition(" is in ")[2])
    text = trace.read_text(encoding="utf-8")
    assert text.startswith("Traceback (most recent call last):")
    assert type(error).__name__ in text


def test_where_no_file_can_be_made_the_traceback_itself_is_printed(breaks, monkeypatch, capsys):
    def mkstemp(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    breaks(RuntimeError("boom"))
    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)
    monkeypatch.setattr(sys, "argv", ["bench", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 70
    said = capsys.readouterr().err
    assert said.startswith(
        "bench: unforeseen RuntimeError: boom; its traceback can't be kept:\nTraceback (most"
    )
    assert said.endswith("RuntimeError: boom\n")


def test_so_it_is_in_a_process_that_measures():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nameplate.run.worker", str(os.getpid()), "0"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 70
    assert done.stderr.startswith("bench: unforeseen ValueError: not enough values")


# A run's own ends.


def test_a_run_in_which_every_case_was_skipped_measured_nothing(bench, monkeypatch, make_run, make_record):
    skipped = make_run(make_record(status="skipped"), make_record(status="skipped", case="another"))
    monkeypatch.setattr(nameplate.run.measure, "measure", lambda *_, **__: skipped)
    result = bench("run", "--json")
    assert result.status == 3
    assert '"skipped"' in result.out
    said = "skipped: no such thing here (2 of 2 cases)"
    assert result.err == f"bench: nothing was measured: {said}\n"
    assert f"nothing: {said}" in " ".join(bench("run").out.split())


def test_a_skipped_case_beside_a_measured_one_is_done(bench, monkeypatch, make_run, make_record):
    run = make_run(make_record(), make_record(status="skipped", case="another"))
    monkeypatch.setattr(nameplate.run.measure, "measure", lambda *_, **__: run)
    result = bench("run", "--json")
    assert (result.status, result.err) == (0, "")


def test_failed_and_missing_cases_are_counted(bench, monkeypatch, make_run, make_record):
    run = make_run(make_record(), make_record(status="failed", case="another"), missing=["a third"])
    monkeypatch.setattr(nameplate.run.measure, "measure", lambda *_, **__: run)
    result = bench("run", "--json")
    assert result.status == 3
    assert result.err == "bench: the run is incomplete: 1 failed, 1 without a record, of 3 cases\n"


# A command line that can't be used.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--zzz"], "no such option; got '--zzz'; expected what `bench --help` lists"),
        (["runn"], "no such command; got 'runn'; expected run"),
        (
            ["fleet", "xyzzy"],
            "bench fleet: no such command; got 'xyzzy'; expected what `bench fleet --help` lists",
        ),
        (["run", "--devic", "cpu"], "bench run: no such option; got '--devic'; expected --device"),
        (["run", "--budget", "soon"], "--budget: can't be used; got 'soon'; expected a valid number"),
        (["fleet", "cost", "--draws=x"], "--draws: can't be used; got 'x'; expected a valid integer"),
        (["run", "--budget"], "option '--budget' requires an argument"),
        (
            ["compare", "a"],
            "bench compare: missing argument 'NEW'; expected what `bench compare --help` lists",
        ),
        (
            ["merge", "a"],
            "bench merge: missing option '-o' / '--output'; expected what `bench merge --help`",
        ),
        (["compare", "a", "b", "c"], "bench compare: got unexpected extra argument"),
    ],
)
def test_a_command_line_that_cant_be_used_is_2_and_one_sentence(bench, arguments, sentence):
    result = bench(*arguments)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"bench: {sentence}")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("group", [[], ["fleet"]])
def test_without_a_command_the_help_is_printed_and_says_what_lacks(bench, group):
    result = bench(*group)
    assert (result.status, result.out) == (2, "")
    assert "Commands:" in result.err
    assert result.err.splitlines()[-1].endswith("no command was given; expected one of those above")


def test_an_error_that_names_no_parts_is_its_own_sentence(bench, breaks):
    breaks(InputError("not this"))
    assert bench("run")[0::2] == (2, "bench: not this\n")
