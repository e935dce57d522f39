"""The runs of a made-up cluster: `python -m cluster FOLDER NODES` writes H100 nodes of eight to disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from nameplate.record import Batch, Record, Verification
from nameplate.store.launch import Launch
from nameplate.store.manifest import Expected, Manifest
from nodes import COPY, PRODUCT, h100_entry, h100_fields

CASES = ((PRODUCT, 0.72), (COPY, 0.92))
_WHERE = ("workload", "dtype", "shape", "fill", "cache", "phase", "backend")
BATCHES = 60  # of a record, as a check of a minute has


def make_h100_record(device, case, share):
    """A record of an H100 of a cluster; its batches are those that its figures follow from."""
    axes = dict(zip(_WHERE, case.split("/"), strict=True))
    axes["phase"] = axes["phase"].strip("-") or None
    fields = h100_fields(device, share, case) | axes
    time_s, of_flops = fields["time_s"], fields.get("flops") is not None
    bandwidth = fields["bytes"] / time_s / 1e9
    told = {
        "status": "ok",
        "verdict": "clean",
        "verdicts": ("clean",),
        "represents": None,
        "convention": "2MNK" if of_flops else None,
        "bandwidth_gb_s": bandwidth,
        "bandwidth_low_gb_s": 0.99 * bandwidth,
        "bandwidth_high_gb_s": 1.01 * bandwidth,
        "launches": 60 * BATCHES,
        "verification": Verification(reference="fp32", error=0.4, rule="rounding of bf16", passed=True),
        "batches": tuple(
            Batch(start_s=60 * time_s * n, elapsed_s=60 * time_s, launches=60, round=n)
            for n in range(BATCHES)
        ),
    }
    return Record(**fields | told)


def write_cluster(folder, nodes, slow=(), absent=(), seed=1):
    """Write the run of each node but the `absent`; GPU 3 of the `slow` ones is 15 % slower in everything."""
    rng = np.random.default_rng(seed)
    hosts = tuple(f"node{number:05d}" for number in range(nodes))
    for number, host in enumerate(hosts):
        if number in absent:
            continue
        entries = tuple(h100_entry(gpu, uuid=f"GPU-{host}-{gpu}") for gpu in range(8))
        expected = tuple(Expected(case=case, device=e.name) for case, _level in CASES for e in entries)
        launch = Launch(launcher="torch", rank=number, world_size=nodes, job="1")
        manifest = Manifest(
            run=f"20261129T120000-check-{number:012x}",
            suite="check",
            created="2026-11-29T12:00:00+00:00",
            hostname=host,
            devices=entries,
            software={"torch": "2.13.0"},
            seed=7,
            cases=expected,
            launch=launch,
        )
        run = Path(folder) / manifest.run
        run.mkdir(parents=True)
        (run / "manifest.json").write_text(manifest.model_dump_json())
        speed_N = np.exp(rng.normal(0, 0.0135, 8))
        speed_N[3] *= 0.85 if number in slow else 1.0
        records = [
            make_h100_record(entry.name, case, level * float(speed))
            for case, level in CASES
            for entry, speed in zip(entries, speed_N, strict=True)
        ]
        lines = "".join(record.model_dump_json() + "\n" for record in records)
        (run / "records-0.jsonl").write_text(lines)
        (run / "DONE").touch()
    return hosts


if __name__ == "__main__":
    write_cluster(sys.argv[1], int(sys.argv[2]), slow={17, 99}, absent={5})
