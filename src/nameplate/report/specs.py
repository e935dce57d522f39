"""What is known of parts, as JSON and as screens: figures with sources, conflicts, flags, missing figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nameplate.base.formatting import stated
from nameplate.base.language import _
from nameplate.base.messages import render
from nameplate.base.text import plain
from nameplate.report.view import Column, Field, Table, View, table_of, text_table
from nameplate.specs.part import Memory, Part
from nameplate.specs.physics import describe_flags

Document = Mapping[str, Any]


def part_document(part: Part, memory: Memory | None = None) -> dict[str, Any]:
    """Return one part as JSON: dense throughput of the whole part in TFLOPS (TOPS for int8), null if unknown.

    `memory` is the size that a name implied; without it, a part sold in several sizes has null `memory_gb`.
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
        "flop_per_clock": dict(part.flop_per_clock),
        "maximum_mhz": _value(part.maximum_mhz),
        "unrounded_tflops": {
            dtype: one.unrounded for dtype, one in part.datasheet.items() if one.unrounded is not None
        },
        "gemm_peak": {dtype: part.gemm_figure(dtype) for dtype in part.datasheet},
        "sparse_tflops": {dtype: _number(value) for dtype, value in part.sparse_tflops.items()},
        "rated_clock_mhz": {
            dtype: round(clock, 1) for dtype in part.datasheet if (clock := part.rated_clock_mhz(dtype))
        },
        "rated_clock_absent": {
            dtype: why for dtype in part.datasheet if (why := part.rated_clock_absent(dtype))
        },
        "memory_gb": _value(size.gb) if size else None,
        "memory_type": size.type if size else None,
        "memory_bandwidth_gb_s": _value(size.bandwidth_gb_s) if size else None,
        "memory": [_memory(one) for one in part.memory],
        "tdp_w": _value(part.tdp_w),
        "link_gb_s": _value(part.link_gb_s),
        "sources": {key: _origin(quantity) for key, quantity in part.figures()},
        "conflicts": [_conflict(one) for one in part.conflicts],
        "flags": [render(flag) for flag in describe_flags(part)],
        "blank": dict(part.blank),
        "confidence": part.confidence,
        "notes": list(part.notes),
        "driver_names": list(part.driver_names),
        "shared_names": list(part.shared_names),
        "pci_ids": list(part.pci_ids),
        "file": part.file,
    }


def parts_view(documents: Sequence[Document], *more: Table) -> View:
    """All parts, a row each: dense TFLOPS, GB, GB/s, W, and the rated clock in MHz; then more tables."""
    fields = [
        Field[Document]("part", lambda one: plain(one["part"])),
        *(_peak(dtype) for dtype in ("fp16", "bf16", "fp8_e4m3", "int8")),
        Field[Document]("GB", _sizes, is_number=True),
        Field[Document]("GB/s", _speed, is_number=True, drop_priority=1),
        Field[Document]("W", lambda one: stated(one["tdp_w"]), is_number=True, drop_priority=2),
        Field[Document]("MHz", _clock, is_number=True, drop_priority=0),
        Field[Document]("!", lambda one: "!" if one["flags"] else ""),
    ]
    return View(
        title=_("The parts that are known"),
        tables=(table_of(_("Nominal, dense"), fields, documents), *more),
        meaning=_(
            "MHz is the clock that gives the rated FP16 or BF16 figure. !: flagged, see `bench specs NAME`."
        ),
    )


def part_view(one: Document, taken_as: str | None = None) -> View:
    """One part: its figures with sources, then flags, conflicts, missing figures and notes.

    `taken_as` says which part a short name stands for.
    """
    rows = [(key, stated(origin["value"]), plain(origin["source"])) for key, origin in one["sources"].items()]
    rows += _rated_clocks(one)
    tables = (
        Table(_("Figures"), (Column("figure"), Column("value", is_number=True), Column("from")), tuple(rows)),
        text_table(_("Worth knowing"), ("", ""), _remarks(one)),
    )
    return View(
        title=plain(_("{name} ({part})", name=one["name"], part=one["part"])),
        facts=(("note", plain(taken_as)),) if taken_as else (),
        tables=tuple(table for table in tables if table.rows),
        meaning=_("Confidence: {confidence}.", confidence=_(one["confidence"] or "not stated")),
    )


def _rated_clocks(one: Document) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each rated clock with the dtypes that have it, and for each reason for having none."""
    for clock, dtypes in _group(one["rated_clock_mhz"]):
        yield _("rated clock, MHz"), stated(clock), _(", ").join(dtypes)
    for why, dtypes in _group(one["rated_clock_absent"]):
        said = _("{name}: {said}", name=_(", ").join(dtypes), said=why)
        yield _("rated clock, MHz"), stated(None), plain(said)


def _group(by_dtype: Mapping[str, Any]) -> Iterator[tuple[Any, list[str]]]:
    """Yield each value with the dtypes that have it."""
    for value in dict.fromkeys(by_dtype.values()):
        yield value, [dtype for dtype, its in by_dtype.items() if its == value]


def _remarks(one: Document) -> Iterator[tuple[str, str]]:
    if one["devices_per_part"] > 1:
        yield (
            _("devices"),
            _(
                "a framework sees {count} devices, each with its share of these figures",
                count=one["devices_per_part"],
            ),
        )
    for dtype, figure in one["gemm_peak"].items():
        if figure != dtype:
            yield (
                _("note"),
                _("a matrix product in {dtype} is compared with {figure}", dtype=dtype, figure=figure),
            )
    for name, said in (
        (_("flag"), one["flags"]),
        (_("conflict"), map(_disagreement, one["conflicts"])),
        (_("blank"), [_("{name}: {said}", name=key, said=reason) for key, reason in one["blank"].items()]),
        (_("note"), one["notes"]),
    ):
        yield from ((name, plain(sentence)) for sentence in said)


def _disagreement(conflict: Mapping[str, Any]) -> str:
    """Say what each source states, which value is used, and why."""
    said = [f"{_value_of(each)} ({each['source']}, {each['date']})" for each in conflict["values"]]
    used = conflict["used"]
    return _(
        "{figure}: {values}; used: {used} ({why})",
        figure=conflict["of"],
        values=_(", ").join(said),
        used=_("none") if used is None else used if isinstance(used, str) else stated(used),
        why=conflict["why"],
    )


def _value_of(said: Mapping[str, Any]) -> str:
    value = said["value"]
    return value if isinstance(value, str) else stated(value)


def _peak(dtype: str) -> Field[Document]:
    return Field[Document](dtype, lambda one: stated(one["nominal_tflops"].get(dtype)), is_number=True)


def _sizes(one: Document) -> str:
    return "/".join(stated(memory["gb"]) for memory in one["memory"]) or "–"


def _speed(one: Document) -> str:
    """Return the bandwidth, if all memory sizes have the same."""
    speeds = {memory["bandwidth_gb_s"] for memory in one["memory"]}
    return stated(speeds.pop() if len(speeds) == 1 else None)


def _clock(one: Document) -> str:
    """Return the rated clock of FP16 or BF16, which people compare."""
    clocks = one["rated_clock_mhz"]
    clock = clocks.get("fp16") or clocks.get("bf16")
    return stated(clock and round(clock))


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
            {"value": _number(one.value), "source": one.source.text, "date": one.source.date}
            for one in conflict.values
        ],
        "used": _number(conflict.used),
        "why": conflict.why,
        "sentence": str(conflict),
    }


def _value(quantity: Any) -> float | None:
    return None if quantity is None else _number(quantity.value)


def _number(value: Any) -> Any:
    """Return a whole number as an int, for JSON without ".0"; anything else as it is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
