"""What a device is, as evidence read from the machine: what was seen, never what it was taken for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class _Evidence(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def fingerprint(self) -> tuple[object, ...]:
        """What must be equal for two runs to be of the same device."""
        raise NotImplementedError


class CpuIdentity(_Evidence):
    """A host's processors as this process may use them. A figure the system doesn't give is None."""

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
    virtual_machine: bool | None = None
    logical_cpus: int
    affinity_cpus: tuple[int, ...] | None = None
    quota_cpus: float | None = None  # cgroup limit, in CPUs
    usable_cores: float  # physical cores within affinity and quota: what nominal counts
    threads_per_core: int | None = None
    sockets: int | None = None
    numa_nodes: int | None = None
    reported_mhz: float | None = None
    maximum_mhz: float | None = None  # cpufreq's; absent in most guests
    measured_mhz: float | None = None  # by chains of dependent adds
    caches_bytes: Mapping[str, int] = {}
    memory_bytes: int
    memory_limit_bytes: int | None = None  # cgroup limit
    blas: str | None = None
    onednn: str | None = None
    instruction_set: str | None = None  # the level torch's own kernels were dispatched to
    threads: int | None = None
    interop_threads: int | None = None
    thread_settings: Mapping[str, str] = {}  # environment variables that were set

    def fingerprint(self) -> tuple[object, ...]:
        """Model, instruction set and what may be used of it; clocks and settings may differ."""
        return (self.name, self.vendor, self.family, self.model, self.stepping, self.flags, self.usable_cores)


class CudaIdentity(_Evidence):
    """One CUDA GPU as torch and the driver report it. A figure neither gives is None."""

    kind: Literal["cuda"] = "cuda"
    name: str
    index: int
    uuid: str | None = None
    serial: str | None = None
    memory_bytes: int | None = None
    multiprocessors: int | None = None
    compute_capability: str | None = None
    l2_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    pci_bus_id: str | None = None
    pci_device_id: int | None = None  # NVML's: device in the high 16 bits, vendor in the low

    def fingerprint(self) -> tuple[object, ...]:
        """The card itself and its driver."""
        return (self.name, self.uuid, self.memory_bytes, self.multiprocessors, self.driver)


class SimulatedIdentity(_Evidence):
    """A device with a known truth."""

    kind: Literal["simulated"] = "simulated"
    name: str

    def fingerprint(self) -> tuple[object, ...]:
        """Its name."""
        return (self.name,)


Identity = Annotated[CpuIdentity | CudaIdentity | SimulatedIdentity, Field(discriminator="kind")]
