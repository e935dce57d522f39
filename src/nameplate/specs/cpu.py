"""Nominal throughput of CPUs: FLOP per cycle per core × cores × clock.

The first factor comes from `data/cpu_microarchitectures.toml`, by the machine's own numbers and the flags it
exposes. A maximum boost clock comes from `data/cpu_models.toml`, by the model's name. A machine that hides
either gets None, never the figure of a similar one. Both files are validated when first used; a bad file is
an `InputError` with file, key, got and expected.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nameplate.base.messages import Message, message
from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_packaged
from nameplate.specs.cpu_evidence import ARITHMETIC, CpuEvidence, Flag, normalize_brand

MICROARCHITECTURES_FILE = "cpu_microarchitectures.toml"
MODELS_FILE = "cpu_models.toml"

Dtype = Literal["fp64", "fp32", "bf16", "fp16", "fp16_acc16", "int8"]
Basis = Literal["datasheet", "published", "measured", "derived"]
Text = Annotated[str, Field(min_length=3)]
Source = Annotated[str, Field(min_length=8)]
Date = Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]
Range = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]
BoostMhz = Annotated[int, Field(ge=1000, le=6500)]

# No core of today does more: a larger figure is that of a chip or a cluster.
_MOST_FLOP_PER_CYCLE = 4096
# Lanes and FMA count in powers of two; pipes may be 3, 5, 6 or so.
_MOST_PIPES_ODD = 9


class Identification(FrozenModel):
    """One way to recognise a part: x86 numbers, Arm numbers, or brand names. Ranges include both ends."""

    vendor: Text | None = None
    family: int | None = None
    models: tuple[Range, ...] = ()
    steppings: Range | None = None
    implementer: int | None = None
    parts: tuple[int, ...] = ()
    brands: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Identification:
        x86 = self.vendor is not None and self.family is not None and bool(self.models)
        arm = self.implementer is not None and bool(self.parts)
        stray_x86 = any((self.vendor, self.family, self.models, self.steppings))
        stray_arm = self.implementer is not None or bool(self.parts)
        if [x86, arm, bool(self.brands)].count(True) != 1 or (stray_x86, stray_arm) != (x86, arm):
            raise ValueError("vendor, family and models; or implementer and parts; or brands")
        return self

    def matches(self, evidence: CpuEvidence) -> bool:
        """Return whether the machine matches; an unknown number matches nothing."""
        if self.brands:
            return normalize_brand(evidence.name) in {normalize_brand(brand) for brand in self.brands}
        if self.parts:
            return evidence.implementer == self.implementer and evidence.arm_part in self.parts
        return (
            (evidence.vendor, evidence.family) == (self.vendor, self.family)
            and any(_within(evidence.model, models) for models in self.models)
            and (self.steppings is None or _within(evidence.stepping, self.steppings))
        )

    def matches_but_stepping(self, evidence: CpuEvidence) -> bool:
        """Return whether the machine may match, whatever its stepping."""
        return self.model_copy(update={"steppings": None}).matches(evidence)

    def overlaps(self, other: Identification) -> bool:
        """Return whether one machine could match both."""
        if self.brands and other.brands:
            mine = {normalize_brand(brand) for brand in self.brands}
            return not mine.isdisjoint(normalize_brand(brand) for brand in other.brands)
        if self.parts and other.parts:
            return self.implementer == other.implementer and not set(self.parts).isdisjoint(other.parts)
        if not (self.models and other.models) or (self.vendor, self.family) != (other.vendor, other.family):
            return False
        steppings = None in (self.steppings, other.steppings) or _meet(self.steppings, other.steppings)
        return steppings and any(_meet(mine, theirs) for mine in self.models for theirs in other.models)


class Throughput(FrozenModel):
    """One instruction path: FLOP per cycle per core (integer operations for int8), and the flags it needs.

    `fma_units = 2` marks a figure that needs the second 512-bit FMA unit, which some models lack.
    """

    dtype: Dtype
    flop_per_cycle: int = Field(gt=0, le=_MOST_FLOP_PER_CYCLE)
    requires: tuple[Flag, ...]
    fma_units: Literal[2] | None = None
    instruction: Text
    source: Source
    date: Date
    basis: Basis
    note: Text | None = None

    @model_validator(mode="after")
    def _is_lanes_times_pipes(self) -> Throughput:
        odd = self.flop_per_cycle // (self.flop_per_cycle & -self.flop_per_cycle)
        if odd > _MOST_PIPES_ODD:
            raise ValueError(f"flop_per_cycle a power of two times an odd number up to {_MOST_PIPES_ODD}")
        return self


class Microarchitecture(FrozenModel):
    """One microarchitecture: its id (`amd-zen4`), how it is recognised, and its throughput figures.

    `flags` are all arithmetic flags that it can show. `efficiency` is the id of a hybrid part's other cores.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
    name: Text
    note: Text | None = None
    flags: Annotated[tuple[Flag, ...], Field(min_length=1)]
    efficiency: str | None = None
    identify: tuple[Identification, ...] = ()  # none: recognised only as the efficiency cores of another
    throughput: Annotated[tuple[Throughput, ...], Field(min_length=1)]

    @property
    def family(self) -> str:
        """The family of its architecture, as `cpu_evidence.find_family` has it: x86 or arm."""
        return "arm" if "asimd" in self.flags else "x86"

    def foreign_flags(self, shown: Collection[str]) -> tuple[str, ...]:
        """Return the arithmetic flags among those shown that this part can't have."""
        return tuple(sorted((set(shown) & ARITHMETIC).difference(self.flags)))


class _MicroarchitecturesFile(FrozenModel):
    schema_version: Literal[1] = Field(alias="schema")
    foreign_flags: Mapping[str, tuple[str, ...]] = Field({})
    microarchitecture: Annotated[tuple[Microarchitecture, ...], Field(min_length=1)]


class ModelGroup(FrozenModel):
    """Models of one microarchitecture whose boost clocks come from one source."""

    microarchitecture: str
    source: Source
    date: Date
    basis: Basis
    note: Text | None = None
    efficiency_mhz: BoostMhz | None = None
    single_fma: tuple[Text, ...] = ()
    max_boost_mhz: Annotated[dict[str, BoostMhz], Field(min_length=1)]


class _ModelsFile(FrozenModel):
    schema_version: Literal[1] = Field(alias="schema")
    models: Annotated[tuple[ModelGroup, ...], Field(min_length=1)]


@dataclass(frozen=True)
class Boost:
    """A model's maximum boost clock in MHz (its fixed clock where it has no boost), with the source."""

    model: str
    max_boost_mhz: int
    group: ModelGroup


@dataclass(frozen=True)
class CpuModels:
    """Boost clocks, and the models with one 512-bit FMA unit, by normalised name."""

    boosts: Mapping[str, Boost]
    single_fma: frozenset[str]


def identify(evidence: CpuEvidence) -> Microarchitecture | None:
    """Return the microarchitecture of a machine; None where none matches, or more than one.

    Raises InputError for a bad file.
    """
    known = load_microarchitectures()
    found = [each for each in known if any(one.matches(evidence) for one in each.identify)]
    return found[0] if len(found) == 1 else None


def find_throughput(
    microarchitecture: Microarchitecture, flags: Collection[str], brand: str | None = None
) -> dict[str, Throughput]:
    """Return the highest figure per dtype among those whose flags are all present.

    Models with one 512-bit FMA unit, known by `brand`, don't get the figures that need two. A hidden brand
    gets them, since a nominal is an upper bound.
    """
    single = normalize_brand(brand) in load_models().single_fma
    best: dict[str, Throughput] = {}
    for figure in microarchitecture.throughput:
        if not all(flag in flags for flag in figure.requires) or (single and figure.fma_units == 2):
            continue
        known = best.get(figure.dtype)
        if known is None or figure.flop_per_cycle > known.flop_per_cycle:
            best[figure.dtype] = figure
    return best


def explain_absence(
    dtype: str, microarchitecture: Microarchitecture | None, flags: Collection[str]
) -> Message:
    """Return the reason for a dtype that `find_throughput` leaves out, as a record holds it."""
    if microarchitecture is None:
        return message("cpu_not_recognised")
    paths = [figure for figure in microarchitecture.throughput if figure.dtype == dtype]
    if paths:
        needed = [
            "+".join(flag for flag in figure.requires if flag not in flags) or message("second_fma_unit")
            for figure in paths
        ]
        return message("dtype_needs", dtype=dtype, part=microarchitecture.name, needed=needed)
    halves = {"fp16", "fp16_acc16"}
    if dtype in halves and not any(figure.dtype in halves for figure in microarchitecture.throughput):
        return message("no_fp16")
    return message("cpu_dtype_unsourced", dtype=dtype, part=microarchitecture.name)


def find_boost(brand: str | None) -> Boost | None:
    """Return the boost clock of a model; None for a name that hides its model, or one without a source."""
    return load_models().boosts.get(normalize_brand(brand))


def load_microarchitectures() -> tuple[Microarchitecture, ...]:
    """Return every microarchitecture of the table, validated. Raises InputError for a bad file."""
    return _load_microarchitectures_file().microarchitecture


def find_microarchitecture(part: str | None) -> Microarchitecture | None:
    """Return the microarchitecture of an id; None for any other text."""
    return next((each for each in load_microarchitectures() if each.id == part), None)


def find_foreign_flags(vendor: str | None, shown: Collection[str]) -> tuple[str, ...]:
    """Return the flags among those shown that only other vendors' processors have."""
    known = _load_microarchitectures_file().foreign_flags.get(vendor or "", ())
    return tuple(flag for flag in known if flag in shown)


@cache
def _load_microarchitectures_file() -> _MicroarchitecturesFile:
    return _parse_file(read_packaged("nameplate.specs", MICROARCHITECTURES_FILE), MICROARCHITECTURES_FILE)


@cache
def load_models() -> CpuModels:
    """Return every model of the table, validated. Raises InputError for a bad file."""
    known = {part.id for part in load_microarchitectures()}
    return parse_models(read_packaged("nameplate.specs", MODELS_FILE), MODELS_FILE, known)


def parse_microarchitectures(text: str, where: str) -> tuple[Microarchitecture, ...]:
    """Validate the text of a microarchitectures file. InputErrors name it as `where`."""
    return _parse_file(text, where).microarchitecture


def _parse_file(text: str, where: str) -> _MicroarchitecturesFile:
    file = parse_toml(_MicroarchitecturesFile, text, where)
    parts = file.microarchitecture
    _check_distinct(parts, where)
    known = {part.id for part in parts}
    for part in parts:
        _check_figures(part, where)
        if part.efficiency is not None and part.efficiency not in known - {part.id}:
            key = f"microarchitecture[{part.id}].efficiency"
            raise bad_value(where, key, part.efficiency, "the id of another entry")
    return file


def parse_models(text: str, where: str, known: Collection[str]) -> CpuModels:
    """Validate the text of a models file against the `known` microarchitecture ids; raises InputError."""
    groups = parse_toml(_ModelsFile, text, where).models
    boosts: dict[str, Boost] = {}
    for index, group in enumerate(groups):
        if group.microarchitecture not in known:
            key = f"models[{index}].microarchitecture"
            raise bad_value(where, key, group.microarchitecture, f"an id of {MICROARCHITECTURES_FILE}")
        for name, clock in group.max_boost_mhz.items():
            key = f"models[{index}].max_boost_mhz.{name}"
            _check_name(normalize_brand(name), boosts, where, key, name)
            boosts[normalize_brand(name)] = Boost(name, clock, group)
    single = frozenset(normalize_brand(name) for group in groups for name in group.single_fma)
    return CpuModels(MappingProxyType(boosts), single)


def _check_name(normalized: str, boosts: Mapping[str, Boost], where: str, key: str, name: str) -> None:
    # A hidden model ("AMD EPYC Processor") has no digit; as an entry it would match every hidden model.
    if not re.search(r"\d", normalized):
        raise bad_value(where, key, name, "a model name with its number")
    if normalized in boosts:
        raise bad_value(where, key, name, f"one entry a model; {boosts[normalized].model!r} is the same name")


def _check_distinct(parts: Sequence[Microarchitecture], where: str) -> None:
    for one, other in combinations(parts, 2):
        if one.id == other.id:
            raise bad_value(where, f"microarchitecture[{other.id}].id", other.id, "an id of its own")
        if any(mine.overlaps(theirs) for mine in one.identify for theirs in other.identify):
            key = f"microarchitecture[{other.id}].identify"
            raise bad_value(
                where, key, f"the same machines as {one.id}", "no machine recognised as two parts"
            )


def _check_figures(part: Microarchitecture, where: str) -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    for index, figure in enumerate(part.throughput):
        if missing := part.foreign_flags(figure.requires):
            key = f"microarchitecture[{part.id}].throughput[{index}].requires"
            raise bad_value(where, key, missing[0], "a flag that the part can show: one of its flags")
        path = (figure.dtype, frozenset(figure.requires))
        if path in seen:
            key = f"microarchitecture[{part.id}].throughput[{index}]"
            got = f"{figure.dtype} with {', '.join(figure.requires)}"
            raise bad_value(where, key, got, "one figure for a dtype and its flags")
        seen.add(path)
        _check_tiles_win(part, index, where)


def _check_tiles_win(part: Microarchitecture, index: int, where: str) -> None:
    # A tile unit slower than the vector unit is an error in the table.
    tiles = part.throughput[index]
    if not _needs_amx(tiles):
        return
    vectors = [f.flop_per_cycle for f in part.throughput if f.dtype == tiles.dtype and not _needs_amx(f)]
    if tiles.flop_per_cycle < max(vectors, default=0):
        key = f"microarchitecture[{part.id}].throughput[{index}].flop_per_cycle"
        raise bad_value(where, key, tiles.flop_per_cycle, f"with AMX, at least the {max(vectors)} of AVX-512")


def _needs_amx(figure: Throughput) -> bool:
    return any(flag.startswith("amx") for flag in figure.requires)


def _within(value: int | None, bounds: Range) -> bool:
    return value is not None and bounds[0] <= value <= bounds[1]


def _meet(one: Range | None, other: Range | None) -> bool:
    return one is not None and other is not None and one[0] <= other[1] and other[0] <= one[1]
