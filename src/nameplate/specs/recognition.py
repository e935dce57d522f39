"""From what a driver reports to the part it is: whole names, then memory, SMs, power and PCI id.

A name is compared whole with the names each part lists, never by a piece of it. What else is known must
agree: a device that contradicts the part its name stands for is refused, and so is a name that several
parts answer to until the rest settles it. A refusal says why, and what would settle it; no part is ever
given a neighbour's figure.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.messages import Message, Reason, message
from nameplate.base.text import plain
from nameplate.specs.part import Memory, Part
from nameplate.specs.registry import (
    Registry,
    load_registry,
    normalize_name,
)

# A driver reports less than the nameplate's GB (which are GiB): T4 shows 14.6 of 16 with ECC on, B300 268.6
# of 288. GH200's 141 GB shows as 143.4. No two sizes of one name are closer than a third.
_LEAST_MEMORY, _MOST_MEMORY = 0.88, 1.03
# Boards are shipped with limits above the TDP (H20: 500 W against 400), and set below it at will: a limit
# half above says another part, a lower one says nothing.
_MOST_POWER = 1.5
_SAME_POWER = 0.1
_GIB = 1 << 30
_MULTIPROCESSOR_UNITS = ("SM", "CU")

_MIG = re.compile(r"\bmig \d+[gc]\.", re.IGNORECASE)
_VIRTUAL = re.compile(r"^(grid|nvidia) .*-\d+[abcq]$", re.IGNORECASE)


@dataclass(frozen=True)
class Evidence:
    """What a machine says of a device; None: not said.

    `memory_bytes` is the total the driver reports, `power_limit_w` the board's default limit in W,
    `pci_device_id` 16 bits (0x20F3), NVML's 32 (0x20F310DE) or text (`10de:20f3`).
    """

    name: str
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    power_limit_w: float | None = None
    pci_device_id: int | str | None = None
    vendor: str | None = None


@dataclass(frozen=True)
class Found:
    """The part, which of its memory sizes, and by what (text); or no part, why (a message), and what would
    settle it.

    `settle` is empty for a name that nothing answers to: there, the nearest names are all there is to say.
    `note` says what a short name was taken for.
    """

    part: Part | None
    why: Reason
    memory: Memory | None = None
    settle: str = ""
    note: str | None = None


@dataclass(frozen=True)
class Named:
    """The part of a name, which of its memory sizes where that is settled, and what a short name was taken
    for; None: it was the part's own name.
    """

    part: Part
    memory: Memory | None = None
    note: str | None = None


def lookup(what: str | Evidence, extra: Sequence[str | Path] = ()) -> Part:
    """The part of that id or name, or the part that this evidence shows.

    A bare name is taken for its usual form: `A800` for the SXM card, as `bench specs A800` says. `extra` are
    files of parts beside the shipped ones. Raises InputError for an unknown or ambiguous one, with the
    nearest names and what would settle it, and for a file that fails.
    """
    return require(what, load_registry(extra)).part


def require(what: str | Evidence, known: Registry) -> Named:
    """The part of that id, name or evidence in a registry. InputError as `lookup` has it."""
    found = search(what, known)
    if found.part is None:
        name = what if isinstance(what, str) else what.name
        raise InputError(str(found.why), expected=found.settle or _near(name, known))
    return Named(found.part, found.memory, found.note)


def search(what: str | Evidence, known: Registry) -> Found:
    """The part of that id, name or evidence in a registry; a name is what a person calls a part."""
    return identify(what, known) if isinstance(what, Evidence) else _of_name(what, known)


def _of_name(name: str, known: Registry) -> Found:
    """The part that a person calls so: by its id, a bare name, a driver's name, or any spelling of these."""
    part = known.parts.get(name.strip().casefold())
    if part is not None:
        return Found(part, f"part {part.id}")
    meant = _find_bare_name(name, known)
    if meant is not None and meant.bare:
        return _taken_as(name, meant)
    found = identify(Evidence(name), known)
    if found.part is not None:
        return found
    spelled = _find_whole_name(name, known)
    if spelled is not None:
        part, memory = spelled
        others = [each for each in known.shared_names.get(normalize_name(name), ()) if each.id != part.id]
        said = _describe_choice(name, part, others) if others else None
        return Found(part, f"part {part.id}", memory, note=said)
    return found if meant is None else _taken_as(name, meant)


def _taken_as(name: str, meant: _Meant) -> Found:
    said = _describe_choice(name, meant.part, meant.others)
    return Found(meant.part, f"part {meant.part.id}", meant.memory, note=said)


def identify(evidence: Evidence, known: Registry) -> Found:
    """The part that a device is, by its name and whatever else is known of it."""
    refused = _not_a_whole_device(evidence.name)
    if refused is not None:
        return refused
    name = normalize_name(evidence.name)
    if name in known.own_names:
        part, memory = known.own_names[name]
        problem = _contradiction(part, memory, evidence, known)
        if problem:
            return Found(None, message("name_contradicted", part=part.id, problem=problem), settle=_SETTLE)
        return Found(part, _agreement(part, evidence), memory or _memory(part, evidence))
    if name in known.shared_names:
        return _settled(known.shared_names[name], evidence, known)
    return Found(None, message("name_unknown", name=evidence.name))


_SETTLE = (
    "a device that agrees with its name; else --nominal, or a parts file (--parts) whose part `replaces` it"
)


def find_nearest(name: str, known: Registry, count: int = 3) -> tuple[str, ...]:
    """Ids of the parts whose id or names look most like this one, best first."""
    spelled = {part: part for part in known.parts}
    spelled |= {spelling: parts[0].id for spelling, parts in known.shared_names.items()}
    spelled |= {spelling: part.id for spelling, (part, _) in known.own_names.items()}
    close = difflib.get_close_matches(normalize_name(name), spelled, n=4 * count, cutoff=0.4)
    return tuple(dict.fromkeys(spelled[one] for one in close))[:count]


def _not_a_whole_device(name: str) -> Found | None:
    if not name.strip():
        return Found(None, message("no_name"), settle="a driver name, an id or a name of the table")
    if _MIG.search(name):
        settle = "a whole GPU (MIG off), or --nominal for the slice"
        return Found(None, message("mig_slice", name=name), settle=settle)
    if _VIRTUAL.match(name):
        settle = "a whole GPU, or --nominal for the share"
        return Found(None, message("virtual_gpu", name=name), settle=settle)
    return None


def _settled(shared: Sequence[Part], evidence: Evidence, known: Registry) -> Found:
    """One of the parts that share a name, where everything known confirms it and nothing fits another."""
    left = [part for part in shared if not _contradiction(part, None, evidence, known)]
    if len(left) > 1:
        left = [part for part in left if _same_power(part, evidence)] or left
    if len(left) == 1 and _confirmed(left[0], evidence):
        return Found(left[0], _agreement(left[0], evidence), _memory(left[0], evidence))
    if not left:
        problems = [
            message("part_contradicted", part=part.id, problem=_contradiction(part, None, evidence, known))
            for part in shared
        ]
        return Found(
            None, message("none_of_that_name", name=evidence.name, problems=problems), settle=_SETTLE
        )
    why = message("name_ambiguous", name=evidence.name, parts=[part.id for part in shared])
    return Found(None, why, settle=_differ(shared))


def _differ(parts: Sequence[Part]) -> str:
    """What would tell these parts apart, from each other or from hardware the registry doesn't hold."""
    said = []
    for part in parts:
        facts = [f"{_size(one)} GB" for one in part.memory]
        facts += [f"{part.multiprocessors.value:g} {part.unit}s"] if part.multiprocessors else []
        facts += [f"{part.tdp_w.value:g} W"] if part.tdp_w else []
        facts += [f"PCI {' or '.join(part.pci_ids)}"] if part.pci_ids else []
        said.append(f"{part.id}: {', '.join(facts) or 'nothing known tells it'}")
    return f"an id, or memory, SM count, power limit or PCI id to settle it ({'; '.join(said)})"


def _contradiction(part: Part, memory: Memory | None, evidence: Evidence, known: Registry) -> Message | None:
    """What the device says that this part can't be; None where all agrees."""
    return next(_contradictions(part, memory, evidence, known), None)


def _contradictions(
    part: Part, memory: Memory | None, evidence: Evidence, known: Registry
) -> Iterator[Message]:
    if evidence.vendor and evidence.vendor.casefold() != part.vendor.casefold():
        yield message("other_vendor", found=evidence.vendor, rated=part.vendor)
    sizes = (memory,) if memory else part.memory
    if sizes and evidence.memory_bytes and not any(_fits(one, part, evidence) for one in sizes):
        has = [_size(one, part.devices_per_part) for one in sizes]
        yield message("other_memory", found_gib=evidence.memory_bytes / _GIB, rated_gb=has)
    expected = _multiprocessors(part)
    if expected and evidence.multiprocessors and evidence.multiprocessors != expected:
        found = evidence.multiprocessors
        yield message("other_multiprocessors", found=found, unit=part.unit, rated=expected)
    limit = evidence.power_limit_w
    if part.tdp_w and limit and limit > _MOST_POWER * part.tdp_w.value:
        yield message("other_power_limit", found_w=limit, rated_w=part.tdp_w.value)
    other = _owner(evidence, known)
    if other is not None and other.id != part.id:
        yield message("other_pci_id", part=other.id)


def _agreement(part: Part, evidence: Evidence) -> str:
    """By what the part was recognised, one phrase for each thing that agreed."""
    said = [f"name {evidence.name!r}"]
    if evidence.memory_bytes and part.memory:
        said.append(f"{evidence.memory_bytes / _GIB:.1f} GiB of memory")
    if evidence.multiprocessors and _multiprocessors(part):
        said.append(f"{evidence.multiprocessors} {part.unit}s")
    if _pci_known(part, evidence):
        said.append(f"PCI id {'/'.join(part.pci_ids)}")
    # The file alone: its folder may say whose machine this is, and a manifest is published.
    source = "" if part.is_shipped else f", from {Path(part.file).name}"
    return ", ".join(said) + source


def _confirmed(part: Part, evidence: Evidence) -> bool:
    """Whether more than the absence of a contradiction speaks for the part: SMs and memory, or its PCI id."""
    sms = _multiprocessors(part) is not None and evidence.multiprocessors is not None
    memory = not part.memory or evidence.memory_bytes is not None
    return (sms and memory) or _pci_known(part, evidence)


def _same_power(part: Part, evidence: Evidence) -> bool:
    limit = evidence.power_limit_w
    if limit is None or part.tdp_w is None:
        return True
    return abs(limit / part.tdp_w.value - 1) <= _SAME_POWER


def _multiprocessors(part: Part) -> float | None:
    """SMs or CUs of one device; None where they aren't known, or aren't what a driver counts."""
    if part.multiprocessors is None or part.unit not in _MULTIPROCESSOR_UNITS:
        return None
    return part.multiprocessors.value / part.devices_per_part


def _fits(memory: Memory, part: Part, evidence: Evidence) -> bool:
    ratio = (evidence.memory_bytes or 0) / (memory.gb.value / part.devices_per_part * _GIB)
    return _LEAST_MEMORY <= ratio <= _MOST_MEMORY


def _memory(part: Part, evidence: Evidence) -> Memory | None:
    """Which of the part's sizes the device has; None where that isn't known."""
    if evidence.memory_bytes:
        return next((one for one in part.memory if _fits(one, part, evidence)), None)
    return part.memory[0] if len(part.memory) == 1 else None


def _size(memory: Memory, devices: int = 1) -> str:
    return f"{memory.gb.value / devices:g}"


def _pci(evidence: Evidence) -> tuple[str | None, str] | None:
    """Vendor (None where not said) and device as four hexadecimal digits each; None without an id."""
    given = evidence.pci_device_id
    if given is None or given == "":
        return None
    if isinstance(given, str):
        vendor, colon, device = given.casefold().rpartition(":")
        if colon:
            return vendor[-4:], device[-4:]
        try:
            given = int(given, 16)
        except ValueError:
            return None
    if given > 0xFFFF:
        return f"{given & 0xFFFF:04x}", f"{given >> 16:04x}"
    return None, f"{given:04x}"


def _pci_known(part: Part, evidence: Evidence) -> bool:
    found = _pci(evidence)
    if found is None:
        return False
    vendor, device = found
    return any(
        one.endswith(f":{device}") and (vendor is None or one.startswith(vendor)) for one in part.pci_ids
    )


def _owner(evidence: Evidence, known: Registry) -> Part | None:
    """The one part that lists this PCI id."""
    owners = [part for part in known.parts.values() if _pci_known(part, evidence)]
    return owners[0] if len(owners) == 1 else None


def _near(name: str, known: Registry) -> str:
    close = find_nearest(name, known)
    names = f"the nearest are {', '.join(close)} (`bench specs` lists all)" if close else "see `bench specs`"
    return f"a driver name, an id or a name of the table: {names}; or a file with the part (--parts FILE)"


@dataclass(frozen=True)
class _Meant:
    """The part that a short name is taken for, its memory where the name says it, and the others it fits.

    `bare`: the name says nothing of form or memory.
    """

    part: Part
    memory: Memory | None
    others: tuple[Part, ...]
    bare: bool


def _find_whole_name(name: str, known: Registry) -> tuple[Part, Memory | None] | None:
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


def _find_bare_name(name: str, known: Registry) -> _Meant | None:
    """The part that a bare name of the registry stands for, with what else `name` says of form and memory.

    None where the name doesn't begin with a bare name, and where no part of that name fits the rest of it.
    """
    wanted = _squash(name)
    for bare, ids in known.bare_names.items():
        parts = [known.parts[part] for part in ids]
        for rest in _rests(wanted, bare, parts[0]):
            fitting = [part for part in parts if _rest_fits(rest, part)]
            if fitting:
                first = fitting[0]
                return _Meant(first, _memory_in_name(rest, first), tuple(fitting[1:]), not rest)
    return None


def _describe_choice(name: str, part: Part, others: Sequence[Part]) -> str:
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


def _rest_fits(rest: str, part: Part) -> bool:
    """Whether each word of the rest (`sxm`, `80gb`) is one of the part's own."""
    words = {_squash(word) for word in (*part.id.split("-"), part.form or "")}
    for memory in part.memory:
        words |= {f"{memory.gb.value:g}gb", f"{memory.gb.value:g}g", _squash(memory.type or "")}
    return re.fullmatch(f"(?:{'|'.join(map(re.escape, filter(None, words)))})*", rest) is not None


def _memory_in_name(rest: str, part: Part) -> Memory | None:
    """The size that the rest of the name says; the only one where the part is sold in one."""
    if len(part.memory) == 1:
        return part.memory[0]
    return next((memory for memory in part.memory if f"{memory.gb.value:g}g" in rest), None)
