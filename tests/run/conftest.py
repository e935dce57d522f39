"""Runs of made-up cases, measured by the real engine on a simulated device."""

from __future__ import annotations

import pytest

import nameplate.run.job
import nameplate.run.measure
import nameplate.run.worker
import nameplate.suite
from nameplate.run.measure import measure
from nameplate.suite import Case, Suite
from simulated_runs import Simulated, three_groups


@pytest.fixture
def execute(monkeypatch, simulate, tmp_path):
    """Measure made-up cases on a made-up device: `execute(cases, …)`, the rest as `measure`'s arguments."""

    def run(works=None, *, aim_s=60.0, device=None, dies_early_at_start=None, **arguments):
        if works is not None:
            cases = [Case(work, weight=work.weight, group=work.group) for work in works]
            suite = Suite("fake", "a test's own", aim_s, lambda target: cases)
            monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: suite)
        devices = device if isinstance(device, list) else [device or Simulated()]
        run.jobs = simulate(*devices)
        opened = nameplate.run.worker.open_device

        def opening(name, begun):
            if len(run.jobs) == dies_early_at_start:
                raise SystemExit(-9)
            device = opened(name, begun)
            device.broken = False
            return device

        monkeypatch.setattr(nameplate.run.worker, "open_device", opening)
        arguments.setdefault("suite", "fake" if arguments.get("resume") is None else None)
        return measure(results=tmp_path, **arguments)

    return run


@pytest.fixture
def broken_off(execute, tmp_path):
    """A run of three groups, interrupted in the second; and what measures the rest of it."""
    with pytest.raises(KeyboardInterrupt):
        execute(three_groups(interrupted="d"), nominal={"fp32": 8.0}, only="matmul/*")
    (folder,) = tmp_path.iterdir()

    def go_on(device=None, **arguments):
        return execute(three_groups(), device=device, resume=str(folder), **arguments)

    return folder, go_on
