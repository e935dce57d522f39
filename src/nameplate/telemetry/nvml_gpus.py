"""The GPUs of a started NVML: what each is, and what it shows now.

Like `nvml_worker.py`, which uses it, it imports only what the NVML process needs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from nameplate.telemetry.nvml_faults import LINK_ERRORS, LinkErrors, XidLog
from nameplate.telemetry.nvml_handles import Gpu, Handles
from nameplate.telemetry.nvml_library import Answer, Library
from nameplate.telemetry.nvml_sources import (
    ALL_FIELDS,
    ENERGY,
    ENERGY_FIELD,
    ERRORS,
    FACTS,
    LIGHT,
    LIGHT_FIELDS,
    MODULE_ENERGY,
    NO_POWER,
    OWN_FACTS,
    OWN_USE,
    PCI,
    PCI_NAMES,
    POWER,
    POWER_INSTANT,
    SYSTEM_MEMORY,
    UTILIZATION,
    UTILIZATION_NAMES,
    Source,
    Sources,
    read_cuda_driver,
    read_driver,
    slowdown_sources,
)
from nameplate.telemetry.plausible import BOUNDING_FACTS, card_bounds, require_plausible
from nameplate.telemetry.sampling import Absent, Clock


class Nvml:
    """A started NVML and its GPUs."""

    def __init__(self, library: Library, clock: Clock = time.perf_counter) -> None:
        """Read what is the same for every GPU; raises Absent where NVML can't even count them.

        `clock` returns the seconds at which readings are taken.
        """
        self._library, self._clock = library, clock
        self._handles = Handles(library)
        self._bounds: dict[str, dict[str, float]] = {}  # by the UUID of a card
        self._superchips: dict[str, bool] = {}  # likewise
        self._xids: dict[str, XidLog] = {}
        self._link_errors: dict[str, LinkErrors] = {}
        self.system = Answer()
        self.system.put("driver", lambda: read_driver(library))
        self.system.put("cuda_driver", lambda: read_cuda_driver(library))
        self.count = self._handles.count
        self._slowdown_ids, self._slowdowns = slowdown_sources(self.system.values["driver"])

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
        seen, fields = self._read(gpu, ALL_FIELDS)
        self._fill(seen, ERRORS, gpu.card, fields)
        self._fill(seen, OWN_USE, gpu.handle)
        if self._is_superchip(gpu):
            self._fill(seen, SYSTEM_MEMORY, gpu.card)
        seen.put("xid_errors", self._watch_xids(gpu).read)
        links = self._link_errors_of(gpu)
        for name in LINK_ERRORS:
            seen.put(name, partial(links.read, name))
        return seen.as_json()

    def light_reading(self, gpu: Gpu) -> Answer:
        """Return the figures of `MOVING`, and its UUID, as it shows them now."""
        self._watch_xids(gpu).collect()
        return self._read(gpu, LIGHT_FIELDS)[0]

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

    def _is_superchip(self, gpu: Gpu) -> bool:
        """Whether its memory is a NUMA node of its host, as on a module of a CPU and a GPU."""
        card = gpu.parent_uuid or gpu.uuid
        if card not in self._superchips:
            try:
                self._superchips[card] = self._library.call("nvmlDeviceGetNumaNodeId", gpu.card) >= 0
            except Absent:  # no such platform, or a driver that can't tell
                self._superchips[card] = False
        return self._superchips[card]

    def _facts_of(self, gpu: Gpu) -> Answer:
        self._watch_xids(gpu)
        seen = Answer({"index": gpu.index, "uuid": gpu.uuid, "parent_uuid": gpu.parent_uuid})
        seen.values.update(self.system.values)
        seen.absent.update(self.system.absent)
        self._fill(seen, OWN_FACTS, gpu.handle)
        seen.put_all(PCI_NAMES, lambda: PCI(self._library, gpu.card, {}))
        self._fill(seen, FACTS, gpu.card)
        return seen

    def _read(self, gpu: Gpu, ids: Sequence[int]) -> tuple[Answer, Mapping[int, Any]]:
        """Return the figures of `MOVING`, and the fields that were read with them."""
        bounds = self._bounds_of(gpu)
        seen = Answer({"uuid": gpu.uuid, "at_s": self._clock()})
        # Energy is read right after its time: a mean power is computed from two such pairs.
        self._fill(seen, MODULE_ENERGY if self._is_superchip(gpu) else ENERGY, gpu.handle)
        fields = self._library.read_fields(gpu.card, (*ids, *self._slowdown_ids))
        if gpu.parent_uuid is not None:
            self._fill(seen, NO_POWER, gpu.card)
        else:
            if seen.values["energy_j"] is None and not self._is_superchip(gpu):
                self._fill(seen, ENERGY_FIELD, gpu.card, fields)
            self._fill(seen, POWER, gpu.card, fields, bounds)
        is_instant = not isinstance(fields.get(POWER_INSTANT, Absent("")), Absent)
        source = "instant" if is_instant else "usage"
        seen.values["power_source"] = None if seen.values["power_w"] is None else source
        self._fill(seen, {**LIGHT, **self._slowdowns}, gpu.card, fields, bounds)
        seen.put_all(UTILIZATION_NAMES, lambda: UTILIZATION(self._library, gpu.handle, {}))
        return seen, fields

    def _bounds_of(self, gpu: Gpu) -> dict[str, float]:
        """Return the most that readings of this GPU can be, by its card's clocks and power limits."""
        card = gpu.parent_uuid or gpu.uuid
        if card not in self._bounds:
            facts = Answer()
            self._fill(facts, {name: FACTS[name] for name in BOUNDING_FACTS}, gpu.card)
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
