"""What `bench devices` says of a CPU, as JSON and in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nameplate.device.cpu import rate
from nameplate.device.identity import CpuIdentity
from nameplate.device.survey import Survey, SurveyedDevice, find_cpu_obstacles
from nameplate.report.devices import devices_document, devices_view
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.cpu_evidence import CoreKind

FIGURES = ("nominal_tflops", "nominal_low", "nominal_high", "basis", "instruction", "clock_mhz")


def peak_of(dtype, tflops, mhz):
    return Peak(
        loop=f"{dtype}-amx",
        instruction=f"{dtype} tiles",
        dtypes=(dtype,),
        tflops=tflops,
        tflops_low=0.985 * tflops,
        tflops_high=1.01 * tflops,
        clock_mhz=mhz,
        core_gflops=500 * tflops,
        core_clock_mhz=mhz,
        flop_per_cycle=1020.0,
        parallel_share=1.0,
    )


def document_of(**changes):
    facts = {
        "name": "Intel(R) Xeon(R) Processor",
        "architecture": "x86_64",
        "vendor": "GenuineIntel",
        "family": 6,
        "model": 167,
        "stepping": 1,
        "flags": ("amx_bf16", "amx_tile", "avx2", "avx512f", "fma", "hypervisor"),
        "virtual_machine": True,
        "logical_cpus": 2,
        "usable_cores": 2,
        "memory_bytes": 8 << 30,
    }
    identity = CpuIdentity(**(facts | changes))
    rating = replace(rate(identity), silicon=identity.silicon)
    return devices_document(Survey((SurveyedDevice("cpu", identity, rating),), torch="a torch"))


def words_of(document):
    (table,) = devices_view(document).tables
    return dict(table.rows)


def test_a_measured_nominal_has_its_interval_basis_instruction_and_clock_beside_it():
    silicon = Silicon(cores=2.0, peaks=(peak_of("bf16", 5.5, 2700.0),))
    document = document_of(silicon=silicon)
    (device,) = document["devices"]
    assert device["part"].startswith("x86-64-amx-")
    assert [device[name]["bf16"] for name in FIGURES] == [
        5.5,
        pytest.approx(5.4175),
        pytest.approx(5.555),
        "measured",
        "bf16 tiles",
        2700.0,
    ]
    assert device["silicon_tflops"] == {"bf16": 5.5}
    # A dtype without a figure has none of these, and the reason.
    assert [device[name]["fp32"] for name in FIGURES] == [None] * len(FIGURES)
    assert "no loop measured" in device["sources"]["fp32"]
    words = words_of(document)
    assert "bf16 5.50 (5.42 to 5.55)" in words["nominal TFLOPS"]
    assert words["measured peak, TFLOPS"] == "bf16 5.50"
    assert "AMX (Sapphire Rapids or later)" in words["part"]


def test_a_rated_nominal_has_no_width():
    (device,) = document_of(name="Intel(R) Xeon(R) Platinum 8480+", model=143, stepping=8)["devices"]
    assert device["part"] == "intel-sapphire-rapids"
    for low, value, high in zip(*(device[name].values() for name in FIGURES[:3]), strict=True):
        assert low == value == high
    assert device["basis"]["fp32"] == "table"
    assert device["clock_mhz"]["fp32"] == 3800
    assert device["silicon_tflops"] == {}


def test_kinds_of_cores_and_the_machine_are_named():
    kinds = (CoreKind(8, 5200.0, "performance"), CoreKind(4, None, None, 0x41, 0xD05))
    words = words_of(document_of(core_kinds=kinds, product="ACME Board"))
    assert words["kinds of cores"] == "8 × performance 5,200 MHz, 4 × 0xd05"
    assert "product ACME Board" in words["facts"]
    assert "kinds of cores" not in words_of(document_of(core_kinds=kinds[:1]))


def test_cores_that_share_one_are_a_problem_and_every_problem_is_counted_once():
    found = document_of(parallel_speed=0.48, quota_cpus=1.0, usable_cores=1.0, affinity_cpus=(0, 1))
    (device,) = found["devices"]
    shared, quota = find_cpu_obstacles(CpuIdentity(**device["identity"]), None, None)
    assert shared.startswith("1 cores working at once run at 0.48 of their speed alone")
    assert quota.startswith("a control group limits this process to 1 of 2 CPUs")
    device["in_the_way"] = [shared, quota]
    # What is said as a problem isn't said as a note too.
    assert [note for note in device["notes"] if "0.48" in note or "control group" in note] == []
    assert devices_view(found).meaning == "Problems for measuring: 2."
    device["unusable"] = "torch can't use it"
    assert devices_view(found).meaning == "Problems for measuring: 3."
    assert "problems: 3" in words_of(found)["now"]
