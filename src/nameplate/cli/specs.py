"""`bench specs [NAME]`: what is known of a part, with sources, conflicts and flags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import get_terminal_size
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nameplate.cli.options import Json

if TYPE_CHECKING:
    from nameplate.specs.part import Memory, Part

Parts = Annotated[
    list[Path] | None,
    typer.Option("--parts", metavar="FILE", help="A TOML file with parts of your own (repeatable)."),
]
Name = Annotated[
    str | None, typer.Argument(metavar="[NAME]", help="An id, a driver name or a name of the table.")
]


def register(app: typer.Typer) -> None:
    """Add this module's command to `app`."""
    app.command("specs")(specs)


def specs(name: Name = None, parts: Parts = None, json: Json = False) -> None:
    """Print what is known of a part, with sources and conflicts; without NAME, a table of all."""
    from nameplate.specs.parts import registry
    from nameplate.specs.recognition import require

    known = registry(parts or ())
    if name is None:
        documents = [document(part) for part in known.parts.values()]
        _print(documents, json, table(documents))
    else:
        named = require(name, known)
        one = document(named.part, named.memory)
        if named.note:
            one["notes"] = [named.note, *one["notes"]]
        _print(one, json, lines(one, named.note))


def document(part: Part, memory: Memory | None = None) -> dict[str, Any]:
    """One part as JSON. Throughput in TFLOPS (TOPS for int8), dense, of the whole part; unknown is null.

    `memory` is the size that a name settled; without it, a part sold in several has `memory_gb` null.
    """
    size = memory or (part.memory[0] if len(part.memory) == 1 else None)
    return {
        "part": part.id,
        "name": part.name,
        "vendor": part.vendor,
        "form": part.form,
        "architecture": part.architecture,
        "nominal_tflops": {dtype: _number(one.value) for dtype, one in part.nominal.items()},
        "datasheet_tflops": {dtype: _number(one.value) for dtype, one in part.datasheet.items()},
        "devices_per_part": part.devices_per_part,
        "multiprocessors": _value(part.multiprocessors),
        "unit": part.unit,
        "maximum_mhz": _value(part.maximum_mhz),
        "rated_clock_mhz": None if part.rated_clock_mhz is None else round(part.rated_clock_mhz, 1),
        "rated_clock_absent": part.rated_clock_absent,
        "memory_gb": _value(size.gb) if size else None,
        "memory_type": size.type if size else None,
        "memory_bandwidth_gb_s": _value(size.bandwidth_gb_s) if size else None,
        "memory": [_memory(one) for one in part.memory],
        "tdp_w": _value(part.tdp_w),
        "link_gb_s": _value(part.link_gb_s),
        "sources": {key: _origin(quantity) for key, quantity in part.figures()},
        "conflicts": [_conflict(one) for one in part.conflicts],
        "flags": list(part.flags),
        "blank": dict(part.blank),
        "confidence": part.confidence,
        "notes": list(part.notes),
        "driver_names": list(part.driver_names),
        "shared_names": list(part.shared_names),
        "pci_ids": list(part.pci_ids),
        "file": part.file,
    }


def table(documents: list[dict[str, Any]]) -> Iterator[str]:
    """All parts, one line each: dense TFLOPS, GB, GB/s, W, and the rated clock in MHz."""
    width = max(len(one["part"]) for one in documents)
    yield (
        f"{'part':{width}}  {'fp16':>7} {'bf16':>7} {'fp8':>7} {'int8':>7}  {'GB':>7} {'GB/s':>6} {'W':>5}"
        f" {'MHz':>5}"
    )
    for one in documents:
        peaks = " ".join(
            _cell(one["nominal_tflops"].get(dtype), 7) for dtype in ("fp16", "bf16", "fp8_e4m3", "int8")
        )
        sizes = "/".join(f"{memory['gb']:g}" for memory in one["memory"]) or "–"
        speeds = {memory["bandwidth_gb_s"] for memory in one["memory"]}
        speed = _cell(speeds.pop() if len(speeds) == 1 else None, 6)
        clock = one["rated_clock_mhz"] and round(one["rated_clock_mhz"])
        mark = " !" if one["flags"] else ""
        yield (
            f"{one['part']:{width}}  {peaks}  {sizes:>7} {speed} {_cell(one['tdp_w'], 5)}"
            f" {_cell(clock, 5)}{mark}"
        )
    yield "Nominal, dense; MHz is the clock that gives the rated figure. !: flagged, see `bench specs NAME`."


def lines(one: dict[str, Any], taken_as: str | None = None) -> Iterator[str]:
    """One part: figures, each with its source, then what is flagged, disputed, missing and worth knowing.

    `taken_as` says what a short name was taken for.
    """
    yield f"{one['name']} ({one['part']})"
    if taken_as:
        # Broken at spaces alone: the ids in it are copied into commands.
        yield from wrap(
            f"{taken_as}.", get_terminal_size().columns, break_long_words=False, break_on_hyphens=False
        )
    for key, origin in one["sources"].items():
        yield f"  {key:28} {origin['value']:>8g}  {origin['source']}"
    clock = one["rated_clock_mhz"]
    yield f"  {'rated clock, MHz':28} " + (
        f"{clock:>8g}  computed" if clock else f"{'–':>8}  {one['rated_clock_absent']}"
    )
    if one["devices_per_part"] > 1:
        yield f"  a framework sees {one['devices_per_part']} devices, each with its share of these figures"
    for heading, said in (
        ("flags", one["flags"]),
        ("conflicts", [conflict["sentence"] for conflict in one["conflicts"]]),
        ("blank", [f"{key}: {reason}" for key, reason in one["blank"].items()]),
        (
            f"notes (confidence {one['confidence'] or 'not stated'})",
            [note for note in one["notes"] if note != taken_as],
        ),
    ):
        if said:
            yield heading
            yield from (f"  • {sentence}" for sentence in said)


def _print(data: Any, json: bool, text: Iterator[str]) -> None:
    if json:
        from nameplate.cli.output import print_json

        print_json(data)
    else:
        for line in text:
            print(line)


def _memory(memory: Memory) -> dict[str, Any]:
    return {
        "gb": _value(memory.gb),
        "type": memory.type,
        "bandwidth_gb_s": _value(memory.bandwidth_gb_s),
        "driver_names": list(memory.driver_names),
    }


def _origin(quantity: Any) -> dict[str, Any]:
    return {
        "value": _number(quantity.value),
        "source": quantity.source,
        "date": quantity.date,
        "basis": quantity.basis,
    }


def _conflict(conflict: Any) -> dict[str, Any]:
    return {
        "of": conflict.of,
        "values": [
            {"value": _number(value), "source": source.text, "date": source.date}
            for value, source in conflict.values
        ],
        "used": _number(conflict.used),
        "why": conflict.why,
        "sentence": str(conflict),
    }


def _value(quantity: Any) -> float | None:
    return None if quantity is None else _number(quantity.value)


def _number(value: Any) -> Any:
    """A whole number without its ".0"."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _cell(value: float | None, width: int) -> str:
    return f"{'–' if value is None else f'{value:g}':>{width}}"
