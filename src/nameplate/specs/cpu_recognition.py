"""Finds the part that a CPU is, by weighed evidence: numbers, name, flags, measured FLOP per cycle.

Numbers and names are what a machine says of itself, and a hypervisor may give any. Flags are checked against
what a part can show, and a measurement against what it can do. What contradicts a part refuses it: no part is
ever given because nothing better was found. The architecture that Python runs on is sure: a part of another
one is read from another machine's files, or Python runs in an emulator (Rosetta, qemu-user), whose speed
isn't that of any part.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from nameplate.base.messages import Message, Reason, message
from nameplate.silicon.peak import Silicon
from nameplate.specs.cpu import (
    Microarchitecture,
    Throughput,
    find_boost,
    find_foreign_flags,
    find_microarchitecture,
    find_throughput,
    identify,
)
from nameplate.specs.cpu_evidence import CpuEvidence, find_family

# A measured peak above a table's figure by more than this share refuses the table.
ABOVE = 0.05


@dataclass(frozen=True)
class Recognised:
    """The part with the evidence for it; or None, and why: what refused it, or that nothing is known."""

    part: Microarchitecture | None
    why: Reason


def recognise(evidence: CpuEvidence, silicon: Silicon | None = None, architecture: str = "") -> Recognised:
    """Find the one part that numbers and name agree on and that nothing contradicts.

    `architecture` is platform.machine()'s word; "": not known, and not compared.
    """
    seen = _describe(evidence)
    candidates = list(_find_candidates(evidence))
    if not candidates:
        return Recognised(None, message("no_part", evidence=seen))
    problems = [
        _find_other_architecture(part, architecture) or _find_contradiction(part, evidence, silicon)
        for part in candidates
    ]
    left = [part for part, problem in zip(candidates, problems, strict=True) if problem is None]
    refused = [problem for problem in problems if problem is not None]
    if not left:
        return Recognised(None, message("cpu_contradicted", evidence=seen, problems=tuple(refused)))
    if len(left) > 1:
        names = tuple(part.name for part in left)
        return Recognised(None, message("cpu_disagrees", evidence=seen, name=evidence.name, parts=names))
    part = left[0]
    if refused:
        other = next(each for each in candidates if each is not part)
        numbers = _by_numbers(evidence)
        claim = (
            message("cpu_numbers_refused", part=other.name, problem=refused[0])
            if other is numbers
            else message("cpu_name_refused", name=evidence.name, part=other.name, problem=refused[0])
        )
        return Recognised(part, message("cpu_one_left", evidence=seen, claim=claim))
    return Recognised(part, _confirm(part, evidence, silicon, seen))


def _find_candidates(evidence: CpuEvidence) -> Iterator[Microarchitecture]:
    """Yield the part that the numbers are of, and that of the model's name where it may be another."""
    by_numbers = _by_numbers(evidence)
    if by_numbers is not None:
        yield by_numbers
    boost = find_boost(evidence.name)
    by_name = find_microarchitecture(boost.group.microarchitecture) if boost else None
    if by_name is not None and by_name is not by_numbers:
        yield by_name


def _by_numbers(evidence: CpuEvidence) -> Microarchitecture | None:
    return identify(_of_fastest_kind(evidence))


def _find_other_architecture(part: Microarchitecture, architecture: str) -> Message | None:
    if find_family(architecture) in (None, part.family):
        return None
    return message("cpu_other_architecture", part=part.name, family=part.family, architecture=architecture)


def _find_contradiction(
    part: Microarchitecture, evidence: CpuEvidence, silicon: Silicon | None
) -> Message | None:
    """The first thing that this part can't be or do; None where nothing contradicts it."""
    foreign = find_foreign_flags(evidence.vendor, evidence.flags)
    if foreign:
        return message("cpu_foreign_vendor", flags=foreign, vendor=evidence.vendor)
    impossible = part.foreign_flags(evidence.flags)
    if impossible:
        return message("cpu_foreign_flags", flags=impossible, part=part.name)
    fastest = _of_fastest_kind(evidence)
    if evidence.has_numbers and not any(each.matches_but_stepping(fastest) for each in part.identify):
        return message("cpu_other_numbers", part=part.name)
    for dtype, measured, path in compare_per_cycle(part, evidence, silicon):
        rated = path.flop_per_cycle
        if measured > (1 + ABOVE) * rated:
            return message(
                "cpu_too_fast",
                measured=measured,
                rated=rated,
                dtype=dtype,
                part=part.name,
                instruction=path.instruction,
            )
    return None


def compare_per_cycle(
    part: Microarchitecture, evidence: CpuEvidence, silicon: Silicon | None
) -> Iterator[tuple[str, float, Throughput]]:
    """Yield dtype, measured FLOP per cycle of one core, and the path of the part that it is compared with.

    Like with like: a loop that serves several dtypes is compared with the highest of their figures. FP16 with
    sums in FP16 serves products in `fp16` too, whose table figure is that of sums in FP32.
    """
    rated = find_throughput(part, evidence.flags, evidence.name)
    for dtype in silicon.dtypes if silicon is not None else ():
        peak = silicon.peak(dtype) if silicon is not None else None
        known = [rated[each] for each in peak.dtypes if each in rated] if peak else []
        if peak is not None and known and dtype in rated:
            yield dtype, peak.flop_per_cycle, max(known, key=lambda path: path.flop_per_cycle)


def _confirm(part: Microarchitecture, evidence: CpuEvidence, silicon: Silicon | None, seen: str) -> Reason:
    """The evidence, with what a measurement agreed to."""
    agreed = tuple(
        f"{dtype} {measured:.1f} of {path.flop_per_cycle} FLOP per cycle"
        for dtype, measured, path in compare_per_cycle(part, evidence, silicon)
        if measured >= (1 - ABOVE) * path.flop_per_cycle
    )
    return message("cpu_confirmed", evidence=seen, figures=agreed) if agreed else seen


def _of_fastest_kind(evidence: CpuEvidence) -> CpuEvidence:
    """The evidence with the numbers of the fastest cores: /proc/cpuinfo begins with the slowest ones."""
    kind = next((kind for kind in evidence.core_kinds if kind.arm_part is not None), None)
    if kind is None:
        return evidence
    return replace(evidence, implementer=kind.implementer, arm_part=kind.arm_part)


def _describe(evidence: CpuEvidence) -> str:
    """What the machine says of itself, in one phrase."""
    arm = [kind for kind in evidence.core_kinds if kind.arm_part is not None]
    if len({(kind.implementer, kind.arm_part) for kind in arm}) > 1:
        said = ", ".join(f"{kind.cores} × {kind.arm_part:#x}" for kind in arm)
        numbers = f"implementer {arm[0].implementer:#x}, parts {said}"
    elif evidence.implementer is not None:
        numbers = f"implementer {evidence.implementer:#x}, part {evidence.arm_part or 0:#x}"
    elif evidence.family is not None:
        numbers = f"{evidence.vendor} family {evidence.family}, model {evidence.model}"
    else:
        return f"brand {evidence.name!r}"
    named = evidence.name and evidence.implementer is not None
    return f"{numbers}, {evidence.name}" if named else numbers
