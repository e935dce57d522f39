"""The CPUs and the memory next to a GPU: which NUMA node it hangs on, and the binding of a process to it.

On a node with several GPUs each process otherwise runs wherever the scheduler puts it. Then launches, and the
pages that a process touches first, may lie across the link between two sockets: for some GPUs and not for
others, and differently from run to run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nameplate.device.identity import CudaIdentity, Identity
from nameplate.device.system_files import parse_cpu_list, read_integer, read_text

ROOT = Path("/")
# What a GPU's process keeps busy: Python, which launches; torch's thread of the backward pass; and the
# processes that sample NVML and the host. With fewer CPUs they may wait for each other, which can cost more
# than a far node does.
_CPUS_A_GPU = 4
_BUS_ID = re.compile(r"([0-9a-f]+):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])")


def read_node(pci_bus_id: str | None, root: Path = ROOT) -> int | None:
    """Return the NUMA node of the PCI device; None where the kernel doesn't know, or there is but one.

    NVML writes the domain with eight digits (00000000:3B:00.0), sysfs with four (0000:3b:00.0).
    """
    match = _BUS_ID.fullmatch((pci_bus_id or "").lower())
    if match is None:
        return None
    domain, bus, device, function = match.groups()
    name = f"{int(domain, 16):04x}:{bus}:{device}.{function}"
    node = read_integer(root / "sys/bus/pci/devices" / name / "numa_node")
    return None if node is None or node < 0 else node  # -1: the firmware doesn't tell


def read_cpus(node: int, root: Path = ROOT) -> frozenset[int]:
    """Return the CPUs of a NUMA node; none for one of memory alone, or that isn't there."""
    text = read_text(root / "sys/devices/system/node" / f"node{node}" / "cpulist")
    return parse_cpu_list(text) or frozenset()


def bind_to_gpu(device: Identity | None, measured: Sequence[Identity], root: Path = ROOT) -> int | None:
    """Bind this process to the CPUs of a GPU's NUMA node, where several GPUs are measured; return the node.

    None, and no binding, for a single GPU or a CPU, where the node isn't known, and where this process may
    use fewer than four of its CPUs for each measured GPU there. To be called before torch is loaded: its
    threads keep what they were started with.
    """
    several = sum(isinstance(each, CudaIdentity) for each in measured) > 1
    if not several or not isinstance(device, CudaIdentity):
        return None
    node = read_node(device.pci_bus_id, root)
    if node is None:
        return None
    nodes = [read_node(each.pci_bus_id, root) for each in measured if isinstance(each, CudaIdentity)]
    with suppress(OSError, AttributeError):  # a system without affinity
        cpus = read_cpus(node, root) & os.sched_getaffinity(0)
        if len(cpus) >= _CPUS_A_GPU * max(nodes.count(node), 1):
            os.sched_setaffinity(0, cpus)
            return node
    return None
