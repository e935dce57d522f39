"""Measure two commits or environments in turn, until every case is decided or the pairs are used up.

On a shared machine two runs an hour apart differ by more than the code. Two runs in a row share the hour.
Which of them is first is random, so no side is favoured, and each pair of runs is one observation, however
long its runs are.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path

from nameplate.base.errors import InputError, RunIncomplete, write_error
from nameplate.base.exit_status import ExitStatus, signals_held
from nameplate.base.files import new_folder
from nameplate.base.formatting import duration
from nameplate.base.processes import ChildSilent
from nameplate.compare.comparison import Comparison, compare_sides
from nameplate.compare.contenders import Contender, prepare_contender
from nameplate.compare.results import RunResults, Side, results_of_run
from nameplate.compare.rows import Row, classify
from nameplate.compare.validate import THRESHOLD, By, CompareOptions, FailOn
from nameplate.run.deadlines import Deadlines
from nameplate.run.job import Budget
from nameplate.run.measure import DEFAULT_RESULTS, SEED, check_budget
from nameplate.stats.interval import Interval
from nameplate.store.folder import find_runs, new_run_id, read_run
from nameplate.suite import find_suite

# With fewer pairs the scatter is so uncertain that pairs which agree by luck would stop the measurement.
FEWEST_PAIRS = 5
PAIRS = 60
SUITE = "smoke"
FOLDERS = ("a", "b")
NOTHING_KEPT = "nothing was measured, so nothing is kept"
_LOOK_GROWTH = 1.5  # each interim look comes after half as many pairs again
# From this many pairs on, a case that is too noisy for the pairs that are left is given up. Before, its
# scatter is too uncertain.
_FEWEST_TO_GIVE_UP = 10
# A case is given up only if its projected interval is this much too wide. The projection is pessimistic:
# Student's factor also falls, and the scatter may have been overestimated.
_GIVE_UP_MARGIN = 1.5
_LAST_LINES = 3
_LONG_S = 4 * 3600.0  # for a run of a suite that isn't known here, without a budget

# Given 0 for base or 1 for new, measures one more run.
Measure = Callable[[int], RunResults]
# Called with each line of progress.
Progress = Callable[[str], None]


def interleave(
    base: str,
    new: str,
    *,
    suite: str = SUITE,
    only: str | None = None,
    device: str = "auto",
    budget: float | None = None,
    pairs: int = PAIRS,
    at_least: int = FEWEST_PAIRS,
    threshold: float = THRESHOLD,
    by: By = "auto",
    results: str | PathLike[str] | None = None,
    seed: int = SEED,
    watch: Progress = lambda line: None,
    fail_on: FailOn | None = None,
) -> Comparison:
    """Measure `base` and `new` in turn; the parameters are the flags of `bench compare --interleave`.

    Each side is an environment (its folder, or a python or bench in it), a commit of the current folder's
    repository, or `.` for its working tree. `budget` is in seconds a run; at most `pairs` and at least
    `at_least` pairs of runs are measured. `watch` is called with each line of progress. The runs are kept in
    a new folder in `results`, by default in `runs`.

    Raises InputError for anything that can't be used, and RunIncomplete where a run breaks off.
    KeyboardInterrupt passes through; the finished runs are kept.
    """
    # Two environments may have two sets of libraries, which are then part of what is compared.
    options = CompareOptions(threshold, by, only=only, across_libraries=True, fail_on=fail_on)
    check_budget(budget)
    for flag, given, least in (("--at-least", at_least, FEWEST_PAIRS), ("--pairs", pairs, at_least)):
        if given < least:
            raise InputError("too few pairs", where=flag, got=given, expected=f"{least} or more")
    flags = ["--device", device, *(["--only", only] if only else [])]
    flags += ["--budget", repr(budget)] if budget is not None else []
    deadline_s = Deadlines.from_environment().whole_run_s(_find_limit(suite, budget))
    with ExitStack() as stack:
        folder = stack.enter_context(_keep_runs(Path(results or DEFAULT_RESULTS).absolute(), watch))
        sides = [stack.enter_context(prepare_contender(name, Path.cwd())) for name in (base, new)]

        def measure(side: int) -> RunResults:
            return _run_suite(sides[side], ["run", suite, *flags], folder / FOLDERS[side], deadline_s)

        names = (sides[0].name, sides[1].name)
        return take_turns(measure, names, options, pairs=pairs, at_least=at_least, seed=seed, watch=watch)


def _find_limit(suite: str, budget: float | None) -> float:
    """Return the seconds that a run measures for at most; a suite may be known to the sides alone."""
    try:
        found = find_suite(suite)
        return max(Budget.of_run(found, budget, kind).limit_s for kind in ("cpu", "cuda"))
    except InputError:
        return budget or _LONG_S


@contextmanager
def _keep_runs(results: Path, watch: Progress) -> Iterator[Path]:
    """Make the folder that the runs are kept in; at the end it is removed where no run came to be."""
    folder = results / new_run_id("interleave")
    try:
        with ExitStack() as stack:
            try:
                stack.enter_context(new_folder(folder))
            except OSError as error:
                raise write_error(
                    "can't write runs here", error, where="--results", got=str(results)
                ) from error
            watch(f"the runs are kept in {folder}")
            stack.callback(_remove_empty, [folder / name for name in FOLDERS])
            yield folder
    finally:
        if not os.path.exists(folder):
            watch(NOTHING_KEPT)


def _remove_empty(folders: Iterable[Path]) -> None:
    with signals_held():
        for folder in folders:
            with suppress(OSError):  # not there, or not empty
                folder.rmdir()


def _where(folder: Path) -> str:
    """Return where the runs of an interleaved comparison are, as the end of a sentence."""
    return f"what was measured is in {folder}" if find_runs(folder) else NOTHING_KEPT


def take_turns(
    measure: Measure,
    names: tuple[str, str],
    options: CompareOptions,
    *,
    pairs: int = PAIRS,
    at_least: int = FEWEST_PAIRS,
    seed: int = SEED,
    watch: Progress = lambda line: None,
) -> Comparison:
    """Measure pairs of runs until every case is decided that can be, or `pairs` are measured.

    Testing often enough finds a difference by chance. So there are few interim looks (`plan_looks`), and they
    share the significance level of 5 %: each has a share in proportion to its number of pairs.
    """
    order = random.Random(seed)
    looks = plan_looks(at_least, pairs)
    runs: tuple[list[RunResults], list[RunResults]] = ([], [])
    for number in range(1, pairs + 1):
        for side in order.sample((0, 1), k=2):
            watch(f"pair {number} of at most {pairs}: {names[side]}")
            runs[side].append(measure(side))
        if number not in (1, *looks):
            continue
        base, new = (Side(name, tuple(each)) for name, each in zip(names, runs, strict=True))
        found = compare_sides(base, new, options, in_pairs=True, alpha_share=number / sum(looks))
        counts = ", ".join(f"{count} {outcome}" for outcome, count in found.counts.items() if count)
        watch(f"after {number} of at most {pairs} pairs: {counts}")
        comparable = any(row.ratio is not None for row in found.rows)
        undecided = any(_may_be_decided(row, options.threshold, pairs) for row in found.rows)
        if not comparable or (number in looks and not undecided):
            break
    return found


def plan_looks(at_least: int, pairs: int) -> list[int]:
    """Return after how many pairs it is tested whether every case is decided."""
    looks = [at_least]
    while looks[-1] < pairs:
        looks.append(min(math.ceil(looks[-1] * _LOOK_GROWTH), pairs))
    return looks


def _may_be_decided(row: Row, threshold: float, pairs: int) -> bool:
    """Whether a case is ambiguous, and all `pairs` could decide it if its scatter stays as it is."""
    if row.outcome != "ambiguous":
        return False
    if row.ratio is None or row.base_runs < _FEWEST_TO_GIVE_UP:
        return True
    half = row.ratio.log_half_width * math.sqrt(row.base_runs / pairs)
    projected = Interval.from_log_half_width(row.ratio.value, half)
    return half <= _GIVE_UP_MARGIN * threshold or classify(projected, threshold) != "ambiguous"


def _run_suite(side: Contender, arguments: list[str], results: Path, deadline_s: float) -> RunResults:
    """Measure one run of a side. Raises InputError where it was refused, RunIncomplete where it broke off."""
    before = set(find_runs(results))
    try:
        done = side.run(
            "-m",
            "nameplate",
            *arguments,
            "--results",
            str(results),
            deadline_s=deadline_s,
            ends_with_parent=True,
        )
    except ChildSilent:
        raise RunIncomplete(
            f"{side.name}: its run hadn't ended after {duration(deadline_s)} and was ended: its driver or a "
            f"library hangs; {_where(results.parent)}"
        ) from None
    last_lines = " | ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
    if done.returncode == ExitStatus.BAD_INPUT:
        raise InputError(f"{side.name}: its run was refused: {last_lines}")
    folder = next((each for each in find_runs(results) if each not in before), None)
    if done.returncode not in (ExitStatus.DONE, ExitStatus.INCOMPLETE) or folder is None:
        raise RunIncomplete(
            f"{side.name}: its run ended with exit status {done.returncode}: {last_lines}; "
            f"{_where(results.parent)}"
        )
    return results_of_run(read_run(folder))
