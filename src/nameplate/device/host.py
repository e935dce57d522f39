"""Reads a host's processors, cores, caches and limits from the operating system; sets its default threads.

The readers of files take a root folder, so that a test can pass a recorded machine. Cores and caches are
read in `topology.py`, limits in `limits.py`, the text of /proc/cpuinfo in `cpuinfo.py`, and what the firmware
says in `firmware.py`.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from nameplate.device import firmware
from nameplate.device.cpuinfo import parse_cpuinfo
from nameplate.device.limits import read_cgroup_cpus, read_cgroup_memory
from nameplate.device.system_files import read_line, read_sysctl, read_text
from nameplate.device.topology import Cores, read_caches, read_cores, read_maximum_mhz
from nameplate.specs.cpu import find_boost
from nameplate.specs.cpu_evidence import CpuEvidence
from nameplate.specs.cpu_products import find_product

__all__ = [
    "Cores",
    "detect_virtual_machine",
    "parse_cpuinfo",
    "read_boot",
    "read_caches",
    "read_cgroup_cpus",
    "read_cgroup_memory",
    "read_cores",
    "read_maximum_mhz",
    "read_processor",
    "read_product",
    "read_thread_settings",
    "set_default_threads",
]

ROOT = Path("/")
_SETTINGS = (
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "GOMP_SPINCOUNT",
    "GOMP_CPU_AFFINITY",
    "KMP_BLOCKTIME",
    "KMP_AFFINITY",
    "MKL_NUM_THREADS",
    "MKL_DYNAMIC",
    "OPENBLAS_NUM_THREADS",
    "OPENBLAS_THREAD_TIMEOUT",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
)


def read_boot(root: Path = ROOT) -> str | None:
    """Return what names this boot of the machine; None where the system doesn't tell. Containers share it."""
    return read_line(root / "proc/sys/kernel/random/boot_id")


def read_processor(root: Path = ROOT) -> CpuEvidence:
    """Read the processor. On a system that says nothing, every field is None or empty.

    Where the kernel prints no model name (Arm), it is the one that the firmware's words stand for.
    """
    if platform.system() == "Darwin":
        return CpuEvidence(name=read_sysctl("machdep.cpu.brand_string") or "", vendor="Apple")
    text = read_text(root / "proc/cpuinfo")
    processor = parse_cpuinfo(text) if text else CpuEvidence()
    if processor.name:
        return processor
    return replace(processor, name=_find_name(processor, root))


def _find_name(processor: CpuEvidence, root: Path) -> str:
    own = firmware.read_processor_name(root)
    if own is not None and find_boost(own) is not None:
        return own
    return find_product(processor, (*firmware.read_texts(root), own or "")) or own or ""


def detect_virtual_machine(processor: CpuEvidence, root: Path = ROOT) -> bool | None:
    """Return whether this is a virtual machine; None where nothing tells.

    On x86 a flag tells, of which hypervisors that want to be unseen leave guests none. Arm has no such flag.
    """
    mac = read_sysctl("kern.hv_vmm_present")
    if mac is not None:
        return mac == "1"
    if "hypervisor" in processor.flags:
        return True
    told = firmware.is_virtual(root)
    if told is None and processor.family is not None and processor.flags:
        return False
    return told


def read_product(root: Path = ROOT) -> str | None:
    """Return what the firmware calls this machine; None where it says nothing."""
    return firmware.read_product(root)


def read_thread_settings() -> dict[str, str]:
    """Return the environment variables that are set and change how math libraries thread or spin."""
    return {name: os.environ[name] for name in _SETTINGS if name in os.environ}


# GOMP_SPINCOUNT: by default a thread that waits for a slower one spins so long that, once other processes use
# the cores, its CPU time no longer measures the work. With this bound, FLOPs per CPU second stay within a few
# per cent of those on an idle machine, and a 1024³ product on an idle machine isn't measurably slower;
# docs/validation.md has the figures. OPENBLAS_NUM_THREADS: numpy brings a second BLAS, whose threads would
# spin while torch's work.
_DEFAULT_SETTINGS = {"GOMP_SPINCOUNT": "10000", "OPENBLAS_NUM_THREADS": "1"}
# Where the user has set the variable on the right, the library would still follow our default on the left.
_SET_BY_USER = {"GOMP_SPINCOUNT": "OMP_WAIT_POLICY"}


@contextmanager
def set_default_threads() -> Iterator[None]:
    """Set how math libraries of the processes started inside thread and wait, unless the user has set it.

    Libraries read these variables when they are loaded, so they must be in the environment that a measuring
    process inherits. The environment is restored on exit. The run's manifest has the settings in force
    (`identity.thread_settings`).
    """
    added = {
        name: value
        for name, value in _DEFAULT_SETTINGS.items()
        if name not in os.environ and _SET_BY_USER.get(name, name) not in os.environ
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
