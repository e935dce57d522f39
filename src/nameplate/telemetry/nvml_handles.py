"""The handles of GPUs and MIG slices. Opening one is where its card is initialised, which may hang or crash.

Like `nvml_worker.py`, which uses it, it imports only what the NVML process needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from nameplate.base.messages import Message, Reason, message
from nameplate.telemetry.nvml_library import Library, plain_uuid
from nameplate.telemetry.sampling import Absent

# NVML's errors for a UUID that isn't here, or can't be looked up: the GPU may still be found by index.
_NOT_FOUND = ("NVML_ERROR_NOT_FOUND", "NVML_ERROR_INVALID_ARGUMENT", "NVML_ERROR_NOT_SUPPORTED")


def is_not_found(reason: Reason) -> bool:
    """Whether NVML doesn't find a GPU by its UUID, or has no function for that."""
    return isinstance(reason, Message) or reason.startswith(_NOT_FOUND)


@dataclass(frozen=True)
class Gpu:
    """A card, or a MIG slice of one (then `handle` and `card` are two)."""

    index: int
    handle: Any
    card: Any
    uuid: str
    parent_uuid: str | None = None


class Handles:
    """The GPUs that are open, by UUID in any spelling. Every call raises Absent with NVML's reason."""

    def __init__(self, library: Library) -> None:
        """Open none yet; raises Absent where NVML can't even count the cards."""
        self._library = library
        self._open: dict[str, Gpu] = {}
        self.count: int = library.call("nvmlDeviceGetCount")

    def get(self, uuid: str) -> Gpu:
        """Return an open GPU; raises Absent for one that isn't."""
        found = self._open.get(plain_uuid(uuid))
        if found is None:
            raise Absent(message("no_such_gpu", uuid=uuid, count=self.count))
        return found

    def open_index(self, index: int) -> list[Gpu]:
        """Open a card and its MIG slices; NVML initialises no other card for it (nvml.h)."""
        handle = self._library.call("nvmlDeviceGetHandleByIndex", index)
        card = Gpu(index, handle, handle, self._read_uuid(handle))
        found = [card, *self._slices(card)]
        self._open.update({plain_uuid(gpu.uuid): gpu for gpu in found})
        return found

    def open_uuid(self, uuid: str) -> Gpu:
        """Open one GPU or slice by its UUID alone; raises Absent where NVML doesn't find it so."""
        plain = plain_uuid(uuid)
        if plain not in self._open:
            try:  # torch says GPU- also of what NVML calls MIG-
                handle = card = self._library.call("nvmlDeviceGetHandleByUUID", f"GPU-{plain}")
            except Absent as error:
                if not is_not_found(error.reason):
                    raise
                handle = self._library.call("nvmlDeviceGetHandleByUUID", f"MIG-{plain}")
                card = self._library.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)
            parent = None if card is handle else self._read_uuid(card)
            index = self._library.call("nvmlDeviceGetIndex", card)
            self._open[plain] = Gpu(index, handle, card, self._read_uuid(handle), parent)
        return self._open[plain]

    def _slices(self, card: Gpu) -> Iterator[Gpu]:
        call = self._library.call
        try:
            if not call("nvmlDeviceGetMigMode", card.handle)[0]:
                return
            most = call("nvmlDeviceGetMaxMigDeviceCount", card.handle)
        except Absent:
            return
        for number in range(most):
            with suppress(Absent):  # no slice has been made in this place
                handle = call("nvmlDeviceGetMigDeviceHandleByIndex", card.handle, number)
                yield Gpu(card.index, handle, card.handle, self._read_uuid(handle), card.uuid)

    def _read_uuid(self, handle: Any) -> str:
        found = self._library.call("nvmlDeviceGetUUID", handle)
        return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)
