"""The identity of a device: evidence read from the machine, without any conclusion about its part."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from nameplate.base.model import FrozenModel
from nameplate.silicon.peak import Silicon
from nameplate.specs.cpu_evidence import CoreKind, CpuEvidence
from nameplate.telemetry.nvml_library import plain_uuid


class _DeviceIdentity(FrozenModel):
    # A driver may report a number that isn't finite; an old run that holds one must stay readable.
    model_config = ConfigDict(allow_inf_nan=True)

    def fingerprint(self) -> tuple[object, ...]:
        """Return the values that are equal where two runs measured the same device."""
        raise NotImplementedError

    def is_same_device(self, other: _DeviceIdentity) -> bool:
        """Whether both are of the same device, by what both know."""
        return self.fingerprint() == other.fingerprint()

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with sentences in place of messages."""
        return self.model_dump(mode="json")

    @property
    def highest_clock_mhz(self) -> float | None:
        """The highest clock of a GPU's multiprocessors; None where it isn't known, and for other devices."""
        return None


class CpuIdentity(_DeviceIdentity):
    """A host's processors as this process may use them. None: the system doesn't say."""

    kind: Literal["cpu"] = "cpu"
    name: str  # as the system prints it; "" where it prints none
    architecture: str
    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    implementer: int | None = None  # Arm's MIDR fields
    arm_part: int | None = None
    flags: tuple[str, ...] = ()
    product: str | None = None  # what the firmware calls the machine
    virtual_machine: bool | None = None
    logical_cpus: int
    affinity_cpus: tuple[int, ...] | None = None
    quota_cpus: float | None = None  # cgroup limit, in CPUs
    usable_cores: float  # physical cores within affinity and quota: the nominal counts these
    threads_per_core: int | None = None
    sockets: int | None = None
    numa_nodes: int | None = None
    core_kinds: tuple[CoreKind, ...] = ()  # of the usable cores without the quota, the fastest first
    reported_mhz: float | None = None
    maximum_mhz: float | None = None  # cpufreq's; absent in most guests
    measured_mhz: float | None = None  # by chains of dependent adds
    parallel_speed: float | None = None  # multiplications per cycle and core while all work; 1: unshared
    silicon: Silicon | None = None  # the arithmetic peak; None: not measured, or by an older version
    caches_bytes: Mapping[str, int] = {}  # all caches of a level that its CPUs use, together
    memory_bytes: int
    memory_limit_bytes: int | None = None  # cgroup limit
    blas: str | None = None
    onednn: str | None = None
    instruction_set: str | None = None  # the level torch's own kernels were dispatched to
    threads: int | None = None
    interop_threads: int | None = None
    thread_settings: Mapping[str, str] = {}  # environment variables that were set

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values, with sentences in place of messages."""
        silicon = None if self.silicon is None else self.silicon.as_json()
        return {**super().as_json(), "silicon": silicon}

    def fingerprint(self) -> tuple[object, ...]:
        """Return model, instruction set, usable cores and thread settings; clocks may differ."""
        hardware = (self.name, self.vendor, self.family, self.model, self.stepping, self.flags)
        arm = (self.implementer, self.arm_part)
        settings = (self.instruction_set, self.threads, self.interop_threads, dict(self.thread_settings))
        return (*hardware, *arm, self.usable_cores, *settings)


def evidence_of(identity: CpuIdentity) -> CpuEvidence:
    """Return what a CPU's part is recognised by."""
    return CpuEvidence(
        identity.vendor,
        identity.family,
        identity.model,
        identity.stepping,
        identity.implementer,
        identity.arm_part,
        identity.name,
        frozenset(identity.flags),
        identity.reported_mhz,
        identity.core_kinds,
    )


class CudaIdentity(_DeviceIdentity):
    """One CUDA GPU, or MIG slice of one, as torch and the driver report it. None: neither says.

    All from `serial` on comes from NVML. Clocks and limits of a slice are those of its card.
    """

    kind: Literal["cuda"] = "cuda"
    name: str
    index: int | None  # torch's; None where torch doesn't see it
    twin: Mapping[str, Any] | None = None  # the card of a simulated GPU (`twin.card.Card`); None: a real one
    uuid: str | None = None
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    compute_capability: str | None = None
    l2_bytes: int | None = None
    cuda: str | None = None  # what torch was built for
    serial: str | None = None
    nvml_index: int | None = None  # by slot; torch's index may differ
    mig_slice: bool | None = None
    pci_bus_id: str | None = None
    pci_id: str | None = None  # vendor and device: 10de:20f3
    pci_subsystem_id: str | None = None
    vbios: str | None = None
    driver: str | None = None
    cuda_driver: str | None = None  # the newest CUDA the driver supports
    max_sm_clock_mhz: int | None = None
    max_memory_clock_mhz: int | None = None
    power_limit_w: float | None = None  # the one in force
    default_power_limit_w: float | None = None
    persistence_mode: bool | None = None
    ecc_mode: bool | None = None
    mig_mode: bool | None = None
    compute_mode: str | None = None
    virtualization_mode: str | None = None
    max_pcie_generation: int | None = None  # of card and slot together
    max_pcie_width: int | None = None
    pcie_generation: int | None = None  # when read: links slow down when idle
    pcie_width: int | None = None

    def fingerprint(self) -> tuple[object, ...]:
        """Return what torch says of the card; limits, modes and the slot's link may differ."""
        # NVML spells a slice's UUID differently from torch: the same device with and without NVML.
        uuid = None if self.uuid is None else plain_uuid(self.uuid)
        return (self.name, uuid, self.memory_bytes, self.multiprocessors)

    def is_same_device(self, other: _DeviceIdentity) -> bool:
        """Whether both are of the same card and driver, where both know the driver."""
        # Only NVML tells the driver, and it may not start in one of a run's processes.
        drivers = {one.driver for one in (self, other) if isinstance(one, CudaIdentity)} - {None}
        return super().is_same_device(other) and len(drivers) <= 1

    @property
    def highest_clock_mhz(self) -> float | None:
        """As the driver reports it: what no boost goes beyond."""
        return self.max_sm_clock_mhz


class SimulatedIdentity(_DeviceIdentity):
    """A simulated device."""

    kind: Literal["simulated"] = "simulated"
    name: str

    def fingerprint(self) -> tuple[object, ...]:
        """Return its name."""
        return (self.name,)


Identity = Annotated[CpuIdentity | CudaIdentity | SimulatedIdentity, Field(discriminator="kind")]
