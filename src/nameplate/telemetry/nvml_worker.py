"""The process that asks NVML, so that a call that never returns costs nobody else anything.

`sampling.py` says how it runs and ends. A request is `{"ask": "open"}` with the `"uuid"` or the `"index"` of
a GPU, or of one that is open `{"ask": …, "uuid": …}`: `facts`, what it is; `reading`, all it shows now;
`sample`, with `"period_s"`, to take light readings of it from now on; `hasten`, with `"seconds"` too, to take
them faster for so long; `drain`, the oldest of those that weren't handed over yet. Figures have the names and
units of `GpuFacts` and `GpuReading`; those of `drain` come in columns: twenty minutes are 12,000 rows.

Only the standard library and nvidia-ml-py are imported, and modules that import no more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.telemetry.nvml_gpus import Nvml
from nameplate.telemetry.nvml_library import Answer, Library, plain_uuid
from nameplate.telemetry.nvml_sources import MOVING
from nameplate.telemetry.sampling import Absent, Clock, PeriodicSampler, Row, serve

# How many sets of reasons rows share: far more than a driver has, unless it puts a number in every text.
_MOST_KINDS = 100


class _SampledGpu:
    """Light readings of one GPU, as rows: the figures of `MOVING`, then their reasons."""

    def __init__(
        self, uuid: str, read: Callable[[], Answer], period_s: float, clock: Clock = time.perf_counter
    ) -> None:
        self._uuid, self._read, self._clock = uuid, read, clock
        self._known: dict[frozenset[tuple[str, str]], dict[str, Reason]] = {}
        self.sampler = PeriodicSampler(self._row, period_s, clock=clock)

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
        at_s = self._clock()
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

    def __init__(self, nvml: Nvml, clock: Clock = time.perf_counter) -> None:
        """Sample nothing yet; `clock` returns the seconds by which samples are due."""
        self._nvml, self._clock = nvml, clock
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
                gpu.uuid, lambda: self._nvml.light_reading(gpu), period_s, self._clock
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


def start_service(pynvml: Any, clock: Clock = time.perf_counter) -> NvmlService:
    """Start NVML through that module; raises Absent with the reason where it doesn't start."""
    library = Library(pynvml)
    library.call("nvmlInit")
    return NvmlService(Nvml(library, clock), clock)


def start() -> NvmlService:
    """Load and start NVML; raises Absent with the reason where that can't be."""
    try:
        import pynvml
    except ImportError as error:
        raise Absent(message("nvml_not_installed", why=str(error))) from error
    return start_service(pynvml)


if __name__ == "__main__":
    serve(start)
