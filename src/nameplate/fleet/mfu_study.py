"""How well the model of MFU predicts runs that it hasn't seen: `bench fleet validate`.

Each family of runs is left out in turn (`mfu_fit`). Three figures are held to a bound: the median error, the
share of runs inside the 90 % interval, and the median width of that interval. The bounds are data
(`data/validation.toml`). Whole runs, which include interruptions, stand beside: what they reached of the p50
that is predicted without interruptions is a goodput, so it is below 1 where the model is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import mean, median
from typing import Annotated, Any, Literal

from pydantic import Field

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.fleet.mfu_fit import LeftOut, Observation, leave_families_out, observe, observe_all
from nameplate.fleet.mfu_model import MfuModel, Prediction, load_mfu_model
from nameplate.fleet.mfu_runs import load_training_runs

Measure = Literal["median error", "runs inside", "median width"]


class MfuBounds(FrozenModel):
    """What the model must keep to: at most so large an error and width, at least so many runs inside."""

    median_error: Annotated[float, Field(gt=0, lt=10)]
    runs_inside: Annotated[float, Field(gt=0, lt=1)]
    median_width: Annotated[float, Field(gt=0, lt=10)]


@dataclass(frozen=True)
class FamilyCheck:
    """What is predicted of one family by the runs of all others: the medians over its runs."""

    family: str
    runs: int
    parts: tuple[str, ...]
    error: float  # predicted ÷ published − 1
    absolute_error: float
    inside: float  # share of its runs inside the 90 % interval
    width: float  # of the interval ÷ p50
    source: str


@dataclass(frozen=True)
class BoundCheck:
    """One figure over all runs, beside its bound."""

    measure: Measure
    value: float
    bound: float

    @property
    def passed(self) -> bool:
        """Whether the figure keeps to its bound: at least for runs inside, at most for the others."""
        at_least = self.measure == "runs inside"
        return self.value >= self.bound if at_least else self.value <= self.bound


@dataclass(frozen=True)
class WholeRun:
    """A whole run beside what is predicted for its steps: `share` of the p50 is what interruptions leave."""

    observation: Observation
    predicted: Prediction

    @property
    def share(self) -> float:
        """Published ÷ predicted p50."""
        return self.observation.mfu / self.predicted.p50


@dataclass(frozen=True)
class MfuStudy:
    """The model, its errors family by family, and the figures that are held to bounds."""

    model: MfuModel
    families: tuple[FamilyCheck, ...]
    checks: tuple[BoundCheck, ...]
    whole_runs: tuple[WholeRun, ...]

    def as_rows(self) -> list[dict[str, Any]]:
        """JSON rows with the columns of a chain's check: the bounds first, then a row for each family."""
        rows = [
            _row(
                f"mfu-{check.measure.replace(' ', '-')}",
                "mfu",
                "over all runs, each predicted by the runs of other families",
                value=check.value,
                bound=check.bound,
                passed=check.passed,
                runs=self.model.n_runs,
            )
            for check in self.checks
        ]
        rows += [
            _row(
                f"mfu-family-{each.family}",
                "mfu_family",
                "its runs, predicted by those of other families: medians",
                error=each.error,
                value=each.absolute_error,
                runs=each.runs,
                inside=each.inside,
                width=each.width,
                source=each.source,
            )
            for each in self.families
        ]
        rows += [
            _row(
                f"mfu-whole-run-{each.observation.run.id}",
                "mfu_whole_run",
                "a whole run, interruptions included: the error has its goodput in it",
                predicted=each.predicted.p50,
                published=each.observation.mfu,
                error=1 / each.share - 1,
                runs=1,
                source=each.observation.run.source,
            )
            for each in self.whole_runs
        ]
        return rows


def study_mfu(bounds: MfuBounds, *, median_error: float | None = None) -> MfuStudy:
    """Leave out each family in turn; `median_error` takes the place of its bound.

    Raises InputError for a bound that isn't above 0.
    """
    if median_error is not None and not median_error > 0:
        expected = "a relative error above 0"
        raise InputError("not a bound", where="--bound", got=median_error, expected=expected)
    left_out = _leave_shipped_out()
    model = load_mfu_model()
    whole = [observe(run) for run in load_training_runs() if run.whole_run and run.devices is not None]
    return MfuStudy(
        model,
        tuple(_check_family(name, left_out) for name in _families(left_out)),
        (
            BoundCheck(
                "median error",
                median(abs(each.error) for each in left_out),
                bounds.median_error if median_error is None else median_error,
            ),
            BoundCheck("runs inside", mean(each.is_inside for each in left_out), bounds.runs_inside),
            BoundCheck("median width", median(each.width for each in left_out), bounds.median_width),
        ),
        tuple(WholeRun(each, model.predict(each.situation)) for each in whole),
    )


@cache
def _leave_shipped_out() -> tuple[LeftOut, ...]:
    """Every published run, predicted by those of the other families: the same in each study."""
    return leave_families_out(observe_all())


def _families(left_out: Sequence[LeftOut]) -> list[str]:
    return sorted({each.observation.run.family for each in left_out})


def _check_family(name: str, left_out: Sequence[LeftOut]) -> FamilyCheck:
    mine = [each for each in left_out if each.observation.run.family == name]
    return FamilyCheck(
        name,
        len(mine),
        tuple(dict.fromkeys(each.observation.run.part for each in mine)),
        median(each.error for each in mine),
        median(abs(each.error) for each in mine),
        mean(each.is_inside for each in mine),
        median(each.width for each in mine),
        mine[0].observation.run.source,
    )


def _row(id_: str, kind: str, says: str, **figures: Any) -> dict[str, Any]:
    columns = ("predicted", "published", "error_low", "error_high", "bound", "says", "source", "error")
    more = ("passed", "value", "runs", "inside", "width")
    return {"id": id_, "kind": kind, **dict.fromkeys((*columns, *more)), "says": says, **figures}
