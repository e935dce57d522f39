"""What is known of CPUs, as JSON in the shape of a part's document, and as a table of all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nameplate.base.formatting import stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.report.view import Column, Field, Table, View, table_of, text_table
from nameplate.specs.cpu import (
    MICROARCHITECTURES_FILE,
    MODELS_FILE,
    Microarchitecture,
    find_boost,
    load_models,
)
from nameplate.specs.cpu_evidence import CertainName, find_certain_name
from nameplate.specs.cpu_names import find_cpu

_DTYPES = ("fp64", "fp32", "bf16", "fp16", "int8")
_FIGURE, _BOOST = "flop_per_cycle.", "max_boost_mhz."  # what keys of sources begin with
_CLOCK = "a CPU's nominal is FLOP per cycle per core × cores × its model's clock: `bench devices` has it"
_UNTOLD = "no table has this processor: on its machine it is rated by loops that are measured there"


def find_cpu_document(name: str) -> dict[str, Any] | None:
    """Return the document of a CPU part by its id, its name, or a model's name; None for any other name.

    Ids that runs print of CPUs in no table (`x86-64-amx-1a2b3c4d`) have a document without figures.
    """
    part = find_cpu(name)
    if part is not None:
        return cpu_document(part)
    certain = find_certain_name(name.strip().casefold())
    return None if certain is None else _certain_document(certain)


def cpu_document(part: Microarchitecture) -> dict[str, Any]:
    """Return one CPU part as JSON: FLOP per cycle per core, clocks of its models in MHz, with sources."""
    figures = {f"{_FIGURE}{figure.dtype} ({figure.instruction})": figure for figure in part.throughput}
    sources: dict[str, Any] = {
        key: {
            "value": figure.flop_per_cycle,
            "source": f"{figure.source}; {figure.note}" if figure.note else figure.source,
            "date": figure.date,
            "basis": figure.basis,
        }
        for key, figure in figures.items()
    }
    models = [boost for boost in load_models().boosts.values() if boost.group.microarchitecture == part.id]
    for boost in models:
        sources[f"{_BOOST}{boost.model}"] = {
            "value": boost.max_boost_mhz,
            "source": boost.group.source,
            "date": boost.group.date,
            "basis": boost.group.basis,
        }
    highest = {dtype: [f.flop_per_cycle for f in part.throughput if f.dtype == dtype] for dtype in _DTYPES}
    return {
        **_blank_document(part.id, part.name, vendor=part.name.partition(" ")[0]),
        "flop_per_cycle": {dtype: max(found) for dtype, found in highest.items() if found},
        "max_boost_mhz": {boost.model: boost.max_boost_mhz for boost in models},
        "efficiency_cores": part.efficiency,
        "sources": sources,
        "notes": [*([part.note] if part.note else []), *_explain_cores(part)],
        "file": f"{MICROARCHITECTURES_FILE}, {MODELS_FILE}",
    }


def _explain_cores(part: Microarchitecture) -> Iterator[str]:
    if part.efficiency is not None:
        yield f"these are the performance cores; the efficiency cores are {part.efficiency}"


def _certain_document(certain: CertainName) -> dict[str, Any]:
    return {**_blank_document(certain.id, certain.name), "notes": [_UNTOLD]}


def _blank_document(part: str, name: str, vendor: str | None = None) -> dict[str, Any]:
    """The keys that every part's document has, without the figures that a CPU part hasn't."""
    return {
        "part": part,
        "name": name,
        "vendor": vendor,
        **dict.fromkeys(("form", "architecture", "multiprocessors", "maximum_mhz", "rated_clock_mhz")),
        **dict.fromkeys(("memory_gb", "memory_type", "memory_bandwidth_gb_s", "tdp_w", "link_gb_s")),
        "nominal_tflops": {},
        "datasheet_tflops": {},
        "devices_per_part": 1,
        "unit": "core",
        "rated_clock_absent": _CLOCK,
        "memory": [],
        "flop_per_cycle": {},
        "max_boost_mhz": {},
        "efficiency_cores": None,
        "sources": {},
        "conflicts": [],
        "flags": [],
        "blank": {},
        "confidence": None,
        "notes": [],
        "driver_names": [],
        "shared_names": [],
        "pci_ids": [],
        "file": None,
    }


def cpu_view(one: Mapping[str, Any], asked: str) -> View:
    """One CPU part: its figures with sources, the clocks of its models, notes."""
    sources = one["sources"]
    figures = [
        (key.removeprefix(_FIGURE), stated(origin["value"]), plain(origin["source"]))
        for key, origin in sources.items()
        if key.startswith(_FIGURE)
    ]
    by_clock: dict[int, list[str]] = {}
    for model, mhz in one["max_boost_mhz"].items():
        by_clock.setdefault(mhz, []).append(model)
    clocks = ((stated(mhz), plain(", ".join(models))) for mhz, models in sorted(by_clock.items()))
    origins = dict.fromkeys(sources[f"{_BOOST}{model}"]["source"] for model in one["max_boost_mhz"])
    remarks = ((_("note"), plain(note)) for note in (*one["notes"], *map(_from, origins)))
    tables = (
        Table(
            _("FLOP per cycle per core"),
            (Column("figure"), Column("value", is_number=True), Column("from")),
            tuple(figures),
        ),
        text_table(_("Highest clocks, MHz"), ("MHz", "models"), clocks),
        text_table(_("Worth knowing"), ("", ""), remarks),
    )
    boost = find_boost(asked)
    return View(
        title=plain(_("{name} ({part})", name=one["name"], part=one["part"])),
        facts=((plain(boost.model), f"{stated(boost.max_boost_mhz)} MHz"),) if boost else (),
        tables=tuple(table for table in tables if table.rows),
        meaning=_("Nominal is FLOP per cycle per core × cores × clock: `bench devices` has this machine's."),
    )


def _from(source: str) -> str:
    return _("clocks: {source}", source=source)


def cpus_table(documents: Sequence[Mapping[str, Any]]) -> Table:
    """All CPU parts, a row each: the most FLOP per cycle per core by dtype, and how many models it has."""
    fields = [
        Field[Mapping[str, Any]]("part", lambda one: plain(one["part"])),
        *(_figure(dtype) for dtype in _DTYPES),
        Field[Mapping[str, Any]]("models", lambda one: stated(len(one["max_boost_mhz"])), is_number=True),
    ]
    return table_of(_("CPU cores: FLOP per cycle per core, at most"), fields, documents)


def _figure(dtype: str) -> Field[Mapping[str, Any]]:
    return Field[Mapping[str, Any]](
        dtype, lambda one: stated(one["flop_per_cycle"].get(dtype)), is_number=True
    )
