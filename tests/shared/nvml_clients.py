"""The first GPU of the scenarios, a client that reads it, and the processes that clients start."""

import psutil

from nameplate.telemetry.nvml import NvmlClient

UUID = "GPU-a8000000-0000-4000-8000-00000000000{}"
FIRST = UUID.format(0)


def read_first(*, own_pids=None):
    """Facts and a reading of the first GPU."""
    with NvmlClient() as nvml:
        facts = nvml.gpus()[0]
        assert facts.uuid is not None
        return facts, nvml.reading(facts.uuid, own_pids)


def list_workers(parent):
    """The NVML processes that a process has started, zombies too."""
    return [one for one in parent.children() if _is_worker(one)]


def _is_worker(process):
    try:
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return zombie or "nameplate.telemetry.nvml_worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return False
