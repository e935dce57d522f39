"""A note in memory that a process shares with its parent: written often, read only when it is needed.

A message through a pipe wakes the parent, and that takes CPU time from a CPU that is being measured. A note
costs its writer some microseconds and wakes nobody.

    note = SharedNote()                                      # parent
    Child(command(note.descriptor), keep=[note.descriptor])
    SharedNote(int(descriptor)).write({"at": "step 3"})      # child
    note.read()                                              # {"at": "step 3"}, also after the child's death
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

_SIZE_BYTES = 4096
_HEADER = struct.Struct("=II")  # a count that is odd while the note is being written, and the text's length
# A write takes microseconds, and longer where the writer's CPU is taken from it in the middle.
_ATTEMPTS, _PAUSE_S = 20, 1e-3


class SharedNote:
    """One JSON object in shared memory, of one writer."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Open the note of this file descriptor, or make a new one. Raises OSError, and ValueError."""
        if descriptor is None:
            descriptor = _make_memory()
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE_BYTES)
        self._writes = 0

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the note's content; one that doesn't fit (4 KiB) leaves an empty object."""
        text = json.dumps(content).encode()
        if len(text) > _SIZE_BYTES - _HEADER.size:
            text = b"{}"
        _HEADER.pack_into(self._memory, 0, self._writes + 1, 0)
        self._memory[_HEADER.size : _HEADER.size + len(text)] = text
        self._writes += 2
        _HEADER.pack_into(self._memory, 0, self._writes, len(text))

    def read(self) -> dict[str, Any] | None:
        """Return the content; None where nothing was written yet, or only a part.

        A write in progress is waited for, some milliseconds.
        """
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE_S)
            writes, length = _HEADER.unpack_from(self._memory, 0)
            if writes == 0:
                return None
            text = self._memory[_HEADER.size : _HEADER.size + length]
            if length and writes % 2 == 0 and _HEADER.unpack_from(self._memory, 0) == (writes, length):
                with suppress(ValueError):
                    found = json.loads(text)
                    return found if isinstance(found, dict) else None
        return None

    def close(self) -> None:
        """Release the memory and the descriptor."""
        self._memory.close()
        with suppress(OSError):
            os.close(self.descriptor)


def _make_memory() -> int:
    """Return the descriptor of a note's memory; raises OSError."""
    # No file of a disk where Linux can do without: that may be full, and a write to it may have to wait.
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("nameplate-note")
        os.ftruncate(descriptor, _SIZE_BYTES)
        return descriptor
    with tempfile.TemporaryFile() as file:
        file.truncate(_SIZE_BYTES)
        return os.dup(file.fileno())
