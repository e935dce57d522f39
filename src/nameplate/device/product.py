"""A square matrix product by torch, as a probe of a CPU's conditions; not one of the measured workloads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nameplate.device.interface import Probe

if TYPE_CHECKING:
    import torch

# The probe's shape is none of the suites': a product can't be its own ceiling. It takes some milliseconds.
_PROBE_EDGE = 768
# Where a CPU's libraries reach their best, in every dtype seen so far.
_BEST_EDGES = (1024, 2048)
_DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class _Product:
    """C = A·B with all three `edge`² in one dtype, on buffers that can be had anew."""

    def __init__(self, edge: int, dtype: str) -> None:
        self._edge, self._dtype = edge, dtype
        self._operands: tuple[torch.Tensor, torch.Tensor] | None = None

    def renew(self) -> None:
        """Put the operands, filled the first time, and what they are multiplied into, elsewhere."""
        import torch

        if self._operands is None:
            kind = getattr(torch, _DTYPES[self._dtype])
            a, b = (torch.randn(self._edge, self._edge).to(kind) for _ in range(2))
        else:
            a, b = (operand.clone() for operand in self._operands)
        self._operands, self._product = (a, b), torch.empty_like(a)

    def launch(self) -> None:
        """Multiply once."""
        import torch

        if self._operands is None:
            self.renew()
        assert self._operands is not None
        torch.mm(*self._operands, out=self._product)


def product_probe(dtype: str) -> Probe | None:
    """The probe of a dtype with the products to calibrate it by; None for a dtype that torch has no product
    in.
    """
    if dtype not in _DTYPES:
        return None
    best = tuple(_probe(edge, dtype) for edge in _BEST_EDGES)
    return _probe(_PROBE_EDGE, dtype, best)


def _probe(edge: int, dtype: str, larger: tuple[Probe, ...] = ()) -> Probe:
    product = _Product(edge, dtype)
    name = f"{dtype} {edge}x{edge}x{edge}"
    return Probe(name, 2 * edge**3, product.launch, product.renew, larger)
