"""Text streams for what may be lost: who writes to them is neither stopped nor held up.

Progress, and what a library prints, is worth less than a measurement. Standard error may be closed (`2>&1 |
head`), on a full disk, or held (Ctrl-S, a pager that shows its first page).
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TextIO

# What a held terminal keeps in memory at most, in writes; a line or a drawing of the bar is one or two.
_MOST_WAITING = 10_000


class TolerantStream(io.TextIOBase):
    """Discards what the stream below can't take."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the stream below."""
        return self._stream.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        """How the stream below treats characters that its encoding lacks."""
        return self._stream.errors

    def fileno(self) -> int:
        """Return the descriptor of the stream below."""
        return self._stream.fileno()

    def isatty(self) -> bool:
        """Whether the stream below is a terminal."""
        return self._stream.isatty()

    def writable(self) -> bool:
        """Whether it can be written to: always, since what can't be written is discarded."""
        return True

    def write(self, text: str) -> int:
        """Write text, or discard it."""
        with suppress(OSError, ValueError):  # ValueError: the stream was closed
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, or keep it."""
        with suppress(OSError, ValueError):
            self._stream.flush()


class BackgroundStream(TolerantStream):
    """Writes in a thread, so that nobody waits for a stream that is held; discards what it can't take."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        super().__init__(stream)
        self._waiting: SimpleQueue[Callable[[], object]] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def write(self, text: str) -> int:
        """Have text written, or discard it where too much waits."""
        if self._waiting.qsize() < _MOST_WAITING:
            self._waiting.put(lambda: self._write_now(text))
        return len(text)

    def flush(self) -> None:
        """Do nothing: each text is written as soon as the stream takes it."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until all is written, for `timeout_s` seconds at most; tell whether it is."""
        done = threading.Event()
        self._waiting.put(done.set)
        return done.wait(timeout_s)

    def _work(self) -> None:
        while True:
            self._waiting.get()()

    def _write_now(self, text: str) -> None:
        try:
            descriptor = self._stream.fileno()
        except (OSError, ValueError):  # a stream in memory
            super().write(text)
            super().flush()
            return
        # Not by `stream.write`: a thread that waits in there holds a lock that Python needs to end.
        left = text.encode(self.encoding, "replace")
        with suppress(OSError):
            while left:
                left = left[os.write(descriptor, left) :]
