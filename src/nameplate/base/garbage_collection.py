"""Switching Python's garbage collector off for a while."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Switch the collector off inside the block.

    Use it for timing, so that no sample pays for collecting the garbage of another, and for making millions
    of objects that stay alive, where repeated collections take half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
