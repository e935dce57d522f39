"""Fleets: parts × count, what they deliver of their nominal EFLOPS, and what that costs.

`catalogue` gives the fleets and prices, `cost` what each fleet delivers and costs, `frame` a DataFrame of
either. Nothing is imported before it is used; torch never is.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.fleet.fleets import Catalogue as Catalogue
    from nameplate.fleet.fleets import Fleet as Fleet
    from nameplate.fleet.fleets import Price as Price
    from nameplate.fleet.fleets import catalogue as catalogue
    from nameplate.fleet.pricing import Cost as Cost
    from nameplate.fleet.pricing import cost as cost
    from nameplate.fleet.pricing import frame as frame

__all__ = ["Catalogue", "Cost", "Fleet", "Price", "catalogue", "cost", "frame"]

_HOMES = {"Catalogue": "fleets", "Fleet": "fleets", "Price": "fleets", "catalogue": "fleets"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'pricing')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
