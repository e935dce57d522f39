"""How far runs usually differ on a kind of machine, for one whose own earlier runs are too few to tell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated

from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.device.identity import CpuIdentity
from nameplate.device.protocol import DeviceDescription
from nameplate.stats.between import Scatter

_FILE = "between_runs.toml"
_Text = Annotated[str, Field(min_length=1)]


class UsualSpread(FrozenModel):
    """The standard deviation between runs of a workload's figure, as a fraction, and where it comes from."""

    kind: _Text  # of device
    is_guest: bool  # whether the machine is a virtual one
    workload: _Text
    figure: _Text
    deviation: Annotated[float, Field(gt=0, lt=1)]
    freedom: Annotated[float, Field(gt=0)]
    source: _Text
    date: Annotated[str, Field(pattern=r"^20\d\d-[01]\d-[0-3]\d$")]


class _File(FrozenModel):
    usual: tuple[UsualSpread, ...]


@cache
def load_usual_spreads() -> tuple[UsualSpread, ...]:
    """Return the shipped figures."""
    return parse_toml(_File, read_packaged("nameplate.engine", _FILE), _FILE).usual


def find_usual_spreads(device: DeviceDescription) -> Mapping[tuple[str, str], Scatter]:
    """Return what is known of machines like the device's, by workload and figure; empty where nothing is."""
    identity = device.identity
    is_guest = isinstance(identity, CpuIdentity) and bool(identity.virtual_machine)
    return {
        (each.workload, each.figure): Scatter(each.deviation**2, each.freedom)
        for each in load_usual_spreads()
        if (each.kind, each.is_guest) == (identity.kind, is_guest) and device.measured
    }
