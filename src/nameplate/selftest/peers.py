"""What other tools say of one matrix product on the CPU, each from a fresh process.

    python -m nameplate.selftest.peers NAME DTYPE

prints one line, `{"tflops": x}`. The product is the same for all: `torch.mm(a, b, out=c)` of 1024³ with a
normal fill, the same three buffers each time, on all of torch's threads. Each tool runs at its defaults, but
for torch's Timer, which would use one thread: it is given torch.get_num_threads(), as its recipe shows.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nameplate.base.errors import InputError, NameplateError
from nameplate.base.formatting import duration
from nameplate.base.text import plain

if TYPE_CHECKING:
    import torch

EDGE = 1024
FLOPS = 2 * EDGE**3
DEADLINE_S = 60.0
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}  # ours → torch's

_MODULE = "nameplate.selftest.peers"
_SEED = 2024
# mamf-finder's --num_warmup_iterations and --num_iterations.
_WARM_UPS = 50
_ITERATIONS = 100
_BENCH_FILE = f"""\
import torch

from {_MODULE} import operands


def test_product(benchmark):
    a, b, c = operands("{{dtype}}")
    benchmark(torch.mm, a, b, out=c)
"""


class NoFigure(NameplateError):
    """A process gave no figure; the text is why."""


def peers(
    dtype: str = "bf16", *, env: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> dict[str, Callable[[int], float]]:
    """Return each peer's TFLOPS by its name: a function of the round's number that runs a fresh process.

    `env` is the processes' whole environment, None: this one's. A call raises NoFigure where the process
    fails or is still there after `deadline_s` seconds. Raises InputError for an unknown dtype.
    """
    _check("dtype", dtype, DTYPES)
    return {name: partial(_tflops_of, name, dtype, env, deadline_s) for name in PEERS}


def _tflops_of(name: str, dtype: str, env: Mapping[str, str] | None, deadline_s: float, _round: int) -> float:
    command = (sys.executable, "-P", "-m", _MODULE, name, dtype)
    return float(ask(command, env=env, deadline_s=deadline_s)["tflops"])


def ask(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, deadline_s: float = DEADLINE_S
) -> dict[str, Any]:
    """Run a process to its end and return the JSON object that is its last line of output.

    It has a process group of its own, which is killed after `deadline_s` seconds, or when this call is
    interrupted. Raises NoFigure for a process that fails, hangs or says something else.
    """
    with subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            said, complained = child.communicate(timeout=deadline_s)
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise NoFigure(f"still running after {duration(deadline_s)}: ended") from None
            raise
    if child.returncode:
        raise NoFigure(f"exit status {child.returncode}: {_last_line(complained)}")
    return _as_answer(_last_line(said))


def _last_line(text: str) -> str:
    return plain(next((line for line in reversed(text.splitlines()) if line.strip()), ""))


def _as_answer(line: str) -> dict[str, Any]:
    with suppress(ValueError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
    raise NoFigure(f"said {line[:80]!r}, which is no figure")


def operands(dtype: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two factors with a standard normal fill and the buffer for their product, each 1024 by 1024."""
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    kind: torch.dtype = getattr(torch, DTYPES[dtype])
    a, b, c = (torch.randn(EDGE, EDGE, generator=generator).to(kind) for _ in range(3))
    return a, b, c


def _torch_timer(dtype: str) -> float:
    """Seconds a launch: the median, with which a Measurement's own text begins.

    `blocked_autorange` at its default of 0.2 s, `num_threads` as in PyTorch's benchmark recipe
    (docs.pytorch.org/tutorials/recipes/recipes/benchmark.html).
    """
    import torch
    from torch.utils.benchmark import Timer

    a, b, c = operands(dtype)
    timer = Timer(
        "torch.mm(a, b, out=c)",
        globals={"a": a, "b": b, "c": c},
        num_threads=torch.get_num_threads(),
    )
    return float(timer.blocked_autorange(min_run_time=0.2).median)


def _pytest_benchmark(dtype: str, figure: str) -> float:
    """Seconds a call, `figure` of pytest-benchmark's statistics: pytest and the plugin at their defaults.

    The documentation names no one headline. Its table begins with min and sorts by it; `ops` is 1 ÷ mean
    (pytest-benchmark.readthedocs.io, usage, `--benchmark-columns` and `--benchmark-sort`).
    """
    if find_spec("pytest_benchmark") is None:
        raise InputError("pytest-benchmark isn't installed", expected="pip install 'nameplate[benchmark]'")
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # nobody else's options
        (folder / "test_product.py").write_text(_BENCH_FILE.format(dtype=dtype), encoding="utf-8")
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


def _hundred(dtype: str, figure: Callable[[Sequence[float]], float]) -> float:
    """Seconds a launch, `figure` of 100 timed singly after 50 warm-ups.

    The rule of mamf-finder (github.com/stas00/ml-engineering, `benchmark_mm`), which itself refuses a CPU: a
    host clock stands in for its events, and the buffers stay warm here as everyone's do.
    """
    import torch

    a, b, c = operands(dtype)
    for _ in range(_WARM_UPS):
        torch.mm(a, b, out=c)
    spans = []
    for _ in range(_ITERATIONS):
        begin = time.perf_counter()
        torch.mm(a, b, out=c)
        spans.append(time.perf_counter() - begin)
    return figure(spans)


# Each peer's way to measure: dtype → seconds a launch.
PEERS: Mapping[str, Callable[[str], float]] = {
    "torch-timer": _torch_timer,
    "pytest-benchmark-min": partial(_pytest_benchmark, figure="min"),
    "pytest-benchmark-mean": partial(_pytest_benchmark, figure="mean"),
    "mean-of-100": partial(_hundred, figure=fmean),
    "best-of-100": partial(_hundred, figure=min),
}


def _check(what: str, got: str, known: Mapping[str, object]) -> None:
    if got not in known:
        raise InputError(f"unknown {what}", got=got, expected=" or ".join(known))


def main() -> None:
    """Print the figure of the peer and dtype that the command line names; ends with 0, or says why not."""
    try:
        name, dtype = sys.argv[1:]
        _check("peer", name, PEERS)
        _check("dtype", dtype, DTYPES)
        print(json.dumps({"tflops": FLOPS / PEERS[name](dtype) / 1e12}))
    except NameplateError as error:
        print(plain(error), file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
