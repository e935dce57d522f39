"""The registry of parts: rated dense figures as data, each with a source and a date, checked when loaded.

The shipped parts are `data/parts.toml`; users add their own in files of the same shape (`--parts FILE`, or
the files named by NAMEPLATE_PARTS), whose JSON Schema is `schema()`. The check compares each figure with
what SMs × clock × FLOP per clock allow, and dtypes with one another: that is how a sparse figure entered as
dense is caught. A figure that fails and is right all the same carries a `flag` with the reason, and every
reader is shown it. A file that fails is an `InputError` with file, key, got and expected.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, GetJsonSchemaHandler, model_validator
from pydantic_core import CoreSchema, PydanticCustomError

from nameplate.base.errors import InputError
from nameplate.base.messages import Message, message, ours
from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_packaged
from nameplate.specs.part import Basis, Conflict, Memory, Part, Quantity, Source, Unit
from nameplate.specs.physics import Violation, violations

PARTS_FILE = "parts.toml"
ENVIRONMENT = "NAMEPLATE_PARTS"  # files of parts, separated as in PATH

Dtype = Literal[
    "fp64",
    "fp64_tensor",
    "fp32",
    "tf32",
    "fp16",
    "fp16_acc16",
    "bf16",
    "fp8_e4m3",
    "fp8_e4m3_acc16",
    "int8",
    "fp4",
]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=2)]
Name = Annotated[str, Field(min_length=2, pattern=r"\S")]
Id = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)+$")]
PciId = Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]


class Given(FrozenModel):
    """A figure as a file gives it: a number alone, or a table with sources of its own and more to say."""

    value: Positive
    sources: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    basis: Basis | None = None
    note: Text | None = None

    @model_validator(mode="before")
    @classmethod
    def _number_alone(cls, given: Any) -> Any:
        if isinstance(given, dict | cls):
            return given
        # True is an int to Python, and NaN fails the comparison.
        if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < math.inf:
            raise PydanticCustomError("figure", "a number above 0, or a table with its value")
        return {"value": given}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Show both forms: a number, or the table."""
        return {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, handler(core_schema)]}


class GivenMemory(FrozenModel):
    """One memory size the part is sold with, in GB; driver names that say which size it is."""

    gb: Given
    type: Text | None = None
    bandwidth_gb_s: Given | None = None
    driver_names: tuple[Name, ...] = ()


class ConflictValue(FrozenModel):
    """What one source says."""

    value: Positive | Text
    source: str


class GivenConflict(FrozenModel):
    """A figure that sources disagree on: what each says, which is used (none: left blank), and why."""

    of: Text
    values: Annotated[tuple[ConflictValue, ...], Field(min_length=1)]
    used: Positive | Text | None = None
    why: Annotated[str, Field(min_length=8)]


class Flag(FrozenModel):
    """Figures that fail the load-time check and are kept all the same, with the reason."""

    figures: Annotated[tuple[Text, ...], Field(min_length=1)]
    why: Annotated[str, Field(min_length=8)]


class GivenArchitecture(FrozenModel):
    """FLOP per clock per SM (or CU) by dtype, two for each multiply-add; dense."""

    source: str
    flop_per_clock: Annotated[dict[Dtype, Annotated[int, Field(gt=0)]], Field(min_length=1)]


class GivenPart(FrozenModel):
    """One part as a file gives it. Throughput in TFLOPS (TOPS for int8), dense, of the whole part."""

    id: Id
    name: Name
    vendor: Text
    architecture: str | None = None
    form: Text | None = None
    sources: Annotated[tuple[str, ...], Field(min_length=1)]
    basis: Basis = "published"
    confidence: Text | None = None
    replaces: Id | None = None
    driver_names: tuple[Name, ...] = ()
    shared_names: tuple[Name, ...] = ()
    pci_ids: tuple[PciId, ...] = ()
    unit: Unit = "SM"
    devices_per_part: Annotated[int, Field(ge=1, le=16)] = 1
    multiprocessors: Given | None = None
    maximum_mhz: Given | None = None
    tdp_w: Given | None = None
    link_gb_s: Given | None = None
    rate_limited: Annotated[str, Field(min_length=8)] | None = None
    notes: tuple[Text, ...] = ()
    memory: tuple[GivenMemory, ...] = ()
    dense_tflops: dict[Dtype, Given] = Field({})
    nominal_tflops: dict[Dtype, Given] = Field({})
    blank: dict[str, Text] = Field({})
    conflict: tuple[GivenConflict, ...] = ()
    flag: tuple[Flag, ...] = ()


class GivenBareName(FrozenModel):
    """What people call a part that is sold in several forms: the parts of that name, the one meant first."""

    names: Annotated[tuple[Name, ...], Field(min_length=1)]
    parts: Annotated[tuple[Id, ...], Field(min_length=1)]
    why: Annotated[str, Field(min_length=8)]


class PartsFile(FrozenModel):
    """A file of parts. A user's may name the shipped file's sources and architectures beside its own."""

    schema_version: Literal[1] = Field(alias="schema")
    sources: dict[str, Source] = Field({})
    architecture: dict[str, GivenArchitecture] = Field({})
    part: Annotated[tuple[GivenPart, ...], Field(min_length=1)]
    bare_name: tuple[GivenBareName, ...] = ()


@dataclass(frozen=True)
class Registry:
    """Parts by id, with the sources and architectures that files loaded later may name.

    `bare_names` has the ids of the parts that people call by one name, the one they mean first.
    """

    parts: Mapping[str, Part]
    sources: Mapping[str, Source]
    architectures: Mapping[str, GivenArchitecture]
    bare_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def own_names(self) -> Mapping[str, tuple[Part, Memory | None]]:
        """Whose each name is, normalised, and the memory size it states."""
        named: dict[str, tuple[Part, Memory | None]] = {}
        for part in self.parts.values():
            named |= {normalize_name(name): (part, None) for name in part.names()}
            for memory in part.memory:
                named |= {normalize_name(name): (part, memory) for name in memory.driver_names}
        return named

    @cached_property
    def shared_names(self) -> Mapping[str, tuple[Part, ...]]:
        """The parts that answer to each shared name, normalised."""
        named: dict[str, tuple[Part, ...]] = {}
        for part in self.parts.values():
            for name in dict.fromkeys(map(normalize_name, part.shared_names)):
                named[name] = (*named.get(name, ()), part)
        return named


def load_registry(files: Sequence[str | Path] = ()) -> Registry:
    """The shipped parts with those of NAMEPLATE_PARTS and of `files`. InputError for a file that fails."""
    known = load_shipped()
    named = [name for name in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if name]
    for name in dict.fromkeys(str(file) for file in (*named, *files)):
        known = extend(known, _read(name), name)
    return known


@cache
def load_shipped() -> Registry:
    """The parts that come with Nameplate, checked. InputError for a bad file."""
    return extend(Registry({}, {}, {}), read_packaged("nameplate.specs", PARTS_FILE), PARTS_FILE)


def extend(known: Registry, text: str, where: str) -> Registry:
    """Add the parts in `text` (TOML); `where` names it in errors. InputError for one that fails.

    A part may take neither the id nor a name of a known one, unless it says `replaces`.
    """
    given = parse_toml(PartsFile, text, where)
    sources = {**known.sources, **given.sources}
    architectures = {**known.architectures, **given.architecture}
    for name, architecture in given.architecture.items():
        _source(architecture.source, sources, where, f"architecture.{name}.source")
    parts = dict(known.parts)
    for one in given.part:
        _check_replaced(one, parts, where)
        parts.pop(one.replaces or "", None)
        part = _build(one, sources, architectures, where)
        _check_distinct(part, parts, where)
        parts[part.id] = check(part, one.flag)
    return Registry(parts, sources, architectures, _bare_names(known.bare_names, given, parts, where))


def _bare_names(
    known: Mapping[str, tuple[str, ...]], given: PartsFile, parts: Mapping[str, Part], where: str
) -> dict[str, tuple[str, ...]]:
    """Those known, with the parts that the file puts in others' places, and those of the file before them."""
    replaced = {one.replaces: one.id for one in given.part if one.replaces}
    before = {name: tuple(replaced.get(part, part) for part in ids) for name, ids in known.items()}
    mine: dict[str, tuple[str, ...]] = {}
    for index, one in enumerate(given.bare_name):
        for name in map(normalize_name, one.names):
            if name in mine:
                raise bad_value(where, f"bare_name[{index}].names", name, "a name that is given once")
            mine[name] = one.parts
        for part in one.parts:
            if part not in parts:
                raise bad_value(where, f"bare_name[{index}].parts", part, "the id of a part that is known")
    return mine | {name: ids for name, ids in before.items() if name not in mine}


def schema() -> dict[str, Any]:
    """The JSON Schema of a file of parts, as published in docs/schema/parts.schema.json."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **PartsFile.model_json_schema(by_alias=True),
    }


def check(part: Part, flags: Sequence[Flag] = ()) -> Part:
    """Return the part with its flags as messages. InputError for a violation without one, or a stale one.

    A violation is a figure above what SMs × maximum clock × FLOP per clock allow (or a base rate far below
    it), or a dtype whose ratio to FP16 or BF16 no hardware has.
    """
    flagged = {key for flag in flags for key in flag.figures}
    found = list(violations(part))
    for violation in found:
        if violation.key not in flagged:
            raise bad_value(part.file, f"part[{part.id}].{violation.key}", violation.got, violation.expected)
    for key in flagged - {violation.key for violation in found}:
        raise bad_value(part.file, f"part[{part.id}].flag", key, "a figure that fails the load-time check")
    return replace(part, flags=tuple(_messages(found, flags, is_shipped=part.file == PARTS_FILE)))


def _messages(found: Sequence[Violation], flags: Sequence[Flag], *, is_shipped: bool) -> Iterator[Message]:
    """One message for the figures that one flag keeps and that fail alike."""
    for flag in flags:
        alike: dict[Message, list[str]] = {}
        for violation in found:
            if violation.key in flag.figures:
                alike.setdefault(violation.problem, []).append(violation.key)
        why = ours(flag.why) if is_shipped else flag.why
        for problem, keys in alike.items():
            yield message("flagged", figures=keys, problem=problem, why=why)


def _build(
    given: GivenPart,
    sources: Mapping[str, Source],
    architectures: Mapping[str, GivenArchitecture],
    where: str,
) -> Part:
    """Put the named sources and the architecture in their places."""
    resolve = _Resolver(given, sources, where)
    if given.architecture is not None and given.architecture not in architectures:
        key = f"part[{given.id}].architecture"
        raise bad_value(where, key, given.architecture, "an entry of [architecture]")
    rates = architectures[given.architecture].flop_per_clock if given.architecture else {}
    dense = {
        str(dtype): resolve(value, f"dense_tflops.{dtype}") for dtype, value in given.dense_tflops.items()
    }
    counted = {
        str(dtype): resolve(value, f"nominal_tflops.{dtype}") for dtype, value in given.nominal_tflops.items()
    }
    part = Part(
        **{name: getattr(given, name) for name in _AS_GIVEN},
        flop_per_clock={str(dtype): rate for dtype, rate in rates.items()},
        multiprocessors=resolve.optional(given.multiprocessors, "multiprocessors"),
        maximum_mhz=resolve.optional(given.maximum_mhz, "maximum_mhz"),
        tdp_w=resolve.optional(given.tdp_w, "tdp_w"),
        link_gb_s=resolve.optional(given.link_gb_s, "link_gb_s"),
        memory=tuple(resolve.memory(one, index) for index, one in enumerate(given.memory)),
        datasheet=dense,
        nominal={**dense, **counted},
        conflicts=tuple(resolve.conflict(one, index) for index, one in enumerate(given.conflict)),
        file=where,
    )
    _check_conflicts(part, where)
    return part


_AS_GIVEN = (
    "id",
    "name",
    "vendor",
    "architecture",
    "form",
    "unit",
    "devices_per_part",
    "rate_limited",
    "blank",
    "confidence",
    "notes",
    "driver_names",
    "shared_names",
    "pci_ids",
    "replaces",
)


class _Resolver:
    """Turns a part's given figures into quantities with their sources."""

    def __init__(self, part: GivenPart, sources: Mapping[str, Source], where: str) -> None:
        self._part, self._sources, self._where = part, sources, where
        self._own = tuple(self._find(name, "sources") for name in part.sources)

    def __call__(self, given: Given, key: str) -> Quantity:
        sources = self._own
        if given.sources:
            sources = tuple(self._find(name, f"{key}.sources") for name in given.sources)
        return Quantity(given.value, given.basis or self._part.basis, sources, given.note)

    def optional(self, given: Given | None, key: str) -> Quantity | None:
        return None if given is None else self(given, key)

    def memory(self, given: GivenMemory, index: int) -> Memory:
        key = f"memory[{index}]"
        bandwidth = self.optional(given.bandwidth_gb_s, f"{key}.bandwidth_gb_s")
        return Memory(self(given.gb, f"{key}.gb"), given.type, bandwidth, given.driver_names)

    def conflict(self, given: GivenConflict, index: int) -> Conflict:
        key = f"conflict[{index}].values"
        values = tuple((one.value, self._find(one.source, key)) for one in given.values)
        return Conflict(given.of, values, given.used, given.why)

    def _find(self, name: str, key: str) -> Source:
        return _source(name, self._sources, self._where, f"part[{self._part.id}].{key}")


def _source(name: str, sources: Mapping[str, Source], where: str, key: str) -> Source:
    if name not in sources:
        raise bad_value(where, key, name, "an entry of [sources]")
    return sources[name]


def _check_conflicts(part: Part, where: str) -> None:
    """A conflict speaks of a figure, and what it says is used is what the part holds."""
    held: dict[str, float | str] = {key: quantity.value for key, quantity in part.figures()}
    held |= {f"memory[{index}].type": one.type for index, one in enumerate(part.memory) if one.type}
    for index, conflict in enumerate(part.conflicts):
        key = f"part[{part.id}].conflict[{index}].used"
        if held.get(conflict.of) != conflict.used:
            raise bad_value(
                where, key, conflict.used or "nothing", f"{conflict.of} = {held.get(conflict.of)}"
            )


def _check_replaced(given: GivenPart, parts: Mapping[str, Part], where: str) -> None:
    if given.replaces is not None and given.replaces not in parts:
        raise bad_value(where, f"part[{given.id}].replaces", given.replaces, "the id of a part already known")


def _check_distinct(part: Part, parts: Mapping[str, Part], where: str) -> None:
    """No two parts under one id or one name."""
    advice = "to replace a part, say replaces = "
    if part.id in parts:
        raise bad_value(where, f"part[{part.id}].id", part.id, f"an id of its own; {advice}{part.id!r}")
    mine = {normalize_name(name): name for name in part.names()}
    shared = {normalize_name(name): name for name in part.shared_names}
    for other in parts.values():
        theirs = {normalize_name(name) for name in other.names()}
        for taken in theirs & (mine.keys() | shared.keys()):
            expected = f"a name that {other.id} hasn't; {advice}{other.id!r}"
            key = f"part[{part.id}].{'driver_names' if taken in mine else 'shared_names'}"
            raise bad_value(where, key, mine.get(taken) or shared[taken], expected)
        for taken in mine.keys() & {normalize_name(name) for name in other.shared_names}:
            raise bad_value(
                where, f"part[{part.id}].driver_names", mine[taken], f"no name that {other.id} shares"
            )


def normalize_name(name: str) -> str:
    """A name as names are compared: without case, surplus spaces, trademark signs and a leading "NVIDIA".

    Drivers older than 470 leave the "NVIDIA" out (`A100-SXM4-40GB`); nothing else is put aside.
    """
    plain = name.casefold()
    for mark in ("(r)", "(tm)", "®", "™"):
        plain = plain.replace(mark, " ")
    return " ".join(plain.split()).removeprefix("nvidia ")


def _read(name: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise InputError(
            "a parts file can't be read", where=name, got=reason, expected="a TOML file of parts"
        ) from None
