"""Each case in several processes that a worker forks; what one costs that dies, hangs or is stopped."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import nameplate.run.measure
import nameplate.suite
from nameplate.base.errors import InputError
from nameplate.base.processes import python_command, run_to_end
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.device.survey import DeviceChoice
from nameplate.engine.case_run import ContextLost
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_in_processes
from nameplate.engine.pilot import Prediction
from nameplate.engine.runner import GroupTask
from nameplate.run import child, forks
from nameplate.run.child import Learned
from nameplate.run.deadlines import GRACE_VARIABLE, StepNotes
from nameplate.run.job import WorkerJob
from nameplate.run.measure import measure
from nameplate.run.pool import run_workers
from nameplate.store.folder import Run
from nameplate.suite import Case

HERE = Path(__file__).parent


@pytest.fixture
def sick(monkeypatch, tmp_path):
    """Measure with the processes of sick_processes.py; returns the run and what each of them wrote."""
    spec = importlib.util.spec_from_file_location("sick_processes", HERE / "sick_processes.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "sick_processes", module)  # dataclasses look it up there
    spec.loader.exec_module(module)
    (tmp_path / "folder").mkdir()

    def command(job):
        return python_command("sick_processes", job.model_dump_json())

    def run(trouble):
        paths = (str(HERE), str(HERE.parent / "shared"), os.environ.get("PYTHONPATH", ""))
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
        monkeypatch.setenv("FOLDER", str(tmp_path / "folder"))
        monkeypatch.setenv("TROUBLE", trouble)
        monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: module.SUITE)
        measuring = nameplate.run.measure
        monkeypatch.setattr(measuring, "choose_devices", lambda flag: DeviceChoice(["cpu"]))
        monkeypatch.setattr(measuring, "describe", lambda name, begun=None: module.device)
        monkeypatch.setattr(measuring, "run_workers", partial(run_workers, command=command))
        return measure("fake", results=tmp_path / "runs", budget=30.0), opened(tmp_path / "folder")

    return run


def opened(folder):
    """Return the process ids of who opened the device, and of their workers, in order."""
    return [tuple(map(int, line.split())) for line in (folder / "opened").read_text().splitlines()]


def is_alive(pid):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def processes_of(record):
    return sorted({batch.process for batch in record.batches})


def check_only_b_is_lost(run, processes, why):
    a, b, c = sorted(run.records, key=lambda record: record.shape)
    assert (a.status, processes_of(a)) == ("ok", [1, 2, 3])
    assert (c.status, processes_of(c)) == ("ok", [1, 2, 3])
    assert b.status == "failed"
    assert why in str(b.reason)
    assert run.finished
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s and any(map(is_alive, sum(processes, ()))):
        time.sleep(0.05)
    assert not any(map(is_alive, sum(processes, ())))  # neither a measuring process nor a worker is left


@pytest.mark.process
@pytest.mark.nightly
def test_one_that_dies_in_the_second_process_loses_its_case_alone(sick):
    run, processes = sick("dies")
    check_only_b_is_lost(run, processes, "signal SIGSEGV")
    # The group's processes until it died; then a, b and c, each in a worker or the next.
    assert len(processes) == len({pid for pid, _ in processes})
    assert len({worker for _, worker in processes}) == 3


@pytest.mark.process
@pytest.mark.nightly
@pytest.mark.parametrize(
    ("trouble", "why"),
    [("ends", "exit status 70"), ("hangs", "no sign of life"), ("context", "illegal memory access")],
)
def test_one_that_ends_hangs_or_loses_its_context_costs_its_case_alone(sick, monkeypatch, trouble, why):
    monkeypatch.setenv(GRACE_VARIABLE, "3")
    run, processes = sick(trouble)
    check_only_b_is_lost(run, processes, why)


@pytest.mark.process
@pytest.mark.nightly
def test_what_a_stop_interrupted_is_measured_anew_in_all_processes(sick):
    run, processes = sick("stopped")
    assert [record.status for record in run.records] == ["ok"] * 3
    assert {tuple(processes_of(record)) for record in run.records} == {(1, 2, 3)}
    assert run.finished
    assert len({worker for _, worker in processes}) == 2


# ---- one worker, in this process; those that measure are real ones ----


class Ended(BaseException):
    """How the worker would have ended."""


class Watched(SimulatedDevice):
    """A device whose launches may get their process into trouble."""

    trouble = staticmethod(lambda: None)

    def time_batch(self, launches, **how):
        self.trouble()
        return super().time_batch(launches, **how)


@pytest.fixture
def worker(monkeypatch, make_manifest, tmp_path):
    """Make a runner whose processes measure a simulated device: `worker(trouble)`, a function they call."""
    monkeypatch.setattr(forks, "why_not_fork", lambda: None)  # pytest's threads sleep meanwhile
    monkeypatch.setattr(forks, "prepare_copies", lambda *_: None)
    monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: None)

    def end(status):
        raise Ended(status)

    monkeypatch.setattr(forks, "_die_of", lambda number: end(-number))
    monkeypatch.setattr(forks, "_end", end)

    def make(trouble=lambda: None, opening=lambda known: None):
        device = Watched(make_steady(1e-3, 0.02), name="cpu")
        device.trouble = trouble
        case = Case(SimulatedWork(device, 10**9))

        def opened(name, begun, known):
            opening(known)
            return device

        monkeypatch.setattr(child, "open_device", opened)
        monkeypatch.setattr(child, "cases_of_run", lambda run, device: [case])
        run = Run(tmp_path, make_manifest([case.id]), (), (), False)
        job = WorkerJob(folder=tmp_path, device="cpu", budget_s=None)
        runner = forks.InFreshProcesses(job, run, StepNotes(None, 60.0), lambda: None)
        return runner, [case]

    return make


AMPLE = Allowance(share_s=3.0, limit_s=30.0)


def test_a_record_is_made_of_what_several_processes_found(worker, tmp_path):
    seen = tmp_path / "seen"

    def opening(known):
        with seen.open("a") as file:
            print(os.getpid(), None if known is None else known.name, file=file)

    runner, cases = worker(opening=opening)
    (record,) = measure_in_processes(cases, runner, AMPLE, processes=3)
    assert record.status == "ok"
    assert record.tflops == pytest.approx(1.0, rel=0.02)
    assert processes_of(record) == [1, 2, 3]
    lines = [line.split() for line in seen.read_text().splitlines()]
    assert len({pid for pid, _ in lines}) == 3
    assert str(os.getpid()) not in {pid for pid, _ in lines}
    # Only the first reads what the device is.
    assert [name for _, name in lines] == ["None", "cpu", "cpu"]
    assert (runner.device.kind, runner.device.cores) == ("simulated", 2.0)


def test_what_one_process_learned_the_next_is_told(worker, monkeypatch):
    runner, cases = worker()
    learned = Learned({("matmul", "fp32", "1", "normal"): Prediction(1.0, 2.0)}, {"fp32": None})
    runner._learned = learned
    runner.measure(GroupTask("1", cases, AMPLE))
    assert runner._learned == learned


def lose_context():
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def test_a_lost_context_is_told_with_its_case(worker, monkeypatch):
    monkeypatch.setattr(SimulatedDevice, "is_working", lambda self: False)
    runner, cases = worker(lose_context)
    with pytest.raises(ContextLost, match="illegal memory access") as caught:
        runner.measure(GroupTask("1", cases, AMPLE))
    assert caught.value.case == cases[0].id


def refuse(known):
    raise InputError("no such GPU", where="--device", got="cuda:9")


def test_a_device_that_is_refused_refuses_the_worker(worker):
    with pytest.raises(InputError, match="--device: no such GPU; got 'cuda:9'"):
        worker(opening=refuse)


@pytest.mark.parametrize(
    ("trouble", "status"),
    [
        (lambda: os.kill(os.getpid(), signal.SIGKILL), -9),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), -15),
        (lambda: os._exit(5), 5),
        (lambda: os._exit(0), 70),
        (lambda: sys.exit(7), 7),
    ],
    ids=["killed", "terminated", "exits", "exits as if all were well", "SystemExit"],
)
def test_a_worker_ends_as_its_process_did(worker, trouble, status):
    runner, cases = worker(trouble)
    with pytest.raises(Ended) as caught:
        runner.measure(GroupTask("1", cases, AMPLE))
    assert caught.value.args == (status,)


@pytest.mark.nightly
def test_a_process_is_waited_for_by_one_that_looks_for_its_own_parent(worker):
    looked = []
    runner, cases = worker(lambda: time.sleep(0.05))
    runner._while_waiting = lambda: looked.append(time.monotonic())
    runner.measure(GroupTask("1", cases, Allowance(0.5, 5.0)))
    assert looked


@pytest.mark.process
@pytest.mark.nightly
def test_a_worker_that_has_loaded_torch_and_its_suite_may_fork():
    """Loading starts no threads; what computes does."""
    code = """
        import nameplate.run.worker, torch
        from nameplate.run.forks import why_not_fork
        from nameplate.suite import find_suite
        from nameplate.device.kernels import load_naming
        find_suite("standard")
        load_naming()
        print(why_not_fork())
        torch.set_num_threads(2)
        torch.mm(torch.ones(512, 512), torch.ones(512, 512))
        print(why_not_fork())
    """
    lines = "\n".join(line.strip() for line in code.splitlines())
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "2"}
    said = run_to_end((sys.executable, "-c", lines), env=environment, deadline_s=120.0)
    assert said.stdout.splitlines()[0] == "None"
    assert said.stdout.splitlines()[1].endswith("threads run")


NEVER_FORKS = """
import nameplate.run.forks, nameplate.run.worker
nameplate.run.forks.why_not_fork = lambda: "a test's own"
nameplate.run.worker.main()
"""


@pytest.mark.process
@pytest.mark.nightly
def test_where_it_cant_fork_new_pythons_measure_and_that_time_counts(monkeypatch, tmp_path):
    def command(job):
        return (sys.executable, "-c", NEVER_FORKS, job.model_dump_json())

    monkeypatch.setattr(nameplate.run.measure, "run_workers", partial(run_workers, command=command))
    run = measure("smoke", device="cpu", only="matmul/fp32/*", budget=90.0, results=tmp_path)
    (record,) = run.records
    assert record.status == "ok"
    assert record.verification.passed
    assert "bits_changed" not in record.warning_codes
    assert processes_of(record) == list(range(1, record.processes + 1))
    assert record.processes > 1  # 90 s hold several new Pythons even on a busy machine


@pytest.mark.parametrize(
    ("threads", "file", "why"),
    [
        (1, "nothing", None),
        (3, "nothing", "3 threads run"),
        (1, "nvidiactl", "CUDA has started"),
        (None, "nothing", "threads can be counted on Linux alone"),
    ],
)
def test_a_process_with_threads_or_cuda_is_not_forked(monkeypatch, tmp_path, threads, file, why):
    tasks, descriptors = tmp_path / "task", tmp_path / "fd"
    descriptors.mkdir()
    (tmp_path / file).touch()
    (descriptors / "7").symlink_to(tmp_path / file)
    if threads is not None:
        tasks.mkdir()
    for number in range(threads or 0):
        (tasks / str(number)).touch()
    monkeypatch.setattr(forks, "_THREADS", str(tasks))
    monkeypatch.setattr(forks, "_DESCRIPTORS", str(descriptors))
    monkeypatch.setattr(forks, "_CUDA_FILES", (str(tmp_path / "nvidia"),))
    assert forks.why_not_fork() == why
