"""Cases and suites: which workloads are measured, at which points of their axes.

Suites are found by entry point (group `nameplate.suites`). Any package adds one by declaring
`name = "module:SUITE"` there; the harness has no list of suites. Those of group `nameplate.checks` are for
`bench check`: they are found by name all the same, and not listed among the others.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points
from itertools import islice

from nameplate.base.errors import InputError
from nameplate.base.exit_status import print_error
from nameplate.base.model import FrozenModel, PositiveCount
from nameplate.base.text import plain
from nameplate.models.model import Model
from nameplate.models.products import ShapeSet
from nameplate.record import MOST_CASES
from nameplate.workload import Workload

ENTRY_POINT_GROUP = "nameplate.suites"
CHECK_GROUP = "nameplate.checks"
FILLS = ("normal", "uniform", "integers", "zeros")
CACHES = ("warm", "flushed", "rotating")
PHASES = ("burst", "sustained")
CUSTOM = "custom"  # the suite whose cases are made of what the caller asks for
MOST_PROCESSES = 100
SHORTEST_BUDGET_S, LONGEST_BUDGET_S = 1e-6, 1e6  # up to eleven days
_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
)  # it becomes part of a run's id, and so of a folder's name
_MOST_QUOTED = 100  # characters of what a suite printed
MOST_IN_TURN = 4  # cases without a group of their own; a group's records are written only when it ends


@dataclass(frozen=True)
class Case:
    """A workload at one point of its axes. `weight` is its relative share of the run's time.

    Consecutive cases of one `group` are measured in turn, so that ratios between them are free of drift; see
    `make_groups`. A case of phase `burst` is measured from idle, and a `sustained` case of its group in the
    same run.
    """

    workload: Workload
    fill: str = "normal"
    cache: str = "warm"
    phase: str | None = None
    backend: str = "torch"
    weight: float = 1.0
    group: str | None = None

    def __post_init__(self) -> None:
        """Raise InputError for an unknown fill, cache state or phase."""
        axes = (("fill", self.fill, FILLS), ("cache", self.cache, CACHES), ("phase", self.phase, PHASES))
        for name, got, known in axes:
            if got is not None and got not in known:
                raise InputError(f"unknown {name}", where="Case", got=got, expected=" or ".join(known))

    @property
    def id(self) -> str:
        """`workload/dtype/shape/fill/cache/phase/backend`; an absent phase reads `-`."""
        work = self.workload
        return "/".join(
            (work.name, work.dtype, work.shape, self.fill, self.cache, self.phase or "-", self.backend)
        )


class Axes(FrozenModel):
    """What the caller asked for instead of a suite's own cases: the flags of `bench run` that suite `custom`
    makes cases of.

    `shapes` are M, N and K of products. `model` is the model whose layer is measured, on so many `tokens`;
    with `only_products` the products of its whole training pass are, as are those of a published `shape_set`.
    """

    shapes: tuple[tuple[PositiveCount, PositiveCount, PositiveCount], ...] = ()
    model: Model | None = None
    tokens: tuple[PositiveCount, ...] = ()
    dtypes: tuple[str, ...] = ()
    layouts: tuple[str, ...] = ()
    shape_set: ShapeSet | None = None
    only_products: bool = False

    def __bool__(self) -> bool:
        """Whether anything was asked for."""
        return self != NO_AXES


NO_AXES = Axes()


@dataclass(frozen=True)
class Target:
    """What a suite knows about the device it generates cases for, and what the caller asked for."""

    kind: str  # "cpu" or "cuda"
    part: str | None
    memory_bytes: int | None
    rated_dtypes: frozenset[str]  # those with a nominal figure; others may run very slowly on a CPU
    cache_bytes: int | None = None  # a CPU's last-level cache, all of it
    axes: Axes = NO_AXES
    multiprocessors: int | None = None  # of a GPU
    # By level, the innermost first: a CPU's caches, all of a level together, or a GPU's L2.
    caches_bytes: Mapping[str, int] = field(default_factory=dict)
    cores: float = 1.0  # physical cores of a CPU that may be used
    is_simulated: bool = False  # a twin, which has kernels but no libraries to choose among


@dataclass(frozen=True)
class Suite:
    """A named source of cases, most important first: a tight budget is spent on the first ones.

    Each case is measured in `processes` fresh processes, or in as many as the time holds: what one keeps
    (where its memory lies, which kernel was chosen) is then sampled too. `source` is the entry point that it
    was loaded from; "" for one that was made otherwise. `gpu_budget_s` is its time on a GPU, where its cases
    there need another one (None: they don't): a process of a GPU takes seconds to begin, and of a turn in a
    group the first half second doesn't count.
    """

    name: str
    description: str
    budget_s: float
    generate: Callable[[Target], Iterable[Case]]
    source: str = ""
    processes: int = 5
    gpu_budget_s: float | None = None

    def budget_on(self, kind: str) -> float:
        """Return the seconds that it takes on a device of this kind, unless the user gives others."""
        return self.gpu_budget_s if kind == "cuda" and self.gpu_budget_s is not None else self.budget_s

    @property
    def where(self) -> str:
        """What an error calls it: `suite NAME (MODULE:OBJECT)`."""
        return f"suite {self.name} ({self.source})" if self.source else f"suite {self.name}"

    def cases(self, target: Target, only: str | None = None) -> list[Case]:
        """Return the cases for `target`, filtered by the glob `only` over the whole id (`*` crosses `/`).

        Raises InputError where the suite raises an error or ends the process, yields what is no case, or one
        that can't be measured, where two share an id, and where `only` matches none.
        """
        with _run_foreign(self.where, "can't make its cases"):
            cases = list(islice(self.generate(target), MOST_CASES + 1))
            for case in cases:
                _check_case(case, self.where)
        if len(cases) > MOST_CASES:
            raise InputError("too many cases", where=self.where, expected=f"at most {MOST_CASES}")
        _check_unique_ids(self.where, cases)
        _check_burst_groups(self.where, cases)
        chosen = [case for case in cases if only is None or fnmatchcase(case.id, only)]
        if not chosen:
            raise InputError(
                f"no case of suite {self.name} matches",
                where="--only",
                got=only,
                expected=f"a glob over ids such as {cases[0].id}" if cases else "a suite with cases",
            )
        return chosen


def make_groups(cases: Iterable[Case]) -> list[tuple[str, list[Case]]]:
    """Split the cases, in order, into named groups that are measured in turn.

    Consecutive cases that name the same group form one; other cases are grouped by fours, and a burst case is
    alone. A group name that comes again later gets a number: those cases weren't measured in turn with the
    first ones.
    """
    found: list[tuple[str, list[Case]]] = []
    taken: set[str] = set()
    for case in cases:
        if found and _may_join(case, found[-1][1]):
            found[-1][1].append(case)
        else:
            name = case.group or str(len(found) + 1)
            name = f"{name}/{len(found) + 1}" if name in taken else name
            taken.add(name)
            found.append((name, [case]))
    return found


def _may_join(case: Case, group: list[Case]) -> bool:
    if case.group is not None or group[0].group is not None:
        return case.group == group[0].group
    return len(group) < MOST_IN_TURN and "burst" not in (case.phase, group[0].phase)


def _check_burst_groups(where: str, cases: list[Case]) -> None:
    """Raise InputError for cases in a burst case's group other than its own sustained case."""
    for name, group in make_groups(cases):
        burst = next((case for case in group if case.phase == "burst"), None)
        if burst is None:
            continue
        for case in group:
            if replace(case, phase="burst").id != burst.id:
                raise InputError(
                    "a case can't be measured in the same run as a burst case",
                    where=f"{where}, group {name}",
                    got=case.id,
                    expected=f"{replace(burst, phase='sustained').id}, or a group of its own",
                )


def _check_unique_ids(where: str, cases: list[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError("two cases share an id", where=where, got=case.id)
        seen.add(case.id)


def list_suite_names() -> list[str]:
    """Return the names of all installed suites, sorted, without loading them."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def find_suite(name: str) -> Suite:
    """Load the suite called `name`.

    Raises InputError where there is no such suite, two packages declare it, or its package can't be loaded.
    """
    groups = (ENTRY_POINT_GROUP, CHECK_GROUP)
    points = [point for group in groups for point in entry_points(group=group) if point.name == name]
    targets = {point.value for point in points}
    if not points:
        raise InputError("unknown suite", got=name, expected=" or ".join(list_suite_names()))
    if len(targets) > 1:
        raise InputError(f"suite {name} is claimed more than once", got=sorted(targets), expected="one")
    return _load(points[0])


def _load(point: EntryPoint) -> Suite:
    where = f"suite {point.name} ({point.value})"
    with _run_foreign(where, "can't be loaded"):
        suite = point.load()
    if not isinstance(suite, Suite):
        raise InputError("isn't one", where=where, got=type(suite).__name__, expected="a Suite")
    # The name is the one by which it is found, also when a run is resumed.
    suite = replace(suite, name=point.name, source=point.value)
    _check_suite(suite)
    return suite


@contextmanager
def _run_foreign(where: str, what: str) -> Iterator[None]:
    """Run code of a suite: whatever it raises is an InputError, and what it prints goes to standard error.

    Standard output is the command's own: other text in it would break its JSON.
    """
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    except (KeyboardInterrupt, InputError):
        raise
    except BaseException as error:  # also SystemExit, which would end the command with a status of theirs
        raise InputError(f"{what}: {type(error).__name__}: {error}", where=where) from error
    finally:
        said = plain(printed.getvalue()).strip()
        if said:
            print_error(f"{plain(where)} printed: {said[:_MOST_QUOTED]}")


def _check_suite(suite: Suite) -> None:
    """Raise InputError for a suite that can't be listed or run."""
    for name, got, fits, expected in (
        ("name", suite.name, _NAME.fullmatch(suite.name), "letters, digits, dots, _ and -"),
        ("description", suite.description, isinstance(suite.description, str), "text"),
        ("generate", suite.generate, callable(suite.generate), "a function"),
        *(
            (
                f"{name}_s",
                seconds,
                _is_number(seconds) and 0 < seconds <= LONGEST_BUDGET_S,
                f"seconds above 0, at most {LONGEST_BUDGET_S:g}",
            )
            for name, seconds in (("budget", suite.budget_s), ("gpu_budget", suite.budget_on("cuda")))
        ),
        (
            "processes",
            suite.processes,
            type(suite.processes) is int and 1 <= suite.processes <= MOST_PROCESSES,
            f"a whole number above 0, at most {MOST_PROCESSES}",
        ),
    ):
        if not fits:
            raise InputError(f"its {name} can't be used", where=suite.where, got=got, expected=expected)


def _check_case(case: object, where: str) -> None:
    """Raise InputError for what isn't a case that can be measured and named."""
    if not isinstance(case, Case):
        raise InputError("not a case", where=where, got=type(case).__name__, expected="a Case")
    parts = (case.workload.name, case.workload.dtype, case.workload.shape, case.backend)
    for name, part in zip(("name", "dtype", "shape", "backend"), parts, strict=True):
        if not isinstance(part, str) or not part.isprintable() or not part or "/" in part:
            expected = "printable text without /, which separates the parts of a case's id"
            raise InputError(f"the {name} of a case can't be used", where=where, got=part, expected=expected)
    if not _is_number(case.weight) or not 0 < case.weight < math.inf:
        raise InputError(
            "the weight of a case can't be used",
            where=f"{where}, {case.id}",
            got=case.weight,
            expected="a number above 0",
        )
    if not isinstance(case.group, str | None):
        raise InputError(
            "the group of a case can't be used",
            where=f"{where}, {case.id}",
            got=case.group,
            expected="text, or None",
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
