"""The devices of this machine, as JSON and as a screen: part, rating, health, the best published figure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from nameplate.base.formatting import count, figure, percent, stated
from nameplate.base.language import _
from nameplate.base.messages import Reason, render
from nameplate.base.text import plain
from nameplate.chain.published import find_best_gemm
from nameplate.device.survey import OBSTACLE_NOTES, Survey, SurveyedDevice
from nameplate.report.labels import describe_twins
from nameplate.report.view import Table, View, text_table
from nameplate.specs.rating import Rating

# What the screen shows of an identity; JSON has everything, the flags of a CPU included.
_FACTS = {
    "cpu": (
        *(
            "product",
            "architecture",
            "virtual_machine",
            "logical_cpus",
            "usable_cores",
            "quota_cpus",
            "maximum_mhz",
        ),
        *("measured_mhz", "threads", "instruction_set", "blas", "thread_settings"),
    ),
    "cuda": (
        *("compute_capability", "driver", "cuda_driver", "vbios", "power_limit_w", "default_power_limit_w"),
        *("max_sm_clock_mhz", "ecc_mode", "mig_mode", "persistence_mode", "compute_mode"),
        *("virtualization_mode", "max_pcie_generation", "max_pcie_width"),
    ),
}
_UNITS = {"_w": " W", "_mhz": " MHz"}
_PUBLISHED = (
    *("id", "value", "numerator_tflops", "denominator_tflops"),
    *("device", "part", "scope", "source", "date"),
)
_NOW = (("temperature_c", "°C"), ("sm_clock_mhz", "MHz"), ("power_w", "W"))
# Consecutive devices that agree in these are printed as one block.
_SHARED = ("part", "evidence", "nominal_tflops", "datasheet_tflops", "missing", "notes", "unusable")


def devices_document(survey: Survey) -> dict[str, Any]:
    """Return `{"devices", "nvml", "torch"}`, with throughput in TFLOPS and null for what isn't known.

    Sentences are in the current language: English for JSON, the reader's for a screen.
    """
    return {
        "devices": [_device(seen) for seen in survey.devices],
        "nvml": {
            "driver": survey.driver,
            "cuda_driver": survey.cuda_driver,
            "count": survey.nvml_count,
            "absent": None if survey.nvml_absent is None else render(survey.nvml_absent),
        },
        "torch": survey.torch,
    }


def _device(seen: SurveyedDevice) -> dict[str, Any]:
    rating, reading = seen.rating, seen.reading
    now = None if reading is None else reading.model_dump(mode="json") | {"absent": _rendered(reading.absent)}
    return {
        "device": seen.name,
        "part": rating.part,
        "evidence": render(rating.evidence),
        "nominal_tflops": {dtype: one.tflops for dtype, one in rating.nominal.items()},
        # A rating that isn't measured has no width.
        "nominal_low": {dtype: one.low or one.tflops for dtype, one in rating.nominal.items()},
        "nominal_high": {dtype: one.high or one.tflops for dtype, one in rating.nominal.items()},
        "silicon_tflops": _silicon(rating),
        "basis": {dtype: one.basis for dtype, one in rating.nominal.items()},
        "instruction": {dtype: one.instruction for dtype, one in rating.nominal.items()},
        "clock_mhz": {dtype: one.clock_mhz for dtype, one in rating.nominal.items()},
        "datasheet_tflops": {dtype: one.tflops for dtype, one in rating.datasheet.items()},
        "sources": {dtype: render(one.source) for dtype, one in rating.nominal.items()},
        "datasheet_sources": {dtype: render(one.source) for dtype, one in rating.datasheet.items()},
        "missing": render(rating.missing),
        "notes": [render(note) for note in rating.notes if note.code not in OBSTACLE_NOTES],
        "best_published": _best_published(rating.part, rating.nominal),
        "unusable": seen.unusable,
        "health": list(seen.health),
        "in_the_way": list(seen.in_the_way),
        "reading": now,
        "identity": seen.identity.as_json(),
        "absent": {} if seen.facts is None else _rendered(seen.facts.absent),
    }


def _silicon(rating: Rating) -> dict[str, float]:
    """Return the measured peak of a CPU in TFLOPS, by dtype; nothing where none was measured."""
    peaks = {dtype: rating.silicon_for(dtype) for dtype in rating.silicon.dtypes} if rating.silicon else {}
    return {dtype: peak.tflops for dtype, peak in peaks.items() if peak is not None}


def _rendered(reasons: Mapping[str, Reason]) -> dict[str, str]:
    return {figure: render(reason) for figure, reason in reasons.items()}


def _best_published(part: str | None, dtypes: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the best published matrix product by dtype: a healthy device should come near it."""
    found = {dtype: find_best_gemm(part, dtype) for dtype in dtypes} if part else {}
    return {
        dtype: {name: getattr(best, name) for name in _PUBLISHED}
        for dtype, best in found.items()
        if best is not None
    }


def devices_view(found: Mapping[str, Any]) -> View:
    """The document as a screen: devices that are alike share a table, with a line each for their state."""
    rows = found["devices"]
    blocks = groupby(rows, key=lambda row: [row[name] for name in _SHARED])
    tables = [_block_table(list(alike)) for _key, alike in blocks]
    nvml = found["nvml"]["absent"]
    problems = sum(map(_count_problems, rows))
    what = count(problems) if problems else _("no known ones")
    return View(
        notice=describe_twins(row["identity"]["name"] for row in rows if row["identity"].get("twin")),
        title=_("The devices of this machine"),
        facts=(("NVML", plain(nvml)),) if nvml else (),
        tables=tuple(tables),
        meaning=_("Problems for measuring: {what}.", what=what),
    )


def _block_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    first = rows[0]
    names = first["device"] if len(rows) == 1 else f"{first['device']} … {rows[-1]['device']}"
    name = first["identity"]["name"] or _("a device without a name")
    heading = _("{name}: {said}", name=names, said=name)
    lines = tuple((plain(name), plain(value)) for name, value in _lines(rows))
    return text_table(plain(heading), ("", ""), lines)


def _lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield the name and the value of each line of a block."""
    first = rows[0]
    part, evidence = first["part"] or _("none known"), first["evidence"]
    yield _("part"), _("{name}: {said}", name=part, said=evidence)
    if first["unusable"]:
        yield _("can't be used"), first["unusable"]
    yield from _ratings(first)
    if first["silicon_tflops"]:
        peaks = (f"{dtype} {figure(tflops)}" for dtype, tflops in first["silicon_tflops"].items())
        yield _("measured peak, TFLOPS"), _(", ").join(peaks)
    kinds = first["identity"].get("core_kinds") or ()
    if len(kinds) > 1:
        yield _("kinds of cores"), _(", ").join(map(_kind, kinds))
    for dtype, best in first["best_published"].items():
        yield _("best published"), _describe_best(dtype, best)
    for note in first["notes"]:
        yield _("note"), note
    yield _("facts"), _facts(first["identity"])
    for row in rows:
        alone = len(rows) == 1
        yield _("now") if alone else row["device"], _now(row)
        for sentence in (*row["health"], *row["in_the_way"]):
            yield _("problem") if alone else row["device"], sentence


def _kind(kind: Mapping[str, Any]) -> str:
    """Return a kind of cores as text: `8 × performance 5,200 MHz`, `4 × 0xd0b 2,400 MHz`."""
    part, mhz = kind["arm_part"], kind["maximum_mhz"]
    name = kind["name"] or ("" if part is None else f"{part:#x}")
    clock = "" if mhz is None else f"{figure(mhz)} MHz"
    return " ".join(word for word in (f"{kind['cores']} ×", name, clock) if word)


def _ratings(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not row["nominal_tflops"]:
        yield _("nominal"), _("none: {why}", why=row["missing"])
    by_source: dict[str, list[str]] = {}
    for dtype, tflops in row["nominal_tflops"].items():
        datasheet = row["datasheet_tflops"].get(dtype)
        beside = "" if datasheet == tflops else _(" (datasheet {figure})", figure=figure(datasheet))
        low, high = row["nominal_low"][dtype], row["nominal_high"][dtype]
        if low != high:
            beside += _(" ({low} to {high})", low=figure(low), high=figure(high))
        by_source.setdefault(row["sources"][dtype], []).append(f"{dtype} {figure(tflops)}{beside}")
    for source, figures in by_source.items():
        said = _(", ").join(figures)
        yield _("nominal TFLOPS"), _("{name}: {said}", name=said, said=source)


def _describe_best(dtype: str, best: Mapping[str, Any]) -> str:
    reached, rated = best["numerator_tflops"], best["denominator_tflops"]
    said = _("{value} of datasheet in {dtype}", value=percent(best["value"]), dtype=dtype)
    if reached is not None and rated is not None:
        known = {"reached": figure(reached), "rated": figure(rated)}
        said = _("{said} ({reached} of {rated} TFLOPS)", said=said, **known)
    where = f"{best['device']}, {best['source']} ({best['date']})"
    return _("{name}: {said}", name=said, said=where)


def _facts(identity: Mapping[str, Any]) -> str:
    known = {name: identity.get(name) for name in _FACTS.get(identity["kind"], ())}
    return _(", ").join(_fact(name, value) for name, value in known.items() if value not in (None, {}, ""))


def _fact(name: str, value: Any) -> str:
    """Return a fact as text: `power_limit_w` 400 as `power limit 400 W`."""
    end, unit = next(((end, unit) for end, unit in _UNITS.items() if name.endswith(end)), ("", ""))
    said = f"{figure(value)}{unit}" if unit else _value_text(value)
    return _("{name} {said}", name=_(name.removesuffix(end).replace("_", " ")), said=said)


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, Mapping):
        return " ".join(f"{name}={each}" for name, each in value.items())
    return stated(value) if isinstance(value, int | float) else str(value)


def _now(row: Mapping[str, Any]) -> str:
    """Return what differs between devices that are alike: which one it is, and its present state."""
    identity, reading = row["identity"], row["reading"] or {}
    which = [identity[name] for name in ("uuid", "pci_bus_id") if identity.get(name)]
    now = [f"{stated(reading[name])} {unit}" for name, unit in _NOW if reading.get(name) is not None]
    problems = _count_problems(row)
    said = _("problems: {count}", count=problems) if problems else _("no known problem")
    return _(", ").join([*which, *now, said])


def _count_problems(row: Mapping[str, Any]) -> int:
    """Count the lines of a device that name a problem; that torch can't use it is one."""
    return len(row["health"]) + len(row["in_the_way"]) + bool(row["unusable"])
