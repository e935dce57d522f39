"""The NUMA node of a GPU, and the binding of its process to it, on recorded file systems."""

from __future__ import annotations

import os

import pytest

from nameplate.device import numa
from nameplate.device.identity import CudaIdentity, SimulatedIdentity
from nameplate.device.numa import bind_to_gpu, read_cpus, read_node


@pytest.fixture
def root(tmp_path):
    """A machine of two sockets, a GPU on each; a third GPU whose node the firmware doesn't tell."""
    files = {
        "sys/bus/pci/devices/0000:3b:00.0/numa_node": "0\n",
        "sys/bus/pci/devices/0000:d8:00.0/numa_node": "1\n",
        "sys/bus/pci/devices/10000:01:00.0/numa_node": "-1\n",
        "sys/devices/system/node/node0/cpulist": "0-3,8-11\n",
        "sys/devices/system/node/node1/cpulist": "4-7,12-15\n",
        "sys/devices/system/node/node2/cpulist": "\n",  # memory alone, as on a GH200
        "sys/bus/pci/devices/0000:e0:00.0/numa_node": "2\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def bound(monkeypatch):
    """Stand in for a process that may use CPUs 0 to 11; keeps what it is bound to."""
    calls = []
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(12)))
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cpus: calls.append(sorted(cpus)))
    return calls


def gpu(bus_id, index=0):
    return CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=index, pci_bus_id=bus_id)


FIRST, SECOND = gpu("00000000:3B:00.0"), gpu("00000000:D8:00.0", 1)


@pytest.mark.parametrize(
    ("bus_id", "node"),
    [
        ("00000000:3B:00.0", 0),
        ("00000000:D8:00.0", 1),
        ("0000:d8:00.0", 1),
        ("00010000:01:00.0", None),  # -1
        ("00000000:99:00.0", None),  # no such file
        ("../../etc:3b:00.0", None),
        (None, None),
    ],
)
def test_the_node_of_a_gpu(root, bus_id, node):
    assert read_node(bus_id, root) == node


def test_the_cpus_of_a_node(root):
    assert read_cpus(1, root) == {4, 5, 6, 7, 12, 13, 14, 15}
    assert read_cpus(2, root) == read_cpus(9, root) == set()


def test_each_of_several_processes_is_bound_to_the_cpus_that_it_may_use_of_its_gpus_node(root, bound):
    both = [FIRST, SECOND]
    assert [bind_to_gpu(each, both, root) for each in both] == [0, 1]
    assert bound == [[0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7]]


@pytest.mark.parametrize(
    ("device", "measured"),
    [
        (FIRST, [FIRST]),  # a single GPU's process goes where the user put it
        (SimulatedIdentity(name="simulated"), [FIRST, SECOND]),
        (None, [FIRST, SECOND]),
        (gpu("00010000:01:00.0"), [FIRST, SECOND]),
        (gpu("00000000:E0:00.0"), [FIRST, SECOND]),
        (gpu(None), [FIRST, SECOND]),
    ],
)
def test_where_nothing_is_known_nothing_is_bound_and_nothing_said(root, bound, device, measured):
    assert bind_to_gpu(device, measured, root) is None
    assert bound == []


def test_a_process_that_may_use_none_of_the_nodes_cpus_stays_where_it_is(root, bound, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    assert bind_to_gpu(SECOND, [FIRST, SECOND], root) is None
    assert bound == []


@pytest.mark.parametrize(
    ("allowed", "measured", "node"),
    [
        ({*range(4), 8, 4}, [FIRST, SECOND], None),  # five on its socket's neighbour, one on its own
        ({*range(4), *range(8, 12), 4, 5, 6}, [FIRST, SECOND], None),
        ({*range(4), *range(8, 12), 4, 5, 6, 7}, [FIRST, SECOND], 1),
        ({*range(4), *range(8, 12), 4, 5, 6, 7}, [FIRST, SECOND, gpu("00000000:D8:00.0", 2)], None),
        (set(range(16)), [FIRST, SECOND, gpu("00000000:D8:00.0", 2)], 1),
    ],
)
def test_a_process_is_bound_where_its_node_leaves_four_cpus_for_each_gpu(
    root, bound, monkeypatch, allowed, measured, node
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: allowed)
    assert bind_to_gpu(SECOND, measured, root) == node
    assert bound == ([] if node is None else [sorted({4, 5, 6, 7, 12, 13, 14, 15} & allowed)])


def test_a_system_that_refuses_or_has_no_affinity_binds_nothing(root, bound, monkeypatch):
    def refuse(pid, cpus):
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    assert bind_to_gpu(FIRST, [FIRST, SECOND], root) is None
    monkeypatch.delattr(os, "sched_getaffinity")
    assert bind_to_gpu(FIRST, [FIRST, SECOND], root) is None
    assert numa.ROOT.is_dir()
