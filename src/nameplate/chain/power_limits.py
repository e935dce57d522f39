"""A part's best product by power limit: runs under limits that their owner had set, as one curve.

    bench show RUN RUN …

No limit is ever set here: each device had the one that the driver named when its run began. Each device
contributes the best settled product of its chain (a burst is over before a limit holds it). Products of one
part, case and method make a curve where they had two limits or more; those at the same limit are one point.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from nameplate.chain.from_run import find_chains
from nameplate.device.identity import CudaIdentity, Identity
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run


@dataclass(frozen=True)
class LimitedProduct:
    """A device's best product, in TFLOPS, and what it drew in W (None: not known), at the limit it had."""

    part: str
    case: str
    method: int
    measured: bool  # False: of a twin
    limit_w: float
    run: str
    device: str
    tflops: Interval
    power_w: float | None
    trusted: bool


@dataclass(frozen=True)
class LimitPoint:
    """A curve's figures at one limit: the geometric means of its devices', the ends of their intervals."""

    limit_w: float
    products: tuple[LimitedProduct, ...]

    @property
    def tflops(self) -> Interval:
        """TFLOPS, with the lowest and the highest end."""
        found = [each.tflops for each in self.products]
        mean = geometric_mean(each.value for each in found)
        return Interval(mean, min(each.low for each in found), max(each.high for each in found))

    @property
    def power_w(self) -> float | None:
        """W that a device drew; None where one of them isn't known."""
        watts = [each.power_w for each in self.products if each.power_w]
        return geometric_mean(watts) if len(watts) == len(self.products) else None

    @property
    def tflops_per_w(self) -> float | None:
        """TFLOPS ÷ W that were drawn, which may be fewer than the limit."""
        return None if self.power_w is None else self.tflops.value / self.power_w

    @property
    def trusted(self) -> bool:
        """Whether every record behind it is."""
        return all(each.trusted for each in self.products)


@dataclass(frozen=True)
class LimitCurve:
    """One product of one part at several power limits, the lowest first."""

    part: str
    case: str
    measured: bool
    points: tuple[LimitPoint, ...]

    def speed_at(self, point: LimitPoint) -> float:
        """TFLOPS ÷ those at the highest limit."""
        return point.tflops.value / self.points[-1].tflops.value

    def as_json(self) -> dict[str, Any]:
        """The curve as a JSON object; a figure that isn't known is null."""
        return {
            "part": self.part,
            "case": self.case,
            "measured": self.measured,
            "points": [
                {
                    "power_limit_w": each.limit_w,
                    "tflops": each.tflops.value,
                    "tflops_low": each.tflops.low,
                    "tflops_high": each.tflops.high,
                    "power_w": each.power_w,
                    "tflops_per_w": each.tflops_per_w,
                    "speed": self.speed_at(each),
                    "trusted": each.trusted,
                    "of": [{"run": one.run, "device": one.device} for one in each.products],
                }
                for each in self.points
            ],
        }


def find_limited_products(run: Run) -> Iterator[LimitedProduct]:
    """Yield the best product of each GPU whose part and power limit are known; a slice has no limit."""
    limits = {entry.name: limit_w for entry in run.manifest.devices if (limit_w := _limit_of(entry.identity))}
    chains = {chain.device: chain for chain in find_chains(run.records)} if limits else {}
    for name, limit_w in limits.items():
        best = chains[name].best_product if name in chains else None
        part, tflops = run.manifest.entry(name).part, None if best is None else best.interval("tflops")
        if best is None or best.phase == "burst" or part is None or tflops is None:
            continue
        yield LimitedProduct(
            part,
            best.case,
            run.manifest.method,
            run.measured,
            limit_w,
            run.id,
            name,
            tflops,
            best.power_w,
            best.trusted,
        )


def _limit_of(identity: Identity) -> float | None:
    """The limit of a whole GPU, in W; None where it isn't known."""
    if not isinstance(identity, CudaIdentity) or identity.mig_slice:
        return None
    return identity.power_limit_w


def join_curves(products: Iterable[LimitedProduct]) -> list[LimitCurve]:
    """Return a curve for each part, case and method whose products had two limits or more."""
    groups: dict[tuple[str, str, int, bool], dict[float, list[LimitedProduct]]] = {}
    for each in products:
        by_limit = groups.setdefault((each.part, each.case, each.method, each.measured), {})
        by_limit.setdefault(each.limit_w, []).append(each)
    return [
        LimitCurve(part, case, measured, tuple(LimitPoint(at, tuple(found[at])) for at in sorted(found)))
        for (part, case, _method, measured), found in groups.items()
        if len(found) > 1
    ]


def find_limit_curves(runs: Sequence[Run]) -> list[LimitCurve]:
    """Return the curves of these runs, all together."""
    return join_curves(each for run in runs for each in find_limited_products(run))
