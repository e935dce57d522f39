"""What a host says of its processors: recorded machines in, evidence out, and nothing raised for nonsense."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from nameplate.device import host
from nameplate.specs.cpu_evidence import CpuEvidence

RECORDED = Path(__file__).parents[1] / "data" / "cpuinfo"
GARBAGE = [
    "",
    "\n",
    "garbage",
    "-1",
    "0-",
    "1 2 3",
    "max",
    "\x00\x00",
    "½",
    "0::/a\x00b",
    "1 2 3 / / - cgroup2 x rw",
    "1 2 3 /a\x00 /b\\000 x - cgroup x cpu",
    "0x",
    "max 0",
    "100000 0",
    "a b",
]


@pytest.fixture(autouse=True)
def on_linux(monkeypatch):
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")


@pytest.fixture
def affinity(monkeypatch):
    """Give this process these CPUs, of a machine that has `logical`."""

    def give(cpus, logical=None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cpus), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: logical or len(cpus))

    return give


def tree(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def topology(*cores, siblings=None):
    """The sysfs files of CPUs 0, 1, … that sit on these (package, core) pairs."""
    files = {}
    for cpu, (package, core) in enumerate(cores):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        files[f"{folder}/physical_package_id"] = f"{package}\n"
        files[f"{folder}/core_id"] = f"{core}\n"
        shared = [str(i) for i, other in enumerate(cores) if other == (package, core)]
        files[f"{folder}/thread_siblings_list"] = f"{siblings or ','.join(shared)}\n"
    return files


def recorded(root, name):
    return tree(root, {"proc/cpuinfo": (RECORDED / name).read_bytes()})


def test_reads_a_guest_that_hides_its_model(tmp_path):
    seen = host.read_processor(recorded(tmp_path, "amd-epyc-guest.txt"))
    assert (seen.name, seen.vendor, seen.family, seen.model, seen.stepping) == (
        "AMD EPYC",
        "AuthenticAMD",
        25,
        17,
        1,
    )
    assert seen.reported_mhz == 2596.092
    assert {"hypervisor", "avx512_bf16", "avx2"} <= seen.flags
    assert (seen.implementer, seen.arm_part) == (None, None)


def test_reads_an_intel_host(tmp_path):
    seen = host.read_processor(recorded(tmp_path, "intel-xeon-8480.txt"))
    assert seen.name == "Intel(R) Xeon(R) Platinum 8480+"
    assert (seen.vendor, seen.family, seen.model, seen.stepping) == ("GenuineIntel", 6, 143, 8)
    assert {"amx_bf16", "avx512_fp16"} <= seen.flags
    assert "hypervisor" not in seen.flags


def test_reads_an_arm_host(tmp_path):
    seen = host.read_processor(recorded(tmp_path, "arm-graviton3.txt"))
    assert (seen.implementer, seen.arm_part) == (0x41, 0xD40)
    assert {"sve", "bf16", "i8mm", "asimdhp"} <= seen.flags
    assert (seen.name, seen.vendor, seen.family, seen.model, seen.reported_mhz) == (
        "",
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    "text",
    ["", "\n\n\n", "no colon here", ":::", "cpu family\t: twelve\nmodel\t:\nflags\t:", b"\xff\xfe: \x00"],
)
def test_odd_cpuinfo_leaves_fields_empty(tmp_path, text):
    seen = host.read_processor(tree(tmp_path, {"proc/cpuinfo": text}))
    assert (seen.family, seen.model, seen.reported_mhz, seen.flags) == (None, None, None, frozenset())


def test_a_system_without_cpuinfo_says_nothing(tmp_path):
    assert host.read_processor(tmp_path) == CpuEvidence()


def test_two_threads_of_a_core_count_once(tmp_path, affinity):
    affinity(range(4))
    cores = host.read_cores(tree(tmp_path, topology((0, 0), (0, 1), (0, 0), (0, 1))))
    assert (cores.logical, cores.physical, cores.usable) == (4, 2, 2.0)
    assert (cores.threads_per_core, cores.sockets) == (2, 1)


def test_one_core_number_on_two_sockets_is_two_cores(tmp_path, affinity):
    affinity(range(4))
    files = topology((0, 0), (0, 1), (1, 0), (1, 1))
    files |= {f"sys/devices/system/node/node{node}/cpulist": "0-1\n" for node in (0, 1)}
    cores = host.read_cores(tree(tmp_path, files))
    assert (cores.physical, cores.sockets, cores.numa_nodes, cores.threads_per_core) == (4, 2, 2, 1)


def test_only_the_affinitys_cores_count(tmp_path, affinity):
    affinity([1, 3], logical=4)  # both threads of core 1
    cores = host.read_cores(tree(tmp_path, topology((0, 0), (0, 1), (0, 0), (0, 1))))
    assert (cores.logical, cores.affinity, cores.usable) == (4, (1, 3), 1.0)


def test_a_kernels_list_of_siblings_may_be_a_span(tmp_path, affinity):
    affinity(range(2))
    assert host.read_cores(tree(tmp_path, topology((0, 0), (0, 0), siblings="0-1"))).threads_per_core == 2


def test_without_sysfs_the_systems_own_count_stands_in(tmp_path, affinity, monkeypatch):
    affinity(range(8))
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    cores = host.read_cores(tmp_path)
    assert (cores.physical, cores.usable) == (4, 4.0)
    assert (cores.threads_per_core, cores.sockets, cores.numa_nodes, cores.quota) == (None, None, None, None)


def test_without_sysfs_no_more_cores_than_the_affinity(tmp_path, affinity, monkeypatch):
    affinity([0], logical=8)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: None)
    assert host.read_cores(tmp_path).usable == 1.0


def test_a_quota_in_a_parent_group_limits_the_cores(tmp_path, affinity):
    affinity(range(4))
    files = topology(*((0, core) for core in range(4))) | {
        "proc/self/cgroup": "0::/kubepods/pod1/container\n",
        "sys/fs/cgroup/kubepods/cpu.max": "max 100000\n",
        "sys/fs/cgroup/kubepods/pod1/cpu.max": "150000 100000\n",
        "sys/fs/cgroup/kubepods/pod1/container/cpu.max": "300000 100000\n",
    }
    cores = host.read_cores(tree(tmp_path, files))
    assert (cores.quota, cores.usable, cores.physical) == (1.5, 1.5, 4)


def test_a_quota_above_the_cores_changes_nothing(tmp_path, affinity):
    affinity(range(2))
    files = topology((0, 0), (0, 1)) | {"sys/fs/cgroup/cpu.max": "800000 100000"}
    assert host.read_cores(tree(tmp_path, files)).usable == 2.0


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("max", None), ("50000 100000\n", 0.5), ("200000\n", 2.0), ("25000 50000", 0.5)],
)
def test_version_2_quotas(tmp_path, text, cpus):
    assert host.read_cgroup_cpus(tree(tmp_path, {"sys/fs/cgroup/cpu.max": text})) == cpus


@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
@pytest.mark.parametrize(("quota", "cpus"), [("250000\n", 2.5), ("-1\n", None), ("0\n", None)])
def test_version_1_quotas(tmp_path, folder, quota, cpus):
    where = f"sys/fs/cgroup/{folder}"
    files = {f"{where}/cpu.cfs_quota_us": quota, f"{where}/cpu.cfs_period_us": "100000\n"}
    assert host.read_cgroup_cpus(tree(tmp_path, files)) == cpus


def test_memory_limits(tmp_path):
    assert host.read_cgroup_memory(tmp_path) is None
    version_1 = tree(tmp_path / "1", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"})
    assert host.read_cgroup_memory(version_1) is None  # "no limit", as version 1 writes it
    limited = tree(tmp_path / "2", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "1073741824\n"})
    assert host.read_cgroup_memory(limited) == 1 << 30
    files = {
        "proc/self/cgroup": "1:name=systemd:/x\n0::/a/b\n",
        "sys/fs/cgroup/a/memory.max": "2147483648\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/memory.max": "4294967296\n",
    }
    assert host.read_cgroup_memory(tree(tmp_path / "3", files)) == 2 << 30


def cache(index, level, kind, size):
    folder = f"sys/devices/system/cpu/cpu0/cache/index{index}"
    return {f"{folder}/level": f"{level}\n", f"{folder}/type": f"{kind}\n", f"{folder}/size": f"{size}\n"}


def test_caches_by_name_without_the_instructions(tmp_path):
    files = cache(0, 1, "Data", "32K") | cache(1, 1, "Instruction", "32K")
    files |= cache(2, 2, "Unified", "1024K") | cache(3, 3, "Unified", "32M")
    assert host.read_caches(tree(tmp_path, files)) == {"L1d": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}


def test_maximum_clock(tmp_path):
    assert host.read_maximum_mhz(tmp_path) is None
    file = "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
    assert host.read_maximum_mhz(tree(tmp_path, {file: "3700000\n"})) == 3700.0
    assert host.read_maximum_mhz(tree(tmp_path, {file: "<unknown>\n"})) is None


@pytest.mark.parametrize(
    "path",
    [
        "sys/fs/cgroup/cpu.max",
        "sys/fs/cgroup/memory.max",
        "sys/fs/cgroup/memory.high",
        "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "proc/self/mountinfo",
        "proc/cpuinfo",
        "sys/devices/system/cpu/cpu0/topology/core_cpus_list",
        "sys/devices/system/cpu/cpu0/topology/cluster_id",
        "sys/devices/system/cpu/cpu0/cache/index0/shared_cpu_list",
        "sys/devices/cpu_core/cpus",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us",
        "proc/self/cgroup",
        "sys/devices/system/cpu/cpu0/topology/core_id",
        "sys/devices/system/cpu/cpu0/topology/thread_siblings_list",
        "sys/devices/system/cpu/cpu0/cache/index0/size",
        "sys/devices/system/cpu/cpu0/cache/index0/level",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq",
    ],
)
def test_nonsense_is_not_known_and_never_raises(tmp_path, affinity, path):
    affinity([0])
    files = topology((0, 0)) | cache(0, 3, "Unified", "32M")
    files["sys/fs/cgroup/cpu/cpu.cfs_quota_us"] = "100000"
    wrong = []
    for index, text in enumerate(GARBAGE):
        root = tree(tmp_path / str(index), files | {path: text})
        try:
            cores = host.read_cores(root)
            sizes = {"memory": host.read_cgroup_memory(root) or 1, **host.read_caches(root)}
            host.read_maximum_mhz(root)
        except Exception as error:
            wrong.append(f"{text!r}: {type(error).__name__}")
        else:
            if cores.usable <= 0 or min(sizes.values()) <= 0:
                wrong.append(f"{text!r}: {cores}, {sizes}")
    assert wrong == []


def test_thread_settings_are_those_that_are_set(monkeypatch):
    for name in host._SETTINGS:
        monkeypatch.delenv(name, raising=False)
    assert host.read_thread_settings() == {}
    monkeypatch.setenv("GOMP_SPINCOUNT", "0")
    monkeypatch.setenv("HOME_MADE", "1")
    assert host.read_thread_settings() == {"GOMP_SPINCOUNT": "0"}


def test_this_machine_can_be_read():
    cores = host.read_cores()
    assert 0 < cores.usable <= cores.physical <= cores.logical
