"""Finds the part that a device is from its driver's report, or the part that a person names.

*Devices.* The driver's name is compared as a whole with the names that each part lists, never by a piece of
it. Memory, SMs, power limit and PCI id must agree with the part. A device that contradicts the part of its
name is refused, and so is a name that several parts share until the rest of the evidence selects one. A
refusal says why and how to resolve it. No part is ever given the figure of a similar one.

*Names from a person* (`--part A800`, `bench specs h100`) may be spelled in any way and may leave out form and
memory. A name that a driver reports is never completed like that.
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
from nameplate.specs.cpu_names import find_cpu, spell_cpus
from nameplate.specs.part import Memory, Part
from nameplate.specs.registry import Registry, load_registry, normalize_name

# A driver reports less than the nameplate's GB (which are GiB): T4 shows 14.6 of 16 with ECC on, B300 268.6
# of 288. GH200's 141 GB shows as 143.4. No two sizes of one name are closer than a third.
_LEAST_MEMORY, _MOST_MEMORY = 0.88, 1.03
# Boards ship with limits above the TDP (H20: 500 W against 400), and users set lower ones. A limit half above
# the TDP means another part; a lower one proves nothing.
_MOST_POWER = 1.5
_SAME_POWER = 0.1
_GIB = 1 << 30
_MULTIPROCESSOR_UNITS = ("SM", "CU")

_MIG = re.compile(r"\bmig \d+[gc]\.", re.IGNORECASE)
_VIRTUAL = re.compile(r"^(grid|nvidia) .*-\d+[abcq]$", re.IGNORECASE)
_SETTLE = (
    "a device that agrees with its name; else --nominal, or a parts file (--parts) whose part `replaces` it"
)


@dataclass(frozen=True)
class Evidence:
    """What a machine reports of a device; None: not reported.

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
class SearchResult:
    """The result of a search: a part, or a reason why there is none.

    With a part, `why` is the evidence for it (text), `memory` its memory size where known, and `note` says
    which part a short name was taken for. Without one, `why` is a message and `settle` says how to resolve
    it; `settle` is empty where no part has the name.
    """

    part: Part | None
    why: Reason
    memory: Memory | None = None
    settle: str = ""
    note: str | None = None


@dataclass(frozen=True)
class NamedPart:
    """The part of a name, its memory size where known, and which part a short name was taken for.

    `note` is None where the name was the part's own.
    """

    part: Part
    memory: Memory | None = None
    note: str | None = None


def lookup(what: str | Evidence, extra: Sequence[str | Path] = ()) -> Part:
    """Return the part of an id or name, or the part that the evidence identifies.

    A bare name stands for its default form: `A800` for the SXM card. `extra` are files of parts besides the
    shipped ones. Raises InputError for an unknown or ambiguous name, with the nearest names and how to
    resolve it, and for a bad file.
    """
    return require(what, load_registry(extra)).part


def require(what: str | Evidence, registry: Registry, *, suggest_cpus: bool = False) -> NamedPart:
    """Return the part of an id, name or evidence in a registry. Raises InputError as `lookup` does.

    `suggest_cpus`: the nearest names may be CPUs', for a caller who takes these too.
    """
    found = search(what, registry)
    if found.part is None:
        name = what if isinstance(what, str) else what.name
        cpu = find_cpu(what) if isinstance(what, str) else None
        if cpu is not None:
            said = f"{plain(name)!r} is a CPU ({cpu.name}), which has no rating without its cores and clock"
            raise InputError(said, expected=f"an accelerator; `bench specs {cpu.id}` has the CPU's figures")
        raise InputError(str(found.why), expected=found.settle or _suggest(name, registry, suggest_cpus))
    return NamedPart(found.part, found.memory, found.note)


def search(what: str | Evidence, registry: Registry) -> SearchResult:
    """Search a registry by evidence, or by a name that a person gives."""
    return identify(what, registry) if isinstance(what, Evidence) else _search_name(what, registry)


def identify(evidence: Evidence, registry: Registry) -> SearchResult:
    """Find the part that a device is, by its name and the rest of the evidence."""
    refused = _refuse_partial_device(evidence.name)
    if refused is not None:
        return refused
    name = normalize_name(evidence.name)
    if name in registry.own_names:
        part, memory = registry.own_names[name]
        problem = _find_contradiction(part, memory, evidence, registry)
        if problem:
            return SearchResult(
                None, message("name_contradicted", part=part.id, problem=problem), settle=_SETTLE
            )
        return SearchResult(part, _describe_agreement(part, evidence), memory or _find_memory(part, evidence))
    if name in registry.shared_names:
        return _select(registry.shared_names[name], evidence, registry)
    return SearchResult(None, message("name_unknown", name=evidence.name))


def find_nearest(name: str, registry: Registry, count: int = 3, *, cpus: bool = False) -> tuple[str, ...]:
    """Return the ids of the parts whose id or names are most similar to `name`, best first.

    `cpus`: CPU parts too, among them those of a model with such a name.
    """
    spelled = spell_cpus() if cpus else {}
    part_of = {normalize_name(spelling): part for spelling, part in spelled.items()}
    part_of |= {part: part for part in registry.parts}
    part_of |= {spelling: parts[0].id for spelling, parts in registry.shared_names.items()}
    part_of |= {spelling: part.id for spelling, (part, _) in registry.own_names.items()}
    close = difflib.get_close_matches(normalize_name(name), part_of, n=4 * count, cutoff=0.4)
    return tuple(dict.fromkeys(part_of[one] for one in close))[:count]


def _suggest(name: str, registry: Registry, cpus: bool) -> str:
    close = find_nearest(name, registry, cpus=cpus)
    names = f"the nearest are {', '.join(close)} (`bench specs` lists all)" if close else "see `bench specs`"
    return f"a driver name, an id or a name of the table: {names}; or a file with the part (--parts FILE)"


# Devices, by evidence.


def _refuse_partial_device(name: str) -> SearchResult | None:
    """A refusal of a device without a name, a MIG slice or a virtual GPU; None for any other."""
    if not name.strip():
        return SearchResult(None, message("no_name"), settle="a driver name, an id or a name of the table")
    if _MIG.search(name):
        settle = "a whole GPU (MIG off), or --nominal for the slice"
        return SearchResult(None, message("mig_slice", name=name), settle=settle)
    if _VIRTUAL.match(name):
        settle = "a whole GPU, or --nominal for the share"
        return SearchResult(None, message("virtual_gpu", name=name), settle=settle)
    return None


def _select(shared: Sequence[Part], evidence: Evidence, registry: Registry) -> SearchResult:
    """Select the one part of a shared name that the evidence confirms, if no other fits."""
    problems = {part.id: _find_contradiction(part, None, evidence, registry) for part in shared}
    left = [part for part in shared if problems[part.id] is None]
    if len(left) > 1:
        left = [part for part in left if _has_same_power(part, evidence)] or left
    if len(left) == 1 and _is_confirmed(left[0], evidence):
        part = left[0]
        return SearchResult(part, _describe_agreement(part, evidence), _find_memory(part, evidence))
    if not left:
        said = [message("part_contradicted", part=id_, problem=problem) for id_, problem in problems.items()]
        why = message("none_of_that_name", name=evidence.name, problems=said)
        return SearchResult(None, why, settle=_SETTLE)
    why = message("name_ambiguous", name=evidence.name, parts=[part.id for part in shared])
    return SearchResult(None, why, settle=_describe_differences(shared))


def _describe_differences(parts: Sequence[Part]) -> str:
    """The facts that distinguish these parts, from one another or from hardware the registry doesn't have."""
    said = []
    for part in parts:
        facts = [f"{_size(one)} GB" for one in part.memory]
        facts += [f"{part.multiprocessors.value:g} {part.unit}s"] if part.multiprocessors else []
        facts += [f"{part.tdp_w.value:g} W"] if part.tdp_w else []
        facts += [f"PCI {' or '.join(part.pci_ids)}"] if part.pci_ids else []
        said.append(f"{part.id}: {', '.join(facts) or 'nothing known tells it'}")
    return f"an id, or memory, SM count, power limit or PCI id to settle it ({'; '.join(said)})"


def _find_contradiction(
    part: Part, memory: Memory | None, evidence: Evidence, registry: Registry
) -> Message | None:
    """The first thing that the device reports and this part can't have; None where all agrees."""
    if evidence.vendor and evidence.vendor.casefold() != part.vendor.casefold():
        return message("other_vendor", found=evidence.vendor, rated=part.vendor)
    sizes = (memory,) if memory else part.memory
    if sizes and evidence.memory_bytes and not any(_fits(one, part, evidence) for one in sizes):
        rated_gb = [_size(one, part.devices_per_part) for one in sizes]
        return message("other_memory", found_gib=evidence.memory_bytes / _GIB, rated_gb=rated_gb)
    expected, found = _multiprocessors(part), evidence.multiprocessors
    if expected and found and found != expected:
        return message("other_multiprocessors", found=found, unit=part.unit, rated=expected)
    limit = evidence.power_limit_w
    if part.tdp_w and limit and limit > _MOST_POWER * part.tdp_w.value:
        return message("other_power_limit", found_w=limit, rated_w=part.tdp_w.value)
    owners = [other for other in registry.parts.values() if _has_pci_id(other, evidence)]
    if len(owners) == 1 and owners[0].id != part.id:
        return message("other_pci_id", part=owners[0].id)
    return None


def _describe_agreement(part: Part, evidence: Evidence) -> str:
    """The evidence for the part, one phrase for each thing that agreed."""
    said = [f"name {evidence.name!r}"]
    if evidence.memory_bytes and part.memory:
        said.append(f"{evidence.memory_bytes / _GIB:.1f} GiB of memory")
    if evidence.multiprocessors and _multiprocessors(part):
        said.append(f"{evidence.multiprocessors} {part.unit}s")
    if _has_pci_id(part, evidence):
        said.append(f"PCI id {'/'.join(part.pci_ids)}")
    # The file's name without its folder, which may identify a person: manifests are published.
    source = "" if part.is_shipped else f", from {Path(part.file).name}"
    return ", ".join(said) + source


def _is_confirmed(part: Part, evidence: Evidence) -> bool:
    """Whether SMs and memory, or the PCI id, confirm the part: no contradiction alone isn't enough."""
    multiprocessors = _multiprocessors(part) is not None and evidence.multiprocessors is not None
    memory = not part.memory or evidence.memory_bytes is not None
    return (multiprocessors and memory) or _has_pci_id(part, evidence)


def _has_same_power(part: Part, evidence: Evidence) -> bool:
    limit = evidence.power_limit_w
    if limit is None or part.tdp_w is None:
        return True
    return abs(limit / part.tdp_w.value - 1) <= _SAME_POWER


def _multiprocessors(part: Part) -> float | None:
    """SMs or CUs of one device; None where they aren't known, or where drivers count another unit."""
    if part.multiprocessors is None or part.unit not in _MULTIPROCESSOR_UNITS:
        return None
    return part.multiprocessors.value / part.devices_per_part


def _fits(memory: Memory, part: Part, evidence: Evidence) -> bool:
    ratio = (evidence.memory_bytes or 0) / (memory.gb.value / part.devices_per_part * _GIB)
    return _LEAST_MEMORY <= ratio <= _MOST_MEMORY


def _find_memory(part: Part, evidence: Evidence) -> Memory | None:
    """The one of the part's sizes that the device has; None where it isn't known."""
    if evidence.memory_bytes:
        return next((one for one in part.memory if _fits(one, part, evidence)), None)
    return part.memory[0] if len(part.memory) == 1 else None


def _size(memory: Memory, devices: int = 1) -> str:
    return f"{memory.gb.value / devices:g}"


def _has_pci_id(part: Part, evidence: Evidence) -> bool:
    found = _parse_pci_id(evidence)
    if found is None:
        return False
    vendor, device = found
    return any(
        one.endswith(f":{device}") and (vendor is None or one.startswith(vendor)) for one in part.pci_ids
    )


def _parse_pci_id(evidence: Evidence) -> tuple[str | None, str] | None:
    """Vendor (None: not given) and device as four hexadecimal digits each; None without a PCI id."""
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


# Names that a person gives.


def _search_name(name: str, registry: Registry) -> SearchResult:
    """Find a part by its id, a bare name, a driver's name, or any spelling of these."""
    part = registry.parts.get(name.strip().casefold())
    if part is not None:
        return SearchResult(part, f"part {part.id}")
    short = _find_bare_name(name, registry)
    if short is not None and short.is_bare:
        is_whole = not short.others and _find_whole_name(name, registry) == (short.part, None)
        return (
            SearchResult(short.part, f"part {short.part.id}", short.memory)
            if is_whole
            else _choose(name, short)
        )
    found = identify(Evidence(name), registry)
    if found.part is not None:
        return found
    whole = _find_whole_name(name, registry)
    if whole is not None:
        part, memory = whole
        others = [each for each in registry.shared_names.get(normalize_name(name), ()) if each.id != part.id]
        note = _describe_choice(name, part, others) if others else None
        return SearchResult(part, f"part {part.id}", memory, note=note)
    return found if short is None else _choose(name, short)


@dataclass(frozen=True)
class _ShortName:
    """The default part of a short name, its memory where the name says it, and the other parts that fit.

    `is_bare`: the name says nothing of form or memory.
    """

    part: Part
    memory: Memory | None
    others: tuple[Part, ...]
    is_bare: bool


def _choose(name: str, short: _ShortName) -> SearchResult:
    note = _describe_choice(name, short.part, short.others)
    return SearchResult(short.part, f"part {short.part.id}", short.memory, note=note)


def _describe_choice(name: str, part: Part, others: Sequence[Part]) -> str:
    """Say which part a name was taken for, and how to name another that fits."""
    said = f"{plain(name).strip()} is taken as {part.id}"
    return f"{said}; name another form, such as {others[0].id}, to change that" if others else said


def _find_bare_name(name: str, registry: Registry) -> _ShortName | None:
    """Find the bare name that `name` begins with, and the parts that fit what follows (form, memory).

    None where there is no such bare name, and where no part of it fits.
    """
    wanted = _simplify(name)
    for bare, ids in registry.bare_names.items():
        parts = [registry.parts[part] for part in ids]
        for spelling in _with_and_without_vendor(bare, parts[0]):
            if not wanted.startswith(spelling):
                continue
            rest = wanted.removeprefix(spelling)
            fitting = [part for part in parts if _rest_fits(rest, part)]
            if fitting:
                first, *others = fitting
                return _ShortName(first, _memory_in_rest(rest, first), tuple(others), not rest)
    return None


def _find_whole_name(name: str, registry: Registry) -> tuple[Part, Memory | None] | None:
    """Find the one part that has this id or name, ignoring case, hyphens, spaces and the vendor's name.

    Returns it with the memory size that the name states; None where no part, or more than one, has the name.
    """
    wanted = _simplify(name)
    found = {
        part.id: (part, memory)
        for part in registry.parts.values()
        for whole, memory in _whole_names(part)
        if wanted in _with_and_without_vendor(whole, part)
    }
    return next(iter(found.values())) if len(found) == 1 else None


def _whole_names(part: Part) -> Iterator[tuple[str, Memory | None]]:
    """Id and names of a part, each with the memory size that it states."""
    yield part.id, None
    yield part.name, None
    yield from ((name, None) for name in part.driver_names)
    for memory in part.memory:
        yield from ((name, memory) for name in memory.driver_names)


def _simplify(name: str) -> str:
    """Letters and digits only, without case: `A800-SXM4-80GB` and `a800 sxm4 80gb` are one name."""
    return "".join(char for char in name.casefold() if char.isalnum())


def _with_and_without_vendor(name: str, part: Part) -> set[str]:
    vendor = _simplify(part.vendor)
    alone = _simplify(name).removeprefix(vendor)
    return {alone, vendor + alone}


def _rest_fits(rest: str, part: Part) -> bool:
    """Whether each word of the rest of a name (`sxm`, `80gb`) belongs to the part."""
    words = {_simplify(word) for word in (*part.id.split("-"), part.form or "")}
    for memory in part.memory:
        words |= {f"{memory.gb.value:g}gb", f"{memory.gb.value:g}g", _simplify(memory.type or "")}
    return re.fullmatch(f"(?:{'|'.join(map(re.escape, filter(None, words)))})*", rest) is not None


def _memory_in_rest(rest: str, part: Part) -> Memory | None:
    """The memory size that the rest of a name states; the part's only one where it has one."""
    if len(part.memory) == 1:
        return part.memory[0]
    return next((memory for memory in part.memory if f"{memory.gb.value:g}g" in rest), None)
