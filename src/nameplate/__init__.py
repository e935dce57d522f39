"""Nameplate measures what a device delivers of its rating, and carries the difference to a fleet's price.

What the command line does is a function here first: `measure` runs a suite, `load` reads runs as a
DataFrame. Importing this module is cheap; torch and pandas are loaded by the functions that need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.run import measure as measure
    from nameplate.store.load import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load", "measure"]

_HOMES = {"load": "nameplate.store.load", "measure": "nameplate.run"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
