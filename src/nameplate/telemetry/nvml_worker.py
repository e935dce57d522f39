"""The process that asks NVML, so that a call that never returns costs nobody else anything.

`sampling.py` says how it runs and ends. Requests are `{"ask": "facts"}`, with `"uuid"` for one GPU alone, and
of one GPU `{"ask": …, "uuid": …}`: `reading`, all it shows now; `sample`, with `"period_s"`, to take light
readings of it from now on; `drain`, the oldest of those that weren't handed over yet. Figures have the names
and units of `GpuFacts` and `GpuReading`; those of `drain` come in columns: twenty minutes are 12,000 rows.

Numbers (field ids, enumerations) are NVML's own, from nvml.h: the installed nvidia-ml-py may be older or
newer than the driver, and its names have moved. Only the standard library and nvidia-ml-py are imported, and
modules that import no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.telemetry.nvml_library import Answer, Fields, Library, plain_uuid
from nameplate.telemetry.sampling import Absent, PeriodicSampler, Row, serve

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
_ECC, _POWER_POLICY, _THERMAL_POLICY, _MEMORY_TEMPERATURE, _ENERGY, _REPLAYS = 4, 74, 75, 82, 83, 94
_POWER_AVERAGE, _POWER_INSTANT, _RECOVERY_ACTION = 185, 186, 230
_REMAPPING = (
    ("remapped_rows_correctable", 142, int),
    ("remapped_rows_uncorrectable", 143, int),
    ("remapping_pending", 144, bool),
    ("remapping_failed", 145, bool),
)
_MOVING_FIELDS = (
    *(_POWER_POLICY, _THERMAL_POLICY, _MEMORY_TEMPERATURE, _ENERGY),
    *(_POWER_AVERAGE, _POWER_INSTANT),
)
_FIELDS = (*_MOVING_FIELDS, _ECC, _REPLAYS, *(row[1] for row in _REMAPPING), _RECOVERY_ACTION)
_SLOWDOWNS = ("software_thermal_throttle_s", "hardware_thermal_throttle_s", "power_brake_throttle_s")
# What a light reading holds: all that moves within a case, and no list whose length others decide.
MOVING = (
    *("at_s", "energy_j", "power_w", "power_source", "power_average_w"),
    *("sm_clock_mhz", "memory_clock_mhz", "temperature_c", "memory_temperature_c"),
    *("clock_event_reasons", "power_throttle_s", "thermal_throttle_s", *_SLOWDOWNS),
    *("gpu_utilization_percent", "memory_utilization_percent", "pcie_generation", "pcie_width"),
)
_PCI_NAMES = (
    *("pci_bus_id", "pci_vendor_id", "pci_device_id"),
    *("pci_subsystem_vendor_id", "pci_subsystem_device_id"),
)
_NO_POWER = message("slice_has_no_power")


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


def _pci_ids(info: Any) -> tuple[str, str, str, str, str]:
    """Split 0xDDDDVVVV, device above vendor, into numbers of four hexadecimal digits, as lspci does."""
    device, subsystem = int(info.pciDeviceId), int(info.pciSubSystemId)
    return (_text(info.busId), *_halves(device), *_halves(subsystem))


def _halves(combined: int) -> tuple[str, str]:
    return f"{combined & 0xFFFF:04x}", f"{combined >> 16 & 0xFFFF:04x}"


def _processes(found: Sequence[Any]) -> list[dict[str, int | None]]:
    return [{"pid": int(one.pid), "used_bytes": one.usedGpuMemory} for one in found]


def _cuda_version(combined: int) -> str:
    """12020 is 12.2 (NVML_CUDA_DRIVER_VERSION_MAJOR and _MINOR of nvml.h)."""
    return f"{combined // 1000}.{combined % 1000 // 10}"


def _current_mode(current_and_pending: Sequence[int]) -> bool:
    return bool(current_and_pending[0])


def _item(place: int, kind: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Any]:
    return lambda found: kind(found[place])


def _named(names: dict[int, str]) -> Callable[[int], str]:
    return lambda number: names.get(number, f"unknown_{number}")


def _thousandth(found: float) -> float:
    return found / 1e3


def _billionth(found: float) -> float:
    return found / 1e9


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


@dataclass(frozen=True)
class Gpu:
    """A card, or a MIG slice of one (then `handle` and `card` are two)."""

    index: int
    handle: Any
    card: Any
    uuid: str
    parent_uuid: str | None = None


class Nvml:
    """What is asked of a started NVML."""

    def __init__(self, library: Library) -> None:
        """Read what is the same for every GPU; raises Absent where NVML can't even count them."""
        self._library = library
        self._gpus: dict[str, Gpu] = {}
        system = Answer()
        system.put("driver", library.ask("nvmlSystemGetDriverVersion", to=_text))
        system.put(
            "cuda_driver",
            library.ask("nvmlSystemGetCudaDriverVersion_v2", to=_cuda_version),
            library.ask("nvmlSystemGetCudaDriverVersion", to=_cuda_version),
        )
        self.system = system
        self.count: int = library.call("nvmlDeviceGetCount")
        self._slowdowns, self._no_slowdowns = slowdown_fields(system.values["driver"])

    def hello(self) -> dict[str, Any]:
        """The driver, the CUDA version it supports, and how many cards NVML counts."""
        return {**self.system.as_json(), "count": self.count}

    def facts(self, uuid: str | None = None) -> list[dict[str, Any]]:
        """Every card in NVML's order, its MIG slices after it; one that can't be opened has just a reason.

        With a UUID, that one alone; raises Absent where NVML has none of it.
        """
        if uuid is not None:
            return [self._facts_of(self.find(uuid)).as_json()]
        found: list[dict[str, Any]] = []
        for index in range(self.count):
            try:
                card = self._open(index)
            except Absent as error:
                found.append({"index": index, "absent": {"*": error.reason}})
                continue
            found += [self._facts_of(gpu).as_json() for gpu in (card, *self._slices(card))]
        return found

    def reading(self, uuid: str) -> dict[str, Any]:
        """What one GPU, or MIG slice, shows now; raises Absent where NVML has none of that UUID."""
        return self._reading_of(self.find(uuid)).as_json()

    def light_reading(self, gpu: Gpu) -> Answer:
        """The figures of `MOVING`, and its UUID, as it shows them now."""
        return self._moving(gpu, _MOVING_FIELDS)[0]

    def find(self, uuid: str) -> Gpu:
        """Return the GPU or MIG slice of this UUID; raises Absent where NVML has none.

        As little as can be is asked of other cards: one of them may hang.
        """
        wanted = plain_uuid(uuid)
        for index in range(self.count):
            if wanted in self._gpus:
                break
            with suppress(Absent):
                card = self._open(index)
                self._gpus.update({plain_uuid(gpu.uuid): gpu for gpu in (card, *self._slices(card))})
        if wanted not in self._gpus:
            raise Absent(message("no_such_gpu", uuid=uuid, count=self.count))
        return self._gpus[wanted]

    def _open(self, index: int) -> Gpu:
        handle = self._library.call("nvmlDeviceGetHandleByIndex", index)
        return Gpu(index, handle, handle, _text(self._library.call("nvmlDeviceGetUUID", handle)))

    def _slices(self, card: Gpu) -> Iterator[Gpu]:
        call = self._library.call
        try:
            if not call("nvmlDeviceGetMigMode", card.handle)[0]:
                return
            most = call("nvmlDeviceGetMaxMigDeviceCount", card.handle)
        except Absent:
            return
        for number in range(most):
            try:
                handle = call("nvmlDeviceGetMigDeviceHandleByIndex", card.handle, number)
                yield Gpu(
                    card.index, handle, card.handle, _text(call("nvmlDeviceGetUUID", handle)), card.uuid
                )
            except Absent:  # a place no slice has been made in
                continue

    def _facts_of(self, gpu: Gpu) -> Answer:
        seen = Answer({"index": gpu.index, "uuid": gpu.uuid, "parent_uuid": gpu.parent_uuid})
        seen.values.update(self.system.values)
        seen.absent.update(self.system.absent)
        ask, card = self._library.ask, gpu.card
        seen.put("name", ask("nvmlDeviceGetName", gpu.handle, to=_text))
        seen.put("memory_bytes", ask("nvmlDeviceGetMemoryInfo", gpu.handle, to=lambda found: found.total))
        seen.put("cores", ask("nvmlDeviceGetNumGpuCores", gpu.handle))
        seen.put("serial", ask("nvmlDeviceGetSerial", card, to=_text))
        seen.put("vbios", ask("nvmlDeviceGetVbiosVersion", card, to=_text))
        seen.put_all(_PCI_NAMES, ask("nvmlDeviceGetPciInfo", card, to=_pci_ids))
        seen.put("max_sm_clock_mhz", ask("nvmlDeviceGetMaxClockInfo", card, _CLOCK_SM))
        seen.put("max_memory_clock_mhz", ask("nvmlDeviceGetMaxClockInfo", card, _CLOCK_MEMORY))
        seen.put("power_limit_w", ask("nvmlDeviceGetEnforcedPowerLimit", card, to=_thousandth))
        seen.put(
            "default_power_limit_w", ask("nvmlDeviceGetPowerManagementDefaultLimit", card, to=_thousandth)
        )
        self._put_modes(seen, card)
        seen.put("max_pcie_generation", ask("nvmlDeviceGetMaxPcieLinkGeneration", card))
        seen.put("max_pcie_width", ask("nvmlDeviceGetMaxPcieLinkWidth", card))
        self._put_link(seen, card)
        return seen

    def _put_modes(self, seen: Answer, card: Any) -> None:
        ask = self._library.ask
        seen.put("persistence_mode", ask("nvmlDeviceGetPersistenceMode", card, to=bool))
        seen.put("ecc_mode", ask("nvmlDeviceGetEccMode", card, to=_current_mode))
        seen.put("mig_mode", ask("nvmlDeviceGetMigMode", card, to=_current_mode))
        seen.put("compute_mode", ask("nvmlDeviceGetComputeMode", card, to=_named(_COMPUTE_MODES)))
        seen.put(
            "virtualization_mode",
            ask("nvmlDeviceGetVirtualizationMode", card, to=_named(_VIRTUALIZATION_MODES)),
        )

    def _put_link(self, seen: Answer, card: Any) -> None:
        ask = self._library.ask
        seen.put("pcie_generation", ask("nvmlDeviceGetCurrPcieLinkGeneration", card))
        seen.put("pcie_width", ask("nvmlDeviceGetCurrPcieLinkWidth", card))

    def _moving(self, gpu: Gpu, ids: Sequence[int]) -> tuple[Answer, Fields]:
        """What moves within a case, and every field that was read with it."""
        seen = Answer({"uuid": gpu.uuid, "at_s": time.perf_counter()})
        ask, card = self._library.ask, gpu.card
        # Energy right after the time it is of: a mean power comes of two such pairs.
        seen.put("energy_j", ask("nvmlDeviceGetTotalEnergyConsumption", gpu.handle, to=_thousandth))
        fields = self._library.fields(card, (*ids, *self._slowdowns))
        self._put_power(seen, gpu, fields)
        self._put_clocks(seen, card, fields)
        self._put_throttling(seen, card, fields)
        self._put_link(seen, card)
        seen.put_all(
            ("gpu_utilization_percent", "memory_utilization_percent"),
            ask("nvmlDeviceGetUtilizationRates", gpu.handle, to=lambda found: (found.gpu, found.memory)),
        )
        return seen, fields

    def _reading_of(self, gpu: Gpu) -> Answer:
        seen, fields = self._moving(gpu, _FIELDS)
        ask = self._library.ask
        self._put_errors(seen, gpu.card, fields)
        seen.put("memory_used_bytes", ask("nvmlDeviceGetMemoryInfo", gpu.handle, to=lambda found: found.used))
        seen.put(
            "processes",
            ask("nvmlDeviceGetComputeRunningProcesses", gpu.handle, to=_processes),
            ask("nvmlDeviceGetComputeRunningProcesses_v2", gpu.handle, to=_processes),
        )
        return seen

    def _put_power(self, seen: Answer, gpu: Gpu, fields: Fields) -> None:
        seen.values["power_source"] = None
        if gpu.parent_uuid is not None:
            for name in ("energy_j", "power_w", "power_average_w"):
                seen.values[name], seen.absent[name] = None, _NO_POWER
            return
        if seen.values["energy_j"] is None:
            seen.put("energy_j", fields.ask(_ENERGY, _thousandth))
        seen.put("power_average_w", fields.ask(_POWER_AVERAGE, _thousandth))
        seen.put("power_w", fields.ask(_POWER_INSTANT, _thousandth))
        if seen.values["power_w"] is not None:
            seen.values["power_source"] = "instant"
            return
        # Instant up to GA100; a second's average on the Ampere parts after it and on newer ones (nvml.h).
        seen.put("power_w", self._library.ask("nvmlDeviceGetPowerUsage", gpu.card, to=_thousandth))
        if seen.values["power_w"] is not None:
            seen.values["power_source"] = "usage"

    def _put_clocks(self, seen: Answer, card: Any, fields: Fields) -> None:
        ask = self._library.ask
        for name, kind in (("sm_clock_mhz", _CLOCK_SM), ("memory_clock_mhz", _CLOCK_MEMORY)):
            seen.put(
                name,
                ask("nvmlDeviceGetClockInfo", card, kind),
                ask("nvmlDeviceGetClock", card, kind, _CLOCK_CURRENT),
            )
        seen.put(
            "temperature_c",
            ask("nvmlDeviceGetTemperatureV", card, _SENSOR_GPU),
            ask("nvmlDeviceGetTemperature", card, _SENSOR_GPU),
        )
        seen.put("memory_temperature_c", fields.ask(_MEMORY_TEMPERATURE, int))

    def _put_throttling(self, seen: Answer, card: Any, fields: Fields) -> None:
        ask = self._library.ask
        seen.put(
            "clock_event_reasons",
            ask("nvmlDeviceGetCurrentClocksEventReasons", card),
            ask("nvmlDeviceGetCurrentClocksThrottleReasons", card),
        )
        seen.put("power_throttle_s", fields.ask(_POWER_POLICY, _billionth))
        seen.put("thermal_throttle_s", fields.ask(_THERMAL_POLICY, _billionth))
        if self._no_slowdowns is not None:
            seen.values.update(dict.fromkeys(_SLOWDOWNS))
            seen.absent.update(dict.fromkeys(_SLOWDOWNS, self._no_slowdowns))
        for name, number in zip(_SLOWDOWNS, self._slowdowns, strict=False):
            seen.put(name, fields.ask(number, _billionth))

    def _put_errors(self, seen: Answer, card: Any, fields: Fields) -> None:
        ask = self._library.ask
        seen.put("recovery_action", fields.ask(_RECOVERY_ACTION, _named(_RECOVERY_ACTIONS)))
        seen.put(
            "ecc_uncorrected",
            ask("nvmlDeviceGetTotalEccErrors", card, _UNCORRECTED, _VOLATILE),
            fields.ask(_ECC, int),
        )
        seen.put("pcie_replays", ask("nvmlDeviceGetPcieReplayCounter", card), fields.ask(_REPLAYS, int))
        for place, (name, number, kind) in enumerate(_REMAPPING):
            seen.put(
                name,
                fields.ask(number, kind),
                ask("nvmlDeviceGetRemappedRows", card, to=_item(place, kind)),
            )


class _SampledGpu:
    """Light readings of one GPU, as rows: the figures of `MOVING`, then the number of their reasons."""

    def __init__(self, uuid: str, read: Callable[[], Answer], period_s: float) -> None:
        self._uuid, self._read = uuid, read
        # Reasons hardly ever change, and would be most of a row: each set of them is kept once.
        self._reasons: list[dict[str, Reason]] = []
        self.sampler = PeriodicSampler(self._row, period_s)

    def drain(self) -> dict[str, Any]:
        """Return the oldest rows, and what their columns and reasons are."""
        rows = self.sampler.drain()
        return {"uuid": self._uuid, "columns": MOVING, "reasons": self._reasons, **rows}

    def _row(self) -> Row:
        at_s = time.perf_counter()
        try:
            seen = self._read()
        except Exception as error:  # whatever it is, the next sample may be a better one
            seen = Answer({"at_s": at_s}, {"*": f"{type(error).__name__}: {error}"})
        if seen.absent not in self._reasons:
            self._reasons.append(seen.absent)
        return (*map(seen.values.get, MOVING), self._reasons.index(seen.absent))


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
            case "facts":
                return self._nvml.facts(request.get("uuid"))
            case "sample":
                return self._start_sampling(request["uuid"], request["period_s"])
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

    def _drain(self, uuid: str) -> dict[str, Any]:
        sampled = self._sampled.get(plain_uuid(uuid))
        if sampled is None:
            raise Absent(message("gpu_not_watched", uuid=uuid))
        return sampled.drain()


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
