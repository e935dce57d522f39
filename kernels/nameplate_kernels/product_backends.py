"""Who multiplies two matrices: libraries by name, whether one can here, and how it is called.

`torch` calls the vendor's library as any user of torch does. The others show whether that is the best there
is: the same shapes by another library, or by the same one with more of its choices made.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any

import torch

from nameplate_kernels.numerics import HALVES

TORCH = "torch"
Launch = Callable[[], object]

_FP32_ROUNDOFF = 2.0**-24
_UNSIGNED_OFFSET = 128
_ALGORITHMS = 8


class Kept:
    """A launch whose call allocates its result; the latest is `result`, at first what it was made with."""

    def __init__(self, call: Callable[[], torch.Tensor], result: torch.Tensor) -> None:
        self._call, self.result = call, result

    def __call__(self) -> None:
        """Launch."""
        self.result = self._call()


@dataclass(frozen=True)
class ProductBackend:
    """One way to multiply: `make` returns the launch of A (m×k) times B (k×n) into C, or a `Kept`.

    `layouts` are those that make a difference to it. `thread_pool` names threads of its own, that would spin
    beside torch's: what has them is measured in processes without torch's products. `setup_s` is what the
    first launch of a shape takes besides (compiling). `algorithms` is how many ways of its own it can be told
    to multiply in. `result_roundoff` is that of its result, where it isn't the dtype's.
    """

    make: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], Launch]
    device: str | None
    dtypes: tuple[str, ...]
    why_absent: Callable[[], str | None]
    layouts: tuple[str, ...] = ("nn", "nt", "tn", "tt")
    thread_pool: str | None = None
    setup_s: float = 0.0
    algorithms: int = 1
    result_roundoff: float | None = None


def result_of(launch: Launch, c: torch.Tensor) -> torch.Tensor:
    """Return the latest result of a launch that was made for C."""
    return launch.result if isinstance(launch, Kept) else c


def find_backend(name: str) -> ProductBackend:
    """Return the backend of this name. Raises ValueError for an unknown one."""
    try:
        return PRODUCT_BACKENDS[name]
    except KeyError:
        known = ", ".join(PRODUCT_BACKENDS)
        raise ValueError(f"unknown backend of products {name!r}; expected one of {known}") from None


def why_backend_cant(name: str, dtype: str, device: torch.device) -> str | None:
    """Return why a backend can't multiply this dtype on this device, in one clause; None where it can."""
    backend = find_backend(name)
    if backend.device is not None and backend.device != device.type:
        return f"{name} multiplies on a {backend.device} device alone; this is a {device.type} device"
    if dtype not in backend.dtypes:
        return f"{name} has no products of {dtype}"
    return backend.why_absent()


def _never_absent() -> None:
    return None


def _multiply_by_torch(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, _algorithm: int) -> Launch:
    return partial(torch.mm, a, b, out=c)


# ---- oneDNN with packed weights ----


def _multiply_packed(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, _algorithm: int) -> Launch:
    """Multiply by oneDNN's inner product, B in the order that its kernel reads (as inductor's weights)."""
    if a.dtype == torch.int8:
        return _multiply_packed_integers(a, b, c)
    ops: Any = torch.ops.mkldnn
    packed = ops._reorder_linear_weight(b.t(), a.shape[0])
    return Kept(partial(ops._linear_pointwise, a, packed, None, "none", [], ""), c)


def _multiply_packed_integers(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> Launch:
    """Multiply by oneDNN's quantised linear: A unsigned with a zero point, as VNNI has it; fp32 comes out."""
    ops: Any = torch.ops.onednn
    packed = ops.qlinear_prepack(b.t().contiguous(), list(a.shape))
    unsigned = (a.int() + _UNSIGNED_OFFSET).to(torch.uint8)
    ones, zeros = torch.ones(b.shape[1]), torch.zeros(b.shape[1], dtype=torch.int64)
    call = partial(
        ops.qlinear_pointwise,
        *(unsigned, 1.0, _UNSIGNED_OFFSET, packed, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""),
    )
    return Kept(call, c)


def _why_no_onednn() -> str | None:
    mkldnn: Any = torch.backends.mkldnn
    if not mkldnn.is_available():
        return "this torch was built without oneDNN"
    has = hasattr(torch.ops.mkldnn, "_linear_pointwise") and hasattr(torch.ops.onednn, "qlinear_pointwise")
    return None if has else "this torch has no oneDNN products with packed weights"


# ---- numpy ----


def _multiply_by_numpy(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, _algorithm: int) -> Launch:
    import numpy as np

    _use_all_threads()
    return partial(np.matmul, a.numpy(), b.numpy(), out=c.numpy())


def _use_all_threads() -> None:
    """Give numpy's OpenBLAS as many threads as torch has: the harness keeps it at one beside torch."""
    set_threads = _find_openblas_setter()
    if set_threads is not None:
        set_threads(torch.get_num_threads())


def _find_openblas_setter() -> Callable[[int], object] | None:
    """Return what sets the threads of the OpenBLAS that numpy brings; None where it brings none."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            paths = {line.split()[-1] for line in maps if "openblas" in line and "numpy" in line}
    except OSError:
        return None
    for path in sorted(paths):
        library = ctypes.CDLL(path, mode=os.RTLD_NOLOAD | os.RTLD_NOW)
        for name in (
            "scipy_openblas_set_num_threads64_",
            "openblas_set_num_threads64_",
            "openblas_set_num_threads",
        ):
            if hasattr(library, name):
                return getattr(library, name)  # type: ignore[no-any-return]
    return None


def _why_no_numpy() -> str | None:
    if importlib.util.find_spec("numpy") is None:
        return "numpy isn't installed"
    import numpy  # noqa: F401 - loads the BLAS whose threads are to be set

    if torch.get_num_threads() > 1 and _find_openblas_setter() is None:
        return "this numpy has no OpenBLAS of its own whose threads could be set"
    return None


# ---- torch.compile ----


def _multiply_compiled(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, _algorithm: int) -> Launch:
    """torch.compile with autotuning; on a CPU with B as a frozen weight, which its own kernels ask for."""
    from torch._inductor import config

    linear = torch.nn.Linear(b.shape[0], b.shape[1], bias=False, device=b.device, dtype=b.dtype)
    linear.weight = torch.nn.Parameter(b.t(), requires_grad=False)
    compiled = torch.compile(linear.eval(), mode="max-autotune-no-cudagraphs", dynamic=False)

    def call() -> torch.Tensor:
        with torch.inference_mode(False), torch.no_grad():
            found: torch.Tensor = compiled(a)
            return found

    with config.patch(freezing=True, compile_threads=1):
        call()  # compiles: never in a timed launch
    return Kept(call, c)


def _why_no_compiler() -> str | None:
    if torch.cuda.is_available():
        has_triton = importlib.util.find_spec("triton") is not None
        return None if has_triton else "torch.compile needs triton on a GPU, and it isn't installed"
    has_compiler = any(map(shutil.which, ("g++", "clang++", "c++")))
    return None if has_compiler else "torch.compile needs a C++ compiler on a CPU, and there is none"


# ---- cuBLASLt's heuristics ----


def _multiply_by_cublaslt(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, algorithm: int) -> Launch:
    """One of the algorithms that cuBLASLt's heuristics propose, in their order, by nvmath-python.

    Raises ValueError where they propose fewer.
    """
    from nvmath.linalg.advanced import Matmul as Product  # type: ignore[import-not-found]
    from nvmath.linalg.advanced import MatmulPlanPreferences

    product = Product(a, b)
    found = product.plan(preferences=MatmulPlanPreferences(limit=_ALGORITHMS))
    if algorithm >= len(found):
        raise ValueError(f"cuBLASLt proposes {len(found)} algorithms for this shape, not {algorithm + 1}")
    return Kept(partial(product.execute, algorithm=found[algorithm]), c)


def _why_no_nvmath() -> str | None:
    return None if importlib.util.find_spec("nvmath") else "nvmath-python isn't installed"


_FLOATS = ("fp64", "fp32", "tf32", *HALVES)
PRODUCT_BACKENDS: Mapping[str, ProductBackend] = MappingProxyType(
    {
        TORCH: ProductBackend(
            _multiply_by_torch,
            None,
            (*_FLOATS, "fp16_acc16", "fp8_e4m3", "fp8_e5m2", "mxfp8", "nvfp4", "int8"),
            _never_absent,
        ),
        "onednn_packed": ProductBackend(
            _multiply_packed,
            "cpu",
            ("fp32", *HALVES, "int8"),
            _why_no_onednn,
            layouts=("nt",),
            result_roundoff=_FP32_ROUNDOFF,
        ),
        "numpy": ProductBackend(
            _multiply_by_numpy, "cpu", ("fp64", "fp32"), _why_no_numpy, thread_pool="OpenBLAS"
        ),
        "torch_compile": ProductBackend(
            _multiply_compiled,
            None,
            ("bf16", "fp16", "fp32"),
            _why_no_compiler,
            layouts=("nt",),
            setup_s=15.0,
        ),
        "cublaslt": ProductBackend(
            _multiply_by_cublaslt, "cuda", ("fp64", "fp32", *HALVES), _why_no_nvmath, algorithms=_ALGORITHMS
        ),
    }
)
"""`torch`: torch.mm, torch._scaled_mm, torch._int_mm; `onednn_packed`: oneDNN with B reordered beforehand;
`numpy`: numpy's BLAS; `torch_compile`: max-autotune; `cublaslt`: what its heuristics propose, one by one.
"""
