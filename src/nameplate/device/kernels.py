"""Names the kernels that a launch runs, from the libraries' verbose modes and torch's profiler, and whose
attention is among them.

A library chooses among many kernels, and may fall back to a slow one silently. Naming the kernels takes one
launch outside all timing.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nameplate.record import KernelTime
from nameplate.workload import Launch

if TYPE_CHECKING:
    from torch._ops import OpOverload

_ONEDNN = re.compile(r"^onednn_verbose,v1,primitive,exec,cpu,([^,]+),([^,]+),")
_MKL = re.compile(r"^MKL_VERBOSE (\w+)\(")
_STDOUT = 1
_MOST_NAMES = 16  # a training pass runs some twenty kernels; the last ones take little time
# Which of the backends of torch's scaled_dot_product_attention a kernel, or on a CPU an operator, belongs to;
# the names of torch.nn.attention.SDPBackend. Sources: cuDNN's names as torch's profiler shows them
# (`cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_…`); of torch's own tree, in
# aten/src/ATen/native: transformers/cuda/flash_attn (`pytorch_flash::flash_fwd_kernel`),
# transformers/cuda/mem_eff_attention (`fmha_cutlassF_bf16_aligned_64x128_rf_sm80`, `…B_…` backward),
# cpu/FlashAttentionKernel.cpp; FlashAttention 3 and 4 (hopper/flash_fwd_kernel_sm90.h: `FlashAttnFwdSm90`,
# flash_attn/cute: `FlashAttentionForwardSm100`), which torch can be told to use.
_ATTENTION = (
    ("cudnn", re.compile(r"cudnn\w*_sdpa|_scaled_dot_product_cudnn")),
    ("flash", re.compile(r"flash_(fwd|bwd)|FlashAttn|FlashAttention|_scaled_dot_product_flash")),
    ("efficient", re.compile(r"fmha_cutlass|PyTorchMemEffAttention|_scaled_dot_product_efficient")),
)
# Without a fused kernel torch computes products and a softmax (aten/src/ATen/native/cuda/SoftMax.cu,
# PersistentSoftmax.cuh; on a CPU the operators).
_PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
_SOFTMAX = re.compile(r"cunn_SoftMaxForward|softmax_warp_forward|aten::_(safe_)?softmax")


def name_cpu_kernels(launch: Launch) -> tuple[str, ...]:
    """Launch once on the CPU; return the library kernels it called, then torch's operators, each once.

    oneDNN and MKL name their kernels in their verbose modes, as in `oneDNN matmul brg_matmul:avx512_core_amx`
    and `MKL SGEMM`. Operators are those of torch's dispatcher, such as `aten::mm`, without views. If there is
    an operator but no library kernel, torch's own loops ran.
    """
    operators: list[str] = []

    def run() -> None:
        with _library_verbose(), _recorded(operators):
            launch()

    printed = _stdout_of(run)
    return tuple(dict.fromkeys([*parse_library_kernels(printed), *operators]))


def load_naming() -> None:
    """Load what naming a CPU's kernels needs: the first operator that is recorded imports 800 modules, and
    MKL times the processor's clock before its first verbose line, for half a second (seen).

    It computes one number, which starts no thread.
    """
    import torch

    def multiply() -> None:
        one = torch.ones(1, 1)
        with _library_verbose(), _recorded([]):
            torch.mm(one, one)

    _stdout_of(multiply)


def parse_library_kernels(verbose: str) -> list[str]:
    """Return the kernels' names, in order of their calls, from the verbose output of oneDNN and MKL."""
    found = []
    for line in verbose.splitlines():
        if called := _ONEDNN.match(line):
            found.append(f"oneDNN {called[1]} {called[2]}")
        elif called := _MKL.match(line):
            found.append(f"MKL {called[1]}")
    return list(dict.fromkeys(found))


def list_cuda_kernels(launch: Launch) -> tuple[tuple[str, float], ...]:
    """Launch once on the GPU; return every kernel and copy that ran, by name, with its microseconds.

    Torch's profiler stays attached to the driver afterwards: call this after all timing of the case.
    """
    # Without this, the profiler's own notes go to the user's terminal.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile, supported_activities

    if ProfilerActivity.CUDA not in supported_activities():
        return ()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        launch()
    return tuple(
        (event.name, event.device_time_total)
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
    )


def profile_launch(launch: Launch, trace: Path, *, on_cuda: bool) -> tuple[KernelTime, ...]:
    """Launch once under torch's profiler, write its trace for Chrome, and return the kernels that ran.

    On a CPU kernels are torch's operators, each without the time of those that it calls. The launch must wait
    for its own end. FLOPs are those that the profiler counts of products.
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from torch.profiler import ProfilerActivity, profile

    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with profile(activities=activities, with_flops=True) as profiler:
        launch()
    trace.parent.mkdir(exist_ok=True)
    profiler.export_chrome_trace(str(trace))
    return sum_kernels(profiler.events() or (), on_cuda=on_cuda)


def sum_kernels(events: Iterable[Any], *, on_cuda: bool) -> tuple[KernelTime, ...]:
    """Return the time, calls and FLOPs of each kernel among a profiler's events, the longest first.

    Of a GPU's kernel the FLOPs are those of the operator that launched it, where it launched no other.
    """
    # The profiler counts elementwise operators too, which no convention does.
    times_s, calls, flops = dict[str, float](), Counter[str](), Counter[str]()
    for event in events:
        is_host = event.device_type.name == "CPU"
        launched = {kernel.name for kernel in event.kernels} if is_host else set()
        counted = {event.name} if is_host and not on_cuda else launched
        if event.flops and len(counted) == 1 and event.name in _PRODUCTS:
            flops[counted.pop()] += event.flops
        if is_host != on_cuda:
            spent_us = event.self_cpu_time_total if is_host else event.device_time_total
            times_s[event.name] = times_s.get(event.name, 0.0) + spent_us / 1e6
            calls[event.name] += 1
    return tuple(
        KernelTime(name=name, time_s=times_s[name], calls=calls[name], flops=flops[name] or None)
        for name in sorted(times_s, key=lambda each: -times_s[each])
        if times_s[name] > 0
    )


def rank_kernels(kernels: Iterable[tuple[str, float]]) -> tuple[str, ...]:
    """Return the names of the 16 kernels with most time, longest first; those of attention that aren't among
    them follow.
    """
    spent_us: dict[str, float] = {}
    for name, us in kernels:
        spent_us[name] = spent_us.get(name, 0.0) + us
    names = sorted(spent_us, key=lambda name: -spent_us[name])
    return (*names[:_MOST_NAMES], *(name for name in names[_MOST_NAMES:] if name_attention([name])))


def name_attention(kernels: Sequence[str]) -> str | None:
    """Return the backend of attention among these kernels or operators: cudnn, flash, efficient or math.

    Where several ran (a pass forward and another backward), all of them, joined by a comma; None for none.
    """
    found = [backend for backend, pattern in _ATTENTION if any(pattern.search(kernel) for kernel in kernels)]
    if not found and any(_SOFTMAX.search(kernel) for kernel in kernels):
        found = ["math"]
    return ", ".join(found) or None


def _stdout_of(action: Callable[[], object]) -> str:
    """Run `action` and return its standard output, that of C code included."""
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
    """Append the name of each operator that torch dispatches, except views."""
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
