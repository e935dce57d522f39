"""What can be wrong with a simulated card, as data: entries `[[fault]]` of a twin's file.

    [[fault]]
    kind = "cooler"        # what
    from_s = 20            # since when, in seconds of the virtual clock
    gpu = 2                # which of a node's GPUs; left out: every one
    factor = 3

A fault changes what the card does (`cooler`, `power_brake`, `slow`), what CUDA answers (`lost`, `poisoned`,
`endless`, `corrupts`), or what its driver says (`lost`, `poisoned`, `corrupts`, `silent`, `nonsense`). The
engine is told of none: it sees such a card as it would see a real one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel

# Numbers of NVIDIA's Xid catalogue.
_XID_LOST, _XID_PAGE_FAULT, _XID_UNCONTAINED = 79, 31, 95


class _Fault(FrozenModel):
    from_s: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    gpu: Annotated[int, Field(ge=0, le=63)] | None = None


class Cooler(_Fault):
    """A fan or a pump fails: each watt heats the card `factor` times as much."""

    kind: Literal["cooler"]
    factor: Annotated[float, Field(gt=1, le=100)]


class PowerBrake(_Fault):
    """The server's power supply asks for less: the clock is `clock` of the highest at most."""

    kind: Literal["power_brake"]
    clock: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Slow(_Fault):
    """Every kernel takes 1 ÷ `speed` of its time, and the driver says nothing."""

    kind: Literal["slow"]
    speed: Annotated[float, Field(gt=0, lt=1)]


class Lost(_Fault):
    """The card falls off the bus (Xid 79): CUDA's calls fail, and the driver has no figure any more."""

    kind: Literal["lost"]


class Poisoned(_Fault):
    """A kernel reads memory that isn't mapped (Xid 31): every later call of this process fails."""

    kind: Literal["poisoned"]


class Endless(_Fault):
    """A kernel never ends, and whoever waits for it waits for ever."""

    kind: Literal["endless"]


class Corrupts(_Fault):
    """Results have other bits. With `counted` errors the driver counts them (Xid 95)."""

    kind: Literal["corrupts"]
    counted: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class Silent(_Fault):
    """The driver's calls never return."""

    kind: Literal["silent"]


class Nonsense(_Fault):
    """The driver answers a figure with this number, as a success."""

    kind: Literal["nonsense"]
    figure: Literal["sm_clock", "memory_clock", "temperature", "power", "energy", "utilization", "held"]
    value: Annotated[int, Field(ge=0, lt=2**64)]


Fault = Annotated[
    Cooler | PowerBrake | Slow | Lost | Poisoned | Endless | Corrupts | Silent | Nonsense,
    Field(discriminator="kind"),
]


@dataclass(frozen=True)
class Faults:
    """The faults of one GPU, asked by the moment."""

    all: Sequence[Fault] = ()

    @classmethod
    def of_gpu(cls, faults: Iterable[Fault], gpu: int) -> Faults:
        """Return those of one GPU of a node."""
        return cls(tuple(each for each in faults if each.gpu in (None, gpu)))

    def since(self, *kinds: type[_Fault]) -> float:
        """Return since when a fault of these kinds is there; inf: never."""
        return min((each.from_s for each in self.all if isinstance(each, kinds)), default=math.inf)

    def heating(self, at_s: float) -> float:
        """Return how many times as much each watt heats the card."""
        return max((each.factor for each in self.active(at_s) if isinstance(each, Cooler)), default=1.0)

    def brake(self, at_s: float) -> float | None:
        """Return what share of the highest clock a power brake leaves; None without one."""
        return min((each.clock for each in self.active(at_s) if isinstance(each, PowerBrake)), default=None)

    def speed(self, at_s: float) -> float:
        """Return the speed of a kernel beside a healthy card's."""
        return min((each.speed for each in self.active(at_s) if isinstance(each, Slow)), default=1.0)

    def xids(self) -> Iterator[tuple[float, int]]:
        """Yield each Xid error that the driver reports: when, and which."""
        for fault in self.all:
            match fault:
                case Lost():
                    yield fault.from_s, _XID_LOST
                case Poisoned():
                    yield fault.from_s, _XID_PAGE_FAULT
                case Corrupts(counted=counted) if counted:
                    yield fault.from_s, _XID_UNCONTAINED

    def memory_errors(self, at_s: float) -> int:
        """Return how many uncorrected memory errors the driver has counted."""
        return sum(each.counted for each in self.active(at_s) if isinstance(each, Corrupts))

    def nonsense(self, at_s: float) -> Mapping[str, int]:
        """Return the figures that the driver answers with nonsense now, and with which."""
        return {each.figure: each.value for each in self.active(at_s) if isinstance(each, Nonsense)}

    def changes(self) -> list[float]:
        """Return the moments at which what the card does changes."""
        return sorted({each.from_s for each in self.all})

    def active(self, at_s: float) -> Iterator[Fault]:
        """Yield the faults that are there at that moment."""
        return (each for each in self.all if each.from_s <= at_s)
