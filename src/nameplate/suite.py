"""Cases and suites: which workloads are measured, at which points of their axes, and who may add some.

A suite is found by entry point (group `nameplate.suites`), so a package of anyone's adds one by declaring
`name = "module:SUITE"` there; the harness holds no list of suites.
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
MOST_IN_TURN = 4  # neighbours without a group of their own; a group's records come together when it ends


@dataclass(frozen=True)
class Case:
    """A workload at one point of its axes. `weight` is its share of the run's time beside the others'.

    Neighbours of one `group` are measured in turn, so that a ratio between them is free of drift; see
    `make_groups`. A case of phase `burst` is measured from idle, and a `sustained` one of its group in the
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
        """Refuse an unknown fill, cache state or phase."""
        axes = (("fill", self.fill, FILLS), ("cache", self.cache, CACHES), ("phase", self.phase, PHASES))
        for name, got, known in axes:
            if got is None:
                continue
            if got not in known:
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
    """What a suite may know of the device it generates cases for."""

    kind: str  # "cpu" or "cuda"
    part: str | None
    memory_bytes: int | None
    rated_dtypes: frozenset[
        str
    ]  # dtypes with a nominal figure; on a CPU the others run, if at all, very slowly


@dataclass(frozen=True)
class Suite:
    """A named source of cases, most important first: a tight budget is spent from the front."""

    name: str
    description: str
    budget_s: float
    generate: Callable[[Target], Iterable[Case]]

    def cases(self, target: Target, only: str | None = None) -> list[Case]:
        """The cases for `target`, filtered by the glob `only` over the whole id (`*` crosses `/`).

        Raises InputError when the suite breaks, when two cases share an id or when `only` leaves none.
        """
        try:
            cases = list(self.generate(target))
        except Exception as error:  # a third party's code may fail in any way
            raise InputError(
                f"suite {self.name} can't make its cases: {type(error).__name__}: {error}"
            ) from error
        _refuse_twins(self.name, cases)
        _refuse_company(self.name, cases)
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
    """Cases in the order given, cut into groups that are measured in turn, each with a name.

    Neighbours that name one group are one; others are taken by fours, and a burst case is by itself. A group
    that comes apart is two, of two names: what wasn't measured in turn must not look as if it had been.
    """
    found: list[tuple[str, list[Case]]] = []
    for case in cases:
        if found and _belongs(case, found[-1][1]):
            found[-1][1].append(case)
        else:
            name, taken = case.group or str(len(found) + 1), [name for name, _ in found]
            found.append((f"{name}/{len(found) + 1}" if name in taken else name, [case]))
    return found


def _belongs(case: Case, group: list[Case]) -> bool:
    if case.group is not None or group[0].group is not None:
        return case.group == group[0].group
    return len(group) < MOST_IN_TURN and "burst" not in (case.phase, group[0].phase)


def _refuse_company(suite: str, cases: list[Case]) -> None:
    """A run from idle is of one workload: beside its burst case there is room for its sustained one alone."""
    for name, group in make_groups(cases):
        burst = next((case for case in group if case.phase == "burst"), None)
        for case in group if burst is not None else ():
            if burst is not None and case.id != burst.id and replace(case, phase="burst").id != burst.id:
                raise InputError(
                    "a case that can't be measured in the run of a burst",
                    where=f"suite {suite}, group {name}",
                    got=case.id,
                    expected=f"{replace(burst, phase='sustained').id}, or a group of its own",
                )


def _refuse_twins(suite: str, cases: list[Case]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise InputError("two cases share an id", where=f"suite {suite}", got=case.id)
        seen.add(case.id)


def list_suite_names() -> list[str]:
    """Names of every suite installed, sorted; loads none of them."""
    return sorted({point.name for point in entry_points(group=ENTRY_POINT_GROUP)})


def find_suite(name: str) -> Suite:
    """Load the suite called `name`.

    Raises InputError when there is none of that name, when two packages claim it, or when its package
    can't be loaded (the sentence names the package and its own error).
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
    except Exception as error:  # a third party's module may fail in any way; the run must say whose it was
        raise InputError(
            f"suite {point.name} can't be loaded from {point.value}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(suite, Suite):
        raise InputError(
            f"suite {point.name} isn't one", where=point.value, got=type(suite).__name__, expected="a Suite"
        )
    return replace(suite, name=point.name)  # the name it is asked for by, and resumed by
