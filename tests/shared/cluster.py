"""The runs of a made-up cluster: `python -m cluster FOLDER NODES` writes H100 nodes of eight to disk."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from nameplate.record import Batch, Record
from nameplate.store.launch import Launch
from nameplate.store.manifest import Expected, Manifest
from nodes import COPY, PRODUCT, h100_entry, h100_fields

CASES = ((PRODUCT, 0.72), (COPY, 0.92))
_WHERE = ("workload", "dtype", "shape", "fill", "cache", "phase", "backend")
BATCHES = 60  # of a record, as a check of a minute has


def _template(case):
    """A record as JSON values; only its device and its figures differ from node to node."""
    axes = dict(zip(_WHERE, case.split("/"), strict=True))
    axes["phase"] = axes["phase"].strip("-") or None
    fields = h100_fields("cuda:0", 1.0, case) | axes
    told = {
        "status": "ok",
        "verdict": "clean",
        "verdicts": ("clean",),
        "represents": None,
        "launches": 60 * BATCHES,
        "batches": tuple(
            Batch(start_s=float(n), elapsed_s=0.9, launches=60, round=n) for n in range(BATCHES)
        ),
    }
    return json.loads(Record(**fields | told).model_dump_json())


def write_cluster(folder, nodes, slow=(), absent=(), seed=1):
    """Write the run of each node but the `absent`; GPU 3 of the `slow` ones is 15 % slower in everything."""
    rng = np.random.default_rng(seed)
    templates = [(_template(case), case, level) for case, level in CASES]
    hosts = tuple(f"node{number:05d}" for number in range(nodes))
    for number, host in enumerate(hosts):
        if number in absent:
            continue
        entries = tuple(h100_entry(gpu, uuid=f"GPU-{host}-{gpu}") for gpu in range(8))
        expected = tuple(Expected(case=case, device=e.name) for _t, case, _l in templates for e in entries)
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
        lines = []
        for template, case, level in templates:
            for entry, speed in zip(entries, speed_N, strict=True):
                fields = h100_fields(entry.name, level * float(speed), case)
                kept = {name: value for name, value in fields.items() if name in template}
                lines.append(json.dumps(template | kept, separators=(",", ":")))
        (run / "records-0.jsonl").write_text("\n".join(lines) + "\n")
        (run / "DONE").touch()
    return hosts


if __name__ == "__main__":
    write_cluster(sys.argv[1], int(sys.argv[2]), slow={17, 99}, absent={5})
