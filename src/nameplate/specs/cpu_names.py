"""Finds the CPU part that a person names, by its id, its name or a model's name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from nameplate.specs.cpu import (
    Microarchitecture,
    find_boost,
    find_microarchitecture,
    load_microarchitectures,
    load_models,
)


def find_cpu(name: str) -> Microarchitecture | None:
    """Return the CPU part of an id, a name with or without its vendor (`zen 4`), or a model's name."""
    part = find_microarchitecture(name.strip().casefold()) or _find_by_name(name)
    if part is not None:
        return part
    boost = find_boost(name)
    return None if boost is None else find_microarchitecture(boost.group.microarchitecture)


def _find_by_name(name: str) -> Microarchitecture | None:
    wanted = _simplify(name)
    found = [
        part
        for part in load_microarchitectures()
        if wanted in {_simplify(each) for each in (part.id, part.id.partition("-")[2], part.name)}
    ]
    return found[0] if len(found) == 1 else None


@cache
def spell_cpus() -> dict[str, str]:
    """Return the id of each CPU part by every name that a person may be near: ids, names, models' names."""
    return dict(_spell())


def _spell() -> Iterator[tuple[str, str]]:
    for model, boost in load_models().boosts.items():
        yield model, boost.group.microarchitecture
    for part in load_microarchitectures():
        vendor, _, rest = part.id.partition("-")
        yield from ((each, part.id) for each in (part.id, rest, part.name.removeprefix(f"{vendor} ")))


def _simplify(text: str) -> str:
    return "".join(char for char in text.casefold() if char.isalnum())
