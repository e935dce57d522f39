"""The contenders of `bench selftest --repeat`: Nameplate and other tools, each timing one matrix product.

    python -m nameplate.selftest.contenders NAME DTYPE

times it on this machine's CPU and prints one line of JSON, `{"tflops": {row: figure, …}}`. The product is the
same for all: `torch.mm(a, b, out=c)` of 1024³ with a normal fill, on all of torch's threads. The peers (the
other tools) use the same three buffers for each launch, and run at their defaults, except that torch's Timer
is given torch.get_num_threads() threads, as its recipe shows: its default is one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from importlib.util import find_spec
from statistics import fmean
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError, NameplateError, RunIncomplete
from nameplate.base.files import temporary_folder
from nameplate.base.formatting import duration
from nameplate.base.processes import ChildSilent, python_command, run_to_end
from nameplate.base.text import plain

if TYPE_CHECKING:
    import torch

    from nameplate.device.protocol import Device
    from nameplate.suite import Case

OURS = "nameplate"
RAW = "nameplate raw"
NORMALIZED = "nameplate normalized"
EDGE = 1024
FLOPS = 2 * EDGE**3
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}  # ours → torch's

_MODULE = "nameplate.selftest.contenders"
_DEADLINE_S = 60.0
_SEED = 2024
_OURS_S = 5.0  # about what a peer's process takes with its start
# mamf-finder's --num_warmup_iterations and --num_iterations.
_WARM_UPS = 50
_ITERATIONS = 100
_BENCH_FILE = f"""\
import torch

from {_MODULE} import make_operands


def test_product(benchmark):
    a, b, c = make_operands("{{dtype}}")
    benchmark(torch.mm, a, b, out=c)
"""

Contender = Callable[[int], Mapping[str, float]]  # number of the round → TFLOPS by row of the table


class NoFigure(RunIncomplete):
    """A process gave no figure; the text is why. Where nothing goes on without one, the exit status is 3."""


# ---- in the process that compares ----


def make_peers(dtype: str) -> dict[str, Contender]:
    """Return each peer by its name. A call runs a fresh process, and raises NoFigure where that fails.

    Raises InputError for an unknown dtype.
    """
    _check_known("dtype", dtype, DTYPES)
    return {name: _make_contender(name, dtype) for name in PEERS}


def make_ours(dtype: str) -> Contender:
    """Return Nameplate as a contender. A call raises NoFigure where its process fails.

    Raises InputError for an unknown dtype.
    """
    _check_known("dtype", dtype, DTYPES)
    return _make_contender(OURS, dtype)


def _make_contender(name: str, dtype: str) -> Contender:
    command = python_command(_MODULE, name, dtype)
    return lambda _round: read_answer(command)["tflops"]


def read_answer(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, deadline_s: float = _DEADLINE_S
) -> dict[str, Any]:
    """Run a process to its end and return the JSON object on its last line of output.

    Raises NoFigure for a process that fails, still runs after `deadline_s` seconds or prints something else.
    """
    try:
        done = run_to_end(command, env=env, deadline_s=deadline_s)
    except ChildSilent:
        raise NoFigure(f"still running after {duration(deadline_s)}: ended") from None
    if done.returncode:
        raise NoFigure(f"exit status {done.returncode}: {_last_line(done.stderr)}")
    line = _last_line(done.stdout)
    with suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
    raise NoFigure(f"said {line[:80]!r}, which is no figure")


def _last_line(text: str) -> str:
    return plain(next((line for line in reversed(text.splitlines()) if line.strip()), ""))


def _check_known(what: str, got: str, known: Mapping[str, object]) -> None:
    if got not in known:
        raise InputError(f"unknown {what}", got=got, expected=" or ".join(known))


# ---- in a contender's process: other tools, each returning seconds a launch ----


def make_operands(dtype: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two factors with a standard normal fill and a buffer for their product, each 1024 by 1024."""
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    kind: torch.dtype = getattr(torch, DTYPES[dtype])
    a, b, c = (torch.randn(EDGE, EDGE, generator=generator).to(kind) for _ in range(3))
    return a, b, c


def _time_by_torch_timer(dtype: str) -> float:
    """Return the median, which is the first figure of a Measurement's own text.

    `blocked_autorange` at its default of 0.2 s, `num_threads` as in PyTorch's benchmark recipe
    (docs.pytorch.org/tutorials/recipes/recipes/benchmark.html).
    """
    import torch
    from torch.utils.benchmark import Timer

    a, b, c = make_operands(dtype)
    timer = Timer(
        "torch.mm(a, b, out=c)",
        globals={"a": a, "b": b, "c": c},
        num_threads=torch.get_num_threads(),
    )
    return float(timer.blocked_autorange(min_run_time=0.2).median)


def _time_by_pytest_benchmark(dtype: str, figure: str) -> float:
    """Return `figure` of pytest-benchmark's statistics, with pytest and the plugin at their defaults.

    The documentation names no single headline. Its table begins with min and sorts by it; `ops` is 1 ÷ mean
    (pytest-benchmark.readthedocs.io, usage, `--benchmark-columns` and `--benchmark-sort`).
    """
    if find_spec("pytest_benchmark") is None:
        raise InputError("pytest-benchmark isn't installed", expected="pip install 'nameplate[benchmark]'")
    with temporary_folder() as folder:
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # so that it finds no other
        (folder / "test_product.py").write_text(_BENCH_FILE.format(dtype=dtype), encoding="utf-8")
        # Not run_to_end: it must stay in this process's session, which is killed past the deadline.
        ended = subprocess.run(
            (sys.executable, "-m", "pytest", "--benchmark-json=report.json"),
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            stdout=sys.stderr,
            check=False,
        )
        if ended.returncode:
            raise NoFigure(f"pytest ended with exit status {ended.returncode}")
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return float(report["benchmarks"][0]["stats"][figure])


def _time_hundred(dtype: str, figure: Callable[[Sequence[float]], float]) -> float:
    """Return `figure` of 100 launches that are timed singly after 50 warm-ups.

    The rule is mamf-finder's (github.com/stas00/ml-engineering, `benchmark_mm`), which itself refuses a CPU.
    Here a host clock replaces its events, and the buffers stay warm as those of all contenders do.
    """
    import torch

    a, b, c = make_operands(dtype)
    for _ in range(_WARM_UPS):
        torch.mm(a, b, out=c)
    spans = []
    for _ in range(_ITERATIONS):
        begin = time.perf_counter()
        torch.mm(a, b, out=c)
        spans.append(time.perf_counter() - begin)
    return figure(spans)


PEERS: Mapping[str, Callable[[str], float]] = {
    "torch-timer": _time_by_torch_timer,
    "pytest-benchmark-min": partial(_time_by_pytest_benchmark, figure="min"),
    "pytest-benchmark-mean": partial(_time_by_pytest_benchmark, figure="mean"),
    "mean-of-100": partial(_time_hundred, figure=fmean),
    "best-of-100": partial(_time_hundred, figure=min),
}


# ---- in a contender's process: Nameplate ----


def find_product(device: Device, dtype: str, edge: int = EDGE) -> Case:
    """Return the smoke suite's case of the square product of that edge, without its phase."""
    from nameplate.run.job import target_of
    from nameplate.suite import find_suite

    wanted = f"matmul/{dtype}/{edge}x{edge}x{edge}/*"
    cases = find_suite("smoke").cases(target_of(device))
    return replace(next(case for case in cases if fnmatchcase(case.id, wanted)), phase=None)


def _measure_ours(dtype: str) -> dict[str, float]:
    """Measure with the engine; returns TFLOPS, and achieved ÷ the probe beside it, by row."""
    # Imported here: a peer's process must hold no more than the peer needs.
    from nameplate.device.survey import open_device
    from nameplate.engine.group import Allowance
    from nameplate.engine.measure import measure_group
    from nameplate.engine.pilot import Pilots

    device = open_device("cpu")
    allowance = Allowance(_OURS_S, 5 * _OURS_S)
    (record,) = measure_group([find_product(device, dtype)], device, Pilots(device, _SEED), allowance)
    if record.tflops is None or record.normalized_efficiency is None:
        raise NoFigure(str(record.reason or f"{dtype} has no probe on this CPU"))
    return {RAW: record.tflops, NORMALIZED: record.normalized_efficiency}


def main() -> None:
    """Print the figures of the contender and dtype on the command line; ends with 0, or says why not."""
    try:
        name, dtype = sys.argv[1:]
        _check_known("peer", name, {OURS: None, **PEERS})
        _check_known("dtype", dtype, DTYPES)
        tflops = _measure_ours(dtype) if name == OURS else {name: FLOPS / PEERS[name](dtype) / 1e12}
        print(json.dumps({"tflops": tflops}))
    except NameplateError as error:
        print(plain(error), file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
