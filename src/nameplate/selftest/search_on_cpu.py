"""Self-test of the ceiling on this CPU: what a minute's search found beside what whole grids hold.

    bench selftest --search --on cpu --budget 1800

Suite `ceiling` runs as users run it. Suite `ceiling-grid` then times the shapes of the whole grid, in random
order, as many as its time allows: in fp32 by torch and by numpy, in bf16 by torch. The shapes that they found
are last timed in turn, each in a fresh process a round,

    python -m nameplate.selftest.search_on_cpu '{"dtype": "fp32", "backend": "numpy", "m": 1024, …}'

so that what the machine does meanwhile reaches all of them. Only these rounds are compared.
"""

from __future__ import annotations

import json
import math
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

from nameplate.base.errors import InputError, NameplateError
from nameplate.base.files import temporary_folder
from nameplate.base.formatting import percent
from nameplate.base.language import _
from nameplate.base.processes import python_command
from nameplate.base.text import plain
from nameplate.record import Record
from nameplate.run.measure import SEED, measure
from nameplate.selftest.contenders import NoFigure, read_answer
from nameplate.selftest.silicon import ABOVE
from nameplate.suite import NO_AXES, Target, find_suite

BUDGET_S = 1800.0
SEARCHED_S = 60.0  # what is to be proved is what a minute finds
# The least that the ceiling may be of the best of whole grids.
LEAST = {"fp32": 0.97, "bf16": 0.99}
_GRIDS = (("fp32", "torch"), ("fp32", "numpy"), ("bf16", "torch"))
_ROUNDS = 7
_TURN_S = 5.0  # one process, about
_TIMED_S, _WARM_S, _BATCH_S = 1.0, 0.5, 0.02
_LEAST_GRID_S = 10.0
_MODULE = "nameplate.selftest.search_on_cpu"


@dataclass(frozen=True)
class Found:
    """The product that a search or a grid found, and how many shapes were timed of how many."""

    dtype: str
    backend: str
    m: int
    n: int
    k: int
    layout: str
    seen: int
    shapes: int

    @property
    def shape(self) -> str:
        """As `1024x512x2048 nt`."""
        return f"{self.m}x{self.n}x{self.k} {self.layout}"


@dataclass(frozen=True)
class Turns:
    """A product and its TFLOPS, one a round."""

    found: Found
    tflops: tuple[float, ...]


@dataclass(frozen=True)
class CeilingRow:
    """The ceiling of one dtype beside the best of the grids: TFLOPS of the turns, and the median ratio."""

    dtype: str
    ceiling: Turns
    best: Turns
    ratio: float
    least: float

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence where the ceiling is too far below."""
        if self.ratio >= self.least:
            return ()
        said = {"dtype": self.dtype, "got": percent(self.ratio), "least": percent(self.least)}
        return (_("{dtype}: the ceiling is {got} of the grids' best; expected at least {least}", **said),)


@dataclass(frozen=True)
class CeilingProof:
    """A row a dtype; `above` has a sentence for each figure of the run above the silicon."""

    rows: tuple[CeilingRow, ...]
    above: tuple[str, ...]
    absent: tuple[str, ...] = ()

    @property
    def failures(self) -> tuple[str, ...]:
        """A sentence for each bound that doesn't hold."""
        return (*self.absent, *(each for row in self.rows for each in row.failures), *self.above)

    @property
    def passed(self) -> bool:
        """Whether there is something to compare and every bound holds."""
        return bool(self.rows) and not self.failures

    def as_json(self) -> dict[str, Any]:
        """Return the rows, what failed, and whether it passed."""
        rows = [asdict(row) for row in self.rows]
        return {"rows": rows, "failures": list(self.failures), "passed": self.passed}


def prove_on_cpu(
    budget_s: float = BUDGET_S,
    results: Path | None = None,
    progress: Callable[[str], None] = lambda said: None,
) -> CeilingProof:
    """Run the ceiling, the grids and the turns in about `budget_s` seconds; `results` keeps the runs.

    Raises InputError for a budget that leaves the grids no time.
    """
    turns_s = _ROUNDS * _TURN_S * (len(_GRIDS) + len(LEAST))
    grid_s = (budget_s - SEARCHED_S - turns_s) / len(_GRIDS)
    if grid_s < _LEAST_GRID_S:
        expected = f"at least {math.ceil(SEARCHED_S + turns_s + _LEAST_GRID_S * len(_GRIDS))}"
        raise InputError("too short to time grids", where="--budget", got=budget_s, expected=expected)
    with temporary_folder() if results is None else nullcontext(results) as folder:
        progress("ceiling")
        run = measure("ceiling", device="cpu", budget=SEARCHED_S, results=folder)
        grids = list[Record]()
        for dtype, backend in _GRIDS:
            progress(f"ceiling-grid {dtype} {backend}")
            only = f"matmul/{dtype}/best/normal/*/{backend}"
            found = measure("ceiling-grid", device="cpu", only=only, budget=grid_s, results=folder)
            grids += found.records
    ceilings = {dtype: find_ceiling(run.records, dtype) for dtype in LEAST}
    contenders = [*ceilings.values(), *map(_found_of, grids)]
    timed = time_in_turn([each for each in contenders if each is not None], time_apart, progress)
    return judge(run.records, grids, timed)


def find_ceiling(records: Sequence[Record], dtype: str) -> Found | None:
    """Return the fastest product of a dtype with a normal fill, by any library; None: there is none."""
    own = [each for each in records if (each.dtype, each.fill, each.status) == (dtype, "normal", "ok")]
    return _found_of(max(own, key=lambda each: each.tflops or 0.0, default=None))


def _found_of(record: Record | None) -> Found | None:
    if record is None or record.tflops is None or record.search is None:
        return None
    size, search = record.dimensions, record.search
    m, n, k = (int(size[axis]) for axis in ("m", "n", "k"))
    return Found(record.dtype, record.backend, m, n, k, str(size["layout"]), search.seen, search.shapes)


def time_in_turn(
    contenders: Sequence[Found],
    time_one: Callable[[Found], float],
    progress: Callable[[str], None] = lambda said: None,
) -> dict[Found, Turns]:
    """Time each of them once a round, in random order."""
    order, found = random.Random(SEED), dict[Found, list[float]]()
    for number in range(1, _ROUNDS + 1):
        progress(f"{number}/{_ROUNDS}")
        for each in order.sample(list(dict.fromkeys(contenders)), len(set(contenders))):
            found.setdefault(each, []).append(time_one(each))
    return {each: Turns(each, tuple(tflops)) for each, tflops in found.items()}


def judge(records: Sequence[Record], grids: Sequence[Record], timed: Mapping[Found, Turns]) -> CeilingProof:
    """Compare the ceiling's records with those of the grids, by what their products reached in turn.

    The grids' best of a dtype is the one of them that was fastest in turn, so the ratio can't profit from a
    grid's luck. A ratio is the median over rounds, each of two neighbours in time.
    """
    rows, absent = [], []
    for dtype, least in LEAST.items():
        ceiling = find_ceiling(records, dtype)
        of_grids = [found for each in grids if each.dtype == dtype and (found := _found_of(each))]
        if ceiling is None or not of_grids:
            absent.append(_("{dtype}: no figure of the ceiling or of a grid", dtype=dtype))
            continue
        ours = timed[ceiling]
        best = max((timed[each] for each in of_grids), key=lambda each: fmean(each.tflops))
        ratio = median(own / other for own, other in zip(ours.tflops, best.tflops, strict=True))
        rows.append(CeilingRow(dtype, ours, best, ratio, least))
    return CeilingProof(tuple(rows), tuple(_find_above(records)), tuple(absent))


def _find_above(records: Sequence[Record]) -> Iterator[str]:
    for each in records:
        if each.tflops is None or each.silicon_tflops is None:
            continue
        share = each.tflops / each.silicon_tflops
        if share > 1 + ABOVE:
            said = {"case": plain(each.case), "share": percent(share)}
            yield _("{case}: {share} of what the silicon can do", **said)


def time_apart(found: Found) -> float:
    """TFLOPS of a product in a process of its own. Raises NoFigure for one that fails."""
    wanted = {key: getattr(found, key) for key in ("dtype", "backend", "m", "n", "k", "layout")}
    return float(read_answer(python_command(_MODULE, json.dumps(wanted)))["tflops"])


# ---- in the process of one turn ----


def time_product(dtype: str, backend: str, **point: Any) -> float:
    """TFLOPS of the median batch of a second, after half a second untimed.

    Raises NoFigure where the suite has no such case.
    """
    import torch

    target = Target("cpu", None, None, frozenset({dtype}), axes=NO_AXES)
    cases = find_suite("ceiling").cases(target)
    grid: Any = next((c.workload for c in cases if (c.workload.dtype, c.backend) == (dtype, backend)), None)
    if grid is None:
        raise NoFigure(f"suite ceiling has no {dtype} by {backend}")
    work = grid.at(point)
    prepared = work.prepare(torch.device("cpu"), fill="normal", seed=SEED)
    launch = prepared.launches[0]
    with prepared.numerics():
        launches = max(1, math.ceil(_BATCH_S / median(_time_batches(launch, 1, _WARM_S))))
        batches = _time_batches(launch, launches, _TIMED_S)
    return float(work.flops * launches / median(batches) / 1e12)


def _time_batches(launch: Callable[[], object], launches: int, seconds: float) -> list[float]:
    """Time batches for so many seconds, at least one; return the seconds of each."""
    end_s, found = time.perf_counter() + seconds, list[float]()
    while not found or time.perf_counter() < end_s:
        begin_s = time.perf_counter()
        for _launch in range(launches):
            launch()
        found.append(time.perf_counter() - begin_s)
    return found


def main() -> None:
    """Print the TFLOPS of the product on the command line as a line of JSON; or say why not."""
    try:
        from nameplate.device.host import set_default_threads

        with set_default_threads():
            print(json.dumps({"tflops": time_product(**json.loads(sys.argv[1]))}))
    except NameplateError as error:
        print(plain(error), file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
