"""Cases and suites: which workloads are measured, at which points of their axes.

Suites are found by entry point (group `nameplate.suites`). Any package adds one by declaring
`name = "module:SUITE"` there; the harness has no list of suites.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.metadata import EntryPoint, entry_points

from nameplate.base.errors import InputError
from nameplate.workload import Workload

ENTRY_POINT_GROUP = "nameplate.suites"
FILLS = ("normal", "uniform", "integers", "zeros")
CACHES = ("warm", "flushed", "rotating")
PHASES = ("burst", "sustained")
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


@dataclass(frozen=True)
class Target:
    """What a suite knows about the device it generates cases for."""

    kind: str  # "cpu" or "cuda"
    part: str | None
    memory_bytes: int | None
    rated_dtypes: frozenset[str]  # those with a nominal figure; others may run very slowly on a CPU
    cache_bytes: int | None = None  # a CPU's last-level cache, all of it


@dataclass(frozen=True)
class Suite:
    """A named source of cases, most important first: a tight budget is spent on the first ones."""

    name: str
    description: str
    budget_s: float
    generate: Callable[[Target], Iterable[Case]]

    def cases(self, target: Target, only: str | None = None) -> list[Case]:
        """Return the cases for `target`, filtered by the glob `only` over the whole id (`*` crosses `/`).

        Raises InputError where the suite raises an error, two cases share an id or `only` matches none.
        """
        try:
            cases = list(self.generate(target))
        except Exception as error:  # third-party code may raise anything
            raise InputError(
                f"suite {self.name} can't make its cases: {type(error).__name__}: {error}"
            ) from error
        _check_unique_ids(self.name, cases)
        _check_burst_groups(self.name, cases)
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
    for case in cases:
        if found and _may_join(case, found[-1][1]):
            found[-1][1].append(case)
        else:
            name, taken = case.group or str(len(found) + 1), [name for name, _ in found]
            found.append((f"{name}/{len(found) + 1}" if name in taken else name, [case]))
    return found


def _may_join(case: Case, group: list[Case]) -> bool:
    if case.group is not None or group[0].group is not None:
        return case.group == group[0].group
    return len(group) < MOST_IN_TURN and "burst" not in (case.phase, group[0].phase)


def _check_burst_groups(suite: str, cases: list[Case]) -> None:
    """Raise InputError for cases in a burst case's group other than its own sustained case."""
    for name, group in make_groups(cases):
        burst = next((case for case in group if case.phase == "burst"), None)
        if burst is None:
            continue
        for case in group:
            if replace(case, phase="burst").id != burst.id:
                raise InputError(
                    "a case can't be measured in the same run as a burst case",
                    where=f"suite {suite}, group {name}",
                    got=case.id,
                    expected=f"{replace(burst, phase='sustained').id}, or a group of its own",
                )


def _check_unique_ids(suite: str, cases: list[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError("two cases share an id", where=f"suite {suite}", got=case.id)
        seen.add(case.id)


def list_suite_names() -> list[str]:
    """Return the names of all installed suites, sorted, without loading them."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def find_suite(name: str) -> Suite:
    """Load the suite called `name`.

    Raises InputError where there is no such suite, two packages declare it, or its package can't be loaded.
    """
    points = [point for point in entry_points(group=ENTRY_POINT_GROUP) if point.name == name]
    targets = {point.value for point in points}
    if not points:
        raise InputError("unknown suite", got=name, expected=" or ".join(list_suite_names()))
    if len(targets) > 1:
        raise InputError(f"suite {name} is claimed more than once", got=sorted(targets), expected="one")
    return _load(points[0])


def _load(point: EntryPoint) -> Suite:
    try:
        suite = point.load()
    except Exception as error:  # third-party modules may raise anything; the message says whose it was
        raise InputError(
            f"suite {point.name} can't be loaded from {point.value}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(suite, Suite):
        raise InputError(
            f"suite {point.name} isn't one", where=point.value, got=type(suite).__name__, expected="a Suite"
        )
    return replace(suite, name=point.name)  # the name by which it is found, also when a run is resumed
