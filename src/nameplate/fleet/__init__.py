"""Fleets: parts × count, what they deliver of their nominal EFLOPS, what they draw, and what that costs.

`catalogue` gives the fleets, prices and assumptions, `cost` what each fleet delivers, draws and costs, and
`validate` the chain beside published figures. The way back: `need` gives what delivered EFLOPS take of a part
and `meet` of several, `afford` what money buys, `train` what a training run takes. `frame` makes a DataFrame
of these, `from_frame` fleets of a DataFrame. Nothing is imported before it is used; torch never is, and
pandas only for a frame.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.fleet.budget import afford as afford
    from nameplate.fleet.costs import Cost as Cost
    from nameplate.fleet.entries import Fleet as Fleet
    from nameplate.fleet.entries import Price as Price
    from nameplate.fleet.fleets import Catalogue as Catalogue
    from nameplate.fleet.fleets import catalogue as catalogue
    from nameplate.fleet.frames import frame as frame
    from nameplate.fleet.frames import from_frame as from_frame
    from nameplate.fleet.needs import meet as meet
    from nameplate.fleet.needs import need as need
    from nameplate.fleet.plan import train as train
    from nameplate.fleet.pricing import cost as cost
    from nameplate.fleet.validation import validate as validate

_HOMES = {
    "Catalogue": "fleets",
    "Cost": "costs",
    "Fleet": "entries",
    "Price": "entries",
    "afford": "budget",
    "catalogue": "fleets",
    "cost": "pricing",
    "frame": "frames",
    "from_frame": "frames",
    "meet": "needs",
    "need": "needs",
    "train": "plan",
    "validate": "validation",
}
__all__ = [
    "Catalogue",
    "Cost",
    "Fleet",
    "Price",
    "afford",
    "catalogue",
    "cost",
    "frame",
    "from_frame",
    "meet",
    "need",
    "train",
    "validate",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
