"""Which figure of a case is compared: throughput, or throughput in the conditions that were held."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from nameplate.base.messages import Message, message
from nameplate.compare.looks import HELD_CLOCK, Basis, Look
from nameplate.compare.terms import Terms


@dataclass(frozen=True)
class Choice:
    """The basis, and why it isn't the one a reader would expect."""

    basis: Basis
    why: Message | None = None


def choose(base: Sequence[Look], new: Sequence[Look], terms: Terms) -> Choice:
    """The basis of one case that both sides have figures of.

    A CPU's is normalized where both were measured beside the same probe: others move a shared core by more
    than what is looked for. A GPU's is normalized where the clocks it held differ. Between two parts it is
    efficiency.
    """
    if terms.by != "auto":
        return Choice(terms.by)
    if {look.part for look in base} != {look.part for look in new}:
        return Choice("efficiency")
    yardsticks = {look.yardstick for look in (*base, *new) if "normalized" in look.figures}
    if not (_have(base, "normalized") and _have(new, "normalized")):
        return Choice("achieved")
    if len(yardsticks) > 1:
        return Choice("achieved", message("probe_differs"))
    return _by_clock(base, new, terms.threshold) if yardsticks == {HELD_CLOCK} else Choice("normalized")


def _have(looks: Sequence[Look], basis: Basis) -> bool:
    return any(basis in look.figures for look in looks)


def _by_clock(base: Sequence[Look], new: Sequence[Look], threshold: float) -> Choice:
    """Normalized where the difference of clocks alone is half of what matters."""
    held = [fmean(look.clock_mhz for look in looks if look.clock_mhz) for looks in (base, new)]
    if abs(math.log(held[1] / held[0])) <= threshold / 2:
        return Choice("achieved")
    return Choice("normalized", message("clocks_differ", base_mhz=held[0], new_mhz=held[1]))
