"""Which kernels a launch runs: what the libraries and torch itself call them.

The backend that a case asks for is in its id; a library may still choose among many kernels, or fall back to
a slow one without a word. Naming a kernel takes one launch outside all timing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from nameplate.workload import Launch

if TYPE_CHECKING:
    from torch._ops import OpOverload

_ONEDNN = re.compile(r"^onednn_verbose,v1,primitive,exec,cpu,([^,]+),([^,]+),")
_MKL = re.compile(r"^MKL_VERBOSE (\w+)\(")
_STDOUT = 1
_MOST_NAMES = 16  # a training pass runs some twenty kernels; those with the most time are worth a line each


def name_cpu_kernels(launch: Launch) -> tuple[str, ...]:
    """Launch once on the CPU; return the library kernels it called, then torch's own operators, each once.

    oneDNN and MKL name theirs in their verbose modes, as in `oneDNN matmul brg_matmul:avx512_core_amx` and
    `MKL SGEMM`. Operators are those of torch's dispatcher, `aten::mm`, without views. An operator without a
    library kernel beside it ran torch's own loops.
    """
    operators: list[str] = []

    def run() -> None:
        with _library_verbose(), _recorded(operators):
            launch()

    printed = _stdout_of(run)
    return tuple(dict.fromkeys([*parse_library_kernels(printed), *operators]))


def parse_library_kernels(verbose: str) -> list[str]:
    """Read the kernels' names, in order of their calls, from what oneDNN and MKL print when verbose."""
    found = []
    for line in verbose.splitlines():
        if called := _ONEDNN.match(line):
            found.append(f"oneDNN {called[1]} {called[2]}")
        elif called := _MKL.match(line):
            found.append(f"MKL {called[1]}")
    return list(dict.fromkeys(found))


def name_cuda_kernels(launch: Launch) -> tuple[str, ...]:
    """Launch once on the GPU; return its kernels' names by torch's profiler, those with most time first.

    At most 16. The profiler stays attached to the driver afterwards, so a caller asks when nothing more of
    the case is to be timed.
    """
    # The profiler's own notes would go to the user's terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile, supported_activities

    if ProfilerActivity.CUDA not in supported_activities():
        return ()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        launch()
    spent_us: dict[str, float] = {}
    for event in profiler.events() or ():
        if event.device_type.name == "CUDA":
            spent_us[event.name] = spent_us.get(event.name, 0.0) + event.device_time_total
    return tuple(sorted(spent_us, key=lambda name: -spent_us[name])[:_MOST_NAMES])


def _stdout_of(action: Callable[[], object]) -> str:
    """Run `action` and return what it, C code included, printed on standard output meanwhile."""
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        _flush_c()
        kept = os.dup(_STDOUT)
        os.dup2(file.fileno(), _STDOUT)
        try:
            action()
        finally:
            sys.stdout.flush()
            _flush_c()
            os.dup2(kept, _STDOUT)
            os.close(kept)
        file.seek(0)
        return file.read().decode(errors="replace")


def _flush_c() -> None:
    ctypes.CDLL(None).fflush(None)


@contextmanager
def _library_verbose() -> Iterator[None]:
    """Have oneDNN and MKL print each call, where torch was built with them."""
    import torch

    with ExitStack() as stack:
        if torch.backends.mkldnn.is_available():
            stack.enter_context(torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON))
        if torch.backends.mkl.is_available():
            stack.enter_context(torch.backends.mkl.verbose(torch.backends.mkl.VERBOSE_ON))
        yield


@contextmanager
def _recorded(operators: list[str]) -> Iterator[None]:
    """Append the name of each operator that torch dispatches, views left out."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: OpOverload, types: Sequence[type], args: Any = (), kwargs: Any = None
        ) -> Any:
            if not func.is_view:
                operators.append(func.name().partition(".")[0])
            return func(*args, **(kwargs or {}))

    with Recorder():
        yield
