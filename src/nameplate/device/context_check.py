"""A small computation with a known result, which tells whether a GPU still works in this process.

After some errors (an illegal address, a failed launch, an uncorrectable memory error) "the process must be
terminated and relaunched": any further CUDA work returns the same error (cudaErrorIllegalAddress and others,
CUDA Runtime API). Which errors those are differs between versions, so the device itself is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_COUNT = 1024


class ContextCheck:
    """The computation on one device, whose memory is allocated while the device is still well."""

    def __init__(self, device: torch.device) -> None:
        """Allocate; raises what torch raises."""
        import torch

        self._numbers = torch.arange(_COUNT, dtype=torch.int32, device=device)
        self._result = torch.empty_like(self._numbers)
        self._expected = torch.arange(_COUNT, dtype=torch.int32)
        self._factor = 1

    def passes(self, synchronize: Callable[[], None]) -> bool:
        """Compute anew, wait for the device, and tell whether the result is right; False after any error."""
        import torch

        self._factor += 1  # so that an old result isn't taken for a new one
        try:
            torch.mul(self._numbers, self._factor, out=self._result)
            synchronize()
            return torch.equal(self._result.cpu(), self._expected * self._factor)
        except Exception:  # whatever it is, the device doesn't work
            return False
