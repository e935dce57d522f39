"""Rates a CPU per dtype: what it is sold for where its part is known, else what its silicon was measured to.

Rated is FLOP per cycle per core × cores × clock, summed over the kinds of cores. A clock is, in this order:
the model's maximum boost; cpufreq's highest, on a machine of its own; the one held by the path's own loop on
all cores, since AMX and AVX-512 code runs at lower clocks than other code; that of a chain of adds. What a
system reports as its present clock is never used: guests print a base clock that real work exceeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import get_args

from nameplate.base.messages import Message, Reason, message, text
from nameplate.silicon.loops import load_loops
from nameplate.silicon.peak import Peak, Silicon
from nameplate.specs.cpu import (
    Boost,
    Dtype,
    Microarchitecture,
    Throughput,
    explain_absence,
    find_boost,
    find_microarchitecture,
    find_throughput,
    identify,
)
from nameplate.specs.cpu_evidence import CoreKind, CpuEvidence, name_by_instructions
from nameplate.specs.cpu_recognition import ABOVE, Recognised, compare_per_cycle, recognise
from nameplate.specs.rating import MEASURED, TABLE, Figure, Rating

# The clock of a chain of adds moved by this share from one start to the next, on a guest whose host shares
# its cores with others.
_CLOCK_HALF_WIDTH = 0.03
# What a loop fails with where its instruction isn't there, or the kernel doesn't allow it.
_CANT_EXECUTE = ("silicon_illegal", "silicon_tiles")
_SLOWER_KINDS = ("efficiency", "low-power")


@dataclass(frozen=True)
class CpuFacts:
    """What a CPU is rated by. Clocks in MHz: cpufreq's highest, and that of a chain of adds; None: not known.

    `cores` counts the physical cores that may be used, a fraction where a quota leaves one.
    """

    evidence: CpuEvidence
    cores: float
    virtual_machine: bool | None = None
    maximum_mhz: float | None = None
    measured_mhz: float | None = None
    silicon: Silicon | None = None
    architecture: str = ""  # platform.machine()'s word


def rate_cpu(facts: CpuFacts) -> Rating:
    """Rate a CPU. A dtype without a figure has the reason. Raises InputError for a bad table."""
    facts = replace(facts, evidence=_leave_out_refused(facts.evidence, facts.silicon))
    found = recognise(facts.evidence, facts.silicon, facts.architecture)
    if found.part is None:
        return _rate_by_measurement(facts, found)
    figures, notes = _rate_by_table(found.part, facts)
    reservations = (*notes, *_find_shortfalls(found.part, figures, facts))
    own = [text(found.part.note)] if found.part.note else []
    return Rating(found.part.id, found.why, figures, figures, notes=(*reservations, *own))


def _leave_out_refused(evidence: CpuEvidence, silicon: Silicon | None) -> CpuEvidence:
    """The evidence without flags of instructions that the machine shows and can't execute."""
    failed = silicon.failed if silicon is not None else {}
    refused = {name for name, why in failed.items() if why.code in _CANT_EXECUTE}
    flags = {flag for loop in load_loops() if loop.name in refused for flag in loop.requires}
    ran = {peak.loop for peak in silicon.peaks} if silicon is not None else set()
    flags -= {flag for loop in load_loops() if loop.name in ran for flag in loop.requires}
    return replace(evidence, flags=evidence.flags - flags)


def _rate_by_measurement(facts: CpuFacts, found: Recognised) -> Rating:
    """The rating of a CPU that isn't in the tables, or that contradicts them."""
    named = name_by_instructions(facts.evidence, facts.architecture)
    missing = _explain_unrated(found.why, facts.silicon)
    figures = dict.fromkeys(get_args(Dtype), Figure(None, missing))
    figures |= {dtype: _measured_figure(peak) for dtype, peak in _peaks(facts.silicon).items()}
    why = message("cpu_named_by_instructions", name=named.name, why=found.why)
    return Rating(named.id, why, figures, figures, missing=missing)


def _explain_unrated(why: Reason, silicon: Silicon | None) -> Message:
    """The reason for a dtype without a figure, of a CPU that is in no table."""
    if silicon is not None and silicon.absent is not None:
        return message("cpu_unmeasurable", why=why, absent=silicon.absent)
    return message("cpu_unmeasured", why=why)


def _peaks(silicon: Silicon | None) -> Mapping[str, Peak]:
    """The measured peak of each dtype that has one."""
    found = {dtype: silicon.peak(dtype) for dtype in silicon.dtypes} if silicon is not None else {}
    return {dtype: peak for dtype, peak in found.items() if peak is not None}


def _measured_figure(peak: Peak) -> Figure:
    return Figure(
        peak.tflops,
        f"measured: {peak.instruction} on all cores at once, at {peak.clock_mhz:,.0f} MHz",
        MEASURED,
        peak.tflops_low,
        peak.tflops_high,
        peak.instruction,
        peak.clock_mhz,
    )


def _rate_by_table(part: Microarchitecture, facts: CpuFacts) -> tuple[dict[str, Figure], list[Message]]:
    """The figures of a part, and what a measurement has against them.

    A peak measured above a figure takes its place: then the clock isn't the one that the table knows.
    """
    peaks = _peaks(facts.silicon)
    rated = {dtype: _table_figure(dtype, part, facts, peaks.get(dtype)) for dtype in get_args(Dtype)}
    figures, notes = dict(rated), []
    for dtype, peak in peaks.items():
        if dtype not in rated:
            continue
        own = rated[dtype].tflops
        like = max((rated[each].tflops or 0.0 for each in peak.dtypes if each in rated), default=0.0)
        if own is None:
            figures[dtype] = _measured_figure(peak)
        elif peak.tflops > (1 + ABOVE) * like:
            figures[dtype] = _measured_figure(peak)
            notes.append(message("nominal_exceeded", dtype=dtype, measured=peak.tflops, rated=like))
    return figures, notes


def _table_figure(dtype: str, part: Microarchitecture, facts: CpuFacts, peak: Peak | None) -> Figure:
    """FLOP per cycle × cores × clock over all kinds of cores; None with the reason where one isn't known."""
    flags, boost = facts.evidence.flags, _find_own_boost(part, facts.evidence)
    terms: list[_Term] = []
    for kind, own in _split_into_kinds(part, facts):
        if own is None:
            return Figure(None, message("cpu_kind_unknown", part=part.name))
        path = find_throughput(own, flags, facts.evidence.name).get(dtype)
        if path is None:
            return Figure(None, explain_absence(dtype, own, flags))
        clock = _find_clock(kind, _find_listed(boost, kind, own is part), facts, peak)
        if clock is None:
            return Figure(None, message("no_clock", part=part.name, why=message("model_unknown")))
        terms.append(_Term(path, kind.cores, clock))
    low, high = (sum(term.tflops * getattr(term.clock, end) for term in terms) for end in ("low", "high"))
    fastest = terms[0]
    is_exact = all(term.clock.half_width == 0 for term in terms)
    return Figure(
        sum(term.tflops for term in terms),
        " + ".join(map(str, terms)),
        TABLE,
        None if is_exact else low,
        None if is_exact else high,
        fastest.path.instruction,
        fastest.clock.mhz,
    )


@dataclass(frozen=True)
class _Clock:
    """A clock in MHz, where it comes from, and half of its 95 % interval as a share; 0: a rated one."""

    mhz: float
    source: str
    half_width: float = 0.0

    @property
    def low(self) -> float:
        return 1 / (1 + self.half_width)

    @property
    def high(self) -> float:
        return 1 + self.half_width


@dataclass(frozen=True)
class _Cores:
    """How many physical cores of a kind are rated, a fraction where a quota leaves one.

    `is_main`: of the kind that a part's figures and its boost are of.
    """

    cores: float
    maximum_mhz: float | None
    is_main: bool = True
    is_only: bool = True


@dataclass(frozen=True)
class _Term:
    """The cores of one kind, their instruction path and clock."""

    path: Throughput
    cores: float
    clock: _Clock

    @property
    def tflops(self) -> float:
        return self.path.flop_per_cycle * self.cores * self.clock.mhz / 1e6

    def __str__(self) -> str:
        path, clock = self.path, self.clock
        return (
            f"{path.flop_per_cycle} FLOP per cycle per core ({path.instruction}) × {self.cores:g} cores × "
            f"{clock.mhz:,.0f} MHz ({clock.source})"
        )


def _split_into_kinds(
    part: Microarchitecture, facts: CpuFacts
) -> Iterator[tuple[_Cores, Microarchitecture | None]]:
    """Yield the cores by kind with the part that each kind is, the fastest first; None: not known.

    Where a quota leaves fewer cores than there are, the fastest are counted.
    """
    kinds = facts.evidence.core_kinds
    if len(kinds) < 2:
        kind = kinds[0] if kinds else None
        # One unnamed kind of a hybrid part: one without efficiency cores (where there are some, Linux names
        # both kinds), or a guest, which isn't told.
        unclear = (
            part.efficiency is not None and not (kind and kind.name) and facts.virtual_machine is not False
        )
        highest = (kind.maximum_mhz if kind else None) or facts.maximum_mhz
        is_main = not (kind and kind.name in _SLOWER_KINDS)
        yield _Cores(facts.cores, highest, is_main), None if unclear else _part_of_kind(kind, part)
        return
    left = facts.cores
    for index, kind in enumerate(kinds):
        count = min(left, float(kind.cores))
        if count > 0:
            yield _Cores(count, kind.maximum_mhz, index == 0, is_only=False), _part_of_kind(kind, part)
        left -= count


def _part_of_kind(kind: CoreKind | None, part: Microarchitecture) -> Microarchitecture | None:
    if kind is not None and kind.arm_part is not None:
        return identify(CpuEvidence(implementer=kind.implementer, arm_part=kind.arm_part))
    if kind is not None and kind.name in _SLOWER_KINDS:
        return find_microarchitecture(part.efficiency)
    return part


def _find_own_boost(part: Microarchitecture, evidence: CpuEvidence) -> Boost | None:
    """The clocks of the model; None where the name was refused, being that of another part's model."""
    boost = find_boost(evidence.name)
    return boost if boost is not None and boost.group.microarchitecture == part.id else None


def _find_clock(cores: _Cores, listed: float | None, facts: CpuFacts, peak: Peak | None) -> _Clock | None:
    """The clock that these cores are rated by; `listed` is that of the table of models. None: not known."""
    if listed is not None:
        return _Clock(listed, "the model's maximum boost")
    highest, measured = cores.maximum_mhz, facts.measured_mhz or 0.0
    # Some drivers (acpi-cpufreq) leave the boost out: then a chain of adds runs above their highest clock.
    is_boost = highest is not None and (not cores.is_main or measured <= (1 + ABOVE) * highest)
    if highest and is_boost and facts.virtual_machine is not True:
        return _Clock(highest, "cpufreq's highest")
    if not cores.is_only:  # one measured clock can't be that of several kinds
        return None
    if peak is not None:
        # The upper end: the lower one also has what other work took meanwhile, which isn't the clock's.
        half = peak.tflops_high / peak.tflops - 1
        return _Clock(peak.clock_mhz, "measured beside the instruction's own loop", half)
    if facts.measured_mhz:
        return _Clock(facts.measured_mhz, "measured", _CLOCK_HALF_WIDTH)
    return None


def _find_listed(boost: Boost | None, cores: _Cores, same_part: bool) -> float | None:
    """The clock that the table of models has for these cores; None where it has none for them."""
    if boost is None:
        return None
    if cores.is_main:
        return boost.max_boost_mhz
    # Dense cores of the same part are slower than its boost; their own clock is cpufreq's.
    return None if same_part else boost.group.efficiency_mhz


def _find_shortfalls(
    part: Microarchitecture, figures: Mapping[str, Figure], facts: CpuFacts
) -> Iterator[Message]:
    """Say where cores do less than they are rated for, one alone or all at once: the rating stands."""
    slow = {
        dtype: f"{dtype} {measured:.1f} of {path.flop_per_cycle}"
        for dtype, measured, path in compare_per_cycle(part, facts.evidence, facts.silicon)
        if measured < (1 - ABOVE) * path.flop_per_cycle
    }
    if slow:
        yield message("core_below_table", part=part.name, figures=tuple(slow.values()))
    below = [
        f"{dtype} {peak.tflops / rated:.2f}"
        for dtype, peak in _peaks(facts.silicon).items()
        if dtype in figures
        and dtype not in slow
        and figures[dtype].basis == TABLE
        and (rated := figures[dtype].tflops)
        and peak.tflops < (1 - ABOVE) * rated
    ]
    if below:
        yield message("silicon_below_nominal", shares=tuple(below))
