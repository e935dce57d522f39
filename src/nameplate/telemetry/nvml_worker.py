"""The process that asks NVML, so that a call that never returns costs nobody else anything.

`sampling.py` says how it runs and ends. A request is `{"ask": "open"}` with the `"uuid"` or the `"index"` of
a GPU, or of one that is open `{"ask": …, "uuid": …}`: `facts`, what it is; `reading`, all it shows now;
`sample`, with `"period_s"`, to take light readings of it from now on; `hasten`, with `"seconds"` too, to take
them faster for so long; `drain`, the oldest of those that weren't handed over yet. Figures have the names and
units of `GpuFacts` and `GpuReading`; those of `drain` come in columns: twenty minutes are 12,000 rows.

Numbers (field ids, enumerations) are NVML's own, from nvml.h: the installed nvidia-ml-py may be older or
newer than the driver, and its names have moved. Only the standard library and nvidia-ml-py are imported, and
modules that import no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.telemetry.nvml_faults import LINK_ERRORS, LinkErrors, XidLog
from nameplate.telemetry.nvml_handles import Gpu, Handles
from nameplate.telemetry.nvml_library import Answer, Library, plain_uuid
from nameplate.telemetry.plausible import BOUNDING_FACTS, card_bounds, require_plausible
from nameplate.telemetry.sampling import Absent, PeriodicSampler, Row, serve

# ---- where figures come from ----

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


_UTILIZATION = ("gpu_utilization_percent", "memory_utilization_percent")


def _utilization(found: Any) -> tuple[int, int]:
    rates = (found.gpu, found.memory)
    for name, rate in zip(_UTILIZATION, rates, strict=True):
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
_POWER_INSTANT = 186
_LIGHT_FIELDS = (74, 75, 82, 83, 185, _POWER_INSTANT)
_ALL_FIELDS = (*_LIGHT_FIELDS, 4, 94, 142, 143, 144, 145, 230)

_SYSTEM_CUDA = ("nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion")
_PCI_NAMES = (
    *("pci_bus_id", "pci_vendor_id", "pci_device_id"),
    *("pci_subsystem_vendor_id", "pci_subsystem_device_id"),
)
# Of a MIG slice itself; all else is its card's.
_OWN_FACTS: Sources = {
    "name": (_call("nvmlDeviceGetName", to=_text),),
    "memory_bytes": (_call("nvmlDeviceGetMemoryInfo", to=lambda found: found.total),),
    "cores": (_call("nvmlDeviceGetNumGpuCores"),),
}
_LINK: Sources = {
    "pcie_generation": (_call("nvmlDeviceGetCurrPcieLinkGeneration"),),
    "pcie_width": (_call("nvmlDeviceGetCurrPcieLinkWidth"),),
}
_FACTS: Sources = {
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
_ENERGY: Sources = {"energy_j": (_call("nvmlDeviceGetTotalEnergyConsumption", to=_thousandth),)}
_ENERGY_FIELD: Sources = {"energy_j": (_field(83, _thousandth),)}
_POWER: Sources = {
    "power_average_w": (_field(185, _thousandth),),
    # The call gives instant power up to GA100, and a second's average on later parts (nvml.h).
    "power_w": (_field(_POWER_INSTANT, _thousandth), _call("nvmlDeviceGetPowerUsage", to=_thousandth)),
}
_NO_POWER: Sources = dict.fromkeys(
    ("energy_j", "power_w", "power_average_w"), (_missing(message("slice_has_no_power")),)
)
_LIGHT: Sources = {
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
_ERRORS: Sources = {
    "recovery_action": (_field(230, _named(_RECOVERY_ACTIONS)),),
    "ecc_uncorrected": (_call("nvmlDeviceGetTotalEccErrors", _UNCORRECTED, _VOLATILE), _field(4, int)),
    "pcie_replays": (_call("nvmlDeviceGetPcieReplayCounter"), _field(94, int)),
    "remapped_rows_correctable": _remapped_rows(0, 142, int),
    "remapped_rows_uncorrectable": _remapped_rows(1, 143, int),
    "remapping_pending": _remapped_rows(2, 144, bool),
    "remapping_failed": _remapped_rows(3, 145, bool),
}
_OWN_USE: Sources = {
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
_SYSTEM_MEMORY: Sources = {"memory_used_bytes": (_missing(message("memory_is_numa_node")),)}
_SLOWDOWNS = ("software_thermal_throttle_s", "hardware_thermal_throttle_s", "power_brake_throttle_s")
# What a light reading holds: all that moves within a case, and no list whose length others decide.
MOVING = (
    *("at_s", "energy_j", "power_w", "power_source", "power_average_w"),
    *("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "memory_temperature_c"),
    *("clock_event_reasons", "power_throttle_s", "thermal_throttle_s", *_SLOWDOWNS),
    *("gpu_utilization_percent", "memory_utilization_percent", "pcie_generation", "pcie_width"),
)


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


# ---- the GPUs ----


class Nvml:
    """A started NVML and its GPUs."""

    def __init__(self, library: Library) -> None:
        """Read what is the same for every GPU; raises Absent where NVML can't even count them."""
        self._library = library
        self._handles = Handles(library)
        self._bounds: dict[str, dict[str, float]] = {}  # by the UUID of a card
        self._xids: dict[str, XidLog] = {}  # likewise
        self._link_errors: dict[str, LinkErrors] = {}
        self.system = Answer()
        self.system.put("driver", lambda: _text(library.call("nvmlSystemGetDriverVersion")))
        versions = (lambda name=name: _cuda_version(library.call(name)) for name in _SYSTEM_CUDA)
        self.system.put("cuda_driver", *versions)
        self.count = self._handles.count
        self._slowdown_ids, why_none = slowdown_fields(self.system.values["driver"])
        self._slowdowns: Sources = (
            dict.fromkeys(_SLOWDOWNS, (_missing(why_none),))
            if why_none is not None
            else {
                name: (_field(number, _billionth),)
                for name, number in zip(_SLOWDOWNS, self._slowdown_ids, strict=True)
            }
        )

    def open(self, uuid: str | None, index: int | None) -> list[str]:
        """Open a GPU by its UUID, or else a card and its slices by its index; return their UUIDs.

        Raises Absent with NVML's reason where it can't be opened.
        """
        if uuid is not None:
            return [self._handles.open_uuid(uuid).uuid]
        return [gpu.uuid for gpu in self._handles.open_index(index or 0)]

    def facts(self, uuid: str) -> dict[str, Any]:
        """Return what is known of an open GPU or slice."""
        return self._facts_of(self.find(uuid)).as_json()

    def reading(self, uuid: str) -> dict[str, Any]:
        """Return all that an open GPU or MIG slice shows now."""
        gpu = self.find(uuid)
        seen, fields = self._read(gpu, _ALL_FIELDS)
        self._fill(seen, _ERRORS, gpu.card, fields)
        self._fill(seen, _OWN_USE, gpu.handle)
        if self._is_numa_node(gpu):
            self._fill(seen, _SYSTEM_MEMORY, gpu.card)
        seen.put("xid_errors", self._watch_xids(gpu).read)
        links = self._link_errors_of(gpu)
        for name in LINK_ERRORS:
            seen.put(name, partial(links.read, name))
        return seen.as_json()

    def light_reading(self, gpu: Gpu) -> Answer:
        """Return the figures of `MOVING`, and its UUID, as it shows them now."""
        self._watch_xids(gpu).collect()
        return self._read(gpu, _LIGHT_FIELDS)[0]

    def find(self, uuid: str) -> Gpu:
        """Return an open GPU or slice; raises Absent for one that isn't open."""
        return self._handles.get(uuid)

    def _watch_xids(self, gpu: Gpu) -> XidLog:
        """Return the Xid errors of its card, which are watched from the first call on."""
        card = gpu.parent_uuid or gpu.uuid
        if card not in self._xids:
            self._xids[card] = XidLog(self._library, gpu.card)
        return self._xids[card]

    def _link_errors_of(self, gpu: Gpu) -> LinkErrors:
        card = gpu.parent_uuid or gpu.uuid
        if card not in self._link_errors:
            self._link_errors[card] = LinkErrors(self._library, gpu.card)
        return self._link_errors[card]

    def _is_numa_node(self, gpu: Gpu) -> bool:
        try:
            node: int = self._library.call("nvmlDeviceGetNumaNodeId", gpu.card)
        except Absent:  # no such platform, or a driver that can't tell
            return False
        return node >= 0

    def _facts_of(self, gpu: Gpu) -> Answer:
        self._watch_xids(gpu)
        seen = Answer({"index": gpu.index, "uuid": gpu.uuid, "parent_uuid": gpu.parent_uuid})
        seen.values.update(self.system.values)
        seen.absent.update(self.system.absent)
        self._fill(seen, _OWN_FACTS, gpu.handle)
        seen.put_all(_PCI_NAMES, lambda: _pci_ids(self._library.call("nvmlDeviceGetPciInfo", gpu.card)))
        self._fill(seen, _FACTS, gpu.card)
        return seen

    def _read(self, gpu: Gpu, ids: Sequence[int]) -> tuple[Answer, Mapping[int, Any]]:
        """Return the figures of `MOVING`, and the fields that were read with them."""
        bounds = self._bounds_of(gpu)
        seen = Answer({"uuid": gpu.uuid, "at_s": time.perf_counter()})
        # Energy is read right after its time: a mean power is computed from two such pairs.
        self._fill(seen, _ENERGY, gpu.handle)
        fields = self._library.read_fields(gpu.card, (*ids, *self._slowdown_ids))
        if gpu.parent_uuid is not None:
            self._fill(seen, _NO_POWER, gpu.card)
        else:
            if seen.values["energy_j"] is None:
                self._fill(seen, _ENERGY_FIELD, gpu.card, fields)
            self._fill(seen, _POWER, gpu.card, fields, bounds)
        is_instant = not isinstance(fields.get(_POWER_INSTANT, Absent("")), Absent)
        source = "instant" if is_instant else "usage"
        seen.values["power_source"] = None if seen.values["power_w"] is None else source
        self._fill(seen, {**_LIGHT, **self._slowdowns}, gpu.card, fields, bounds)
        rates = _call("nvmlDeviceGetUtilizationRates", to=_utilization)
        seen.put_all(_UTILIZATION, partial(rates, self._library, gpu.handle, {}))
        return seen, fields

    def _bounds_of(self, gpu: Gpu) -> dict[str, float]:
        """Return the most that readings of this GPU can be, by its card's clocks and power limits."""
        card = gpu.parent_uuid or gpu.uuid
        if card not in self._bounds:
            facts = Answer()
            self._fill(facts, {name: _FACTS[name] for name in BOUNDING_FACTS}, gpu.card)
            self._bounds[card] = card_bounds(facts.values)
        return self._bounds[card]

    def _fill(
        self,
        seen: Answer,
        figures: Sources,
        handle: Any,
        fields: Mapping[int, Any] | None = None,
        bounds: Mapping[str, float] | None = None,
    ) -> None:
        def attempt(name: str, source: Source) -> Any:
            found = source(self._library, handle, fields or {})
            require_plausible(name, found, bounds)
            return found

        for name, sources in figures.items():
            seen.put(name, *(partial(attempt, name, source) for source in sources))


# ---- the process ----

# How many sets of reasons rows share: far more than a driver has, unless it puts a number in every text.
_MOST_KINDS = 100


class _SampledGpu:
    """Light readings of one GPU, as rows: the figures of `MOVING`, then their reasons."""

    def __init__(self, uuid: str, read: Callable[[], Answer], period_s: float) -> None:
        self._uuid, self._read = uuid, read
        self._known: dict[frozenset[tuple[str, str]], dict[str, Reason]] = {}
        self.sampler = PeriodicSampler(self._row, period_s)

    def drain(self) -> dict[str, Any]:
        """Return the oldest rows, what their columns are, and the reasons that they number."""
        drained = self.sampler.drain()
        reasons: list[dict[str, Reason]] = []
        places: dict[int, int] = {}
        rows = []
        for *figures, absent in drained["rows"]:
            place = places.setdefault(id(absent), len(reasons))
            if place == len(reasons):
                reasons.append(absent)
            rows.append((*figures, place))
        return {"uuid": self._uuid, "columns": MOVING, "reasons": reasons, **drained, "rows": rows}

    def _row(self) -> Row:
        at_s = time.perf_counter()
        try:
            seen = self._read()
        except Exception as error:  # whatever it is, the next sample may be a better one
            seen = Answer({"at_s": at_s}, {"*": f"{type(error).__name__}: {error}"})
        return (*map(seen.values.get, MOVING), self._share(seen.absent))

    def _share(self, absent: dict[str, Reason]) -> dict[str, Reason]:
        """Return the first reasons that were of the same kind for the same figures.

        Reasons hardly ever change and would be most of a row, so rows share them. Those that quote a value
        differ with each wrong value of a driver: the first one stands for all.
        """
        kind = frozenset(
            (figure, reason.code if isinstance(reason, Message) else reason)
            for figure, reason in absent.items()
        )
        if len(self._known) >= _MOST_KINDS:
            self._known.clear()
        return self._known.setdefault(kind, absent)


class NvmlService:
    """Answers about a started NVML, and samples those of its GPUs that it was told to."""

    def __init__(self, nvml: Nvml) -> None:
        """Sample nothing yet."""
        self._nvml = nvml
        self._sampled: dict[str, _SampledGpu] = {}

    def hello(self) -> dict[str, Any]:
        """Return the driver, the CUDA version it supports, and how many cards NVML counts."""
        return {**self._nvml.system.as_json(), "count": self._nvml.count}

    def answer(self, request: dict[str, Any]) -> Any:
        """Return the answer to one request."""
        match request["ask"]:
            case "open":
                return self._nvml.open(request.get("uuid"), request.get("index"))
            case "facts":
                return self._nvml.facts(request["uuid"])
            case "sample":
                return self._start_sampling(request["uuid"], request["period_s"])
            case "hasten":
                return self._hasten(request["uuid"], request["period_s"], request["seconds"])
            case "drain":
                return self._drain(request["uuid"])
        return self._nvml.reading(request["uuid"])

    def samplers(self) -> Iterator[PeriodicSampler]:
        """Return a sampler for each sampled GPU."""
        return (gpu.sampler for gpu in self._sampled.values())

    def _start_sampling(self, uuid: str, period_s: float) -> None:
        if plain_uuid(uuid) not in self._sampled:
            gpu = self._nvml.find(uuid)
            self._sampled[plain_uuid(uuid)] = _SampledGpu(
                gpu.uuid, lambda: self._nvml.light_reading(gpu), period_s
            )

    def _hasten(self, uuid: str, period_s: float, seconds: float) -> None:
        self._find_sampled(uuid).sampler.hasten(period_s, seconds)

    def _drain(self, uuid: str) -> dict[str, Any]:
        return self._find_sampled(uuid).drain()

    def _find_sampled(self, uuid: str) -> _SampledGpu:
        sampled = self._sampled.get(plain_uuid(uuid))
        if sampled is None:
            raise Absent(message("gpu_not_watched", uuid=uuid))
        return sampled


def start() -> NvmlService:
    """Load and start NVML; raises Absent with the reason where that can't be."""
    try:
        import pynvml
    except ImportError as error:
        raise Absent(message("nvml_not_installed", why=str(error))) from error
    library = Library(pynvml)
    library.call("nvmlInit")
    return NvmlService(Nvml(library))


if __name__ == "__main__":
    serve(start)
