"""GPUs drawn at random, each with a truth in closed form: what it delivers before its limit and at it.

The card runs step by step (`twin/simulation.py`); its truth doesn't come from there. At the power limit the
clock f is where power and heat agree:

    limit = active_w·(1 + leakage·(T − reference)) + memory's part + arithmetic's part·(f ÷ f_max)^exponent
    T     = ambient + c_per_w·limit

and a product takes its least time + its arithmetic at the highest clock × f_max ÷ f. About f the clock
swings, in its steps of some 15 MHz: what is sustained is the mean over one period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import brentq

from nameplate.twin.card import ASSUMED, Card, Figure, read_card
from nameplate.twin.kernels import KernelModel, Kernels

DTYPE = "bf16"
_LIKE = "h200"  # what isn't drawn is this card's
_STEP_MHZ = 15
# The product's edge is chosen so that a launch takes about so long, as suites do for slower cards.
_LAUNCH_S = 1.5e-3
_SMALLEST_EDGE = 1024
_PHASES = 720  # of a period of the swing, at which the clock is looked at
COPIED_BYTES = 2 * (4 << 30)  # read and written by a copy of 4 GiB


@dataclass(frozen=True)
class CardWork:
    """A product of `edge` cubed and a copy, as a card's kernels."""

    edge: int
    product: Kernels
    copy: Kernels

    @property
    def flops(self) -> int:
        """FLOPs of the product."""
        return 2 * self.edge**3


@dataclass(frozen=True)
class Truth:
    """What a card delivers. Throughput in TFLOPS, bandwidth in GB/s."""

    burst_tflops: float
    sustained_tflops: float
    held_mhz: float
    ceiling_tflops: float
    bandwidth_gb_s: float


def draw_card(
    generator: np.random.Generator,
    wanted: tuple[float, float],
    time_constant_s: tuple[float, float] = (3.0, 8.0),
    largest_swing: float = 0.02,
) -> Card:
    """Draw a card with as many multiprocessors, as high a clock and as much power as cards have.

    At the highest clock the product's arithmetic wants a share between these two of what the power limit
    leaves it: above 1 the limit holds the clock down, 0.1 to 0.4 s after the product begins. The card warms
    up with a time constant between those two, and its clock swings at the limit by up to so large a share of
    the highest.
    """

    def between(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    like = read_card(_LIKE)
    maximum_mhz = _STEP_MHZ * round(between(1200, 2700) / _STEP_MHZ)
    limit_w = between(200, 1200)
    active_w = limit_w * between(0.15, 0.3)
    tables: dict[str, dict[str, float]] = {
        "identity": {"multiprocessors": round(between(40, 170))},
        "clock": {
            "idle_mhz": _STEP_MHZ * round(between(200, 600) / _STEP_MHZ),
            "maximum_mhz": maximum_mhz,
            "ramp_s": between(0.005, 0.05),
        },
        "power": {
            "limit_w": limit_w,
            "default_limit_w": limit_w,
            "idle_w": limit_w * between(0.08, 0.14),
            "active_w": active_w,
            "exponent": between(1.2, 3.0),
            "window_s": between(0.1, 0.3),
            "swing_mhz": between(_STEP_MHZ, largest_swing * maximum_mhz),
            "swing_s": between(2.0, 4.0),
        },
        "heat": {
            "ambient_c": between(22, 38),
            "c_per_w": between(25, 40) / limit_w,
            "time_constant_s": between(*time_constant_s),
        },
        "memory": {"gb_s": between(700, 8000), "power_w": limit_w * between(0.15, 0.3)},
        "launch": {"kernel_s": between(1e-6, 4e-6)},
    }
    product = {
        "flop_per_clock": 2 ** int(generator.integers(10, 14)),
        "efficiency": between(0.6, 0.92),
        "power_w": between(*wanted) * (limit_w - active_w),
    }
    changed: dict[str, Any] = {name: _changed(getattr(like, name), table) for name, table in tables.items()}
    changed["compute"] = {**like.compute, DTYPE: _changed(like.compute_of(DTYPE), product)}
    return like.model_copy(update={**changed, "name": "drawn"})


def _changed(table: Any, figures: dict[str, float]) -> Any:
    made = {
        name: Figure(value=value, source=ASSUMED, note="drawn at random") for name, value in figures.items()
    }
    return table.model_copy(update=made)


def make_work(card: Card) -> CardWork:
    """Return the product and the copy that a card is measured by."""
    model = KernelModel(card)
    rate = card.peak_flops(DTYPE) * card.compute_of(DTYPE).efficiency.value
    edge = max(_SMALLEST_EDGE, 256 * round((rate * _LAUNCH_S / 2) ** (1 / 3) / 256))
    product = model.product(edge, edge, edge, DTYPE, 2)
    return CardWork(
        edge, model.sequence([product]), model.sequence([model.elementwise("copy", COPIED_BYTES)])
    )


def rated_clock_mhz(card: Card) -> float:
    """Return the clock that the datasheet counts by: below the highest, since cards boost above it."""
    return 0.93 * card.clock.maximum_mhz.value


def find_truth(card: Card, work: CardWork) -> Truth:
    """Return the truth of a card for its product and its copy."""
    highest_mhz = card.clock.maximum_mhz.value
    held_mhz = min(_held_mhz(card, work.product), highest_mhz)

    clocks = _list_clocks(card, held_mhz) if held_mhz < highest_mhz else [highest_mhz]

    def tflops(mhz: float) -> float:
        return work.flops / work.product.at(mhz).seconds / 1e12

    return Truth(
        burst_tflops=tflops(highest_mhz),
        sustained_tflops=sum(map(tflops, clocks)) / len(clocks),
        held_mhz=held_mhz,
        ceiling_tflops=card.peak_flops(DTYPE, held_mhz) / 1e12,
        bandwidth_gb_s=COPIED_BYTES / work.copy.at(highest_mhz).seconds / 1e9,
    )


def _list_clocks(card: Card, held_mhz: float) -> list[float]:
    """Return the clocks of one period of the swing about what the limit leaves, at equal distances."""
    highest_mhz, step_mhz = card.clock.maximum_mhz.value, card.clock.step_mhz.value
    turns = (math.sin(2 * math.pi * (phase + 0.5) / _PHASES) for phase in range(_PHASES))
    wanted = (min(held_mhz + card.power.swing_mhz.value * turn, highest_mhz) for turn in turns)
    return [highest_mhz - step_mhz * round((highest_mhz - mhz) / step_mhz) for mhz in wanted]


def _held_mhz(card: Card, product: Kernels) -> float:
    """Return the clock at which the settled product draws what the limit allows; inf where it draws less."""
    power, heat, highest_mhz = card.power, card.heat, card.clock.maximum_mhz.value
    settled_c = heat.ambient_c.value + heat.c_per_w.value * power.limit_w.value
    leaked = 1 + heat.leakage_per_c.value * (settled_c - heat.reference_c.value)

    def excess_w(mhz: float) -> float:
        cost = product.at(mhz)
        drawn_w = power.active_w.value * leaked + (cost.compute_j + cost.memory_j) / cost.seconds
        return drawn_w - power.limit_w.value

    if excess_w(highest_mhz) <= 0:
        return math.inf
    return float(brentq(excess_w, card.clock.idle_mhz.value, highest_mhz))
