"""A simulated GPU as a device: `CudaDevice` as it stands, on a twin's clock, launches and driver.

    --device twin:h200         a shipped twin
    --device twin:mine.toml    one's own file
    --device twin:8xa800       every GPU of a twin that is a node; twin:8xa800:3 is one of them

A twin is described in full in the manifest of its run, so the processes that measure it, and who resumes the
run, need no file. Whatever is made of it is marked as not measured.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nameplate.base import toml
from nameplate.base.errors import InputError
from nameplate.device.cuda import CudaDevice, driver_facts
from nameplate.device.identity import CudaIdentity, Identity
from nameplate.record import KernelTime
from nameplate.telemetry.gpu import GpuFacts
from nameplate.telemetry.nvml import NvmlClient
from nameplate.twin.accelerator import TwinAccelerator
from nameplate.twin.card import PREFIX, Card, read_card
from nameplate.twin.clock import VirtualClock
from nameplate.twin.driver import Driver
from nameplate.twin.faults import Faults
from nameplate.twin.kernels import KernelModel, Kernels
from nameplate.twin.nvml_process import connect_driver
from nameplate.twin.simulation import Simulation
from nameplate.twin.workload import TwinPrepared, TwinSearchBuffers, kernels_of
from nameplate.workload import Launch, Prepared, SearchBuffers, SearchedWorkload, Workload

if TYPE_CHECKING:
    import torch

_FLUSHED = 2  # times its L2 that a card writes to empty it
_ELEMENT_BYTES = 4


def is_twin(name: str) -> bool:
    """Whether a flag, or a device's name, is a twin's."""
    return name.startswith(PREFIX)


def find_twin_names(flag: str) -> list[str]:
    """Return the devices that `--device twin:…` names: of a node, all its GPUs.

    Raises InputError for a twin that isn't known, and a file that can't be used.
    """
    what, card, index = _read(flag)
    if index is not None or card.environment.gpus == 1:
        return [flag]
    return [f"{PREFIX}{what}:{number}" for number in range(card.environment.gpus)]


def _read(flag: str) -> tuple[str, Card, int | None]:
    """Return the name or file, the card, and which GPU of the node, where a flag or a device names one."""
    what, index = flag.removeprefix(PREFIX), None
    head, colon, tail = what.rpartition(":")
    if colon and tail.isdecimal():
        what, index = head, int(tail)
    card = read_card(what)
    if index is not None and index >= card.environment.gpus:
        raise InputError(
            "no such GPU",
            where="--device",
            got=flag,
            expected=f"one of the {card.environment.gpus} GPUs of the twin {card.name}",
        )
    return what, card, index


@dataclass(frozen=True)
class TwinGpu:
    """One GPU of a twin, on a clock of its own that begins at 0, with its driver asked by `nvml`."""

    name: str
    identity: CudaIdentity
    accelerator: TwinAccelerator
    clock: VirtualClock
    nvml: NvmlClient
    facts: GpuFacts | None  # as the driver gave them


def find_twin(name: str, begun: Identity | None = None) -> TwinGpu:
    """Return the GPU of this name; its card is the one of `begun`, the identity that a run was begun with.

    Raises InputError as `find_twin_names` does, and for a card of a manifest that can't be used.
    """
    if isinstance(begun, CudaIdentity) and begun.twin is not None:
        where = f"the twin of {name} in the run's manifest"
        card, index = toml.validate(Card, dict(begun.twin), where), begun.nvml_index or 0
        if not 0 <= index < card.environment.gpus:
            raise toml.bad_value(where, "nvml_index", index, f"one of its {card.environment.gpus} GPUs")
        return make_gpu(card, index)
    _, card, given = _read(name)
    return make_gpu(card, given or 0)


def make_gpu(card: Card, index: int = 0) -> TwinGpu:
    """Return one GPU of a card's node, idle for long when its clock begins."""
    clock, gpus = VirtualClock(), card.environment.gpus
    simulations = [Simulation(card, faults=Faults.of_gpu(card.fault, each)) for each in range(gpus)]
    accelerator = TwinAccelerator(card, clock, simulations[index])

    def make_driver(gpu: int) -> Driver:
        past = simulations[gpu]
        return Driver(
            card, past, clock, gpu, past.faults, lambda: accelerator.allocated_bytes if gpu == index else 0
        )

    drivers = [make_driver(gpu) for gpu in range(gpus)]
    nvml = connect_driver(drivers, clock, clock.sleep)
    uuid = _spell(drivers[index])
    facts = nvml.facts(uuid)
    name = f"{PREFIX}{card.name}" + (f":{index}" if gpus > 1 else "")
    identity = _identify(card, index, facts, uuid, nvml)
    return TwinGpu(name, identity, accelerator, clock, nvml, facts)


def _spell(driver: Driver) -> str:
    """The UUID as torch spells it: a slice's too begins with GPU."""
    return f"GPU-{driver.uuid}"


def _identify(card: Card, index: int, facts: GpuFacts | None, uuid: str, nvml: NvmlClient) -> CudaIdentity:
    """Return what torch and the driver would say, as `cuda.read_identity` collects it."""
    identity = card.identity
    known = {"uuid": uuid} if facts is None else driver_facts(facts)
    return CudaIdentity(
        name=identity.name,
        index=index,
        memory_bytes=int(identity.memory_mib.value) << 20,
        multiprocessors=int(identity.multiprocessors.value),
        compute_capability=identity.compute_capability,
        l2_bytes=int(identity.l2_mib.value * 2**20),
        cuda=identity.cuda,
        driver=nvml.driver,
        cuda_driver=nvml.cuda_driver,
        twin=card.model_dump(mode="json", by_alias=True),
        **{**known, "nvml_index": index},
    )


class TwinDevice(CudaDevice):
    """A simulated GPU, measured by the code that measures a real one."""

    measured = False

    def __init__(self, gpu: TwinGpu) -> None:
        """Open it."""
        self._twin = gpu.accelerator
        super().__init__(gpu.identity, gpu.accelerator, gpu.nvml, clock=gpu.clock, sleep=gpu.clock.sleep)
        self.name = gpu.name
        card = gpu.accelerator.card
        self._model = KernelModel(card)
        self._flush_work = self._work_of(_FLUSHED * int(card.identity.l2_mib.value * 2**20))

    @property
    def torch_device(self) -> torch.device:
        """The CPU, where what is verified is computed."""
        import torch

        return torch.device("cpu")

    def begin_process(self) -> None:
        """Free the memory of earlier parts of a run, whoever holds them, as a process does that ends.

        Time passes until the next one has a context.
        """
        self._twin.begin_process()

    def prepare(self, workload: Workload, *, fill: str, seed: int, copies: int = 1) -> Prepared:
        """Prepare a workload whose launches cost what they would on the card."""
        return TwinPrepared(workload, self._twin, fill=fill, seed=seed, copies=copies)

    def prepare_search(self, workload: SearchedWorkload, *, fill: str, seed: int) -> SearchBuffers:
        """Prepare launches of a grid's points that cost what they would on the card."""
        return TwinSearchBuffers(workload, self._twin, fill=fill, seed=seed)

    def why_unsupported(self, workload: Workload) -> str | None:
        """Return what the workload says of a GPU that is only modelled, or that the twin has no figures of
        its dtype.

        No workload is asked about a CUDA device: it would try things on this machine's own GPU.
        """
        import torch

        if workload.dtype not in self._twin.card.compute:
            return f"the twin {self._twin.card.name} has no figures of {workload.dtype}"
        if getattr(workload, "crosses_host_link", False) and self._twin.card.memory.host_gb_s is None:
            return f"the twin {self._twin.card.name} has no figure of its link to the host"
        if getattr(workload, "by", None) == "grouped_mm":
            return f"the twin {self._twin.card.name} has no kernel of grouped products"
        return workload.unsupported(torch.device("meta"))

    def list_kernels(self, launch: Launch) -> tuple[tuple[str, float], ...]:
        """Launch once; return the kernels that the card would run, with the microseconds of each."""
        self._twin.start_profiler()
        launch()
        self.synchronize()
        kernels = kernels_of(launch)
        found = () if kernels is None else kernels.kernels
        return tuple((each.name, 1e6 * each.longest_s) for each in found)

    def profile(self, launch: Launch, trace: Path) -> tuple[KernelTime, ...]:
        """Launch once; write what the card would run as a trace that says it is simulated."""
        kernels = self.list_kernels(launch)
        write_simulated_trace(trace, self.name, kernels)
        times_s, calls = dict[str, float](), Counter(name for name, _ in kernels)
        for name, spent_us in kernels:
            times_s[name] = times_s.get(name, 0.0) + spent_us / 1e6
        return tuple(
            KernelTime(name=name, time_s=times_s[name], calls=calls[name])
            for name in sorted(times_s, key=lambda each: -times_s[each])
        )

    def is_working(self) -> bool:
        """Return whether CUDA's calls still succeed."""
        try:
            self.synchronize()
        except RuntimeError:
            return False
        return True

    def make_empty_launch(self) -> Launch:
        """Return a launch of the kernel that writes one element."""
        work = self._work_of(_ELEMENT_BYTES)
        return lambda: self._twin.launch(work)

    def _flush(self) -> None:
        self._twin.launch(self._flush_work)

    def _work_of(self, written: int) -> Kernels:
        """Return the kernel that writes so many bytes."""
        return self._model.sequence([self._model.elementwise("twin_fill", written)])


def write_simulated_trace(path: Path, device: str, kernels: Sequence[tuple[str, float]]) -> None:
    """Write kernels, each with its microseconds, one after the other as a trace for Chrome (Trace Event
    Format, complete events); its process is called simulated.
    """
    events: list[dict[str, object]] = [
        {"ph": "M", "name": "process_name", "pid": 0, "args": {"name": f"simulated: {device}"}}
    ]
    begin_us = 0.0
    for name, spent_us in kernels:
        events.append({"ph": "X", "name": name, "pid": 0, "tid": 0, "ts": begin_us, "dur": spent_us})
        begin_us += spent_us
    path.parent.mkdir(exist_ok=True)
    with gzip.open(path, "wt", encoding="utf-8") as file:
        json.dump({"traceEvents": events, "measured": False}, file)
