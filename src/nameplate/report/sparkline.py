"""A curve as one line of blocks, with the ends of its scales in numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nameplate.report.table import Curve, duration, figure

_BLOCKS = "▁▂▃▄▅▆▇█"
_WIDEST = 64
# Less than a tenth from top to bottom isn't stretched over all blocks: noise would look like a fall.
_LEAST_SPAN = 0.1


def sparkline(curve: Curve, width: int) -> tuple[str, str]:
    """The line of blocks, its time logarithmic, and the words that say what its scales are."""
    levels = _levels(curve, min(len(curve.at_s), _WIDEST, width))
    top = max(levels)
    bottom = min(*levels, (1 - _LEAST_SPAN) * top)
    line = "".join(_BLOCKS[round((level - bottom) / (top - bottom) * (len(_BLOCKS) - 1))] for level in levels)
    scale = (
        f"{_BLOCKS[-1]} {figure(top)}, {_BLOCKS[0]} {figure(bottom)} TFLOPS; {duration(curve.at_s[0])} to "
        f"{duration(curve.at_s[-1])} after the onset, log time"
    )
    return line, scale


def _levels(curve: Curve, count: int) -> list[float]:
    """The mean of each of `count` stretches that are equally long in log time; one without a point takes the
    straight line between its neighbours.
    """
    log_s = [math.log(at_s) for at_s in curve.at_s]
    step = (log_s[-1] - log_s[0]) / count
    inside: list[list[float]] = [[] for _ in range(count)]
    for at, tflops in zip(log_s, curve.tflops, strict=True):
        inside[min(int((at - log_s[0]) / step), count - 1) if step > 0 else 0].append(tflops)
    middles = [log_s[0] + (n + 0.5) * step for n in range(count)]
    return [
        sum(found) / len(found) if found else _between(log_s, curve.tflops, at)
        for at, found in zip(middles, inside, strict=True)
    ]


def _between(log_s: Sequence[float], tflops: Sequence[float], at: float) -> float:
    after = next(n for n, each in enumerate(log_s) if each >= at)
    share = (at - log_s[after - 1]) / (log_s[after] - log_s[after - 1])
    return tflops[after - 1] + share * (tflops[after] - tflops[after - 1])
