"""The options of a comparison, whether two sides can be compared at all, and by which metric."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Literal, get_args

from nameplate.base.errors import InputError
from nameplate.base.messages import Message, message
from nameplate.compare.results import HELD_CLOCK, CaseResult, Metric, Side, name_method
from nameplate.device.libraries import LIBRARIES
from nameplate.record import METHOD_CHANGES

WHERE = "bench compare"
# Changes of 3 % must be found. Half of that is as far from "no change" as from a change of 3 %.
THRESHOLD = 0.015
_LEAST_FRACTION = 1e-6  # no clock resolves less; the runs that far smaller ones need are no number
_MOST_REASONS = 3  # why a side holds nothing; of further ones only the number is given
By = Literal["auto", "achieved", "normalized", "efficiency"]
FailOn = Literal["ambiguous"]


@dataclass(frozen=True)
class CompareOptions:
    """What the flags of `bench compare` ask for. `threshold` and `restart_spread` are fractions.

    With `fail_on` "ambiguous", a case that can't be decided ends the command with 3.

    Raises InputError for a value that can't be used.
    """

    threshold: float = THRESHOLD
    by: By = "auto"
    across_parts: bool = False
    restart_spread: float | None = None
    only: str | None = None
    across_libraries: bool = False
    fail_on: FailOn | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        for flag, given in (("--threshold", self.threshold), ("--restart-spread", self.restart_spread)):
            if given is not None and not _LEAST_FRACTION <= given < 1:
                raise InputError(
                    "not a fraction",
                    where=flag,
                    got=given,
                    expected=f"between 0 and 1, and no less than {_LEAST_FRACTION:g}: 0.02 is 2 %",
                )
        if self.by not in get_args(By):
            raise InputError("no such metric", where="--by", got=self.by, expected=" or ".join(get_args(By)))
        if self.fail_on not in (None, *get_args(FailOn)):
            raise InputError(
                "no such outcome", where="--fail-on", got=self.fail_on, expected=" or ".join(get_args(FailOn))
            )

    def selects(self, case: str) -> bool:
        """Whether the case is to be compared."""
        return self.only is None or fnmatchcase(case, self.only)


def check_compatible(base: Side, new: Side, options: CompareOptions) -> None:
    """Raise InputError where the sides differ in method, kind of device, part or the libraries that compute,
    share no case, or where one holds nothing to compare.
    """
    for side in (base, new):
        _check_holds_some(side)
    _check_same_method(base, new)
    twins = [{bool(run.simulated) for run in side.runs} for side in (base, new)]
    if len(set().union(*twins)) > 1:
        said = ["a simulated run" if True in each else "a measured one" for each in twins]
        raise _make_refusal("a twin's figures are no measurement", said, "two measured sides, or two twins")
    kinds = [_list_values(side, lambda result: result.kind) for side in (base, new)]
    if len(set(kinds)) > 1:
        raise _make_refusal("two kinds of device", kinds, "one")
    parts = [_list_values(side, lambda result: result.part) for side in (base, new)]
    if len(set(parts)) > 1 and not options.across_parts:
        raise _make_refusal("two parts", parts, "one part, or --across-parts")
    if not options.across_libraries:
        _check_same_libraries(base, new)
    _check_common_cases(base, new, options)


def _check_same_method(base: Side, new: Side) -> None:
    """Raise InputError for figures of two methods, with what each of the later ones changed."""
    found = {run.method for side in (base, new) for run in side.runs}
    if len(found) == 1:
        return
    said = [" and ".join(sorted({run.method for run in side.runs})) for side in (base, new)]
    numbers = [number for number in METHOD_CHANGES if name_method(number) in found]
    expected = "one method: measure one of them again"
    if len(numbers) == len(found):  # a method that pytest-benchmark's files have has no number
        later = range(min(numbers) + 1, max(numbers) + 1)
        changes = "; ".join(f"method {number}: {METHOD_CHANGES[number]}" for number in later)
        expected = f"one method: measure the older one again, for figures moved since ({changes})"
    raise _make_refusal("figures were measured by two methods", said, expected)


def _check_holds_some(side: Side) -> None:
    """Raise InputError for a side without a single case, with the reasons: every entry of it was left out."""
    if side.results:
        return
    reasons = [str(problem) for problem in side.problems]
    more = [f"{len(reasons) - _MOST_REASONS} more"] if len(reasons) > _MOST_REASONS else []
    raise InputError(
        "there is nothing to compare",
        where=side.name,
        got="; ".join([*reasons[:_MOST_REASONS], *more]) or "no case",
        expected="one or more cases with a name",
    )


def _check_same_libraries(base: Side, new: Side) -> None:
    """Raise InputError for libraries of two versions: their kernels differ, whatever is compared.

    A library that one of the sides doesn't name is passed over: older runs have none.
    """
    on_gpus = any(result.device.startswith("cuda") for result in (*base.results, *new.results))
    of_base, of_new = base.facts(), new.facts()
    found = [
        f"{name} {of_base[name]} → {of_new[name]}"
        for name in LIBRARIES["cuda" if on_gpus else "cpu"]
        if name in of_base and name in of_new and of_base[name] != of_new[name]
    ]
    if found:
        raise InputError(
            "the libraries that compute differ from base to new",
            where=WHERE,
            got="; ".join(found),
            expected="the same ones, or --across-libraries to compare them",
        )


def _make_refusal(what: str, values: list[str], expected: str) -> InputError:
    base, new = values
    return InputError(what, where=WHERE, got=f"{base} in base, {new} in new", expected=expected)


def _list_values(side: Side, value_of: Callable[[CaseResult], str]) -> str:
    """Return the distinct values over a side's results, sorted, as text."""
    return " and ".join(sorted({value_of(result) for result in side.results}))


def _check_common_cases(base: Side, new: Side, options: CompareOptions) -> None:
    of_base, of_new = ({result.case for result in side.results} for side in (base, new))
    common = of_base & of_new
    if not common:
        raise InputError(
            "no case is in both",
            where=WHERE,
            got=f"{len(of_base)} cases in base, {len(of_new)} in new",
            expected="runs of one suite",
        )
    if not any(options.selects(case) for case in common):
        raise InputError(
            "no case that is in both matches",
            where="--only",
            got=options.only,
            expected=f"a glob over ids such as {min(common)}",
        )


def choose_metric(
    base: Sequence[CaseResult], new: Sequence[CaseResult], options: CompareOptions
) -> tuple[Metric, Message | None]:
    """Return the metric to compare one case by, and why where it isn't the usual one.

    - CPU: normalized where both sides were measured beside the same probe, because other processes change the
      speed of a shared core by far more than the changes that are looked for.
    - GPU: achieved, or normalized where the clocks that were held differ.
    - Two parts: efficiency.
    """
    if options.by != "auto":
        return options.by, None
    if {result.part for result in base} != {result.part for result in new}:
        return "efficiency", None
    if not all(any("normalized" in result.metrics for result in side) for side in (base, new)):
        return "achieved", None
    normalized_by = {result.normalized_by for result in (*base, *new) if "normalized" in result.metrics}
    if len(normalized_by) > 1:
        return "achieved", message("probe_differs")
    if normalized_by != {HELD_CLOCK}:
        return "normalized", None
    base_mhz, new_mhz = (
        fmean(result.clock_mhz for result in side if result.clock_mhz) for side in (base, new)
    )
    # A difference of clocks that alone is half of the threshold would decide the comparison.
    if abs(math.log(new_mhz / base_mhz)) <= options.threshold / 2:
        return "achieved", None
    return "normalized", message("clocks_differ", base_mhz=base_mhz, new_mhz=new_mhz)
