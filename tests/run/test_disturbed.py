"""What others do while a run is measured: readers that leave, observers that raise, folders that go."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import tempfile

import pytest

from nameplate.base.errors import RunIncomplete
from nameplate.base.messages import message
from nameplate.report.media import progress
from nameplate.report.media.progress import LiveProgress
from nameplate.run.job import WorkerStatus
from nameplate.store.folder import RecordWriter, read_run
from simulated_runs import Simulated, Watcher, Work, ids


def unread_pipe():
    """A pipe that takes nothing more and that nobody reads: a pager at its first page, a held terminal."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 4096)
    os.set_blocking(writing, True)
    return os.fdopen(writing, "w", encoding="utf-8"), reading


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w", encoding="utf-8"), None


def full_device():
    return open("/dev/full", "w", encoding="utf-8"), None


@pytest.mark.parametrize("stream", [closed_pipe, full_device, unread_pipe])
def test_a_standard_error_that_takes_nothing_stops_no_run(execute, monkeypatch, stream):
    standard_error, reading = stream()
    monkeypatch.setattr(sys, "stderr", standard_error)
    monkeypatch.setattr(progress, "_LAST_LINES_S", 0.1)
    with LiveProgress() as live:
        run = execute([Work(shape) for shape in "abc"], observer=live)
    assert run.finished
    assert [record.status for record in run.records] == ["ok"] * 3
    assert live.folder == run.folder
    if reading is not None:
        os.close(reading)  # whoever still writes is let go
    with contextlib.suppress(OSError):
        standard_error.close()


def test_an_observer_that_raises_is_told_nothing_more_and_the_run_goes_on(execute):
    class Broken(Watcher):
        def case_finished(self, record):
            super().case_finished(record)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    watcher = Broken()
    with pytest.warns(RuntimeWarning, match="raised OSError.*No space left.*the run goes on"):
        run = execute([Work("a", group="a"), Work("b", group="b")], observer=watcher)
    assert run.finished
    assert [kind for kind, *_ in watcher.seen] == ["run", "start", "finish"]


def test_a_stop_costs_what_was_in_hand_which_is_drawn_anew_and_in_turn(execute):
    """A process that was stopped and continued ends; so do all where the whole run was (`test_pool`)."""

    class StoppedOnce(Simulated):
        def time_batch(self, launches, **how):
            if launches[0].work.shape == "c" and not self.stops:
                self.stops += 1
                raise SystemExit(WorkerStatus.STOPPED)
            return super().time_batch(launches, **how)

    device = StoppedOnce()
    device.stops = 0
    run = execute([Work("a", group="1"), Work("b", group="2"), Work("c", group="2")], device=device)
    assert [record.status for record in run.records] == ["ok"] * 3
    assert run.records[1].group == run.records[2].group
    assert run.manifest.incidents == (message("process_paused", device="simulated"),)
    assert len(execute.jobs) == 2


def remove_folder(folder):
    shutil.rmtree(folder)


def remove_manifest(folder):
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize("remove", [remove_folder, remove_manifest])
@pytest.mark.parametrize("after", ["a", "c"])
def test_a_run_that_is_removed_while_it_is_measured_is_told_and_written_elsewhere(
    execute, tmp_path, monkeypatch, remove, after
):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))

    class Remove(Watcher):
        def group_started(self, cases):
            pass

        def case_finished(self, record):
            if record.shape == after:
                remove(self.folder)

    works = [Work(shape, group=shape) for shape in "abc"]
    with pytest.raises(RunIncomplete, match="were written to another folder: bench run --resume ") as told:
        execute(works, observer=Remove())
    (found,) = elsewhere.glob("*/*/")
    assert str(told.value).endswith(f" {found}")
    saved = read_run(found)
    assert [record.case for record in saved.records] == ids(*("a" if after == "a" else "abc"))
    assert saved.finished == (after == "c")
    assert execute(works, resume=str(found)).finished


def test_a_record_that_a_full_disk_refuses_is_written_elsewhere(execute, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    write = RecordWriter.write

    def refuse(writer, record):
        if record.shape == "b" and not str(writer._file.name).startswith(str(elsewhere)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, record)

    monkeypatch.setattr(RecordWriter, "write", refuse)
    with pytest.raises(RunIncomplete, match="all 2 records were written to another folder"):
        execute([Work(shape, group=shape) for shape in "abc"])
    (found,) = elsewhere.glob("*/*/")
    assert [record.case for record in read_run(found).records] == ids("a", "b")


def test_where_nothing_takes_a_record_the_disks_own_sentence_is_told(execute, monkeypatch):
    """No temporary folder either: the error of that would hide the one that a reader needs."""
    write = RecordWriter.write

    def refuse(writer, record):
        if record.shape == "b":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(writer, record)

    monkeypatch.setattr(RecordWriter, "write", refuse)
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    run = execute([Work(shape, group=shape) for shape in "abc"])
    assert [record.case for record in run.records] == ids("a")
    assert any("No space left on device" in str(problem) for problem in run.problems)


def test_telemetry_that_ended_while_a_case_was_measured_is_a_warning_of_it(execute):
    device = Simulated()
    device.telemetry_lost = message("watcher_ended", name="the host sampler", status=-9)
    run = execute([Work("a"), Work("b", breaks=RuntimeError("x"))], device=device)
    (warning,) = map(str, run.records[0].warnings)
    assert warning.startswith(
        "telemetry ended while the device was measured (the host sampler's process ended (exit status -9)): "
    )
    assert not run.records[1].warnings
