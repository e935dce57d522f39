"""Ratings of parts: what a device is sold as, and what a CPU core can do a cycle.

`lookup` finds a part by its id, a driver's name, or evidence. Nothing is imported before it is used, so that
a command that needs no rating pays for none.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.specs.recognition import Evidence as Evidence
    from nameplate.specs.recognition import lookup as lookup

__all__ = ["Evidence", "lookup"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("nameplate.specs.recognition"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
