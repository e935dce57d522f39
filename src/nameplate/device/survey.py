"""Every device of this machine without opening one: what it is taken for, and what stands in its way.

GPUs come first, as torch numbers them (`cuda:0`); then those that the driver alone sees, as NVML does
(`nvml:0`, its MIG slices `nvml:0:0`); the CPU is last.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from nameplate.base.errors import InputError
from nameplate.base.formatting import percent, stated
from nameplate.base.language import N_, _
from nameplate.base.messages import Reason
from nameplate.device import cuda
from nameplate.device.cpu import CpuDevice
from nameplate.device.identity import CpuIdentity, CudaIdentity, Identity
from nameplate.device.protocol import Described, Device
from nameplate.specs.rating import Rating
from nameplate.telemetry.gpu import GpuFacts, GpuReading, describe_problems
from nameplate.telemetry.host import read_cpu_totals
from nameplate.telemetry.nvml import NvmlClient
from nameplate.telemetry.nvml_library import plain_uuid

# Past these a neighbour shows in a figure: what a record is called `contended` for is 5 % of the cores now.
_BUSY_SHARE = 0.1
_STEAL_SHARE = 0.01
_PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


@dataclass
class Seen:
    """One device. `health` is what its driver reports amiss, `in_the_way` what else spoils a measurement.

    `unusable` is why torch can't measure it, None where it can.
    """

    name: str
    identity: Identity
    rating: Rating
    health: tuple[str, ...] = ()
    in_the_way: tuple[str, ...] = ()
    unusable: str | None = None
    reading: GpuReading | None = None
    facts: GpuFacts | None = None

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""
        return self.identity.kind

    @property
    def memory_bytes(self) -> int | None:
        """Total memory of the device; None: not known."""
        return getattr(self.identity, "memory_bytes", None)


@dataclass(frozen=True)
class Survey:
    """The devices, and what NVML and torch are here. `nvml_absent` is why NVML told less than it could."""

    devices: tuple[Seen, ...]
    torch: str
    driver: str | None = None
    cuda_driver: str | None = None
    nvml_count: int | None = None
    nvml_absent: Reason | None = None


def survey() -> Survey:
    """Look at every device. A missing or hung NVML costs what it would have told, and is in the result.

    Raises InputError for a deadline in the environment that is none.
    """
    with cuda.open_nvml() as nvml:
        # One by one first: a card that hangs NVML costs the others nothing that was read before it.
        usable = [_usable_gpu(index, nvml) for index in range(_torch_count())]
        hidden = _other_gpus([seen.identity for seen in usable], nvml)
        devices = (*usable, *hidden, cpu(CpuDevice()))
        return Survey(
            devices, cuda.describe_torch_build(), nvml.driver, nvml.cuda_driver, nvml.count, nvml.absent
        )


def survey_one(name: str) -> Survey:
    """The one device that `bench run --device NAME` would open; for the CPU no driver is asked.

    Raises InputError as `open_device` does.
    """
    opened = open_device(name)
    if isinstance(opened, CpuDevice):
        return Survey((cpu(opened),), cuda.describe_torch_build())
    whole = survey()
    return replace(whole, devices=tuple(seen for seen in whole.devices if seen.name == opened.name))


def _torch_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _usable_gpu(index: int, nvml: NvmlClient) -> Seen:
    identity = cuda.read_identity(index, nvml)
    facts = None if identity.uuid is None else nvml.facts(identity.uuid)
    reading = None if facts is None or facts.uuid is None else nvml.reading(facts.uuid)
    if facts is None:
        reason = nvml.absent or _("it has none of this UUID")
        nothing = _("NVML tells nothing of this GPU ({reason}): see what nvidia-smi says", reason=reason)
        said: tuple[str, ...] = (nothing,)
    else:
        said = tuple(describe_problems(facts, reading))
    return Seen(
        f"cuda:{index}",
        identity,
        cuda.rate(identity),
        said,
        tuple(_unjudged(reading)),
        reading=reading,
        facts=facts,
    )


def _other_gpus(usable: Sequence[Identity], nvml: NvmlClient) -> Iterator[Seen]:
    """What NVML sees beside what torch does."""
    taken = {plain_uuid(one.uuid) for one in usable if isinstance(one, CudaIdentity) and one.uuid}
    slices: dict[int, int] = {}
    for facts in nvml.gpus():
        name = f"nvml:{facts.index}"
        if facts.is_mig_slice:
            number = slices.setdefault(facts.index, 0)
            slices[facts.index] += 1
            name = f"{name}:{number}"
        if facts.uuid is None or plain_uuid(facts.uuid) not in taken:
            yield _unusable_gpu(name, facts, nvml)


def _unusable_gpu(name: str, facts: GpuFacts, nvml: NvmlClient) -> Seen:
    identity = cuda.identify_without_torch(facts)
    reading = None if facts.uuid is None else nvml.reading(facts.uuid)
    return Seen(
        name,
        identity,
        cuda.rate(identity),
        tuple(describe_problems(facts, reading)),
        tuple(_unjudged(reading)),
        _why_unusable(facts),
        reading,
        facts,
    )


def _why_unusable(facts: GpuFacts) -> str:
    if facts.lost:
        return _("the driver has lost it")
    if facts.mig_mode and not facts.is_mig_slice:
        return _("MIG is on: only its slices can be used")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _("torch doesn't see it (CUDA_VISIBLE_DEVICES={visible})", visible=visible)
    driver = facts.driver or _("unknown")
    return _("torch can't use it: driver {driver}, {torch}", driver=driver, torch=cuda.describe_torch_build())


def _unjudged(reading: GpuReading | None) -> Iterator[str]:
    """Evidence that a clean record needs and that can't be read here."""
    if reading is None or "*" in reading.absent:
        return
    if reading.pids_match is False:
        yield _(
            "process ids here are a container's own, so other processes on the GPU may not be told: "
            "share the host's (--pid=host)"
        )
    for what in ("power", "thermal"):
        reason = reading.why_absent(f"{what}_throttle_s")
        if reason:
            text = N_("throttling ({what}) isn't counted ({reason}), so no record can be called clean")
            yield _(text, what=_(what), reason=reason)


def cpu(device: CpuDevice) -> Seen:
    """The CPU, with what stands in its way now."""
    identity = device.identity
    obstacles = find_cpu_obstacles(identity, _load_average(), read_cpu_totals(cpus=identity.affinity_cpus))
    return Seen("cpu", identity, device.rating, in_the_way=tuple(obstacles))


def _load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def find_cpu_obstacles(
    identity: CpuIdentity, load: float | None, totals: tuple[float, float] | None
) -> Iterator[str]:
    """What spoils a measurement on this host: a sentence each, with a number and a next step.

    `load` is the last minute's load average; `totals` are busy and stolen CPU seconds since boot.
    """
    # The load is of the whole machine, so it is held against all of it.
    if load is not None and load > _BUSY_SHARE * identity.logical_cpus:
        yield _(
            "load average is {load} on {count} CPUs: measure when others rest (top)",
            load=f"{load:.2f}",
            count=identity.logical_cpus,
        )
    stolen = totals[1] / sum(totals) if totals is not None and sum(totals) > 0 else 0.0
    if stolen > _STEAL_SHARE:
        yield _(
            "the hypervisor took {share} of the CPU time asked for since boot: measure on a dedicated host",
            share=percent(stolen),
        )
    yield from _limits(identity)


def _limits(identity: CpuIdentity) -> Iterator[str]:
    allowed = len(identity.affinity_cpus or ()) or identity.logical_cpus
    if identity.quota_cpus and identity.quota_cpus < allowed:
        yield _(
            "a control group holds this process to {quota} of {allowed} CPUs by pausing it: give it whole "
            "CPUs (cpuset, taskset)",
            quota=stated(identity.quota_cpus),
            allowed=allowed,
        )
    if identity.threads is not None and identity.threads < identity.usable_cores:
        yield _(
            "torch keeps {threads} of {cores} cores busy: unset OMP_NUM_THREADS and its like",
            threads=identity.threads,
            cores=stated(identity.usable_cores),
        )
    for name, value in _PASSIVE.items():
        if identity.thread_settings.get(name, "").casefold() == value:
            text = N_("{setting} lets threads sleep between launches: unset it")
            yield _(text, setting=f"{name}={value}")


_EXPECTED = "auto, cpu, cuda, cuda:N or all"


def device_names(name: str = "auto") -> list[str]:
    """The devices that a flag names: `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda` (the
    first), `cuda:N`, or `all` (every GPU, or the CPU where there is none).

    Raises InputError for an unknown name, for a GPU that isn't there, and for a GPU that NVML sees and torch
    can't use: that is never a silent CPU run.
    """
    if name == "cpu":
        return ["cpu"]
    match = re.fullmatch(r"cuda:(\d+)", name)
    if match is None and name not in ("auto", "cuda", "all"):
        raise InputError("unknown device", where="--device", got=name, expected=_EXPECTED)
    count = _torch_count()
    if count == 0:
        _refuse_unusable_gpu()
        if name in ("auto", "all"):
            return ["cpu"]
    if match is not None and int(match[1]) < count:
        return [name]
    if match is not None or count == 0:
        here = f"one of the {count} GPUs here" if count else "cpu: no CUDA GPU is here"
        raise InputError("no such GPU", where="--device", got=name, expected=here)
    return [f"cuda:{index}" for index in range(count)][: None if name == "all" else 1]


def describe(name: str) -> Described:
    """What is known of `cpu` or `cuda:N` without opening it."""
    if name == "cpu":
        return CpuDevice()  # opening it takes nothing
    identity = cuda.read_identity(int(name.removeprefix("cuda:")))
    return Seen(name, identity, cuda.rate(identity))


def open_device(name: str = "auto") -> Device:
    """Open the device that a flag names, the first where it names several.

    Raises InputError as `device_names` does.
    """
    first = device_names(name)[0]
    if first == "cpu":
        return CpuDevice()
    return cuda.CudaDevice(cuda.read_identity(int(first.removeprefix("cuda:"))))


def _refuse_unusable_gpu() -> None:
    """Raise where the driver shows a GPU that this build of torch can't use."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # the user hides them
        return
    seen = cuda.find_driver_and_count()
    if seen is None or seen[1] == 0:
        return
    driver, count = seen
    raise InputError(
        f"NVML sees {count} GPU{'s' if count > 1 else ''} but torch can't use any",
        where="--device",
        got=f"driver {driver}, {cuda.describe_torch_build()}",
        expected="a torch build that this driver supports, or --device cpu to measure the CPU",
    )
