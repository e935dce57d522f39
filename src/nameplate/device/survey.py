"""Finds the devices of this machine: opens the one that a flag names, or surveys all without opening them.

A survey lists GPUs first, as torch numbers them (`cuda:0`), then those that only the driver sees, as NVML
numbers them (`nvml:0`, its MIG slices `nvml:0:0`), and the CPU last.
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
from nameplate.device import cuda, driver, twin
from nameplate.device.cpu import CpuDevice, has_shared_cores, measure_identity, read_identity
from nameplate.device.cuda_start import CudaUnusable, require_cuda_start
from nameplate.device.driver import DriverState
from nameplate.device.identity import CpuIdentity, CudaIdentity, Identity
from nameplate.device.kernels import load_naming
from nameplate.device.protocol import Device, DeviceDescription
from nameplate.specs.rating import Rating
from nameplate.telemetry.gpu import GpuFacts, GpuReading, describe_problems
from nameplate.telemetry.host import read_cpu_totals
from nameplate.telemetry.nvml import NvmlClient
from nameplate.telemetry.nvml_library import plain_uuid

# Above these, other work may change a figure. A record is `contended` from 5 % of the cores on.
_BUSY_SHARE = 0.1
_STEAL_SHARE = 0.01
# Notes of a rating that say what an obstacle says with a next step.
OBSTACLE_NOTES = frozenset({"cores_shared", "quota"})
_PASSIVE = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


@dataclass
class SurveyedDevice:
    """One device as seen without opening it.

    `health` has the faults that its driver reports, `in_the_way` other obstacles to a measurement. `unusable`
    says why torch can't measure it; None where it can.
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
    def measured(self) -> bool:
        """False for a twin."""
        return not (isinstance(self.identity, CudaIdentity) and self.identity.twin is not None)

    @property
    def memory_bytes(self) -> int | None:
        """Total memory of the device; None: not known."""
        return getattr(self.identity, "memory_bytes", None)


@dataclass(frozen=True)
class Survey:
    """The devices, and the versions of NVML and torch. `nvml_absent` says why NVML gave less than usual."""

    devices: tuple[SurveyedDevice, ...]
    torch: str
    driver: str | None = None
    cuda_driver: str | None = None
    nvml_count: int | None = None
    nvml_absent: Reason | None = None


def survey() -> Survey:
    """Survey every device. What NVML can't open or read is listed with the reason; so is a missing NVML.

    Raises InputError for a bad deadline in the environment.
    """
    unusable = None
    try:
        require_cuda_start()
        count = _count_torch_gpus()
    except CudaUnusable as error:
        count, unusable = 0, _("CUDA can't be started: {why}", why=error.got)
    with cuda.open_nvml() as nvml:
        usable = [_survey_torch_gpu(index, nvml) for index in range(count)]
        hidden = _find_other_gpus([seen.identity for seen in usable], nvml, unusable)
        devices = (*usable, *hidden, survey_cpu(CpuDevice(measure_identity())))
        return Survey(
            devices, cuda.describe_torch_build(), nvml.driver, nvml.cuda_driver, nvml.count, nvml.absent
        )


def survey_one(name: str) -> Survey:
    """Survey the one device that `bench run --device NAME` would open, of a twin's node all that it would.

    For the CPU no driver is asked. Raises InputError as `choose_devices` does.
    """
    names = find_device_names(name)
    first = names[0]
    if twin.is_twin(first):
        seen = tuple(map(_survey_twin, names))
        identity = seen[0].identity
        assert isinstance(identity, CudaIdentity)
        return Survey(seen, cuda.describe_torch_build(), identity.driver, identity.cuda_driver)
    if first == "cpu":
        return Survey((survey_cpu(CpuDevice(measure_identity())),), cuda.describe_torch_build())
    whole = survey()
    return replace(whole, devices=tuple(seen for seen in whole.devices if seen.name == first))


def _count_torch_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _survey_torch_gpu(index: int, nvml: NvmlClient) -> SurveyedDevice:
    identity = cuda.read_identity(index, nvml)
    facts = None if identity.uuid is None else nvml.facts(identity.uuid)
    return _survey_gpu(f"cuda:{index}", identity, facts, nvml)


def _survey_twin(name: str, begun: Identity | None = None) -> SurveyedDevice:
    gpu = twin.find_twin(name, begun)
    return _survey_gpu(gpu.name, gpu.identity, gpu.facts, gpu.nvml)


def _find_other_gpus(
    usable: Sequence[Identity], nvml: NvmlClient, unusable: str | None = None
) -> Iterator[SurveyedDevice]:
    """The GPUs that NVML sees and torch doesn't; `unusable` is why torch sees none."""
    taken = {plain_uuid(one.uuid) for one in usable if isinstance(one, CudaIdentity) and one.uuid}
    slices: dict[int, int] = {}
    for facts in nvml.gpus():
        name = f"nvml:{facts.index}"
        if facts.is_mig_slice:
            number = slices.setdefault(facts.index, 0)
            slices[facts.index] += 1
            name = f"{name}:{number}"
        if facts.uuid is None or plain_uuid(facts.uuid) not in taken:
            yield _survey_gpu(
                name, cuda.identify_without_torch(facts), facts, nvml, unusable or _why_unusable(facts)
            )


def _survey_gpu(
    name: str,
    identity: CudaIdentity,
    facts: GpuFacts | None,
    nvml: NvmlClient,
    unusable: str | None = None,
) -> SurveyedDevice:
    reading = None if facts is None or facts.uuid is None else nvml.reading(facts.uuid)
    if facts is None:
        reason = nvml.why_unread(identity.uuid or "") or _("it has no GPU of this UUID")
        faults = [_("NVML has no data on this GPU ({reason}): see nvidia-smi", reason=reason)]
    else:
        faults = list(describe_problems(facts, reading))
    return SurveyedDevice(
        name,
        identity,
        cuda.rate(identity),
        tuple(faults),
        tuple(_find_gaps(reading)),
        unusable,
        reading,
        facts,
    )


def _why_unusable(facts: GpuFacts) -> str:
    if facts.lost:
        return _("the driver has lost it")
    if "*" in facts.absent:
        return _("NVML can't open or read it")
    if facts.mig_mode and not facts.is_mig_slice:
        return _("MIG is on: only its slices can be used")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return _("torch doesn't see it (CUDA_VISIBLE_DEVICES={visible})", visible=visible)
    version = facts.driver or _("unknown")
    return _(
        "torch can't use it: driver {driver}, {torch}", driver=version, torch=cuda.describe_torch_build()
    )


def _find_gaps(reading: GpuReading | None) -> Iterator[str]:
    """Evidence that a clean record needs and that can't be read on this machine."""
    if reading is None or "*" in reading.absent:
        return
    if reading.pids_match is False:
        yield _(
            "process ids are those of a container, so other processes on the GPU are judged by the memory "
            "they hold and by utilization: share the host's (--pid=host) to see them"
        )
    unjudged = {
        "power": N_("throttling ({what}) isn't counted ({reason}), so no burst figure can be trusted"),
        "thermal": N_("throttling ({what}) isn't counted ({reason}), so no record can be called clean"),
    }
    for what, text in unjudged.items():
        reason = reading.why_absent(f"{what}_throttle_s")
        if reason:
            yield _(text, what=_(what), reason=reason)


def survey_cpu(device: CpuDevice) -> SurveyedDevice:
    """Survey the CPU, with the obstacles of this moment."""
    identity = device.identity
    obstacles = find_cpu_obstacles(
        identity, _read_load_average(), read_cpu_totals(cpus=identity.affinity_cpus)
    )
    return SurveyedDevice("cpu", identity, device.rating, in_the_way=tuple(obstacles))


def _read_load_average() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def find_cpu_obstacles(
    identity: CpuIdentity, load: float | None, totals: tuple[float, float] | None
) -> Iterator[str]:
    """Yield a sentence for each obstacle to a measurement on this host, with a number and a next step.

    `load` is the last minute's load average; `totals` are busy and stolen CPU seconds since boot.
    """
    # The load is that of the whole machine, so it is compared with all CPUs.
    if load is not None and load > _BUSY_SHARE * identity.logical_cpus:
        yield _(
            "load average is {load} on {count} CPUs: measure when the machine is idle (top)",
            load=f"{load:.2f}",
            count=identity.logical_cpus,
        )
    stolen = totals[1] / sum(totals) if totals is not None and sum(totals) > 0 else 0.0
    if stolen > _STEAL_SHARE:
        yield _(
            "the hypervisor took {share} of the CPU time asked for since boot: measure on a dedicated host",
            share=percent(stolen),
        )
    if has_shared_cores(identity):
        yield _(
            "{cores} cores working at once run at {speed} of their speed alone: they share physical cores, "
            "or another machine uses them; measure on a host of your own, with one thread a physical core",
            cores=stated(identity.usable_cores),
            speed=f"{identity.parallel_speed:.2f}",
        )
    yield from _find_limits(identity)


def _find_limits(identity: CpuIdentity) -> Iterator[str]:
    allowed = len(identity.affinity_cpus or ()) or identity.logical_cpus
    if identity.quota_cpus and identity.quota_cpus < allowed:
        yield _(
            "a control group limits this process to {quota} of {allowed} CPUs by pausing it: give it whole "
            "CPUs (cpuset, taskset)",
            quota=stated(identity.quota_cpus),
            allowed=allowed,
        )
    if identity.threads is not None and identity.threads < identity.usable_cores:
        yield _(
            "torch uses {threads} of {cores} cores: unset OMP_NUM_THREADS and similar variables",
            threads=identity.threads,
            cores=stated(identity.usable_cores),
        )
    for name, value in _PASSIVE.items():
        if identity.thread_settings.get(name, "").casefold() == value:
            text = N_("{setting} lets threads sleep between launches: unset it")
            yield _(text, setting=f"{name}={value}")


_EXPECTED = "auto, cpu, cuda, cuda:N, all, or twin:NAME for a simulated GPU"


@dataclass(frozen=True)
class DeviceChoice:
    """The devices that a flag names; `driver` is what NVML said where the CPU is one for want of a GPU."""

    names: list[str]
    driver: DriverState | None = None


def find_device_names(name: str = "auto") -> list[str]:
    """Return the devices that a flag names; see `choose_devices`."""
    return choose_devices(name).names


def choose_devices(name: str = "auto") -> DeviceChoice:
    """Return the devices that a flag names.

    `auto` is the first GPU or else the CPU, `cuda` the first GPU, `all` every GPU or else the CPU; `cpu` and
    `cuda:N` name one, and `twin:NAME` or `twin:FILE.toml` the GPUs of a twin. Raises InputError for an
    unknown name and for a GPU that isn't there. Also where NVML sees a GPU that torch can't use, so that the
    CPU is never measured by mistake; and CudaUnusable.
    """
    if _may_be_gpu(name):
        require_cuda_start()
    return _choose(name)


def _may_be_gpu(name: str) -> bool:
    """Whether a flag, or a device's name, may be a GPU's."""
    return name in ("auto", "all") or name.startswith("cuda")


def _choose(name: str) -> DeviceChoice:
    """Choose as `choose_devices` does; torch may start CUDA in this process."""
    if name == "cpu":
        return DeviceChoice(["cpu"])
    if twin.is_twin(name):
        return DeviceChoice(twin.find_twin_names(name))
    match = re.fullmatch(r"cuda:(\d+)", name)
    if match is None and name not in ("auto", "cuda", "all"):
        raise InputError("unknown device", where="--device", got=name, expected=_EXPECTED)
    count = _count_torch_gpus()
    if count == 0:
        state = None
        if os.environ.get("CUDA_VISIBLE_DEVICES") not in ("", "-1"):  # with these the user hides the GPUs
            state = driver.ask_driver()
            driver.refuse_unusable(state)
        if name in ("auto", "all"):
            return DeviceChoice(["cpu"], state)
    if match is not None and int(match[1]) < count:
        return DeviceChoice([name])
    if match is not None or count == 0:
        here = f"one of the {count} GPUs here" if count else "cpu: no CUDA GPU is here"
        raise InputError("no such GPU", where="--device", got=name, expected=here)
    return DeviceChoice([f"cuda:{index}" for index in range(count)][: None if name == "all" else 1])


def describe(name: str, begun: Identity | None = None) -> DeviceDescription:
    """Return what is known of `cpu`, `cuda:N` or a twin without opening it.

    A CPU's arithmetic peak is measured, or taken from `begun`, the identity that a run was begun with. Raises
    InputError for a name that no device has, as a manifest of others may, and for a GPU that isn't here; and
    CudaUnusable.
    """
    if name == "cpu":
        return _open_cpu(begun)  # opening it allocates nothing
    if twin.is_twin(name):
        return _survey_twin(name, begun)
    if re.fullmatch(r"cuda:\d{1,9}", name) is None:
        raise InputError("unknown device", got=name, expected="cpu, cuda:N or a twin's name")
    require_cuda_start()  # a resumed run chooses no device
    _choose(name)
    identity = cuda.read_identity(int(name.removeprefix("cuda:")))
    return SurveyedDevice(name, identity, cuda.rate(identity))


def open_device(name: str = "auto", begun: Identity | None = None, known: Identity | None = None) -> Device:
    """Open the device that a flag names; the first where it names several.

    A CPU's arithmetic peak is measured, or taken from `begun`, the identity that a run was begun with. Where
    another process has opened the device a moment ago, `known` is what it read, and isn't read again.
    Starts CUDA in this process, where it may hang: only for a process that is watched, or with a name of
    `find_device_names`. Raises InputError for an unknown name and for a GPU that isn't there.
    """
    if twin.is_twin(name) and begun is not None:  # the file that describes it may have gone
        return twin.TwinDevice(twin.find_twin(name, begun))
    if isinstance(known, CpuIdentity):
        return CpuDevice(known)
    if isinstance(known, CudaIdentity):
        return cuda.CudaDevice(known)
    first = _choose(name).names[0]
    if first == "cpu":
        return _open_cpu(begun)
    if twin.is_twin(first):
        return twin.TwinDevice(twin.find_twin(first))
    return cuda.CudaDevice(cuda.read_identity(int(first.removeprefix("cuda:"))))


def _open_cpu(begun: Identity | None) -> CpuDevice:
    """Open the CPU; one run has one arithmetic peak, that of its manifest."""
    return CpuDevice(read_identity(begun.silicon) if isinstance(begun, CpuIdentity) else measure_identity())


def prepare_copies(name: str, begun: Identity | None = None) -> None:
    """Start and load what all processes share that this one forks to measure a device.

    That is what samples the device beside them, and what takes long to import. `begun` is the identity that a
    run was begun with.
    """
    if name == "cpu":
        load_naming()
        CpuDevice.share_sampler(begun.affinity_cpus if isinstance(begun, CpuIdentity) else None)
    else:
        cuda.share_nvml()
