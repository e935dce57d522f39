"""Fleets: what they deliver of their nominal EFLOPS, what power they draw, and what that costs.

`catalogue` reads the fleets, prices and assumptions. `cost` computes what each fleet delivers, draws and
costs, and `validate` compares the chain with published figures. `need` computes what delivered EFLOPS take of
a part, `meet` of several, `afford` what a budget buys, `fill_site` what a site's power holds, `train` what a
training run takes. `frame` makes a
DataFrame of these, and `from_frame` makes fleets of one. A function's module is imported when it is first
used; torch never is, and pandas only for a frame.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.fleet.catalogues import Catalogue as Catalogue
    from nameplate.fleet.catalogues import Fleet as Fleet
    from nameplate.fleet.catalogues import Price as Price
    from nameplate.fleet.catalogues import catalogue as catalogue
    from nameplate.fleet.plan import afford as afford
    from nameplate.fleet.plan import meet as meet
    from nameplate.fleet.plan import need as need
    from nameplate.fleet.price import Cost as Cost
    from nameplate.fleet.price import cost as cost
    from nameplate.fleet.rows import frame as frame
    from nameplate.fleet.rows import from_frame as from_frame
    from nameplate.fleet.site import fill_site as fill_site
    from nameplate.fleet.training import train as train
    from nameplate.fleet.validation import validate as validate

_HOMES = {
    "Catalogue": "catalogues",
    "Cost": "price",
    "Fleet": "catalogues",
    "Price": "catalogues",
    "afford": "plan",
    "catalogue": "catalogues",
    "cost": "price",
    "fill_site": "site",
    "frame": "rows",
    "from_frame": "rows",
    "meet": "plan",
    "need": "plan",
    "train": "training",
    "validate": "validation",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
