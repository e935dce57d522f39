"""What a measured scaling from 1 to n devices says of N: up to n as measured, beyond by a model.

The time that the exchange of gradients adds, as a share e of the block's own, is 1 ÷ ratio − 1 at n devices.
On N devices it is taken to lie between

- e × (N-1)/N ÷ (n-1)/n: rings of the same bus bandwidth, whose traffic grows no further;
- e × ln N ÷ ln n: each doubling adds what each doubling so far has added, in stages and in waiting.

The middle is their geometric mean. Both hold only where the fabric is the one that was measured: from devices
of one node nothing follows for several nodes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from nameplate.base.formatting import count, percent
from nameplate.base.language import _
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage


def extend_scaling(links: Sequence[Link], devices: int | None) -> list[Link] | None:
    """Return a run's links with the last, which reaches `scaled`, for so many devices.

    None where the last link reaches no such stage, and where it can't be carried on to so many.
    """
    last = links[-1] if links else None
    if last is None or last.to is not Stage.SCALED or last.n_to is None or last.n_to < 2:
        return None
    if devices is None or devices <= last.n_to:
        return list(links)
    if (last.nodes or 1) < 2:
        return None
    return [*links[:-1], extrapolate(last, devices)]


def extrapolate(link: Link, devices: int) -> Link:
    """Return a link 1 → n for more devices, with the model's range beside the measurement's."""
    n = link.n_to or 2
    few, many = _grow(n, devices)
    added = [_added(each) for each in (link.high, link.value, link.low)]
    ends = 1 / (1 + added[0] * few), 1 / (1 + added[1] * math.sqrt(few * many)), 1 / (1 + added[2] * many)
    high, value, low = ends
    note = _(
        "measured on {n} devices ({ratio}) and carried on to {devices}: added time between constant bus "
        "bandwidth and growth with every doubling",
        n=count(n),
        ratio=percent(link.value),
        devices=count(devices),
    )
    law = link.law if low == high or low <= 0 else "lognormal"  # nothing is drawn down to 0
    return replace(link, value=value, low=low, high=high, law=law, n_to=devices, note=note)


def _grow(n: int, devices: int) -> tuple[float, float]:
    """Return by which factors the added time grows, by the two assumptions."""
    ring = (devices - 1) / devices / ((n - 1) / n)
    return ring, math.log(devices) / math.log(n)


def _added(ratio: float) -> float:
    """Return the added time ÷ the block's own; none for a ratio above 1, which is chance."""
    return max(1 / ratio - 1, 0.0) if ratio > 0 else math.inf
