"""Machines of many kinds, from the files of their systems to their nominal: bare metal, guests, hybrid, Arm,
hidden, lying. tests/data/cpuinfo/machines.toml has them, with what must come out.
"""

from __future__ import annotations

import os
import platform
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from nameplate.base.messages import message
from nameplate.device import clock, cpu, host, topology
from nameplate.device.identity import CpuIdentity
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.cpu_rating import rate_cpu

RECORDED = Path(__file__).parents[1] / "data" / "cpuinfo"
MACHINES = {each["name"]: each for each in tomllib.loads((RECORDED / "machines.toml").read_text())["machine"]}
CPU = "sys/devices/system/cpu/cpu{}"
# What a product in fp16 may use besides its own sums, as the loops have it.
SERVES = {"fp16": ("fp16", "fp16_acc16")}


def write_tree(root, machine):
    """Write the files of a machine's system."""
    files = dict(machine.get("files", {}))
    if "file" in machine:
        files["proc/cpuinfo"] = (RECORDED / machine["file"]).read_text()
    else:
        parts = machine.get("arm_parts", [None] * machine["cpus"])
        blocks = [
            f"processor: {number}\n" + _with_part(machine["cpuinfo"], part)
            for number, part in enumerate(parts)
        ]
        files["proc/cpuinfo"] = "\n\n".join(blocks)
    clocks = machine.get("clocks_mhz", [])
    for number in range(machine["cpus"]):
        folder = CPU.format(number)
        siblings = machine["siblings"][number] if "siblings" in machine else number
        files[f"{folder}/topology/thread_siblings_list"] = siblings
        if clocks:
            khz = int(clocks[number % len(clocks)] * 1000)
            files[f"{folder}/cpufreq/cpuinfo_max_freq"] = khz
    for path, text in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")
    return root


def _with_part(text, part):
    lines = text.split("\n")
    return "\n".join(f"CPU part: {part}" if part and line.startswith("CPU part") else line for line in lines)


def make_silicon(measured, cores):
    """What measured loops said: all cores at once do what each does alone, within a per cent."""
    peaks = []
    for dtype, (per_cycle, mhz) in measured.items():
        tflops = per_cycle * cores * mhz / 1e6
        peaks.append(
            Peak(
                loop=f"{dtype}-loop",
                instruction=f"{dtype} loop",
                dtypes=SERVES.get(dtype, (dtype,)),
                tflops=tflops,
                tflops_low=0.99 * tflops,
                tflops_high=1.01 * tflops,
                clock_mhz=mhz,
                core_gflops=per_cycle * mhz / 1e3,
                core_clock_mhz=mhz,
                flop_per_cycle=per_cycle,
                parallel_share=1.0,
            )
        )
    return Silicon(cores=cores, peaks=tuple(peaks)) if peaks else None


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a machine as `bench devices` reads this one: its identity, and its rating."""
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(clock, "measure_parallel_speed", lambda threads: None)
    monkeypatch.setattr(cpu, "_read_torch_build", dict)

    def one(machine):
        cpus = set(range(machine["cpus"]))
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
        monkeypatch.setattr(os, "cpu_count", lambda: len(cpus))
        monkeypatch.setattr(platform, "machine", lambda: machine.get("architecture", "x86_64"))
        monkeypatch.setattr(clock, "measure_mhz", lambda: machine.get("measured_mhz"))
        identity = cpu.read_identity(root=write_tree(tmp_path / str(len(os.listdir(tmp_path))), machine))
        silicon = make_silicon(machine.get("silicon", {}), identity.usable_cores)
        return identity, rate_cpu(replace(cpu.facts_of(identity), silicon=silicon))

    return one


@pytest.mark.parametrize("name", MACHINES)
def test_a_machine_is_recognised_and_rated_by_its_evidence(read, name):
    machine = MACHINES[name]
    identity, rating = read(machine)
    again = CpuIdentity.model_validate_json(identity.model_dump_json())  # as a manifest keeps it
    assert (again, again.fingerprint()) == (identity, identity.fingerprint())
    prefix, star, _ = machine["part"].partition("*")
    assert rating.part.startswith(prefix) if star else rating.part == machine["part"]
    assert machine.get("why", "") in str(rating.evidence)
    assert identity.virtual_machine is machine.get("virtual")
    if "model" in machine:
        assert identity.name == machine["model"]
    rated = {dtype: rating.nominal_for(dtype).tflops for dtype in machine["tflops"]}
    assert rated == {dtype: pytest.approx(tflops, rel=1e-4) for dtype, tflops in machine["tflops"].items()}
    measured = {dtype for dtype, one in rating.nominal.items() if one.basis == "measured"}
    assert {dtype for dtype in measured if dtype != "fp16_acc16"} == set(machine.get("measured", ()))
    if not machine["tflops"]:
        assert rating.rated_dtypes == frozenset()
        assert all(str(one.source) for one in rating.nominal.values())
    if "note" in machine:
        assert any(machine["note"] in str(note) for note in rating.notes)


def test_two_unknown_processors_are_two_parts_and_two_devices(read):
    both = [read(MACHINES[name]) for name in MACHINES if name.endswith(("no table has", "has either"))]
    assert len({rating.part for _, rating in both}) == 2
    (one, _), (other, _) = both
    assert one.fingerprint() != other.fingerprint()


def test_a_measured_nominal_has_an_interval_its_instruction_and_clock(read):
    _, rating = read(MACHINES["guest with Rocket Lake's model number and AMX"])
    figure = rating.nominal_for("bf16")
    assert (figure.basis, figure.instruction, figure.clock_mhz) == ("measured", "bf16 loop", 2700)
    assert figure.low < figure.tflops < figure.high
    assert rating.datasheet_for("bf16") == figure


def test_a_rated_nominal_at_a_measured_clock_has_the_clocks_interval(read):
    _, rating = read(MACHINES["Zen 4 guest that hides its model"])
    figure = rating.nominal_for("bf16")
    assert (figure.basis, figure.clock_mhz) == ("table", 3580)
    assert figure.low == pytest.approx(figure.tflops / 1.01)
    assert figure.high == pytest.approx(figure.tflops * 1.01)


def test_a_models_boost_is_exact(read):
    _, rating = read(MACHINES["EPYC 9654, bare metal, twelve slices of L3"])
    figure = rating.nominal_for("fp32")
    assert (figure.basis, figure.low, figure.high, figure.clock_mhz) == ("table", None, None, 3700)
    assert "the model's maximum boost" in figure.source


def test_a_quota_counts_the_fastest_cores(read, monkeypatch):
    machine = MACHINES["Ryzen AI 9 HX 370: four cores and eight dense ones"]
    files = {"sys/fs/cgroup/cpu.max": "500000 100000", "proc/self/cgroup": "0::/"}
    _, rating = read(machine | {"files": files})
    assert rating.nominal_for("fp32").tflops == pytest.approx(32 * (4 * 5.1 + 1 * 3.3) / 1e3)


I9 = "Core i9-12900K: eight performance cores of two threads, eight efficiency cores"


def test_efficiency_cores_alone_are_rated_as_such(read, monkeypatch):
    identity, _ = read(MACHINES[I9])
    kinds = tuple(kind for kind in identity.core_kinds if kind.name == "efficiency")
    some = identity.model_copy(update={"core_kinds": kinds, "usable_cores": 8.0})
    # cpu0's clock is that of a performance core.
    figure = cpu.rate(some).nominal_for("fp32")
    assert figure.tflops == pytest.approx(16 * 8 * 3.9 / 1e3)
    assert "3,900 MHz (cpufreq's highest)" in figure.source


def test_a_clock_measured_on_the_fastest_cores_says_nothing_of_the_others(read):
    machine = MACHINES["Ryzen AI 9 HX 370: four cores and eight dense ones"]
    _, rating = read(machine | {"measured_mhz": 5050.0})
    assert rating.nominal_for("fp32").tflops == pytest.approx(1.4976)


def test_a_driver_that_leaves_the_boost_out_is_outdone_by_a_chain_of_adds(read):
    machine = {
        "cpuinfo": "vendor_id: AuthenticAMD\ncpu family: 25\nmodel: 97\nmodel name: AMD Eng Sample\n"
        "stepping: 2\nflags: fma avx2",
        "cpus": 8,
        "clocks_mhz": [4500],
    }
    boosted, base = read(machine | {"measured_mhz": 5300.0})[1], read(machine | {"measured_mhz": 4490.0})[1]
    assert "5,300 MHz (measured)" in boosted.nominal_for("fp32").source
    assert "4,500 MHz (cpufreq's highest)" in base.nominal_for("fp32").source


def test_an_instruction_that_is_shown_and_cannot_be_executed_is_no_path(read):
    identity, _ = read(MACHINES["Xeon Platinum 8480+, bare metal"])
    refused = {"bf16-amx": message("silicon_tiles", why="no"), "int8-amx": message("silicon_tiles", why="no")}
    silicon = make_silicon({"fp32": [64.0, 2600]}, 56).model_copy(update={"failed": refused})
    rating = rate_cpu(replace(cpu.facts_of(identity), silicon=silicon))
    assert rating.nominal_for("bf16").tflops == pytest.approx(
        32 * 56 * 3.8 / 1e3
    )  # VDPBF16PS, as without AMX
    # What had no time to answer may well be there.
    slow = silicon.model_copy(update={"failed": {"bf16-amx": message("silicon_silent", seconds=5.0)}})
    rating = rate_cpu(replace(cpu.facts_of(identity), silicon=slow))
    assert rating.nominal_for("bf16").tflops == pytest.approx(1024 * 56 * 3.8 / 1e3)


def test_other_work_widens_no_clock(read):
    identity, _ = read(MACHINES["Zen 4 guest that hides its model"])
    silicon = make_silicon({"fp32": [32.0, 3600]}, 2)
    busy = silicon.peaks[0].model_copy(update={"tflops_low": 0.5 * silicon.peaks[0].tflops})
    facts = replace(cpu.facts_of(identity), silicon=silicon.model_copy(update={"peaks": (busy,)}))
    figure = rate_cpu(facts).nominal_for("fp32")
    assert figure.low == pytest.approx(figure.tflops / 1.01)


M1 = {
    "machdep.cpu.brand_string": "Apple M1",
    "hw.nperflevels": "2",
    "hw.perflevel0.physicalcpu": "4",
    "hw.perflevel0.name": "Performance",
    "hw.perflevel1.physicalcpu": "4",
    "hw.perflevel1.name": "Efficiency",
}


def test_a_mac_is_rated_by_the_kinds_of_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(topology.psutil, "cpu_count", lambda logical=True: 8)
    monkeypatch.setattr(clock, "measure_mhz", lambda: None)
    monkeypatch.setattr(clock, "measure_parallel_speed", lambda threads: None)
    monkeypatch.setattr(cpu, "_read_torch_build", dict)
    for module in (host, topology):
        monkeypatch.setattr(module, "read_sysctl", M1.get)
    identity = cpu.read_identity(root=tmp_path)
    rating = cpu.rate(identity)
    assert (rating.part, identity.virtual_machine) == ("apple-m1", None)
    assert rating.nominal_for("fp32").tflops == pytest.approx(0.542, rel=1e-3)
    # A guest of macOS says so, by its name too.
    guest = M1 | {"kern.hv_vmm_present": "1", "machdep.cpu.brand_string": "Apple M1 (Virtual)"}
    for module in (host, topology):
        monkeypatch.setattr(module, "read_sysctl", guest.get)
    virtual = cpu.read_identity(root=tmp_path)
    assert (virtual.virtual_machine, cpu.rate(virtual).part) == (True, "apple-m1")
    # Without the kinds nothing is known that could be rated: not all are performance cores.
    unkind = cpu.rate(identity.model_copy(update={"core_kinds": ()}))
    assert unkind.nominal_for("fp32").tflops is None
    assert "several kinds of cores" in str(unkind.nominal_for("fp32").source)
