"""Nameplate measures what a device delivers of its rating, and carries the difference to a fleet's price.

What the command line does is a function here first: `measure` runs a suite, `find_run` finds the folder of a
run (`latest`), `load` reads runs as a DataFrame, `compare.compare` holds two against each other,
`export.export` and `export.merge` hand them on, `specs.lookup` finds a part, `fleet.cost` prices a fleet,
`mfu` and `Meter` give the MFU of a training loop.
Importing this module is cheap; torch and pandas are loaded by the functions that need them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nameplate.base.notebook import show_in_notebooks_by

if TYPE_CHECKING:
    from nameplate import compare as compare
    from nameplate import export as export
    from nameplate import fleet as fleet
    from nameplate import specs as specs
    from nameplate.meter import Meter as Meter
    from nameplate.meter import Mfu as Mfu
    from nameplate.meter import mfu as mfu
    from nameplate.run.measure import measure as measure
    from nameplate.store.find import find_run as find_run
    from nameplate.store.load import load as load

__version__ = "0.1.0"
__all__ = [
    "Meter",
    "Mfu",
    "__version__",
    "compare",
    "export",
    "find_run",
    "fleet",
    "load",
    "measure",
    "mfu",
    "specs",
]

_HOMES = {
    "Meter": "nameplate.meter",
    "Mfu": "nameplate.meter",
    "mfu": "nameplate.meter",
    "find_run": "nameplate.store.find",
    "load": "nameplate.store.load",
    "measure": "nameplate.run.measure",
}
_PACKAGES = ("compare", "export", "fleet", "specs")


def _html_of(shown: Any) -> str:
    html: str = import_module("nameplate.report.notebook").html_of(shown)
    return html


def _summary_of(shown: Any) -> str:
    text: str = import_module("nameplate.report.notebook").summary_of(shown)
    return text


show_in_notebooks_by(_html_of, _summary_of)


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return import_module(f"nameplate.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
