"""An NVIDIA GPU: its description (`GpuFacts`), its state at a moment (`GpuReading`), and its problems.

A figure that NVML doesn't give is None, never 0, and `absent` says why: figure to reason, `*` for all
figures. A reason is a message of ours, or NVML's own text. Names of clock-event reasons, modes and actions
are NVIDIA's own, in lower case, so that they can be looked up.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import BeforeValidator

from nameplate.base.formatting import figure, percent
from nameplate.base.language import N_, _
from nameplate.base.messages import Message, Reason, message, render
from nameplate.base.model import FrozenModel

# nvmlClocksEventReason… and, for the last two, nvmlClocksThrottleReason… of nvml.h: a bit mask.
_REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}
# Reasons that aren't throttling: the GPU is idle, or somebody set the clock.
_CHOSEN = {"gpu_idle", "applications_clocks_setting", "display_clock_setting"}
# A counter that gained more time than has passed isn't in the unit that we take it for.
COUNTER_SLACK = 1.1
COUNTER_SLACK_S = 0.1
# No card draws nothing for so long: an energy counter that doesn't move isn't counting.
_COUNTER_STILL_S = 1.0
# Board limits are set in whole watts; enforced ones are reported with milliwatts of rounding.
_POWER_TOLERANCE_W = 1.0
# Xid errors that a program causes on a healthy card, by a bad access for instance: those that NVIDIA's own
# health check passes over (NVIDIA/k8s-device-plugin, internal/rm/health.go).
_PROGRAM_XIDS = frozenset({13, 31, 43, 45, 68, 109})
# "CRC errors only matter at rates of 100+ per second", but one replay or recovery is a failed health check
# (NVIDIA/DCGM, dcgm_gpu_hardware_limits.h: DCGM_LIMIT_MAX_NVLINK_CRC_ERROR, DCGM_LIMIT_MAX_NVLINK_ERROR).
_LINK_CRC_ERRORS_A_SECOND = 100
# Idle links slow down, so their generation means something only under load.
_LOADED_PERCENT = 50

POLICIES = ("power", "thermal", "software_thermal", "hardware_thermal", "power_brake")


def decode_clock_event_reasons(mask: int) -> tuple[str, ...]:
    """Return the names of the set bits, lowest first; an unknown bit is `unknown_0x…`."""
    bits = (1 << place for place in range(mask.bit_length()))
    return tuple(_REASONS.get(bit, f"unknown_{bit:#x}") for bit in bits if mask & bit)


def _as_names(found: Any) -> Any:
    """Decode a mask; names stay names, as a saved reading has them."""
    return decode_clock_event_reasons(found) if isinstance(found, int) else found


class _GpuFigures(FrozenModel):
    uuid: str | None = None
    absent: Mapping[str, Reason] = {}

    def why_absent(self, figure: str) -> Reason | None:
        """Return why a figure is None; None where it isn't, or where no reason is known."""
        if getattr(self, figure) is not None:
            return None
        return self.absent.get(figure, self.absent.get("*"))

    @property
    def lost(self) -> bool:
        """Whether the driver has lost the card (it fell off the bus)."""
        return any(
            isinstance(reason, str) and reason.startswith("NVML_ERROR_GPU_IS_LOST")
            for reason in self.absent.values()
        )


class GpuFacts(_GpuFigures):
    """One card, or one MIG slice, as the driver describes it; a slice has its card's clocks and limits."""

    index: int  # in NVML's order, which isn't CUDA's; a slice has its card's
    parent_uuid: str | None = None  # the card of a MIG slice; None for a card
    name: str | None = None
    serial: str | None = None
    pci_bus_id: str | None = None
    pci_vendor_id: str | None = None  # four hexadecimal digits, as lspci writes them: 10de
    pci_device_id: str | None = None
    pci_subsystem_vendor_id: str | None = None
    pci_subsystem_device_id: str | None = None
    vbios: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None  # the newest CUDA the driver supports
    memory_bytes: int | None = None
    cores: int | None = None  # CUDA cores
    max_sm_clock_mhz: int | None = None
    max_memory_clock_mhz: int | None = None
    power_limit_w: float | None = None  # the one in force
    default_power_limit_w: float | None = None
    persistence_mode: bool | None = None
    ecc_mode: bool | None = None
    mig_mode: bool | None = None
    compute_mode: str | None = None  # default, exclusive_process, prohibited
    virtualization_mode: str | None = None  # none, passthrough, vgpu, host_vgpu, host_vsga
    max_pcie_generation: int | None = None  # of card and slot together
    max_pcie_width: int | None = None
    pcie_generation: int | None = None  # at this moment: idle links slow down
    pcie_width: int | None = None

    @property
    def pci_id(self) -> str | None:
        """`vendor:device`, as pci.ids and the registry of parts write it: 10de:20f3."""
        if self.pci_vendor_id is None or self.pci_device_id is None:
            return None
        return f"{self.pci_vendor_id}:{self.pci_device_id}"

    @property
    def is_mig_slice(self) -> bool:
        """Whether this is a slice of a card in MIG mode."""
        return self.parent_uuid is not None


class GpuProcess(FrozenModel):
    """A process with a compute context, by the process id that the driver knows it by."""

    pid: int
    used_bytes: int | None = None


class GpuReading(_GpuFigures):
    """One GPU at one moment. A MIG slice has its card's clocks, temperature and counters, and no power."""

    at_s: float  # on time.perf_counter's clock, which processes of one Linux host share
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    memory_temperature_c: int | None = None
    power_w: float | None = None
    power_source: str | None = None  # instant (field 186), or usage: the one call that older drivers have
    power_average_w: float | None = None  # over 1 s; no GA100 (A100, A800) has it
    energy_j: float | None = None  # since the driver was loaded; a superchip's counter is its module's
    clock_event_reasons: Annotated[tuple[str, ...] | None, BeforeValidator(_as_names)] = None  # () for none
    # Time for which each policy held the clock down, since the driver was loaded:
    power_throttle_s: float | None = None
    thermal_throttle_s: float | None = None
    software_thermal_throttle_s: float | None = None
    hardware_thermal_throttle_s: float | None = None
    power_brake_throttle_s: float | None = None
    recovery_action: str | None = None  # none, or what the driver asks for
    gpu_utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    memory_used_bytes: int | None = None  # by every process, seen or not (by older drivers theirs too)
    own_memory_bytes: int | None = None  # what this process has allocated there, without its context
    ecc_uncorrected: int | None = None  # since the driver was loaded
    remapped_rows_correctable: int | None = None
    remapped_rows_uncorrectable: int | None = None
    remapping_pending: bool | None = None
    remapping_failed: bool | None = None
    pcie_replays: int | None = None
    xid_errors: tuple[int, ...] | None = None  # reported since NVML's process began to watch, oldest first
    nvlink_replays: int | None = None  # over all links that are up, since the driver was loaded
    nvlink_recoveries: int | None = None
    nvlink_crc_errors: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    processes: tuple[GpuProcess, ...] | None = None  # others' with a compute context; own ones are left out
    own_processes_seen: int | None = None  # how many own ones were left out
    own_processes: int = 1  # how many the reader called its own
    # Whether this process has the process ids that the driver has. In a container it mostly hasn't: its own
    # processes may be among `processes` under the host's ids, and those of other containers may be hidden.
    pids_match: bool | None = None

    @classmethod
    def without_figures(cls, uuid: str | None, reason: Reason, at_s: float) -> Self:
        """Return a reading without figures, for one reason."""
        return cls(uuid=uuid, at_s=at_s, absent={"*": reason})

    @property
    def throttle_reasons(self) -> tuple[str, ...] | None:
        """The clock-event reasons that mean throttling; an idle GPU and a clock that somebody set don't."""
        if self.clock_event_reasons is None:
            return None
        return tuple(reason for reason in self.clock_event_reasons if reason not in _CHOSEN)

    @property
    def other_processes(self) -> bool | None:
        """Whether another process has a compute context here; None where that can't be known.

        Where process ids don't match and no own process was recognised, as many of the listed ones as there
        are own ones may be our own under other ids, and others may be hidden from an empty list.
        """
        if self.processes is None:
            return None
        if self.own_processes_seen or self.pids_match:
            return bool(self.processes)
        return True if len(self.processes) > self.own_processes else None


class GpuDifference(FrozenModel):
    """What happened on one GPU between two readings; an unknown figure is None, and `absent` says why."""

    elapsed_s: float
    energy_j: float | None = None
    mean_power_w: float | None = None  # energy ÷ time; below some 5 s the counter's steps are visible
    throttle_s: Mapping[str, float | None]  # by policy, of POLICIES
    ecc_errors: int | None = None
    pcie_replays: int | None = None
    remapped_rows: int | None = None  # of memory, for errors corrected or not
    xid_errors: tuple[int, ...] | None = None
    nvlink_replays: int | None = None
    nvlink_recoveries: int | None = None
    nvlink_crc_errors: int | None = None
    other_processes: bool | None = None  # at either end
    throttle_reasons: tuple[str, ...] | None = None  # at either end
    absent: Mapping[str, Reason] = {}

    @property
    def throttled_s(self) -> float | None:
        """The longest time that any policy held the clock down. Policies may overlap, so this is no sum."""
        known = [spent for spent in self.throttle_s.values() if spent is not None]
        return max(known) if known else None

    @property
    def card_xids(self) -> tuple[int, ...]:
        """The Xid errors that tell of the card, its driver or its memory, and not of a faulty program."""
        return tuple(xid for xid in self.xid_errors or () if xid not in _PROGRAM_XIDS)

    @property
    def has_link_faults(self) -> bool:
        """Whether NVLink had more errors than a healthy one has."""
        crc_errors = self.nvlink_crc_errors or 0
        return bool(
            self.nvlink_replays
            or self.nvlink_recoveries
            or crc_errors > _LINK_CRC_ERRORS_A_SECOND * max(self.elapsed_s, 1.0)
        )


def subtract_readings(before: GpuReading, after: GpuReading) -> GpuDifference:
    """Return what happened between two readings of one GPU. Raises ValueError for readings of two."""
    if before.uuid != after.uuid:
        raise ValueError(f"readings of two GPUs can't be subtracted: {before.uuid} and {after.uuid}")
    elapsed_s = after.at_s - before.at_s
    absent: dict[str, Reason] = {}

    def gain(figure: str) -> float | None:
        first, second = getattr(before, figure), getattr(after, figure)
        if first is None or second is None:
            lacking = before if first is None else after
            absent[figure] = lacking.why_absent(figure) or message("not_read")
            return None
        if second < first:
            absent[figure] = message("counter_fell", first=first, second=second)
            return None
        return float(second - first)

    def gained_count(figure: str) -> int | None:
        found = gain(figure)
        return None if found is None else int(found)

    def gained_s(figure: str) -> float | None:
        found = gain(figure)
        if found is not None and found > elapsed_s * COUNTER_SLACK + COUNTER_SLACK_S:
            absent[figure] = message("counter_outran", counted_s=found, elapsed_s=elapsed_s)
            return None
        return found

    energy_j = gain("energy_j")
    if energy_j == 0 and elapsed_s >= _COUNTER_STILL_S:
        absent["energy_j"] = message("counter_still", elapsed_s=elapsed_s)
        energy_j = None
    return GpuDifference(
        elapsed_s=elapsed_s,
        energy_j=energy_j,
        mean_power_w=None if energy_j is None or elapsed_s <= 0 else energy_j / elapsed_s,
        throttle_s={policy: gained_s(f"{policy}_throttle_s") for policy in POLICIES},
        ecc_errors=gained_count("ecc_uncorrected"),
        pcie_replays=gained_count("pcie_replays"),
        remapped_rows=_sum(
            gained_count("remapped_rows_correctable"), gained_count("remapped_rows_uncorrectable")
        ),
        xid_errors=_gained_xids(before.xid_errors, after.xid_errors),
        nvlink_replays=gained_count("nvlink_replays"),
        nvlink_recoveries=gained_count("nvlink_recoveries"),
        nvlink_crc_errors=gained_count("nvlink_crc_errors"),
        other_processes=_either(before.other_processes, after.other_processes),
        throttle_reasons=_union(before.throttle_reasons, after.throttle_reasons),
        absent=absent,
    )


def _sum(first: int | None, second: int | None) -> int | None:
    return None if first is None or second is None else first + second


def _gained_xids(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> tuple[int, ...] | None:
    # One process watched throughout, so its list only grows; a shorter one is another process's.
    if before is None or after is None or after[: len(before)] != before:
        return None
    return after[len(before) :]


def _either(first: bool | None, second: bool | None) -> bool | None:
    if first or second:
        return True
    return None if first is None or second is None else False


def _union(first: Sequence[str] | None, second: Sequence[str] | None) -> tuple[str, ...] | None:
    if first is None or second is None:
        return tuple(first or second or ()) or None
    return tuple(dict.fromkeys((*first, *second)))


def describe_problems(facts: GpuFacts, reading: GpuReading | None = None) -> list[str]:
    """Return what stands in the way of a clean measurement: one sentence each, with what to do next.

    An empty list means that no problem is known. Absent figures are passed over, unless a card gives no
    figure at all.
    """
    if facts.lost or (reading is not None and reading.lost):
        lost = N_("GPU {gpu} fell off the bus (NVML_ERROR_GPU_IS_LOST): drain the node, reset or reseat it")
        return [_(lost, gpu=facts.index)]
    if "*" in facts.absent:
        silent = N_("NVML gives no information about GPU {gpu} ({reason}): see what nvidia-smi says")
        return [_(silent, gpu=facts.index, reason=facts.absent["*"])]
    found = [*_describe_settings(facts), *_describe_nonsense(facts, reading)]
    if reading is not None:
        if "*" in reading.absent:
            unread = N_("GPU {gpu} can't be read ({reason}): see what nvidia-smi says")
            return [*found, _(unread, gpu=facts.index, reason=reading.absent["*"])]
        found += _describe_faults(facts, reading)
        found += _describe_errors(facts, reading)
        found += _describe_clocks(facts, reading)
        found += _describe_other_processes(facts, reading)
        found += _describe_pcie_link(facts, reading)
    return found


def _describe_settings(facts: GpuFacts) -> Iterator[str]:
    if facts.persistence_mode is False:
        text = N_(
            "persistence mode is off on GPU {gpu}, so its state and clocks are lost when the last process "
            "ends: nvidia-smi -i {gpu} -pm 1"
        )
        yield _(text, gpu=facts.index)
    if facts.mig_mode:
        text = (
            N_(
                "this is a MIG slice of GPU {gpu}: clocks, heat and throttle counters are those of the whole "
                "card, which other slices share"
            )
            if facts.is_mig_slice
            else N_(
                "MIG is on for GPU {gpu}, and no process can use the whole card: nvidia-smi -i {gpu} -mig 0"
            )
        )
        yield _(text, gpu=facts.index)
    if facts.compute_mode == "prohibited":
        text = N_("compute mode of GPU {gpu} is prohibited: nvidia-smi -i {gpu} -c DEFAULT")
        yield _(text, gpu=facts.index)
    if facts.virtualization_mode == "vgpu":
        text = N_("GPU {gpu} is a virtual one that others may share: measure on bare metal")
        yield _(text, gpu=facts.index)
    limit, usual = facts.power_limit_w, facts.default_power_limit_w
    if limit is not None and usual is not None and limit < usual - _POWER_TOLERANCE_W:
        text = N_(
            "the power limit of GPU {gpu} is {limit} W, {share} below its default: "
            "nvidia-smi -i {gpu} -pl {usual}"
        )
        below = percent(1 - limit / usual)
        yield _(text, gpu=facts.index, limit=figure(limit), share=below, usual=round(usual))


def _describe_nonsense(facts: GpuFacts, reading: GpuReading | None) -> Iterator[str]:
    reasons = [*facts.absent.values(), *(() if reading is None else reading.absent.values())]
    nonsense = [each for each in reasons if isinstance(each, Message) and each.code == "implausible"]
    if nonsense:
        text = N_(
            "GPU {gpu} reports what can't be true ({reasons}): don't trust its figures; reset it, and have "
            "it replaced if that doesn't help"
        )
        said = _("; ").join(map(render, dict.fromkeys(nonsense)))
        yield _(text, gpu=facts.index, reasons=said)


def _describe_faults(facts: GpuFacts, reading: GpuReading) -> Iterator[str]:
    if reading.ecc_uncorrected:
        text = N_(
            "GPU {gpu} has had {count} uncorrectable memory errors since its driver was loaded: see "
            "nvidia-smi -i {gpu} -q -d ECC, and reset it"
        )
        yield _(text, gpu=facts.index, count=reading.ecc_uncorrected)
    rows = reading.remapped_rows_uncorrectable
    if reading.remapping_pending:
        text = (
            N_("GPU {gpu} waits for a reset to remap rows: nvidia-smi -i {gpu} -r")
            if rows is None
            else N_(
                "GPU {gpu} waits for a reset to remap a row ({count} remapped for good so far): "
                "nvidia-smi -i {gpu} -r"
            )
        )
        yield _(text, gpu=facts.index, count=rows)
    if reading.remapping_failed:
        text = N_("GPU {gpu} could not remap a bad row ({count} remapped so far): have the card replaced")
        yield _(text, gpu=facts.index, count=_("some") if rows is None else rows)
    if reading.recovery_action not in (None, "none"):
        text = N_("the driver asks for {action} to recover GPU {gpu}: do that first")
        yield _(text, action=reading.recovery_action, gpu=facts.index)


def _describe_errors(facts: GpuFacts, reading: GpuReading) -> Iterator[str]:
    if reading.xid_errors:
        text = N_(
            "GPU {gpu} has just reported Xid {xids}: look it up in NVIDIA's Xid catalogue, and see dmesg"
        )
        yield _(text, gpu=facts.index, xids=", ".join(map(str, dict.fromkeys(reading.xid_errors))))
    if reading.nvlink_replays or reading.nvlink_recoveries:
        text = N_(
            "NVLink of GPU {gpu} has had {recoveries} recoveries, {replays} replays and {crc} CRC errors "
            "since its driver was loaded: see nvidia-smi nvlink -e -i {gpu}; a link that goes on counting is "
            "faulty"
        )
        counts = (reading.nvlink_recoveries, reading.nvlink_replays, reading.nvlink_crc_errors)
        recoveries, replays, crc = (_("unknown") if one is None else one for one in counts)
        yield _(text, gpu=facts.index, recoveries=recoveries, replays=replays, crc=crc)


def _describe_clocks(facts: GpuFacts, reading: GpuReading) -> Iterator[str]:
    clock, heat = reading.sm_clock_mhz, reading.temperature_c
    # At its power limit is where a loaded card runs; only what shows beside that is worth a look.
    if set(reading.throttle_reasons or ()) - {"sw_power_cap"}:
        text = N_(
            "GPU {gpu} is throttled now{clock}{heat} ({reasons}): let it cool, and check its power and "
            "airflow"
        )
        at = "" if clock is None else _(" at {mhz} MHz", mhz=clock)
        warm = "" if heat is None else _(", {celsius} °C", celsius=heat)
        reasons = ", ".join(reading.throttle_reasons or ())
        yield _(text, gpu=facts.index, clock=at, heat=warm, reasons=reasons)
    if "applications_clocks_setting" in (reading.clock_event_reasons or ()):
        now = "" if clock is None else _(" ({mhz} MHz now)", mhz=clock)
        text = N_("the clocks of GPU {gpu} are held by a setting{now}: nvidia-smi -i {gpu} -rgc, and -rac")
        yield _(text, gpu=facts.index, now=now)


def _describe_other_processes(facts: GpuFacts, reading: GpuReading) -> Iterator[str]:
    if not reading.other_processes or not reading.processes:
        return
    used = [one.used_bytes for one in reading.processes]
    known = sum(size for size in used if size is not None)
    pids = ", ".join(str(one.pid) for one in reading.processes)
    text = (
        N_("{count} other processes are on GPU {gpu}{held} (pid {pids}): end them, or wait")
        if len(used) > 1
        else N_("{count} other process is on GPU {gpu}{held} (pid {pids}): end them, or wait")
    )
    held = _(" holding {size} GiB", size=f"{known / 2**30:.1f}") if known else ""
    yield _(text, count=len(used), gpu=facts.index, held=held, pids=pids)


def _describe_pcie_link(facts: GpuFacts, reading: GpuReading) -> Iterator[str]:
    if _below(reading.pcie_width, facts.max_pcie_width):
        text = N_("the PCIe link of GPU {gpu} is x{width} of x{most}: reseat the card or its riser")
        yield _(text, gpu=facts.index, width=reading.pcie_width, most=facts.max_pcie_width)
    loaded = (reading.gpu_utilization_percent or 0) >= _LOADED_PERCENT
    if loaded and _below(reading.pcie_generation, facts.max_pcie_generation):
        text = N_(
            "the PCIe link of GPU {gpu} runs at generation {now} of {most} under load: check the slot's "
            "setting in the BIOS"
        )
        yield _(text, gpu=facts.index, now=reading.pcie_generation, most=facts.max_pcie_generation)


def _below(now: int | None, most: int | None) -> bool:
    return now is not None and most is not None and now < most
