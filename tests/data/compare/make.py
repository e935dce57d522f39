"""Makes the runs beside it, through the real store: `python tests/data/compare/make.py`.

The committed ones are of schema 2 and stay so: they test that older runs are still read.

Figures are drawn from a seed: throughput moves by some 10 % from run to run, as on a shared machine, and the
probe's with it, so that what is left of it differs by 0.2 %.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nameplate.base.messages import text
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.record import Batch, Record, Verification
from nameplate.store.folder import RecordWriter, create, mark_done
from nameplate.store.manifest import DeviceEntry, Manifest

HERE = Path(__file__).parent
PRODUCT = "matmul/bf16/1024x1024x1024/normal/warm/-/torch"
BLOCK = "transformer_block/bf16/1x128x512-forward_backward/normal/warm/-/torch"
COPY = "memory/fp32/copy-64MiB/normal/warm/-/torch"
_FLOPS = {PRODUCT: 2 * 1024**3, BLOCK: 4_500_000_000, COPY: None}
_BYTES = {PRODUCT: 6 * 1024**2, BLOCK: 40_000_000, COPY: 2 * 64 * 1024**2}
_CONVENTIONS = {PRODUCT: "2MNK", BLOCK: "Megatron", COPY: None}
_OF_PROBE = {PRODUCT: 1.31, BLOCK: 0.84}  # achieved ÷ the probe's throughput
_NOMINAL = 0.35
_WITHIN = 0.003  # half a record's own interval
_SCATTER = 0.002

CPU = CpuIdentity(
    name="Intel(R) Xeon(R) Platinum 8581C",
    architecture="x86_64",
    vendor="GenuineIntel",
    family=6,
    model=207,
    logical_cpus=2,
    usable_cores=2.0,
    memory_bytes=8 << 30,
    blas="Intel MKL 2024.2",
    onednn="oneDNN 3.7.1",
    instruction_set="AVX512",
    threads=2,
    interop_threads=1,
    thread_settings={"GOMP_SPINCOUNT": "10000"},
)
GPU = CudaIdentity(
    name="NVIDIA A800-SXM4-80GB", index=0, uuid="GPU-1", driver="550.54.15", cuda="12.8", power_limit_w=400.0
)


@dataclass(frozen=True)
class Kind:
    """What a folder's runs are like; `speed` is by case, beside base's."""

    runs: int = 1
    speed: Mapping[str, float] = field(default_factory=dict)
    verdicts: tuple[str, ...] = ("clean",)
    identity: CpuIdentity | CudaIdentity = CPU
    part: str = "intel-emerald-rapids"
    torch: str = "2.13.0"
    method: int = 2
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of a record, by case
    cases: tuple[str, ...] = (PRODUCT, BLOCK, COPY)
    missing: tuple[str, ...] = ()
    nominal: float = _NOMINAL
    device: str = "cpu"
    libraries: Mapping[str, str] = field(default_factory=dict)  # of the manifest's software


FAILED = {
    "status": "failed",
    "reason": text("RuntimeError: no memory"),
    "verdict": "unknown",
    "verdicts": ("unknown",),
}
WRONG = {
    "verdict": "unverified",
    "verdicts": ("unverified",),
    "verification": Verification(reference="fp64", error=40.0, rule="rounding", passed=False),
}
KINDS = {
    "base": Kind(runs=5),
    "same": Kind(runs=5),
    "slower": Kind(runs=5, speed={PRODUCT: 0.97}),
    "faster": Kind(runs=5, speed={BLOCK: 1.05}),
    "broken": Kind(runs=3, changes={BLOCK: FAILED}),
    "wrong": Kind(runs=3, changes={BLOCK: WRONG}),
    "convention": Kind(runs=3, changes={BLOCK: {"convention": "Megatron, causal attention in full"}}),
    "noisy-base": Kind(verdicts=("contended", "unstable")),
    "noisy-new": Kind(verdicts=("contended", "unstable"), speed={PRODUCT: 0.93}),
    "quiet-base": Kind(),
    "quiet-new": Kind(),
    "other-part": Kind(part="amd-zen4"),
    "other-kind": Kind(part="nvidia-a800-sxm4-80gb", identity=GPU, device="cuda:0"),
    "other-method": Kind(method=1),
    "other-torch": Kind(runs=5, torch="2.14.0", speed={PRODUCT: 1.2, BLOCK: 1.2}),
}


def make(name: str, kind: Kind, into: Path = HERE) -> Path:
    """Write the runs of one folder anew."""
    folder = into / name
    shutil.rmtree(folder, ignore_errors=True)
    draw = random.Random(f"{name} 2")
    for number in range(kind.runs):
        _write(folder, _manifest(name, kind, number), _records(kind, draw))
    return folder


def _write(folder: Path, manifest: Manifest, records: Sequence[Record]) -> None:
    where = create(folder, manifest)
    with RecordWriter(where, "cpu") as writer:
        for record in records:
            writer.append(record)
    if len(records) == len(manifest.cases):
        mark_done(where)


def _manifest(name: str, kind: Kind, number: int) -> Manifest:
    entry = DeviceEntry(name=kind.device, part=kind.part, evidence="its model", identity=kind.identity)
    return Manifest(
        run=f"20261122T1200{number:02}-{name}-{number:04}",
        method=kind.method,
        suite="smoke",
        created=f"2026-11-22T12:00:{number:02}+00:00",
        hostname="node17",
        devices=(entry,),
        software={"nameplate": "0.1.0", "torch": kind.torch, **kind.libraries},
        seed=2024,
        cases=(*kind.cases, *kind.missing),
    )


def _records(kind: Kind, draw: random.Random) -> list[Record]:
    machine = draw.gauss(1.0, 0.1)
    return [_record(case, kind, machine, draw) for case in kind.cases]


def _record(case: str, kind: Kind, machine: float, draw: random.Random) -> Record:
    workload, dtype, shape, fill, cache, _, backend = case.split("/")
    fields: dict[str, Any] = {
        "method": kind.method,
        "case": case,
        "workload": workload,
        "dtype": dtype,
        "shape": shape,
        "dimensions": {},
        "fill": fill,
        "cache": cache,
        "phase": None,
        "backend": backend,
        "represents": None,
        "device": kind.device,
        "part": kind.part,
        "status": "ok",
        "flops": _FLOPS[case],
        "bytes": _BYTES[case],
        "convention": _CONVENTIONS[case],
        "verdict": kind.verdicts[0],
        "verdicts": kind.verdicts,
    }
    change = dict(kind.changes.get(case, {}))
    if change.get("status", "ok") == "ok":
        speed = kind.speed.get(case, 1.0) * draw.gauss(1.0, _SCATTER)
        fields |= _figures(case, speed, machine, kind.nominal)
    return Record(**(fields | change))


def _figures(case: str, speed: float, machine: float, nominal: float) -> dict[str, Any]:
    """An `ok` record's: of a product and a block beside a probe, of memory without one."""
    flops, conditions = _FLOPS[case], {"elapsed_s": 2.0, "foreign_cpu_share": 0.01}
    if flops is None:
        time_s, found = _BYTES[case] / (11e9 * speed), {}
    else:
        probe, calibration = 0.12 * machine, 1.35
        tflops = probe * _OF_PROBE[case] * speed
        time_s = flops / tflops / 1e12
        found = _named("tflops", "tflops_{}", tflops, _WITHIN)
        found |= _named("efficiency", "efficiency_{}", tflops / nominal, _WITHIN)
        normalized = _OF_PROBE[case] * speed / calibration
        found |= _named("normalized_efficiency", "normalized_efficiency_{}", normalized, 1.5 * _WITHIN)
        found |= {"nominal_tflops": nominal, "ceiling_tflops": tflops / normalized}
        conditions |= {"probe": "768x768x768", "probe_tflops": probe}
        conditions |= _named("calibration_ratio", "calibration_ratio_{}", calibration, _WITHIN)
    found |= _named("bandwidth_gb_s", "bandwidth_{}_gb_s", _BYTES[case] / time_s / 1e9, _WITHIN)
    batches = tuple(
        Batch(start_s=round(0.1 * number, 6), elapsed_s=round(50 * time_s, 9), launches=50, round=number)
        for number in range(2)
    )
    verification = Verification(reference="fp64", error=0.3, rule="rounding", passed=True)
    return {
        **found,
        "time_s": time_s,
        "launches": 100,
        "batches": batches,
        "verification": verification,
        "conditions": conditions,
    }


def _named(value: str, end: str, figure: float, half: float) -> dict[str, float]:
    return {value: figure, end.format("low"): figure * (1 - half), end.format("high"): figure * (1 + half)}


if __name__ == "__main__":
    for name, kind in KINDS.items():
        make(name, kind)
