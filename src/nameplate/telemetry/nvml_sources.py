"""Which NVML function or field each figure comes from, and how its value is converted.

Figures have the names and units of `GpuFacts` and `GpuReading`. Numbers (field ids, enumerations) are NVML's
own, from nvml.h: the installed nvidia-ml-py may be older or newer than the driver, and its names have moved.
Like `nvml_worker.py`, it imports only what the NVML process needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.telemetry.nvml_library import Library
from nameplate.telemetry.plausible import require_plausible
from nameplate.telemetry.sampling import Absent

# Returns a figure of the GPU or card of that handle, given the fields read of it; raises Absent.
Source = Callable[[Library, Any, Mapping[int, Any]], Any]
Sources = Mapping[str, tuple[Source, ...]]  # the first that succeeds counts


def _call(function: str, *arguments: Any, to: Callable[[Any], Any] = lambda found: found) -> Source:
    """Return the source that calls an NVML function and converts its result."""
    return lambda library, handle, _fields: to(library.call(function, handle, *arguments))


def _field(number: int, to: Callable[[Any], Any]) -> Source:
    """Return the source that converts a field's value."""

    def convert(_library: Library, _handle: Any, fields: Mapping[int, Any]) -> Any:
        found = fields.get(number, Absent(message("field_not_answered", field=number)))
        if isinstance(found, Absent):
            raise found
        return to(found)

    return convert


def _missing(reason: Reason) -> Source:
    """Return the source of a figure that isn't there."""

    def refuse(*_: object) -> Any:
        raise Absent(reason)

    return refuse


def _remapped_rows(place: int, number: int, kind: Callable[[Any], Any]) -> tuple[Source, ...]:
    """Return the sources of one figure on remapped rows: its field, and its place in what the call gives."""
    return _field(number, kind), _call("nvmlDeviceGetRemappedRows", to=lambda found: kind(found[place]))


def _thousandth(found: float) -> float:
    return found / 1e3


def _billionth(found: float) -> float:
    return found / 1e9


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _named(names: dict[int, str]) -> Callable[[int], str]:
    return lambda number: names.get(number, f"unknown_{number}")


def _current_mode(current_and_pending: Sequence[int]) -> bool:
    return bool(current_and_pending[0])


def _cuda_version(combined: int) -> str:
    """Return 12.2 for 12020 (NVML_CUDA_DRIVER_VERSION_MAJOR and _MINOR of nvml.h)."""
    return f"{combined // 1000}.{combined % 1000 // 10}"


def _pci_ids(info: Any) -> tuple[str, ...]:
    """Split 0xDDDDVVVV, device above vendor, into numbers of four hexadecimal digits, as lspci does."""
    both = (int(info.pciDeviceId), int(info.pciSubSystemId))
    ids = (half for number in both for half in (number & 0xFFFF, number >> 16 & 0xFFFF))
    return (_text(info.busId), *(f"{each:04x}" for each in ids))


def _processes(found: Sequence[Any]) -> list[dict[str, int | None]]:
    return [{"pid": int(one.pid), "used_bytes": one.usedGpuMemory} for one in found]


UTILIZATION_NAMES = ("gpu_utilization_percent", "memory_utilization_percent")


def _utilization(found: Any) -> tuple[int, int]:
    rates = (found.gpu, found.memory)
    for name, rate in zip(UTILIZATION_NAMES, rates, strict=True):
        require_plausible(name, rate)
    return rates


# nvmlMemory_v2 of nvml.h: its `used` is without what the driver reserves for itself.
_MEMORY_V2 = 0x02000028
_CLOCK_SM, _CLOCK_MEMORY = 1, 2  # nvmlClockType_t
_CLOCK_CURRENT = 0  # nvmlClockId_t
_SENSOR_GPU = 0  # nvmlTemperatureSensors_t
_UNCORRECTED, _VOLATILE = 1, 0  # nvmlMemoryErrorType_t, nvmlEccCounterType_t
_COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
_VIRTUALIZATION_MODES = {0: "none", 1: "passthrough", 2: "vgpu", 3: "host_vgpu", 4: "host_vsga"}
_RECOVERY_ACTIONS = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
POWER_INSTANT = 186
LIGHT_FIELDS = (74, 75, 82, 83, 185, POWER_INSTANT)
ALL_FIELDS = (*LIGHT_FIELDS, 4, 94, 142, 143, 144, 145, 230)

PCI_NAMES = (
    *("pci_bus_id", "pci_vendor_id", "pci_device_id"),
    *("pci_subsystem_vendor_id", "pci_subsystem_device_id"),
)
PCI = _call("nvmlDeviceGetPciInfo", to=_pci_ids)  # gives PCI_NAMES together
UTILIZATION = _call("nvmlDeviceGetUtilizationRates", to=_utilization)  # gives UTILIZATION_NAMES together
# Of a MIG slice itself; all else is its card's.
OWN_FACTS: Sources = {
    "name": (_call("nvmlDeviceGetName", to=_text),),
    "memory_bytes": (_call("nvmlDeviceGetMemoryInfo", to=lambda found: found.total),),
    "cores": (_call("nvmlDeviceGetNumGpuCores"),),
}
_LINK: Sources = {
    "pcie_generation": (_call("nvmlDeviceGetCurrPcieLinkGeneration"),),
    "pcie_width": (_call("nvmlDeviceGetCurrPcieLinkWidth"),),
}
FACTS: Sources = {
    "serial": (_call("nvmlDeviceGetSerial", to=_text),),
    "vbios": (_call("nvmlDeviceGetVbiosVersion", to=_text),),
    "max_sm_clock_mhz": (_call("nvmlDeviceGetMaxClockInfo", _CLOCK_SM),),
    "max_memory_clock_mhz": (_call("nvmlDeviceGetMaxClockInfo", _CLOCK_MEMORY),),
    "power_limit_w": (_call("nvmlDeviceGetEnforcedPowerLimit", to=_thousandth),),
    "default_power_limit_w": (_call("nvmlDeviceGetPowerManagementDefaultLimit", to=_thousandth),),
    "persistence_mode": (_call("nvmlDeviceGetPersistenceMode", to=bool),),
    "ecc_mode": (_call("nvmlDeviceGetEccMode", to=_current_mode),),
    "mig_mode": (_call("nvmlDeviceGetMigMode", to=_current_mode),),
    "compute_mode": (_call("nvmlDeviceGetComputeMode", to=_named(_COMPUTE_MODES)),),
    "virtualization_mode": (_call("nvmlDeviceGetVirtualizationMode", to=_named(_VIRTUALIZATION_MODES)),),
    "max_pcie_generation": (_call("nvmlDeviceGetMaxPcieLinkGeneration"),),
    "max_pcie_width": (_call("nvmlDeviceGetMaxPcieLinkWidth"),),
    **_LINK,
}
ENERGY: Sources = {"energy_j": (_call("nvmlDeviceGetTotalEnergyConsumption", to=_thousandth),)}
ENERGY_FIELD: Sources = {"energy_j": (_field(83, _thousandth),)}
POWER: Sources = {
    "power_average_w": (_field(185, _thousandth),),
    # The call gives instant power up to GA100, and a second's average on later parts (nvml.h).
    "power_w": (_field(POWER_INSTANT, _thousandth), _call("nvmlDeviceGetPowerUsage", to=_thousandth)),
}
NO_POWER: Sources = dict.fromkeys(
    ("energy_j", "power_w", "power_average_w"), (_missing(message("slice_has_no_power")),)
)
LIGHT: Sources = {
    "sm_clock_mhz": (
        _call("nvmlDeviceGetClockInfo", _CLOCK_SM),
        _call("nvmlDeviceGetClock", _CLOCK_SM, _CLOCK_CURRENT),
    ),
    "memory_clock_mhz": (
        _call("nvmlDeviceGetClockInfo", _CLOCK_MEMORY),
        _call("nvmlDeviceGetClock", _CLOCK_MEMORY, _CLOCK_CURRENT),
    ),
    "temperature_c": (
        _call("nvmlDeviceGetTemperatureV", _SENSOR_GPU),
        _call("nvmlDeviceGetTemperature", _SENSOR_GPU),
    ),
    "memory_temperature_c": (_field(82, int),),
    "clock_event_reasons": (
        _call("nvmlDeviceGetCurrentClocksEventReasons"),
        _call("nvmlDeviceGetCurrentClocksThrottleReasons"),
    ),
    "power_throttle_s": (_field(74, _billionth),),
    "thermal_throttle_s": (_field(75, _billionth),),
    **_LINK,
}
ERRORS: Sources = {
    "recovery_action": (_field(230, _named(_RECOVERY_ACTIONS)),),
    "ecc_uncorrected": (_call("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE), _field(4, int)),
    "pcie_replays": (_call("nvmlDeviceGetPcieReplayCounter"), _field(94, int)),
    "remapped_rows_correctable": _remapped_rows(0, 142, int),
    "remapped_rows_uncorrectable": _remapped_rows(1, 143, int),
    "remapping_pending": _remapped_rows(2, 144, bool),
    "remapping_failed": _remapped_rows(3, 145, bool),
}
OWN_USE: Sources = {
    "memory_used_bytes": (
        _call("nvmlDeviceGetMemoryInfo", _MEMORY_V2, to=lambda found: found.used),
        _call("nvmlDeviceGetMemoryInfo", to=lambda found: found.used),
    ),
    "processes": (
        _call("nvmlDeviceGetComputeRunningProcesses", to=_processes),
        _call("nvmlDeviceGetComputeRunningProcesses_v2", to=_processes),
    ),
}
# Where the operating system manages a GPU's memory as a NUMA node of its own (GH200), it may put any pages
# there, and leaves those of ended processes (NVML's reference, nvmlDeviceGetMemoryInfo_v2).
SYSTEM_MEMORY: Sources = {"memory_used_bytes": (_missing(message("memory_is_numa_node")),)}
# There the energy counter is the whole module's, its CPU included (ml-energy/zeus#172, of a GH200).
MODULE_ENERGY: Sources = {"energy_j": (_missing(message("energy_is_the_modules")),)}
SLOWDOWNS = ("software_thermal_throttle_s", "hardware_thermal_throttle_s", "power_brake_throttle_s")
# What a light reading holds: all that moves within a case, and no list whose length others decide.
MOVING = (
    *("at_s", "energy_j", "power_w", "power_source", "power_average_w"),
    *("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "memory_temperature_c"),
    *("clock_event_reasons", "power_throttle_s", "thermal_throttle_s", *SLOWDOWNS),
    *("gpu_utilization_percent", "memory_utilization_percent", "pcie_generation", "pcie_width"),
)


def read_driver(library: Library) -> str:
    """Return the driver's version; raises Absent."""
    return _text(library.call("nvmlSystemGetDriverVersion"))


def read_cuda_driver(library: Library) -> str:
    """Return the newest CUDA that the driver supports; raises Absent."""
    try:
        return _cuda_version(library.call("nvmlSystemGetCudaDriverVersion_v2"))
    except Absent:
        return _cuda_version(library.call("nvmlSystemGetCudaDriverVersion"))


def slowdown_fields(driver: str | None) -> tuple[tuple[int, ...], Message | None]:
    """Return the fields that count software thermal, hardware thermal and power brake slowdown, in ns.

    Where the driver has none, or its version can't be read, there are no fields, and a reason.

    NVIDIA has renumbered them: they are 251–253 to drivers 575 to 580.65 (nvidia-ml-py 12.575.51, 13.580.65;
    nvml.h of CUDA 12.9 and 13.0), and 269–271 since (nvidia-ml-py 13.580.82; nvml.h of CUDA 13.1). The other
    three numbers are then power smoothing settings, which would pass for nanoseconds.
    """
    try:
        version = tuple(int(part) for part in (driver or "").split("."))
    except ValueError:
        return (), message("driver_version_unreadable", driver=driver)
    if version < (575,):
        return (), message("counted_since_driver_575", driver=driver)
    return ((251, 252, 253) if version < (580, 82) else (269, 270, 271)), None


def slowdown_sources(driver: str | None) -> tuple[tuple[int, ...], Sources]:
    """Return the fields of SLOWDOWNS that this driver counts, and the source of each."""
    ids, why_none = slowdown_fields(driver)
    if why_none is not None:
        return (), dict.fromkeys(SLOWDOWNS, (_missing(why_none),))
    return ids, {name: (_field(number, _billionth),) for name, number in zip(SLOWDOWNS, ids, strict=True)}
