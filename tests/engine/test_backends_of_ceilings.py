"""Several libraries in one group: whose winners are measured, in which processes, and what is said of it."""

from dataclasses import dataclass, replace

import pytest

from nameplate.device import survey
from nameplate.engine.best_case import SearchData
from nameplate.engine.ceiling import ProbeChoice
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_in_processes
from nameplate.engine.pilot import Pilots
from nameplate.engine.runner import InThisProcess
from nameplate.record import SearchLook, SearchSummary
from nameplate.suite import Case
from nameplate_kernels import BestMatmul

GRID = BestMatmul((2048, 4096), (2048,), (4096,), "bf16", ("nn",))
POINT = {"m": 4096, "n": 2048, "k": 4096, "layout": "nn"}


def _found(tflops):
    looks = [SearchLook(point=POINT, stage="confirm", begin_s=0.0, cost_s=0.1, tflops=tflops)]
    return SearchData(POINT, SearchSummary(shapes=2, seen=1, cost_s=0.1, grid_s=1.0, looks=looks))


class _Runner(InThisProcess):
    """Measures on a twin; searches end as they are told to, and the tasks are noted."""

    def __init__(self, found):
        device = survey.open_device("twin:h200")
        super().__init__(device, Pilots(device, 1), ProbeChoice(device, 1))
        self.found, self.searched, self.adopted, self.tasks = found, {}, [], []

    def search(self, case, budget_s, to_beat=0.0):
        self.searched[case.id] = (budget_s, to_beat)
        return self.found[case.backend]

    def adopt(self, case, point):
        self.adopted.append((case.fill, point))

    def measure(self, task):
        self.tasks.append([case.id for case in task.cases])
        return super().measure(task)


def _case(backend="torch", **axes):
    # A twin has no other libraries: what runs is torch's, whatever the case is called.
    grid = replace(GRID, exhaustive=backend != "torch")
    return Case(grid, cache="rotating", phase="sustained", backend=backend, **axes)


@pytest.fixture(scope="module")
def measured():
    runner = _Runner({"torch": _found(100.0), "slow": _found(80.0)})
    cases = [_case(), _case(fill="zeros", weight=0.5), _case("slow", weight=0.5)]
    return runner, measure_in_processes(cases, runner, Allowance(20.0, 40.0))


def test_what_is_clearly_slower_in_its_search_isnt_measured(measured):
    _, (_, _, slow) = measured
    assert slow.status == "skipped"
    assert "80.0 TFLOPS where another backend's reached 100" in str(slow.reason)
    assert slow.search.seen == 1  # what it looked at is kept


def test_cases_that_differ_by_fill_alone_have_one_search(measured):
    runner, (normal, zeros, _) = measured
    assert len(runner.searched) == 2
    assert runner.adopted == [("zeros", POINT)]
    assert normal.dimensions == zeros.dimensions
    assert zeros.tflops > normal.tflops  # the card isn't at its power limit
    (first_s, first_to_beat), (other_s, to_beat) = runner.searched.values()
    assert first_s == pytest.approx(0.55 * 20.0 / 1.5, rel=0.01)  # by weight; the fill needs no search
    assert other_s == pytest.approx(0.55 * 20.0, rel=0.01)  # the first took no time of its own
    assert (first_to_beat, to_beat) == (0.0, pytest.approx(90.0))


@dataclass(frozen=True)
class _Compiling(BestMatmul):
    """A library that compiles each shape, and knows one layout."""

    compile_allowance_s: float = 2.0


def test_what_compiles_takes_the_shape_that_others_found_in_processes_of_its_own():
    grid = _Compiling((2048, 4096), (2048,), (4096,), "bf16", ("nt",))
    compiled = Case(grid, cache="rotating", phase="sustained", backend="compiled", weight=0.2)
    runner = _Runner({"torch": _found(100.0)})
    by_torch, found = measure_in_processes([_case(), compiled], runner, Allowance(20.0, 40.0))
    assert list(runner.searched) == [by_torch.case]  # it has no search of its own
    assert runner.adopted == [("normal", POINT | {"layout": "nt"})]
    assert (found.dimensions["m"], found.dimensions["layout"]) == (4096, "nt")
    assert (found.search, found.status) == (by_torch.search, "ok")
    assert all(len({case.rpartition("/")[2] for case in task}) == 1 for task in runner.tasks)


def test_what_compiles_for_too_long_is_skipped_with_the_seconds():
    grid = _Compiling((2048, 4096), (2048,), (4096,), "bf16", ("nt",), compile_allowance_s=15.0)
    compiled = Case(grid, cache="rotating", phase="sustained", backend="compiled", weight=0.2)
    runner = _Runner({"torch": _found(100.0)})
    _, skipped = measure_in_processes([_case(), compiled], runner, Allowance(20.0, 40.0))
    assert (skipped.status, len(runner.tasks[0])) == ("skipped", 1)
    assert "about 15 s, more than 15% of the 20 s that its dtype has" in str(skipped.reason)


def test_libraries_with_threads_of_their_own_are_measured_in_processes_of_their_own(monkeypatch):
    own = replace(GRID, backend="numpy", dtype="fp32")
    monkeypatch.setattr("nameplate_kernels.matmul.why_backend_cant", lambda *_: None)
    runner = _Runner({"torch": _found(100.0), "numpy": _found(99.0)})
    by_torch = Case(replace(GRID, dtype="fp32"), cache="rotating", phase="sustained")
    cases = [by_torch, Case(own, cache="rotating", phase="sustained", backend="numpy")]
    measure_in_processes(cases, runner, Allowance(6.0, 12.0))
    assert all(len({case.rpartition("/")[2] for case in task}) == 1 for task in runner.tasks)
