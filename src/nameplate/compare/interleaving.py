"""Two commits or environments measured in turn, until it is decided which is faster, or time is up.

On a shared machine two runs an hour apart say little of what was changed between them. Two that follow each
other share the hour; which is first is drawn by lot, so that nothing favours one side; and each pair is one
observation, however long its runs.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from contextlib import ExitStack
from os import PathLike
from pathlib import Path

from nameplate.base.errors import InputError, RunIncomplete, unwritable
from nameplate.base.exit_status import ExitStatus
from nameplate.compare.comparison import Comparison, compare_sides
from nameplate.compare.contenders import Contender, contender
from nameplate.compare.looks import Side, Taken
from nameplate.compare.rows import Row, word
from nameplate.compare.runs import taken
from nameplate.compare.terms import THRESHOLD, By, Terms
from nameplate.run.measure import DEFAULT_RESULTS, SEED, check_budget
from nameplate.stats.interval import Interval
from nameplate.store.folder import find_runs, new_run_id, read_run

# Of fewer pairs the scatter is known too badly to stop by: by luck they lie together.
FEWEST_PAIRS = 5
PAIRS = 60
SUITE = "smoke"
FOLDERS = ("a", "b")
_UNTIL_NEXT_LOOK = 1.5
# A case too noisy for all the pairs that are left keeps nobody waiting; its scatter has to be known for that.
_FEWEST_TO_GIVE_UP = 10
_SLACK = 1.5  # its interval also narrows because Student's factor does, and its scatter may have looked large
_LAST_LINES = 3
# Given 0 for base or 1 for new: what one more run of it tells.
Measure = Callable[[int], Taken]
Watch = Callable[[str], None]


def interleave(
    a: str,
    b: str,
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
    watch: Watch = lambda line: None,
) -> Comparison:
    """Measure `a` (base) and `b` (new) in turn; the words are those of `bench compare --interleave`.

    Each is an environment (its folder, or a python or bench in it), a commit of the repository of the current
    folder, or `.` for its working tree. `budget` is in seconds a run, `pairs` the most that are taken, and
    `at_least` the fewest. `watch` is told how far it is. The runs are kept in a folder of their own in
    `results`, by default `runs`.

    Raises InputError for anything that can't be used, and RunIncomplete where a run breaks off.
    KeyboardInterrupt passes through; what was measured is kept.
    """
    terms = Terms(threshold, by, only=only)
    check_budget(budget)
    _check_pairs(at_least, pairs)
    flags = ["--device", device, *(["--only", only] if only else [])]
    flags += ["--budget", repr(budget)] if budget is not None else []
    folder = _new_folder(Path(results or DEFAULT_RESULTS).absolute())
    watch(f"what is measured is kept in {folder}")
    with ExitStack() as stack:
        sides = [stack.enter_context(contender(name, Path.cwd())) for name in (a, b)]

        def measure(side: int) -> Taken:
            return _go(sides[side], ["run", suite, *flags], folder / FOLDERS[side])

        base, new = (side.name for side in sides)
        return take_turns(measure, (base, new), terms, pairs=pairs, at_least=at_least, seed=seed, watch=watch)


def _new_folder(results: Path) -> Path:
    folder = results / new_run_id("interleave")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise unwritable("can't write runs here", error, where="--results", got=str(results)) from error
    return folder


def _check_pairs(at_least: int, pairs: int) -> None:
    for flag, given, least in (("--at-least", at_least, FEWEST_PAIRS), ("--pairs", pairs, at_least)):
        if given < least:
            raise InputError("too few pairs", where=flag, got=given, expected=f"{least} or more")


def take_turns(
    measure: Measure,
    names: tuple[str, str],
    terms: Terms,
    *,
    pairs: int = PAIRS,
    at_least: int = FEWEST_PAIRS,
    seed: int = SEED,
    watch: Watch = lambda line: None,
) -> Comparison:
    """Measure two sides in pairs until every case is decided that can be, or `pairs` are taken.

    Who looks often enough sees any difference once. So it is looked a few times only, each time after half as
    many pairs again, and the looks share the 5 of 100 comparisons in which an interval may miss: each has as
    much of them as it has pairs.
    """
    order = random.Random(seed)
    looks = look_after(at_least, pairs)
    runs: tuple[list[Taken], list[Taken]] = ([], [])
    for number in range(1, pairs + 1):
        for side in order.sample((0, 1), k=2):
            watch(f"pair {number} of at most {pairs}: {names[side]}")
            runs[side].append(measure(side))
        if number not in (1, *looks):
            continue
        base, new = (Side(name, tuple(each)) for name, each in zip(names, runs, strict=True))
        found = compare_sides(base, new, terms, in_pairs=True, share=number / sum(looks))
        watch(f"after {number} of at most {pairs} pairs: {_so_far(found)}")
        if not _any(found) or (number in looks and not _more_would_tell(found, pairs)):
            break
    return found


def look_after(at_least: int, pairs: int) -> list[int]:
    """After how many pairs it is looked whether all is decided."""
    looks = [at_least]
    while looks[-1] < pairs:
        looks.append(min(math.ceil(looks[-1] * _UNTIL_NEXT_LOOK), pairs))
    return looks


def _so_far(found: Comparison) -> str:
    return ", ".join(f"{count} {word}" for word, count in found.counts.items() if count)


def _any(found: Comparison) -> bool:
    """Whether anything has a figure on both sides; where nothing has, nothing will have one later."""
    return any(row.ratio is not None for row in found.rows)


def _more_would_tell(found: Comparison, pairs: int) -> bool:
    """Whether a case is left that may still be decided."""
    return any(row.word == "ambiguous" and _may_be_decided(row, found, pairs) for row in found.rows)


def _may_be_decided(row: Row, found: Comparison, pairs: int) -> bool:
    """Whether the pairs that are left could decide a case, if it goes on scattering as it does."""
    if row.ratio is None or row.base_runs < _FEWEST_TO_GIVE_UP:
        return True
    half = math.log(row.ratio.high / row.ratio.low) / 2 * math.sqrt(row.base_runs / pairs)
    value, threshold = row.ratio.value, found.terms.threshold
    last = Interval(value, value * math.exp(-half), value * math.exp(half))
    return half <= _SLACK * threshold or word(last, threshold) != "ambiguous"


def _go(side: Contender, arguments: list[str], results: Path) -> Taken:
    """One run of a side. Raises InputError where it was refused, and RunIncomplete where it broke."""
    before = set(find_runs(results))
    done = side.run("-m", "nameplate", *arguments, "--results", str(results))
    said = " | ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
    if done.returncode == ExitStatus.BAD_INPUT:
        raise InputError(f"{side.name}: its run was refused: {said}")
    folder = next((each for each in find_runs(results) if each not in before), None)
    if done.returncode not in (ExitStatus.DONE, ExitStatus.INCOMPLETE) or folder is None:
        raise RunIncomplete(
            f"{side.name}: its run ended with exit status {done.returncode}: {said}; what was measured is in "
            f"{results.parent}"
        )
    return taken(read_run(folder))
