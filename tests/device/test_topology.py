"""Cores, their kinds and caches, and limits of control groups, replayed from the files of other machines."""

from __future__ import annotations

import os

import pytest

from nameplate.device import host, topology
from nameplate.specs.cpu_evidence import CoreKind

CPU = "sys/devices/system/cpu/cpu{}"


@pytest.fixture(autouse=True)
def on_linux(monkeypatch):
    monkeypatch.setattr(host.platform, "system", lambda: "Linux")


@pytest.fixture
def run_on(monkeypatch):
    """Let this process run on these CPUs."""

    def give(cpus):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(cpus), raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: len(cpus))

    return give


def tree(root, files):
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def cores_of(*places, lists=True, threads=None):
    """Files of CPUs at these (package, cluster, core) numbers; `threads` are the kernel's lists."""
    files = {}
    for cpu, (package, cluster, core) in enumerate(places):
        folder = CPU.format(cpu) + "/topology"
        files |= {f"{folder}/physical_package_id": package, f"{folder}/core_id": core}
        files[f"{folder}/cluster_id"] = cluster
        if lists:
            files[f"{folder}/thread_siblings_list"] = threads[cpu] if threads else cpu
    return files


def clocks_of(*mhz):
    return {CPU.format(cpu) + "/cpufreq/cpuinfo_max_freq": int(each * 1000) for cpu, each in enumerate(mhz)}


RK3588 = ((0, 0, 0), (0, 0, 1), (0, 0, 2), (0, 0, 3), (0, 1, 0), (0, 1, 1), (0, 2, 0), (0, 2, 1))
ORIN = tuple((0, cluster, core) for cluster in range(3) for core in range(4))


@pytest.mark.parametrize("lists", [True, False], ids=["lists", "numbers alone"])
@pytest.mark.parametrize(("places", "physical"), [(RK3588, 8), (ORIN, 12)], ids=["RK3588", "Orin"])
def test_core_numbers_that_start_anew_in_each_cluster_are_cores_of_their_own(
    tmp_path, run_on, places, physical, lists
):
    run_on(range(physical))
    cores = host.read_cores(tree(tmp_path, cores_of(*places, lists=lists)))
    assert (cores.physical, cores.usable, cores.threads_per_core) == (physical, float(physical), 1)
    assert cores.first_cpus == tuple(range(physical))


def test_the_newer_list_of_a_cores_cpus_counts_before_the_older(tmp_path, run_on):
    run_on(range(4))
    files = cores_of(*[(0, 0, 0)] * 4, threads=["0-3"] * 4)
    files |= {CPU.format(cpu) + "/topology/core_cpus_list": f"{cpu % 2},{cpu % 2 + 2}" for cpu in range(4)}
    cores = host.read_cores(tree(tmp_path, files))
    assert (cores.physical, cores.threads_per_core) == (2, 2)
    assert cores.first_cpus == (0, 1)


def test_dense_cores_are_a_kind_of_their_own_by_their_clock(tmp_path, run_on):
    run_on(range(12))
    hx370 = (5100,) * 4 + (3300,) * 8
    files = cores_of(*((0, 0, core) for core in range(12))) | clocks_of(*hx370)
    assert host.read_cores(tree(tmp_path, files)).kinds == (CoreKind(4, 5100.0), CoreKind(8, 3300.0))


@pytest.mark.parametrize("mhz", [(6000, 6000, 5700, 5700), (5083, 4972, 4860, 4750, 4640, 4530)])
def test_preferred_cores_are_no_other_kind(tmp_path, run_on, mhz):
    run_on(range(len(mhz)))
    files = cores_of(*((0, 0, core) for core in range(len(mhz)))) | clocks_of(*mhz)
    assert host.read_cores(tree(tmp_path, files)).kinds == (CoreKind(len(mhz), float(mhz[0])),)


def test_linux_names_the_kinds_of_a_hybrid_intel_processor(tmp_path, run_on):
    run_on(range(8))  # two performance cores of two threads, four efficiency cores
    threads = ["0-1", "0-1", "2-3", "2-3", "4", "5", "6", "7"]
    files = cores_of(*[(0, 0, 0)] * 8, threads=threads) | clocks_of(*[5200] * 4, *[3900] * 4)
    files |= {"sys/devices/cpu_core/cpus": "0-3", "sys/devices/cpu_atom/cpus": "4-7"}
    cores = host.read_cores(tree(tmp_path, files))
    assert cores.kinds == (CoreKind(2, 5200.0, "performance"), CoreKind(4, 3900.0, "efficiency"))
    assert (cores.physical, cores.threads_per_core) == (6, 2)


def test_part_numbers_tell_big_cores_from_little_ones(tmp_path, run_on):
    run_on(range(8))
    blocks = [
        f"processor : {cpu}\nFeatures : asimd\nCPU implementer : 0x41\nCPU part : {part}"
        for cpu, part in enumerate(["0xd05"] * 4 + ["0xd0b"] * 4)
    ]
    files = cores_of(*RK3588) | clocks_of(*[1800] * 4, *[2400] * 4) | {"proc/cpuinfo": "\n\n".join(blocks)}
    assert host.read_cores(tree(tmp_path, files)).kinds == (
        CoreKind(4, 2400.0, None, 0x41, 0xD0B),
        CoreKind(4, 1800.0, None, 0x41, 0xD05),
    )


M1 = {
    "hw.nperflevels": "2",
    "hw.perflevel0.physicalcpu": "4",
    "hw.perflevel0.name": "Performance",
    "hw.perflevel0.l2cachesize": "12582912",
    "hw.perflevel0.cpusperl2": "4",
    "hw.perflevel1.physicalcpu": "4",
    "hw.perflevel1.name": "Efficiency",
    "hw.perflevel1.l2cachesize": "4194304",
    "hw.perflevel1.cpusperl2": "4",
}


def test_a_mac_tells_its_kinds_and_the_cache_of_each_cluster(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(topology.psutil, "cpu_count", lambda logical=True: 8)
    monkeypatch.setattr(topology, "read_sysctl", M1.get)
    cores = host.read_cores(tmp_path)
    assert cores.kinds == (CoreKind(4, None, "performance"), CoreKind(4, None, "efficiency"))
    assert cores.physical == 8
    assert host.read_caches(tmp_path) == {"L2": 16 << 20}


def cache_of(cpu, index, level, size, shared, kind="Unified"):
    folder = CPU.format(cpu) + f"/cache/index{index}"
    return {
        f"{folder}/level": level,
        f"{folder}/type": kind,
        f"{folder}/size": size,
        f"{folder}/shared_cpu_list": shared,
    }


def test_every_slice_of_a_cache_counts_once_within_the_affinity(tmp_path, run_on):
    files = {}
    for cpu in range(96):  # EPYC 9654: twelve slices of 32 MiB
        first = cpu // 8 * 8
        files |= cache_of(cpu, 0, 1, "32K", cpu, "Data") | cache_of(cpu, 1, 1, "32K", cpu, "Instruction")
        files |= cache_of(cpu, 2, 2, "1024K", cpu) | cache_of(cpu, 3, 3, "32768K", f"{first}-{first + 7}")
    root = tree(tmp_path, files)
    run_on(range(96))
    assert host.read_caches(root) == {"L1d": 3 << 20, "L2": 96 << 20, "L3": 384 << 20}
    run_on([0, 1, 8])  # of two slices
    assert host.read_caches(root)["L3"] == 64 << 20
    assert host.read_caches(root, [95])["L3"] == 32 << 20


SLURM = "/slurm/uid_1000/job_42"
MOUNTS = (
    "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
    "33 31 0:30 {0} /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n"
    "34 31 0:31 {0} /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct"
)


def slurm(memory=SLURM, cpu=SLURM):
    """A job of Slurm's under version 1: limits are the job's; its steps and tasks are below."""
    return {
        "proc/self/cgroup": (
            "11:memory:/slurm/uid_1000/job_42/step_0/task_0\n4:cpu,cpuacct:/slurm/uid_1000/job_42/step_0"
        ),
        f"sys/fs/cgroup/memory{memory}/memory.limit_in_bytes": 8 << 30,
        f"sys/fs/cgroup/memory{memory}/step_0/memory.limit_in_bytes": 9223372036854771712,
        f"sys/fs/cgroup/cpu,cpuacct{cpu}/cpu.cfs_quota_us": 200_000,
        f"sys/fs/cgroup/cpu,cpuacct{cpu}/cpu.cfs_period_us": 100_000,
    }


VERSION_1 = {
    "as distributions mount it": slurm(),
    "as mountinfo says": slurm() | {"proc/self/mountinfo": MOUNTS.format("/")},
    "a container that sees its own part": slurm("", "") | {"proc/self/mountinfo": MOUNTS.format(SLURM)},
    "the default period": {
        path: text for path, text in slurm().items() if not path.endswith("cpu.cfs_period_us")
    },
}


@pytest.mark.parametrize("files", VERSION_1.values(), ids=VERSION_1)
def test_a_limit_of_version_1_below_the_mounts_root_is_found(tmp_path, files):
    root = tree(tmp_path, files)
    assert host.read_cgroup_memory(root) == 8 << 30
    assert host.read_cgroup_cpus(root) == 2.0


def test_a_mount_elsewhere_is_found(tmp_path):
    files = {
        "proc/self/cgroup": "7:memory:/job\n0::/",
        "proc/self/mountinfo": r"1 0 0:1 / /dev/my\040cgroup rw - cgroup cgroup rw,memory",
        "dev/my cgroup/job/memory.limit_in_bytes": 5 << 30,
    }
    assert host.read_cgroup_memory(tree(tmp_path, files)) == 5 << 30


@pytest.mark.parametrize(
    ("highest", "most", "limit"),
    [
        (2 << 30, 4 << 30, 2 << 30),
        ("max", 4 << 30, 4 << 30),
        (6 << 30, 4 << 30, 4 << 30),
        ("max", "max", None),
    ],
)
def test_the_limit_that_slows_counts_as_much_as_the_one_that_kills(tmp_path, highest, most, limit):
    where = "sys/fs/cgroup/user.slice/job"
    files = {
        "proc/self/cgroup": "0::/user.slice/job",
        f"{where}/memory.high": highest,
        f"{where}/memory.max": most,
    }
    assert host.read_cgroup_memory(tree(tmp_path, files)) == limit


def test_the_smallest_limit_on_the_way_up_and_of_both_versions_wins(tmp_path):
    files = slurm() | {
        "proc/self/cgroup": f"11:memory:{SLURM}\n4:cpu,cpuacct:{SLURM}\n0::/a/b",
        "sys/fs/cgroup/unified/a/cpu.max": "150000 100000",
        "sys/fs/cgroup/unified/a/b/memory.high": 3 << 30,
        "sys/fs/cgroup/memory/slurm/memory.limit_in_bytes": 4 << 30,
    }
    root = tree(tmp_path, files)
    assert host.read_cgroup_cpus(root) == 1.5
    assert host.read_cgroup_memory(root) == 3 << 30
