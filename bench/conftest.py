"""`pytest bench/`: the suites' cases under pytest-benchmark, with device and software in its report."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import pytest

from nameplate.device.host import set_default_threads
from nameplate.device.protocol import Device
from nameplate.device.survey import open_device
from nameplate.run.job import read_software_versions


def pytest_configure(config: pytest.Config) -> None:
    """Have torch's threads wait as they do in `bench run`, before a suite loads it."""
    settings = ExitStack()
    settings.enter_context(set_default_threads())
    config.add_cleanup(settings.close)


@pytest.fixture(scope="session")
def device() -> Device:
    """The device that `bench run` would choose; NAMEPLATE_DEVICE names another."""
    return open_device(os.environ.get("NAMEPLATE_DEVICE", "auto"))


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, Any]) -> None:
    """Put the device's identity, its part and the software beside pytest-benchmark's own machine facts."""
    opened = open_device(os.environ.get("NAMEPLATE_DEVICE", "auto"))
    machine_info["nameplate"] = {
        "device": opened.name,
        "part": opened.rating.part,
        "evidence": str(opened.rating.evidence),
        "identity": opened.identity.model_dump(mode="json"),
        "software": read_software_versions(),
    }
