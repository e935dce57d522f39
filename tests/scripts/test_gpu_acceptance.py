"""scripts/gpu_acceptance.sh with a `bench` that only says what it was asked: order, limits, and the pack."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.metadata import distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "gpu_acceptance.sh"
pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(
        not all(map(shutil.which, ("bash", "setsid", "tar"))),
        reason="needs bash, setsid and tar: a Linux machine",
    ),
]
# What it was asked, and what the pack held by then; a word on each stream; and what the test wants of it.
BENCH = """#!/usr/bin/env bash
[ "$1" = --version ] && { echo "nameplate 0.0"; exit 0; }
echo "$*" >>"$NOTES/asked"
tar -tzf "$NOTES/../out/gpu-acceptance.tgz" >"$NOTES/packed-before-$1-$2" 2>/dev/null
echo "output of $1"; echo "errors of $1" >&2
[ "$1" = devices ] && echo "{\\"devices\\": [{\\"name\\": \\"$FAKE_DEVICE\\"}]}"
case " $FAKE_HANGS " in *" $2 "*) trap "" TERM; sleep 60 & wait; sleep 60 ;; esac
case " $FAKE_FAILS " in *" $2 "*) exit "$FAKE_STATUS" ;; esac
exit 0
"""
STEPS = [
    *("devices", "fields", "selftest", "quick", "soak", "smoke"),
    *("eight-bit", "attention", "gpu-tests", "again", "sensitivity", "bare", "standard"),
]


@pytest.fixture
def start(tmp_path):
    """Start the script with a bench of that name on PATH; returns the process."""
    notes, tools = tmp_path / "notes", tmp_path / "tools"
    notes.mkdir()
    tools.mkdir()
    fake = tools / "bench"
    fake.write_text(BENCH)
    fake.chmod(0o755)
    # The tests of a GPU are not to be run from a test.
    (tools / "no-pytest").write_text('#!/bin/sh\n[ "$2" = "import pytest" ] && exit 1\nexec true\n')
    (tools / "no-pytest").chmod(0o755)

    def run(*arguments, limits=100, **fake):
        known = {"FAKE_DEVICE": "cuda:0", "FAKE_HANGS": "", "FAKE_FAILS": "", "FAKE_STATUS": "1"} | fake
        environment = {
            **os.environ,
            **known,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "NOTES": str(notes),
            "PYTHON": str(tools / "no-pytest"),
            "GPU_ACCEPTANCE_LIMITS": str(limits),
        }
        environment.pop("BENCH", None)
        return subprocess.Popen(
            ["bash", str(SCRIPT), *map(str, arguments), "--out", str(tmp_path / "out")],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return run


@pytest.fixture
def ended(start):
    """Run the script to its end; returns exit status, output and errors."""

    def run(*arguments, **options):
        process = start(*arguments, **options)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    return run


def steps_of(out):
    """The name of each step that the summary tells of, and what it tells."""
    lines = [line for line in out.splitlines() if line.startswith("[")]
    return {line[1 : line.index("]")]: line[line.index("]") + 2 :] for line in lines}


def test_steps_come_by_their_value_each_with_its_logs_and_packed_before_the_next(ended, tmp_path):
    status, out, _ = ended(3000)
    assert status == 0, out
    assert list(steps_of(out)) == ["machine", *STEPS]
    asked = (tmp_path / "notes" / "asked").read_text().splitlines()
    runs = f"--device cuda --results {tmp_path / 'out' / 'work' / 'runs'}"
    assert asked[:10] == [
        "devices --json",
        f"selftest --on cuda --json --twin {tmp_path / 'out' / 'work' / 'twin.toml'}",
        f"run quick {runs}",
        f"run soak --budget 45 {runs}",
        f"run smoke {runs}",
        f"run --shape 8192x8192x8192 --dtype fp8_e4m3,int8 --budget 45 {runs}",
        f"run attention --only */4x4096x32x8x128-causal-* --budget 45 {runs}",
        f"run quick {runs}",
        f"run sensitivity --budget 45 {runs}",
        "selftest --bare --device cuda --budget 15",
    ]
    assert asked[10].startswith("run standard --budget ")
    for step, before in (("selftest---on", "devices"), ("run-quick", "selftest"), ("run-soak", "quick")):
        packed = (tmp_path / "notes" / f"packed-before-{step}").read_text().split()
        assert {f"work/{before}.out", f"work/{before}.log", "work/summary.txt"} <= set(packed)
    with tarfile.open(tmp_path / "out" / "gpu-acceptance.tgz") as pack:
        names = set(pack.getnames())
        summary = pack.extractfile("work/summary.txt").read().decode()
    assert {f"work/{step}.out" for step in STEPS if step != "gpu-tests"} <= names
    assert "[bare] done" in summary
    work = tmp_path / "out" / "work"
    assert (work / "quick.out").read_text() == "output of run\n"
    assert (work / "quick.log").read_text() == "errors of run\n"


@pytest.mark.long
def test_a_step_that_hangs_is_ended_with_what_it_started_and_the_others_go_on(ended, tmp_path):
    begin = time.monotonic()
    status, out, _ = ended(3000, limits=1, FAKE_HANGS="quick")
    assert status == 3
    told = steps_of(out)
    assert told["quick"].startswith("ended after its limit of 3 s")
    assert told["selftest"].startswith("done")
    assert told["soak"].startswith("done")
    assert time.monotonic() - begin < 40
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


@pytest.mark.long
def test_a_failed_check_ends_with_1_and_a_broken_step_with_3(ended):
    status, out, _ = ended(3000, FAKE_FAILS="--on", FAKE_STATUS="1")
    assert status == 1
    assert "a check failed" in steps_of(out)["selftest"]
    status, out, _ = ended(3000, FAKE_FAILS="quick", FAKE_STATUS="70")
    assert status == 3
    assert steps_of(out)["quick"].startswith("exit status 70")


@pytest.mark.long
def test_with_little_time_the_steps_of_least_value_are_skipped(ended, tmp_path):
    status, out, _ = ended(75)
    assert status == 3
    told = steps_of(out)
    assert told["selftest"].startswith("done")
    assert "skipped" not in told["quick"]
    assert "skipped: " in told["standard"]
    assert (tmp_path / "out" / "gpu-acceptance.tgz").exists()


def test_where_time_comes_in_pieces_the_second_call_has_the_steps_that_are_left(ended, tmp_path):
    status, out, _ = ended(3000, "--steps", "again,bare")
    assert status == 0
    assert list(steps_of(out)) == ["machine", "devices", "fields", "again", "bare"]
    asked = (tmp_path / "notes" / "asked").read_text().splitlines()
    assert [each.split()[0] for each in asked] == ["devices", "run", "selftest"]


def test_the_pack_goes_where_it_is_wanted_and_nothing_else_does(ended, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    status, out, _ = ended(3000, "--pack", tmp_path / "elsewhere" / "all.tgz")
    assert status == 0
    assert f"packed into {tmp_path}/elsewhere/all.tgz" in out
    (only,) = (tmp_path / "elsewhere").iterdir()
    with tarfile.open(only) as pack:
        assert "work/standard.out" in pack.getnames()


def test_ended_by_a_signal_it_leaves_the_pack_and_no_process(start, tmp_path):
    process = start(3000, FAKE_HANGS="quick")
    asked = tmp_path / "notes" / "asked"
    for _ in range(300):
        if asked.exists() and "run quick" in asked.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _err = process.communicate(timeout=20)
    assert process.returncode == 3
    assert "ended by a signal" in out
    with tarfile.open(tmp_path / "out" / "gpu-acceptance.tgz") as pack:
        assert {"work/selftest.out", "work/quick.log"} <= set(pack.getnames())
        assert b"ended by a signal" in pack.extractfile("work/summary.txt").read()
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in left


def test_without_a_gpu_it_is_a_sentence_and_exit_2(ended, tmp_path):
    status, out, _ = ended(3000, FAKE_DEVICE="cpu")
    assert status == 2
    assert out.splitlines()[-1].startswith("no GPU that torch can use is here")
    asked = (tmp_path / "notes" / "asked").read_text().splitlines()
    assert asked == ["devices --json"]


@pytest.mark.long
def test_on_a_cpu_it_is_a_dry_run(ended, tmp_path):
    status, out, _ = ended(3000, "--device", "cpu", FAKE_DEVICE="cpu")
    assert status == 0
    asked = (tmp_path / "notes" / "asked").read_text().splitlines()
    assert asked[1] == "selftest --on cpu --json"
    assert all("--device cpu" in each for each in asked[2:])
    assert "left out" in steps_of(out)["gpu-tests"]


@pytest.mark.long
def test_on_a_twin_it_is_a_rehearsal(ended, tmp_path):
    status, out, _ = ended(3000, "--device", "twin:h200", FAKE_DEVICE="cpu")
    assert status == 0
    said = "a rehearsal on twin:h200: nothing was measured, and every figure is simulated"
    assert [line for line in out.splitlines() if line == said] == [said] * 2
    assert (tmp_path / "out" / "work" / "summary.txt").read_text().startswith(said)
    asked = (tmp_path / "notes" / "asked").read_text().splitlines()
    assert asked[1].startswith("selftest --on twin:h200 --json --twin ")
    assert all("--device twin:h200" in each for each in asked[2:])
    assert not any("--bare" in each for each in asked)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("soon",),
        ("0",),
        ("-5",),
        ("600", "900"),
        ("600", "--device"),
        ("600", "--device", "tpu"),
        ("600", "--wheels", "/nowhere"),
        ("600", "--pack", "/nowhere/pack.tgz"),
        ("600", "--fast"),
        ("600", "--steps", "quick,quack"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence(arguments, tmp_path):
    ended = subprocess.run(
        ["bash", str(SCRIPT), *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "expected SECONDS [--device" in ended.stderr
    assert not list(tmp_path.iterdir())


def test_a_checkout_that_nobody_installed_is_used_as_it_is(tmp_path):
    """The source alone, under a Python that has what it needs: suites are found, and brought wheels."""
    checkout = tmp_path / "checkout"
    (checkout / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, checkout / "scripts")
    shutil.copy(ROOT / "pyproject.toml", checkout)
    for folder in ("src", "kernels", "bench"):
        (checkout / folder).symlink_to(ROOT / folder)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought.py", "")
        for name, version in (("torch", "2.11.0"), ("rich", "13.6")):
            text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            wheel.writestr(f"{name}-{version}.dist-info/METADATA", text)
    folders = os.environ["PATH"].split(os.pathsep)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(each for each in folders if not Path(each, "bench").exists()),
        "PYTHON": sys.executable,
    }
    environment.pop("BENCH", None)
    script = str(checkout / "scripts" / "gpu_acceptance.sh")

    def run(python):
        return subprocess.run(
            ["bash", script, "1", "--device", "cpu", "--out", "out", "--wheels", str(wheels)],
            cwd=tmp_path,
            env=environment | {"PYTHON": str(python)},
            capture_output=True,
            text=True,
            check=False,
        )

    ended = run(sys.executable)
    assert ended.returncode == 3, ended.stdout + ended.stderr  # no step fits a second
    assert all(told.startswith("skipped: ") for told in list(steps_of(ended.stdout).values())[:5])
    site = tmp_path / "out" / "site"
    assert (site / "brought.py").exists()
    found = next(each for each in distributions(path=[str(site)]) if each.metadata["Name"] == "nameplate")
    assert {each.name for each in found.entry_points if each.group == "nameplate.suites"} >= {"quick", "soak"}
    # Under a Python without packages all that it lacks is said at once, and how to bring it.
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    ended = run(bare)
    assert ended.returncode == 2
    lacks, bring, last = ended.stdout.splitlines()[-3:]
    assert lacks.startswith(
        "this Python lacks nvidia-ml-py, numpy, pandas, scipy, typer, rich 13.7 (it has 13.6), "
    )
    assert lacks.endswith("psutil, pydantic")
    assert "pip download" in bring
    assert bring.endswith(
        "-d wheels nvidia-ml-py numpy pandas scipy typer rich psutil pydantic; then here: --wheels wheels"
    )
    assert last.startswith("bench doesn't start")
    ended = run(tmp_path / "no-python")
    assert ended.returncode == 2
    assert "isn't a Python of 3.11 or newer" in ended.stdout.splitlines()[-1]
