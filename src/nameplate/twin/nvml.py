"""NVML of a simulated node: an object with the functions of nvidia-ml-py.

    nvml = TwinNvml([Driver(card, past, clock), …], clock)
    service = start_service(nvml, clock)      # the reading code of telemetry/nvml_worker.py, as it stands

Functions that the driver or the card lacks raise NVML's own errors, as they do with a MIG slice's power, in a
container without the processes of others, and on a card without a memory that is a NUMA node. Every answer is
of the moment that the clock shows. Names and numbers are those of nvml.h.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

from nameplate.twin.driver import Driver, driver_branch
from nameplate.twin.faults import Lost, Silent

_CLOCK_SM, _CLOCK_MEMORY = 1, 2  # nvmlClockType_t
_UNSIGNED_LONG_LONG = 3  # nvmlValueType_t
_XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError
_VIRTUALIZATION = {"none": 0, "passthrough": 1, "vgpu": 2, "host_vgpu": 3, "host_vsga": 4}
_PCIE_GENERATIONS = {"8": 4, "9": 5, "10": 5, "12": 5}  # by the first number of the compute capability
_PCIE_LANES = 16
_CORES = {"8.0": 64}  # of a multiprocessor, by compute capability (CUDA C++ Programming Guide)
_CORES_ELSE = 128
_SUBSYSTEM = "0000"
# Drivers before these branches lack the function.
_SINCE = {"nvmlDeviceGetTemperatureV": 575, "nvmlDeviceGetCurrentClocksEventReasons": 535}


class DriverHangs(BaseException):
    """A call into the driver that never returns; not an Exception, so that nobody takes it for an answer."""


class _Refused(Exception):
    """NVML's error of that name."""


@dataclass(frozen=True, eq=False)
class _Handle:
    """A card, or its one MIG slice."""

    driver: Driver
    is_slice: bool = False

    @property
    def uuid(self) -> str:
        if self.is_slice:
            return f"MIG-{self.driver.uuid}"
        return f"GPU-{self.driver.card_uuid}"

    @property
    def in_mig_mode(self) -> bool:
        return self.driver.card.environment.mig is not None


class TwinNvml:
    """The functions of nvidia-ml-py, and its errors, for the GPUs of a simulated node."""

    def __init__(
        self,
        drivers: Sequence[Driver],
        clock: Callable[[], float],
        spend: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        """Answer by the `clock`; `spend` lets the seconds pass that a call takes."""
        self.NVMLError = pynvml.NVMLError
        self.__dict__.update({name: getattr(pynvml, name) for name in dir(pynvml) if "_ERROR_" in name})
        self.clock, self._spend = clock, spend
        self.cards = [_Handle(driver) for driver in drivers]
        self.slices = [_Handle(driver, is_slice=True) for driver in drivers]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return the function of that name; raises AttributeError where nvidia-ml-py has none."""
        function = _FUNCTIONS.get(name)
        if function is None:
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            try:
                self._enter(name, *arguments)
                return function(self, *arguments)
            except _Refused as error:
                raise pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{error}")) from None

        return call

    def _enter(self, name: str, *arguments: Any) -> None:
        """Let the time of a call pass, and refuse one that this driver lacks."""
        card = self.cards[0].driver.card
        self._spend(card.telemetry.call_s.value)
        if driver_branch(card.identity.driver) < _SINCE.get(name, 0):
            raise _Refused("FUNCTION_NOT_FOUND")
        if arguments and isinstance(arguments[0], _Handle):
            self.reach(arguments[0])

    def reach(self, on: _Handle) -> _Handle:
        """Return a GPU that answers: a lost one refuses every call, and a silent driver never returns."""
        now_s, faults = self.clock(), on.driver.faults
        if now_s >= faults.since(Silent):
            raise DriverHangs
        if now_s >= faults.since(Lost):
            raise _Refused("GPU_IS_LOST")
        return on


@dataclass
class _Events:
    """An event set: the cards whose Xid errors it takes, each from then on, and how many it handed over."""

    since_s: dict[_Handle, float] = field(default_factory=dict)
    handed_over: int = 0

    def reported(self, now_s: float) -> list[int]:
        """Return the numbers of all errors so far, in order of time."""
        found = [
            (at_s, number)
            for card, since_s in self.since_s.items()
            for at_s, number in card.driver.faults.xids()
            if since_s < at_s <= now_s
        ]
        return [number for _, number in sorted(found)]


def _find_by_uuid(nvml: TwinNvml, uuid: str) -> _Handle:
    found = [each for each in (*nvml.cards, *_slices(nvml)) if each.uuid == uuid]
    if not found:
        raise _Refused("NOT_FOUND")
    return nvml.reach(found[0])


def _slices(nvml: TwinNvml) -> list[_Handle]:
    return [each for each in nvml.slices if each.in_mig_mode]


def _find_by_index(nvml: TwinNvml, index: int) -> _Handle:
    if not 0 <= index < len(nvml.cards):
        raise _Refused("INVALID_ARGUMENT")
    return nvml.reach(nvml.cards[index])


def _find_slice(nvml: TwinNvml, card: _Handle, number: int) -> _Handle:
    if not card.in_mig_mode or number:
        raise _Refused("NOT_FOUND")
    return nvml.slices[nvml.cards.index(card)]


def _name(_nvml: TwinNvml, on: _Handle) -> str:
    name, profile = on.driver.card.identity.name, on.driver.card.environment.mig
    whole = name.split(" MIG ")[0]
    return f"{whole} MIG {profile}" if on.is_slice else whole


def _clock(_nvml: TwinNvml, on: _Handle, kind: int, _which: int = 0) -> int:
    return on.driver.sm_clock_mhz() if kind == _CLOCK_SM else on.driver.memory_clock_mhz()


def _highest_clock(_nvml: TwinNvml, on: _Handle, kind: int) -> int:
    clock = on.driver.card.clock
    return round(clock.maximum_mhz.value if kind == _CLOCK_SM else clock.memory_mhz.value)


def _memory(_nvml: TwinNvml, on: _Handle, _version: int | None = None) -> SimpleNamespace:
    total, used = round(on.driver.card.identity.memory_mib.value) << 20, on.driver.memory_used_bytes()
    return SimpleNamespace(total=total, used=used, free=total - used)


def _cores(_nvml: TwinNvml, on: _Handle) -> int:
    identity = on.driver.card.identity
    return round(identity.multiprocessors.value) * _CORES.get(identity.compute_capability, _CORES_ELSE)


def _pci(_nvml: TwinNvml, on: _Handle) -> SimpleNamespace:
    vendor, device = on.driver.card.identity.pci_id.split(":")
    return SimpleNamespace(
        busId=f"00000000:{on.driver.index + 1:02X}:00.0",
        pciDeviceId=int(device + vendor, 16),
        pciSubSystemId=int(_SUBSYSTEM + vendor, 16),
    )


def _pcie_generation(_nvml: TwinNvml, on: _Handle) -> int:
    return _PCIE_GENERATIONS.get(on.driver.card.identity.compute_capability.split(".")[0], 3)


def _energy(_nvml: TwinNvml, on: _Handle) -> int:
    _refuse_on_mig(on)
    return on.driver.energy_mj()


def _power(_nvml: TwinNvml, on: _Handle) -> int:
    _refuse_on_mig(on)
    return on.driver.power_mw()


def _refuse_on_mig(on: _Handle) -> None:
    if on.is_slice or on.in_mig_mode:
        raise _Refused("NOT_SUPPORTED")


def _utilization(_nvml: TwinNvml, on: _Handle) -> SimpleNamespace:
    _refuse_on_mig(on)
    gpu, memory = on.driver.utilization()
    return SimpleNamespace(gpu=gpu, memory=memory)


def _ecc_mode(_nvml: TwinNvml, on: _Handle) -> list[int]:
    mode = on.driver.card.environment.ecc_mode
    if mode is None:
        raise _Refused("NOT_SUPPORTED")
    return [int(mode), int(mode)]


def _ecc_errors(_nvml: TwinNvml, on: _Handle, _error: int, _counter: int) -> int:
    if not on.driver.card.environment.ecc_mode:
        raise _Refused("NOT_SUPPORTED")
    return on.driver.memory_errors()


def _processes(_nvml: TwinNvml, on: _Handle) -> list[SimpleNamespace]:
    if on.driver.card.environment.container:  # ids of another namespace, which the driver leaves out
        return []
    if on.in_mig_mode and not on.is_slice:
        return []
    return [SimpleNamespace(pid=os.getpid(), usedGpuMemory=on.driver.memory_used_bytes())]


def _numa_node(_nvml: TwinNvml, on: _Handle) -> int:
    if on.driver.card.telemetry.beside_w is None:
        raise _Refused("NOT_SUPPORTED")
    return 1


def _fields(_nvml: TwinNvml, on: _Handle, ids: Sequence[int]) -> list[SimpleNamespace]:
    known = on.driver.fields()
    refused = pynvml.NVML_ERROR_NOT_SUPPORTED
    return [
        SimpleNamespace(
            fieldId=number,
            nvmlReturn=0 if number in known else refused,
            valueType=_UNSIGNED_LONG_LONG,
            value=SimpleNamespace(ullVal=known.get(number, 0)),
        )
        for number in ids
    ]


def _wait_for_event(nvml: TwinNvml, events: _Events, _timeout_ms: int) -> SimpleNamespace:
    reported = events.reported(nvml.clock())
    if events.handed_over == len(reported):
        raise _Refused("TIMEOUT")
    events.handed_over += 1
    return SimpleNamespace(eventType=_XID_EVENT, eventData=reported[events.handed_over - 1])


def _register(nvml: TwinNvml, on: _Handle, _kinds: int, events: _Events) -> None:
    events.since_s[on] = nvml.clock()


def _refuse(_nvml: TwinNvml, *_: Any) -> Any:
    raise _Refused("NOT_SUPPORTED")


def _same(value: Any) -> Callable[..., Any]:
    return lambda *_: value


_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "nvmlInit": _same(None),
    "nvmlSystemGetDriverVersion": lambda nvml: nvml.cards[0].driver.card.identity.driver,
    "nvmlSystemGetCudaDriverVersion_v2": lambda nvml: _as_number(
        nvml.cards[0].driver.card.identity.cuda_driver
    ),
    "nvmlDeviceGetCount": lambda nvml: len(nvml.cards),
    "nvmlDeviceGetHandleByIndex": _find_by_index,
    "nvmlDeviceGetHandleByUUID": _find_by_uuid,
    "nvmlDeviceGetIndex": lambda _nvml, on: on.driver.index,
    "nvmlDeviceGetUUID": lambda _nvml, on: on.uuid,
    "nvmlDeviceGetName": _name,
    "nvmlDeviceGetSerial": _refuse,
    "nvmlDeviceGetVbiosVersion": _refuse,
    "nvmlDeviceGetPciInfo": _pci,
    "nvmlDeviceGetMemoryInfo": _memory,
    "nvmlDeviceGetNumGpuCores": _cores,
    "nvmlDeviceGetClockInfo": _clock,
    "nvmlDeviceGetClock": _clock,
    "nvmlDeviceGetMaxClockInfo": _highest_clock,
    "nvmlDeviceGetEnforcedPowerLimit": lambda _nvml, on: _milli(on.driver.card.power.limit_w.value),
    "nvmlDeviceGetPowerManagementDefaultLimit": lambda _nvml, on: _milli(
        on.driver.card.power.default_limit_w.value
    ),
    "nvmlDeviceGetPersistenceMode": lambda _nvml, on: int(on.driver.card.environment.persistence_mode),
    "nvmlDeviceGetEccMode": _ecc_mode,
    "nvmlDeviceGetMigMode": lambda _nvml, on: [int(on.in_mig_mode)] * 2,
    "nvmlDeviceGetMaxMigDeviceCount": _same(1),
    "nvmlDeviceGetMigDeviceHandleByIndex": _find_slice,
    "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda nvml, on: nvml.cards[nvml.slices.index(on)],
    "nvmlDeviceGetComputeMode": _same(0),
    "nvmlDeviceGetVirtualizationMode": lambda _nvml, on: _VIRTUALIZATION[
        on.driver.card.environment.virtualization
    ],
    "nvmlDeviceGetMaxPcieLinkGeneration": _pcie_generation,
    "nvmlDeviceGetCurrPcieLinkGeneration": _pcie_generation,
    "nvmlDeviceGetMaxPcieLinkWidth": _same(_PCIE_LANES),
    "nvmlDeviceGetCurrPcieLinkWidth": _same(_PCIE_LANES),
    "nvmlDeviceGetTotalEnergyConsumption": _energy,
    "nvmlDeviceGetPowerUsage": _power,
    "nvmlDeviceGetTemperatureV": lambda _nvml, on, _sensor: on.driver.temperature_c(),
    "nvmlDeviceGetTemperature": lambda _nvml, on, _sensor: on.driver.temperature_c(),
    "nvmlDeviceGetCurrentClocksEventReasons": lambda _nvml, on: on.driver.reasons(),
    "nvmlDeviceGetCurrentClocksThrottleReasons": lambda _nvml, on: on.driver.reasons(),
    "nvmlDeviceGetUtilizationRates": _utilization,
    "nvmlDeviceGetFieldValues": _fields,
    "nvmlDeviceGetTotalEccErrors": _ecc_errors,
    "nvmlDeviceGetPcieReplayCounter": _same(0),
    "nvmlDeviceGetRemappedRows": _same((0, 0, 0, 0)),
    "nvmlDeviceGetComputeRunningProcesses": _processes,
    "nvmlDeviceGetNumaNodeId": _numa_node,
    "nvmlDeviceGetNvLinkState": _refuse,
    "nvmlEventSetCreate": lambda _nvml: _Events(),
    "nvmlDeviceRegisterEvents": _register,
    "nvmlEventSetWait": _wait_for_event,
}


def _milli(value: float) -> int:
    return round(value * 1e3)


def _as_number(version: str) -> int:
    """Return 13000 for 13.0, as NVML gives the version of CUDA."""
    major, minor = version.split(".")
    return int(major) * 1000 + int(minor) * 10
