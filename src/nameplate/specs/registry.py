"""The registry of parts: rated dense figures as data, each with a source and a date, checked when loaded.

The shipped parts are `data/parts.toml`. Users add their own in files of the same shape (`--parts FILE`, or
the files named by NAMEPLATE_PARTS), whose JSON Schema is docs/schema/parts.schema.json. The check (`physics`)
compares each figure with what SMs × clock × FLOP per clock allow, and dtypes with one another. A figure that
fails the check and is right all the same carries a `flag` with the reason, which every reader sees. A file
that fails is an `InputError` with file, key, got and expected.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.base.toml import bad_value, parse_toml, read_file, read_packaged
from nameplate.specs.figure import Architecture, Loading, Source, Why, format_figure, is_same_figure
from nameplate.specs.part import PARTS_FILE, Id, Memory, Name, Part
from nameplate.specs.physics import check

ENVIRONMENT = "NAMEPLATE_PARTS"  # files of parts, separated as in PATH


class BareName(FrozenModel):
    """A name that people use for a part sold in several forms: the parts of that name, the default first."""

    names: Annotated[tuple[Name, ...], Field(min_length=1)]
    parts: Annotated[tuple[Id, ...], Field(min_length=1)]
    why: Why


class PartsFile(FrozenModel):
    """A file of parts. A user's file may name its own sources and architectures, and the shipped ones."""

    # Validated with a `Loading` as context. Sources and architectures come before the parts that name them.

    schema_version: Literal[1] = Field(alias="schema")
    sources: dict[str, Source] = Field({})
    architecture: dict[str, Architecture] = Field({})
    part: Annotated[tuple[Part, ...], Field(min_length=1)]
    bare_name: tuple[BareName, ...] = ()

    @field_validator("sources", "architecture")
    @classmethod
    def _make_known(cls, given: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        """Let the fields that are validated after this one name these entries."""
        getattr(info.context, str(info.field_name)).update(given)
        return given


@dataclass(frozen=True)
class Registry:
    """Parts by id, with the sources and architectures that files loaded later may name.

    `bare_names` has the ids of the parts that people call by one name, the one they mean first.
    """

    parts: Mapping[str, Part]
    sources: Mapping[str, Source]
    architectures: Mapping[str, Architecture]
    bare_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def own_names(self) -> Mapping[str, tuple[Part, Memory | None]]:
        """The part of each name, normalised, and the memory size that the name states."""
        named: dict[str, tuple[Part, Memory | None]] = {}
        for part in self.parts.values():
            named |= {normalize_name(name): (part, None) for name in part.names()}
            for memory in part.memory:
                named |= {normalize_name(name): (part, memory) for name in memory.driver_names}
        return named

    @cached_property
    def shared_names(self) -> Mapping[str, tuple[Part, ...]]:
        """The parts of each shared name, normalised."""
        named: dict[str, tuple[Part, ...]] = {}
        for part in self.parts.values():
            for name in dict.fromkeys(map(normalize_name, part.shared_names)):
                named[name] = (*named.get(name, ()), part)
        return named


def load_registry(files: str | Path | Sequence[str | Path] = ()) -> Registry:
    """Return the shipped parts with those of NAMEPLATE_PARTS and of `files`, one or several.

    Raises InputError for a file that can't be read or fails the check.
    """
    registry = load_shipped()
    named = [name for name in os.environ.get(ENVIRONMENT, "").split(os.pathsep) if name]
    for name in dict.fromkeys(str(file) for file in (*named, *_list_files(files))):
        registry = extend(registry, read_file(name, "parts"), name)
    return registry


def _list_files(files: str | Path | Sequence[str | Path]) -> Sequence[str | Path]:
    """Return one file as a list of one: a text would else be read letter by letter."""
    return [files] if isinstance(files, str | Path) else files


@contextmanager
def parts_known(files: str | Path | Sequence[str | Path]) -> Iterator[None]:
    """Make the parts in `files` known to this process, and to those it starts, inside the block."""
    before = os.environ.get(ENVIRONMENT)
    named = [*filter(None, [before]), *(os.path.abspath(file) for file in _list_files(files))]
    if files:
        os.environ[ENVIRONMENT] = os.pathsep.join(named)
    try:
        yield
    finally:
        if files:
            if before is None:
                del os.environ[ENVIRONMENT]
            else:
                os.environ[ENVIRONMENT] = before


@cache
def load_shipped() -> Registry:
    """Return the parts that come with Nameplate, checked. Raises InputError for a bad file."""
    return extend(Registry({}, {}, {}), read_packaged("nameplate.specs", PARTS_FILE), PARTS_FILE)


def extend(registry: Registry, text: str, where: str) -> Registry:
    """Return the registry with the parts in `text` (TOML) added; `where` names the file in errors.

    A part may take neither the id nor a name of a known one, unless it says `replaces`. Raises InputError
    for a part that fails the check.
    """
    taken = {part.short_name: part.id for part in registry.parts.values()}
    context = Loading(where, dict(registry.sources), dict(registry.architectures), short_names=taken)
    given = parse_toml(PartsFile, text, where, context)
    parts = dict(registry.parts)
    for part in given.part:
        if part.replaces is not None:
            replaced = parts.pop(part.replaces, None)
            if replaced is None:
                raise _bad_key(part, "replaces", part.replaces, "the id of a part already known")
            _check_dense(part, replaced)
        _check_conflicts(part)
        _check_distinct(part, parts)
        check(part)
        parts[part.id] = part
    bare_names = _merge_bare_names(registry.bare_names, given, parts, where)
    return Registry(parts, context.sources, context.architecture, bare_names)


def normalize_name(name: str) -> str:
    """Return a name as names are compared: without case, surplus spaces, trademark signs, leading "NVIDIA".

    Drivers older than 470 leave the "NVIDIA" out (`A100-SXM4-40GB`). Everything else must agree.
    """
    normalized = name.casefold()
    for mark in ("(r)", "(tm)", "®", "™"):
        normalized = normalized.replace(mark, " ")
    return " ".join(normalized.split()).removeprefix("nvidia ")


def _merge_bare_names(
    known: Mapping[str, tuple[str, ...]], given: PartsFile, parts: Mapping[str, Part], where: str
) -> dict[str, tuple[str, ...]]:
    """Return the bare names of the file, then the known ones it doesn't redefine, with replaced ids."""
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


def _check_dense(part: Part, replaced: Part) -> None:
    """Raise InputError where the part has the 2:4 sparse figure of the one that it replaces."""
    for table in ("dense_tflops", "nominal_tflops"):
        for dtype, quantity in getattr(part, table).items():
            sparse = replaced.sparse_tflops.get(dtype)
            if sparse and is_same_figure(quantity.value, sparse):
                dense = format_figure(sparse / 2)
                expected = f"the dense figure: this is {replaced.id}'s with 2:4 sparsity, twice its {dense}"
                raise _bad_key(part, f"{table}.{dtype}", format_figure(quantity.value), expected)


def _check_conflicts(part: Part) -> None:
    """Raise InputError for a conflict whose `used` isn't the value that the part holds."""
    held: dict[str, float | str] = {key: quantity.value for key, quantity in part.figures()}
    held |= {f"memory[{index}].type": one.type for index, one in enumerate(part.memory) if one.type}
    for index, conflict in enumerate(part.conflicts):
        value = held.get(conflict.of)
        if value != conflict.used:
            got = conflict.used or "nothing"
            raise _bad_key(part, f"conflict[{index}].used", got, f"{conflict.of} = {value}")


def _check_distinct(part: Part, parts: Mapping[str, Part]) -> None:
    """Raise InputError where the part takes an id or a name of another."""
    advice = "to replace a part, say replaces = "
    if part.id in parts:
        raise _bad_key(part, "id", part.id, f"an id of its own; {advice}{part.id!r}")
    mine = {normalize_name(name): name for name in part.names()}
    shared = {normalize_name(name): name for name in part.shared_names}
    for other in parts.values():
        theirs = {normalize_name(name) for name in other.names()}
        for taken in theirs & (mine.keys() | shared.keys()):
            key = "driver_names" if taken in mine else "shared_names"
            expected = f"a name that {other.id} hasn't; {advice}{other.id!r}"
            raise _bad_key(part, key, mine.get(taken) or shared[taken], expected)
        for taken in mine.keys() & {normalize_name(name) for name in other.shared_names}:
            raise _bad_key(part, "driver_names", mine[taken], f"no name that {other.id} shares")


def _bad_key(part: Part, key: str, got: object, expected: str) -> InputError:
    return bad_value(part.file, f"part[{part.id}].{key}", got, expected)
