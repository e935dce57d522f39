"""What a person calls a part: spelled in any way, and short of form or memory where people leave these out.

Only for names that a person gives (`--part A800`, `bench specs h100`). A device is recognised by evidence
alone, in `recognition`: what a driver reports is never completed by a guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nameplate.base.text import plain
from nameplate.specs.part import Memory, Part
from nameplate.specs.parts import Registry


@dataclass(frozen=True)
class Meant:
    """The part that a short name is taken for, its memory where the name says it, and the others it fits.

    `bare`: the name says nothing of form or memory.
    """

    part: Part
    memory: Memory | None
    others: tuple[Part, ...]
    bare: bool


def spelled(name: str, known: Registry) -> tuple[Part, Memory | None] | None:
    """The one part whose id or whole name this is but for case, hyphens, spaces and the vendor's name.

    None where it is no part's, or that of several.
    """
    wanted = _squash(name)
    found = {
        part.id: (part, memory)
        for part in known.parts.values()
        for whole, memory in _whole_names(part)
        if wanted in _with_and_without_vendor(whole, part)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def meant(name: str, known: Registry) -> Meant | None:
    """The part that a bare name of the registry stands for, with what else `name` says of form and memory.

    None where the name doesn't begin with a bare name, and where no part of that name fits the rest of it.
    """
    wanted = _squash(name)
    for bare, ids in known.bare_names.items():
        parts = [known.parts[part] for part in ids]
        for rest in _rests(wanted, bare, parts[0]):
            fitting = [part for part in parts if _fits(rest, part)]
            if fitting:
                first = fitting[0]
                return Meant(first, _memory(rest, first), tuple(fitting[1:]), not rest)
    return None


def note(name: str, part: Part, others: Sequence[Part]) -> str:
    """That a name was taken for this part, and how to name another that it fits."""
    said = f"{plain(name).strip()} is taken as {part.id}"
    return f"{said}; name another form, such as {others[0].id}, to change that" if others else said


def _squash(name: str) -> str:
    """Letters and digits alone, without case: `A800-SXM4-80GB` and `a800 sxm4 80gb` are one name."""
    return "".join(char for char in name.casefold() if char.isalnum())


def _whole_names(part: Part) -> Iterator[tuple[str, Memory | None]]:
    """Id and names of a part, each with the memory size that it states."""
    yield part.id, None
    yield part.name, None
    yield from ((name, None) for name in part.driver_names)
    for memory in part.memory:
        yield from ((name, memory) for name in memory.driver_names)


def _with_and_without_vendor(name: str, part: Part) -> set[str]:
    vendor = _squash(part.vendor)
    alone = _squash(name).removeprefix(vendor)
    return {alone, vendor + alone}


def _rests(wanted: str, bare: str, part: Part) -> Iterator[str]:
    """What a name says after the bare one, where it begins with that."""
    for spelling in _with_and_without_vendor(bare, part):
        if wanted.startswith(spelling):
            yield wanted.removeprefix(spelling)


def _fits(rest: str, part: Part) -> bool:
    """Whether each word of the rest (`sxm`, `80gb`) is one of the part's own."""
    words = {_squash(word) for word in (*part.id.split("-"), part.form or "")}
    for memory in part.memory:
        words |= {f"{memory.gb.value:g}gb", f"{memory.gb.value:g}g", _squash(memory.type or "")}
    return re.fullmatch(f"(?:{'|'.join(map(re.escape, filter(None, words)))})*", rest) is not None


def _memory(rest: str, part: Part) -> Memory | None:
    """The size that the rest of the name says; the only one where the part is sold in one."""
    if len(part.memory) == 1:
        return part.memory[0]
    return next((memory for memory in part.memory if f"{memory.gb.value:g}g" in rest), None)
