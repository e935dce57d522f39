"""Python's garbage collector, switched off for as long as it would only get in the way."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def garbage_collection_off() -> Iterator[None]:
    """Switch the collector off inside.

    For timing, where no sample may pay for the garbage of another; and for making millions of objects that
    are no garbage, where looking through them again and again takes half of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
