"""Records, manifests and runs as nobody measured them: what fixtures of conftest.py hand to tests."""

from __future__ import annotations

from pathlib import Path

from nameplate.base.messages import to_message
from nameplate.device.identity import CudaIdentity, SimulatedIdentity
from nameplate.record import Batch, Derate, Moment, Record, Verification
from nameplate.store.folder import RecordWriter, Run, create, mark_done
from nameplate.store.manifest import DeviceEntry, Expected, Manifest

_MEASURED = {
    "case": "matmul/bf16/1024x1024x1024/normal/warm/-/torch",
    "workload": "matmul",
    "dtype": "bf16",
    "shape": "1024x1024x1024",
    "dimensions": {"m": 1024, "n": 1024, "k": 1024, "layout": "nn", "times": 1},
    "fill": "normal",
    "cache": "warm",
    "phase": None,
    "backend": "torch",
    "represents": None,
    "device": "cpu",
    "part": "amd-zen4",
    "status": "ok",
    "verdict": "clean",
    "verdicts": ("clean",),
    "flops": 2 * 1024**3,
    "bytes": 3 * 2 * 1024**2,
    "convention": "2MNK",
    "tflops": 0.4,
    "tflops_low": 0.39,
    "tflops_high": 0.41,
    "tflops_median": 0.405,
    "nominal_tflops": 0.5,
    "nominal_source": "64 FLOP per cycle per core × 2 cores",
    "efficiency": 0.8,
    "efficiency_low": 0.78,
    "efficiency_high": 0.82,
    "datasheet_tflops": 0.5,
    "datasheet_source": "64 FLOP per cycle per core × 2 cores",
    "datasheet_efficiency": 0.8,
    "bandwidth_gb_s": 1.171875,
    "bandwidth_low_gb_s": 1.142578125,
    "bandwidth_high_gb_s": 1.201171875,
    "time_s": 2 * 1024**3 / 0.4e12,
    "launches": 200,
    "processes": 1,
    "interval_kind": "within",
    "started": "2026-11-22T12:00:00+00:00",
    "cost_s": 1.5,
    "verification": Verification(reference="fp64", error=0.3, rule="rounding", passed=True),
    "conditions": {"elapsed_s": 1.2, "own_cpu_share": 0.99, "steal_share": None},
    "batches": (
        Batch(start_s=0.0, elapsed_s=0.54, launches=100),
        Batch(start_s=0.6, elapsed_s=0.533741824, launches=100),
    ),
}
_AXES = ("workload", "dtype", "shape", "fill", "cache", "phase", "backend")
_DECLARED = (
    *("case", "workload", "dtype", "shape", "dimensions", "fill", "cache", "phase", "backend"),
    *("represents", "device", "part"),
)


def with_messages(fields):
    """Make a message of each plain text that stands where a record has one."""
    found = dict(fields)
    for name in {"reason", "loss"} & found.keys():
        found[name] = None if found[name] is None else to_message(found[name])
    if "warnings" in found:
        found["warnings"] = tuple(map(to_message, found["warnings"]))
    return found


def make_record(**changes):
    """Build a record: measured and clean unless told otherwise; `status="skipped"` starts without figures.

    Plain text for a reason, a loss or a warning is a message of code `text`. A whole case id sets its axes.
    """
    axes = changes.get("case", "").split("/")
    if len(axes) == len(_AXES):
        changes = dict(zip(_AXES, axes, strict=True)) | {"phase": axes[5].strip("-") or None} | changes
    fields = dict(_MEASURED)
    if changes.get("status", "ok") != "ok":
        fields = {name: _MEASURED[name] for name in _DECLARED}
        fields |= {"reason": "no such thing here", "verdict": "unknown", "verdicts": ("unknown",)}
    return Record(**with_messages(fields | changes))


def make_manifest(cases=(), **changes):
    """Build a manifest of one simulated device that expects the cases it is given."""
    identity = SimulatedIdentity(name="a simulated device")
    entry = DeviceEntry(name="cpu", part="amd-zen4", evidence="its model", identity=identity)
    fields = {
        "run": "20261122T120000-fake-0001",
        "suite": "fake",
        "created": "2026-11-22T12:00:00+00:00",
        "hostname": "node17",
        "devices": (entry,),
        "software": {"nameplate": "0.1.0", "torch": "2.13.0"},
        "seed": 7,
        "cases": tuple(cases),
    }
    return Manifest(**(fields | changes))


def make_run(*records, problems=(), missing=(), **changes):
    """Build a finished run of these records; it is nowhere on disk."""
    manifest = make_manifest([*(record.case for record in records), *missing], **changes)
    told = tuple(map(to_message, problems))
    return Run(Path("runs") / manifest.run, manifest, records, told, not missing)


def store_run(results, *records, done=True, **changes):
    """Write a run of these records to disk, finished unless told otherwise; returns its folder."""
    folder = create(results, make_manifest([record.case for record in records], **changes))
    with RecordWriter(folder, "cpu") as writer:
        for record in records:
            writer.append(record)
    if done:
        mark_done(folder)
    return folder


A800 = "nvidia-a800-sxm4-80gb"
# TFLOPS that a made-up A800 reaches: dtype, edge of a square product, TFLOPS, nominal, datasheet.
_SQUARES = (
    ("bf16", 2048, 185.0, 320.0, 312.0),
    ("fp16", 8192, 258.0, 320.0, 312.0),
    ("fp16", 2048, 180.0, 320.0, 312.0),
    ("tf32", 8192, 131.0, 160.0, 156.0),
)
# The products of a layer, by outputs and inputs: TFLOPS, and how often the layer runs it.
_LAYER = {
    (6144, 4096): (238.0, 1),
    (4096, 4096): (232.0, 1),
    (14336, 4096): (245.0, 2),
    (4096, 14336): (241.0, 1),
}
_RATED = ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops")
_OF_FLOPS = ("flops", "tflops", "tflops_low", "tflops_high", "tflops_median", "convention")


class _A800:
    """The records of one made-up A800; `text` stands in every free text of them."""

    def __init__(self, device, scale, text):
        self.device, self.scale, self.text = device, scale, text

    def records(self):
        """Something for every section: from idle and settled, a layer, its block, memory, a skip."""
        yield self.square("bf16", 8192, 275.0, 320.0, 312.0, phase="burst", group="8192", **self.onset())
        held = {
            "verdict": "power_capped",
            "verdicts": ("power_capped",),
            "loss": f"power limit 9%{self.text}",
        }
        held |= {"ceiling_tflops": self.scale * 285, "normalized_efficiency": 260 / 285}
        held |= {"normalized_efficiency_low": 0.90, "normalized_efficiency_high": 0.93, "power_w": 390.0}
        yield self.square("bf16", 8192, 260.0, 320.0, 312.0, group="8192", **held)
        for square in _SQUARES:
            yield self.square(*square, warnings=(f"it spread by 3 %{self.text}",))
        yield from self.layer(4096)
        yield from self.memory()
        declared = {name: _MEASURED[name] for name in _DECLARED} | {"device": self.device, "part": A800}
        skipped = {"status": "skipped", "reason": to_message(f"no such tensor core{self.text}")}
        unknown = {"verdict": "unknown", "verdicts": ("unknown",), "dtype": "fp8_e4m3", "shape": "8x8x8"}
        yield Record(**(declared | skipped | unknown | {"case": "matmul/fp8_e4m3/8x8x8/normal/warm/-/torch"}))

    def onset(self):
        moments = [
            Moment(
                at_s=0.1 * 2**n,
                tflops=self.scale * (275 - 2 * n),
                sm_clock_mhz=1410.0 - 9 * n,
                power_w=400.0 - n,
                temperature_c=40.0 + 2 * n,
            )
            for n in range(10)
        ]
        tflops = self.scale * 262
        derate = Derate(at_s=10.0, tflops=tflops, efficiency=tflops / 320, of_burst=262 / 275)
        return {"settled_s": 24.0, "course": moments, "derates": (derate,)}

    def square(self, dtype, edge, tflops, *rated, phase="sustained", **fields):
        reached = self.reached(tflops, 2 * edge**3, 6 * edge**2, *rated)
        size = {"dimensions": {"m": edge, "n": edge, "k": edge}}
        shape = f"{edge}x{edge}x{edge}{self.text}"
        return self.record(f"matmul/{dtype}", shape, phase, **(reached | size | fields))

    def layer(self, tokens):
        """The products of a model's layer and its block, forward and backward, drawn in turn."""
        same = {"group": "layer", "represents": f"Llama-3-8B{self.text}"}
        forward = 2 * tokens**2 * 32 * 128
        for (outputs, inputs), (tflops, times) in _LAYER.items():
            flops = 2 * tokens * outputs * inputs
            forward += times * flops
            moved = 2 * (tokens * inputs + inputs * outputs + tokens * outputs)
            size = {"dimensions": {"m": tokens, "n": outputs, "k": inputs, "times": times}}
            reached = self.reached(tflops, flops, moved, 320.0, 312.0)
            yield self.record("matmul/bf16", f"{tokens}x{outputs}x{inputs}-nt", **(reached | size | same))
        size = {"batch": 1, "tokens": tokens, "heads": 32, "head_dim": 128, "pass": "forward_backward"}
        reached = self.reached(205.0, 3 * forward, 1 << 30, 320.0, 312.0)
        reached |= {"dimensions": size, "convention": f"Megatron{self.text}"}
        shape = f"1x{tokens}x4096-forward_backward"
        yield self.record("transformer_block/bf16", shape, **(reached | same))

    def memory(self):
        unrated = dict.fromkeys((*_RATED, "datasheet_efficiency"))
        triad = self.reached(0.28, 1 << 31, 12 << 30, 1.0, 1.0) | unrated | dict.fromkeys(_OF_FLOPS)
        yield self.record("memory/fp32", "triad-4096MiB", **triad)
        copy = {"time_s": triad["time_s"] * 2 / 3, "bytes": 8 << 30}
        yield self.record("memory/fp32", "copy-4096MiB", **(triad | copy))

    def record(self, work, shape, phase="sustained", **fields):
        workload, dtype = work.split("/")
        axes = {"workload": workload, "dtype": dtype, "shape": shape, "cache": "rotating", "phase": phase}
        axes |= {"case": f"{work}/{shape}/normal/rotating/{phase}/torch", "device": self.device, "part": A800}
        sources = dict.fromkeys(("nominal_source", "datasheet_source"), f"counted{self.text}")
        elapsed_s = fields["time_s"] * _MEASURED["launches"] / 2
        halves = [Batch(start_s=n * elapsed_s, elapsed_s=elapsed_s, launches=100) for n in range(2)]
        return Record(**with_messages(_MEASURED | axes | sources | {"batches": tuple(halves)} | fields))

    def reached(self, tflops, flops, moved, nominal, datasheet):
        """What a record holds of work that reached this; every interval is 1 % to either side."""
        tflops *= self.scale
        time_s = flops / tflops / 1e12
        values = {
            "tflops{}": tflops,
            "efficiency{}": tflops / nominal,
            "bandwidth{}_gb_s": moved / time_s / 1e9,
        }
        ends = {"": 1.0, "_low": 0.99, "_high": 1.01}
        return {
            **{name.format(end): value * of for name, value in values.items() for end, of in ends.items()},
            "flops": flops,
            "bytes": moved,
            "time_s": time_s,
            "tflops_median": tflops,
            "nominal_tflops": nominal,
            "datasheet_tflops": datasheet,
            "datasheet_efficiency": tflops / datasheet,
        }


def make_a800_run(*scales, text="", records=tuple, **changes):
    """Build a finished run as A800s may have it, with something for every section; it is nowhere on disk.

    `scales` has a number for each device, by which its figures are multiplied; `text` stands in every free
    text; `records` takes the records and gives those to keep.
    """
    names = {f"cuda:{n}": scale for n, scale in enumerate(scales or (1.0,))}
    kept = tuple(
        records([each for name, scale in names.items() for each in _A800(name, scale, text).records()])
    )
    identity = CudaIdentity(name=f"NVIDIA A800-SXM4-80GB{text}", index=0)
    notes = (to_message(text),) if text else ()
    entry = DeviceEntry(name="", part=A800, evidence=f"its name{text}", notes=notes, identity=identity)
    fields = {
        "run": "20261122T120000-standard-a800",
        "suite": f"standard{text}",
        "created": f"2026-11-22T12:00:00+00:00{text}",
        "hostname": f"node17{text}",
        "devices": tuple(entry.model_copy(update={"name": name}) for name in names),
        "software": {"nameplate": f"0.1.0{text}", "torch": f"2.13.0{text}"},
        "seed": 7,
        "cases": tuple(Expected(case=each.case, device=each.device) for each in kept),
    }
    manifest = Manifest(**(fields | changes))
    return Run(Path("runs") / manifest.run, manifest, kept, notes, True)
