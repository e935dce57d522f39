"""Measure two commits or environments in turn, until every case is decided or the pairs are used up.

On a shared machine two runs an hour apart differ by more than the code. Two runs in a row share the hour.
Which of them is first is random, so no side is favoured, and each pair of runs is one observation, however
long its runs are.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError, RunIncomplete, write_error
from nameplate.base.exit_status import ExitStatus
from nameplate.base.formatting import duration
from nameplate.base.processes import ChildSilent, run_to_end
from nameplate.compare.comparison import Comparison, compare_sides
from nameplate.compare.results import RunResults, Side, results_of_run
from nameplate.compare.rows import Row, classify
from nameplate.compare.validate import THRESHOLD, By, CompareOptions
from nameplate.run.deadlines import Deadlines
from nameplate.run.job import Budget
from nameplate.run.measure import DEFAULT_RESULTS, SEED, check_budget
from nameplate.stats.interval import Interval
from nameplate.store.folder import find_runs, new_run_id, read_run
from nameplate.suite import find_suite

WHERE = "--interleave"
# With fewer pairs the scatter is so uncertain that pairs which agree by luck would stop the measurement.
FEWEST_PAIRS = 5
PAIRS = 60
SUITE = "smoke"
FOLDERS = ("a", "b")
_LOOK_GROWTH = 1.5  # each interim look comes after half as many pairs again
# From this many pairs on, a case that is too noisy for the pairs that are left is given up. Before, its
# scatter is too uncertain.
_FEWEST_TO_GIVE_UP = 10
# A case is given up only if its projected interval is this much too wide. The projection is pessimistic:
# Student's factor also falls, and the scatter may have been overestimated.
_GIVE_UP_MARGIN = 1.5
_LAST_LINES = 3
# For git, and for a Python that looks for modules: some seconds, more on a cold network file system.
_SHORT_S = 300.0
_LONG_S = 4 * 3600.0  # for a run of a suite that isn't known here, without a budget

# Given 0 for base or 1 for new, measures one more run.
Measure = Callable[[int], RunResults]
# Is told the progress, a line at a time.
Progress = Callable[[str], None]


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
    watch: Progress = lambda line: None,
) -> Comparison:
    """Measure `a` (base) and `b` (new) in turn; the parameters are the flags of `bench compare --interleave`.

    Each side is an environment (its folder, or a python or bench in it), a commit of the current folder's
    repository, or `.` for its working tree. `budget` is in seconds a run; at most `pairs` and at least
    `at_least` pairs of runs are measured. `watch` is told the progress. The runs are kept in a new folder in
    `results`, by default in `runs`.

    Raises InputError for anything that can't be used, and RunIncomplete where a run breaks off.
    KeyboardInterrupt passes through; the finished runs are kept.
    """
    # Two environments may have two sets of libraries, which are then part of what is compared.
    options = CompareOptions(threshold, by, only=only, across_libraries=True)
    check_budget(budget)
    for flag, given, least in (("--at-least", at_least, FEWEST_PAIRS), ("--pairs", pairs, at_least)):
        if given < least:
            raise InputError("too few pairs", where=flag, got=given, expected=f"{least} or more")
    flags = ["--device", device, *(["--only", only] if only else [])]
    flags += ["--budget", repr(budget)] if budget is not None else []
    deadline_s = Deadlines.from_environment().whole_run_s(_find_limit(suite, budget))
    folder = _make_folder(Path(results or DEFAULT_RESULTS).absolute())
    watch(f"the runs are kept in {folder}")
    with ExitStack() as stack:
        sides = [stack.enter_context(prepare_contender(name, Path.cwd())) for name in (a, b)]

        def measure(side: int) -> RunResults:
            return _run_suite(sides[side], ["run", suite, *flags], folder / FOLDERS[side], deadline_s)

        names = (sides[0].name, sides[1].name)
        return take_turns(measure, names, options, pairs=pairs, at_least=at_least, seed=seed, watch=watch)


def _find_limit(suite: str, budget: float | None) -> float:
    """Return the seconds that a run measures for at most; a suite may be known to the sides alone."""
    try:
        return Budget.of_run(find_suite(suite), budget).limit_s
    except InputError:
        return budget or _LONG_S


def _make_folder(results: Path) -> Path:
    folder = results / new_run_id("interleave")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise write_error("can't write runs here", error, where="--results", got=str(results)) from error
    return folder


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

    Whoever tests often enough finds a difference by chance. So there are few interim looks (`plan_looks`),
    and they share the significance level of 5 %: each has a share in proportion to its number of pairs.
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
        done = side.run("-m", "nameplate", *arguments, "--results", str(results), deadline_s=deadline_s)
    except ChildSilent:
        raise RunIncomplete(
            f"{side.name}: its run hadn't ended after {duration(deadline_s)} and was ended: its driver or a "
            f"library hangs; what was measured is in {results.parent}"
        ) from None
    last_lines = " | ".join(done.stderr.strip().splitlines()[-_LAST_LINES:])
    if done.returncode == ExitStatus.BAD_INPUT:
        raise InputError(f"{side.name}: its run was refused: {last_lines}")
    folder = next((each for each in find_runs(results) if each not in before), None)
    if done.returncode not in (ExitStatus.DONE, ExitStatus.INCOMPLETE) or folder is None:
        raise RunIncomplete(
            f"{side.name}: its run ended with exit status {done.returncode}: {last_lines}; what was measured "
            f"is in {results.parent}"
        )
    return results_of_run(read_run(folder))


# ---- contenders: what is measured in turn ----

_EXPECTED = "an environment's folder, its python or bench, a commit, or . for the working tree"
_PYTHONS = ("python", "python3")
_NOWHERE = "nowhere"
# Prints the file that each package would be imported from, without importing it.
_PRINT_ORIGINS = f"""
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    found = find_spec(name)
    print(found.origin if found else {_NOWHERE!r})
"""


@dataclass(frozen=True)
class Contender:
    """How `bench run` is started for one side: a Python, and the environment variables added to ours."""

    name: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, deadline_s: float = _SHORT_S) -> subprocess.CompletedProcess[str]:
        """Run its Python to the end, and capture what it prints; raises ChildSilent past the deadline."""
        # -P: don't import from the working directory, where a torch.py may lie.
        command = [self.python, "-P", *arguments]
        return run_to_end(command, env={**os.environ, **self.environment}, deadline_s=deadline_s)


@contextmanager
def prepare_contender(name: str, folder: Path) -> Iterator[Contender]:
    """Prepare a side: an environment, `.`, or a commit of the repository that `folder` is in.

    A commit is checked out into a temporary folder, which is removed at the end, also after an error. This
    process's Python runs it. Raises InputError for any other name, and where that Python would import other
    code than the commit's.
    """
    python = _find_python(folder / name)
    if name == ".":
        top = _git(folder, "rev-parse", "--show-toplevel")
        tree = folder if top.returncode else Path(top.stdout.strip())
        yield _contender_of_tree("the working tree", tree)
    elif python is not None:
        contender = Contender(name, str(python))
        _check_imports(contender, ())
        yield contender
    else:
        commit = _find_commit(name, folder)
        with _worktree(commit, folder) as tree:
            yield _contender_of_tree(f"{name} ({commit[:10]})", tree)


def _find_python(path: Path) -> Path | None:
    """Return the Python of an environment, given its folder or a program in it; None for anything else.

    Symbolic links aren't followed: a Python finds its environment by the path that it is started by.
    """
    if os.path.isfile(path) and path.name.startswith("python"):
        return path.absolute()
    programs = path.parent if os.path.isfile(path) and os.access(path, os.X_OK) else path / "bin"
    return next((each.absolute() for name in _PYTHONS if os.path.isfile(each := programs / name)), None)


def _contender_of_tree(name: str, tree: Path) -> Contender:
    roots = find_source_roots(tree)
    path = os.pathsep.join([*map(str, roots), *filter(None, [os.environ.get("PYTHONPATH")])])
    contender = Contender(name, sys.executable, {"PYTHONPATH": path})
    _check_imports(contender, roots)
    return contender


def find_source_roots(tree: Path) -> list[Path]:
    """Return the folders that hold a tree's packages: hatch's `dev-mode-dirs`, else `src`, else the tree."""
    try:
        found: Any = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
        for key in ("tool", "hatch", "build", "dev-mode-dirs"):
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    roots = [tree / str(name) for name in found] if isinstance(found, list) else []
    return roots or [tree / "src" if (tree / "src").is_dir() else tree]


def _check_imports(side: Contender, roots: Sequence[Path]) -> None:
    """Raise InputError where a side's Python lacks nameplate, or would import other code than its tree's."""
    packages = {each.parent.name: root for root in roots for each in sorted(root.glob("*/__init__.py"))}
    names = ["nameplate", *packages]
    try:
        done = side.run("-c", _PRINT_ORIGINS, *names)
    except OSError as error:
        raise InputError(f"can't be run: {error.strerror}", where=WHERE, got=side.python) from error
    except ChildSilent as silent:
        said = f"gave no answer within {duration(silent.deadline_s)}"
        raise InputError(said, where=WHERE, got=side.python) from None
    # A Python that fails finds nothing.
    origins = {} if done.returncode else dict(zip(names, done.stdout.splitlines(), strict=False))
    if origins.get("nameplate", _NOWHERE) == _NOWHERE:
        expected = "an environment that has it"
        raise InputError("there is no nameplate in it", where=WHERE, got=side.name, expected=expected)
    for name, root in packages.items():
        if not Path(origins[name]).is_relative_to(root):
            what = f"Python imports {name} from elsewhere, not from {side.name}"
            raise InputError(what, where=WHERE, got=origins[name], expected=str(root))


def _find_commit(name: str, folder: Path) -> str:
    done = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise InputError("neither an environment nor a commit", where=WHERE, got=name, expected=_EXPECTED)
    return done.stdout.strip()


@contextmanager
def _worktree(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a temporary folder, and remove that at the end."""
    place = Path(tempfile.mkdtemp(prefix="nameplate-"))
    tree = place / commit[:10]
    try:
        done = _git(folder, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        if done.returncode:
            last_line = done.stderr.strip().splitlines()[-1:]
            raise InputError(
                "can't be checked out", where=WHERE, got=commit, expected=" ".join(last_line) or None
            )
        yield tree
    finally:
        _git(folder, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(place, ignore_errors=True)
        _git(folder, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git; where it isn't installed the status is 127, where it gives no answer 128."""
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        return run_to_end(command, deadline_s=_SHORT_S)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except ChildSilent as silent:
        said = f"no answer within {duration(silent.deadline_s)}"
        return subprocess.CompletedProcess(command, 128, "", said)
