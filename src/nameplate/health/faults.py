"""What makes a device unfit whatever its speed: errors, heat, wrong results, lost or hung processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nameplate.base.messages import Message, message
from nameplate.device.identity import CudaIdentity
from nameplate.health.speed import name_case
from nameplate.health.verdict import ERRORS, Statement, Verdict, gravest
from nameplate.record import Record
from nameplate.store.manifest import DeviceEntry

# By the code of a record's warning or reason, or of what befell the run.
_FAULTS: dict[str, Verdict] = {
    # warnings of records
    "bits_changed": "unfit",
    "memory_errors": "unfit",
    "xid_errors": "unfit",
    "rows_remapped": "degraded",
    "nvlink_errors": "degraded",
    # why a record failed
    "context_lost": "unfit",
    "context_lost_with_xid": "unfit",
    "worker_hung": "unfit",
    "worker_stuck": "unfit",
    # what befell the run
    "device_refused": "unfit",
    "device_hung": "unfit",
    "device_given_up": "unfit",
    "device_died": "unknown",
    "gpu_nonsense": "unknown",
    "gpu_without_nvml": "unknown",
}
_HEATED = "throttled"
_HELD = frozenset(
    {
        "clock_held_by_thermal",
        "clock_held_by_software_thermal",
        "clock_held_by_hardware_thermal",
        "clock_held_by_power_brake",
    }
)
_MOST_FAILED = 3  # failed cases that are named
# Counters that tell of errors, by the names that records have them by.
_COUNTERS = {
    "gpu_ecc_errors": "ECC",
    "gpu_xid_errors": "Xid",
    "gpu_remapped_rows": "row remaps",
    "gpu_thermal_throttle_share": "heat",
}


def judge_errors(entry: DeviceEntry, records: Sequence[Record], incidents: Iterable[Message]) -> Statement:
    """Say which faults of a device its records and what befell its run tell of.

    `records` are all of the device's; `incidents` may be of other devices too.
    """
    found = [
        *_find_in_incidents(entry.name, incidents),
        *_find_in_records(records),
        *_find_in_link(entry, records),
        *_find_unread(entry, records),
    ]
    if not found:
        checked = sum(record.verification is not None for record in records)
        return Statement(ERRORS, "fit", (message("health_no_faults", checked=checked),))
    verdict = gravest(each for each, _reason in found)
    # Of each kind the first: a hot card says the same of every case.
    by_code: dict[str, Message] = {}
    for each, reason in found:
        if each == verdict:
            by_code.setdefault(reason.code, reason)
    return Statement(ERRORS, verdict, tuple(by_code.values()))


def _find_in_incidents(device: str, incidents: Iterable[Message]) -> Iterator[tuple[Verdict, Message]]:
    for each in incidents:
        if each.values.get("device") == device and each.code in _FAULTS:
            yield _FAULTS[each.code], each


def _find_in_records(records: Sequence[Record]) -> Iterator[tuple[Verdict, Message]]:
    wrong = [
        name_case(record)
        for record in records
        if record.verification is not None and not record.verification.passed
    ]
    if wrong:
        yield "unfit", message("health_wrong_result", case=wrong[0], count=len(wrong))
    heated = False
    for record in records:
        for warning in record.warnings:
            heated |= warning.code in _HELD and _HEATED in record.verdicts
            if warning.code in _FAULTS or (warning.code in _HELD and _HEATED in record.verdicts):
                yield _FAULTS.get(warning.code, "unfit"), warning
    throttled = [name_case(record) for record in records if _HEATED in record.verdicts]
    if throttled and not heated:
        yield "unfit", message("health_throttled", case=throttled[0], count=len(throttled))
    failed = [record for record in records if record.status == "failed"]
    for record in failed[:_MOST_FAILED]:
        codes = record.reason.codes if record.reason else ()
        verdict = gravest(_FAULTS[code] for code in codes if code in _FAULTS)
        yield verdict, message("health_case_failed", case=name_case(record), why=record.reason)


def _find_in_link(entry: DeviceEntry, records: Sequence[Record]) -> Iterator[tuple[Verdict, Message]]:
    """Find a PCIe link with fewer lanes than card and slot have; read right after work, when none sleeps."""
    identity = entry.identity
    most = identity.max_pcie_width if isinstance(identity, CudaIdentity) else None
    widths = [_number(record, "gpu_pcie_width_after") for record in records]
    known = [each for each in widths if each]
    if most and known and max(known) < most:
        yield "degraded", message("health_narrow_link", lanes=int(max(known)), most=most)


def _find_unread(entry: DeviceEntry, records: Sequence[Record]) -> Iterator[tuple[Verdict, Message]]:
    """Tell of a device that nothing was measured on, and of a GPU whose errors nobody counts."""
    measured = [record for record in records if record.status == "ok"]
    if not measured:
        yield "unknown", message("health_nothing_measured")
    elif isinstance(entry.identity, CudaIdentity):
        read = {name for record in measured for name in _COUNTERS if record.conditions.get(name) is not None}
        if not read:
            yield "unknown", message("health_errors_unread", what=list(_COUNTERS.values()))


def _number(record: Record, name: str) -> float | None:
    value = record.conditions.get(name)
    return value if isinstance(value, int | float) else None
