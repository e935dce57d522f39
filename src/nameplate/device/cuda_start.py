"""Starts CUDA in another process first, so that a driver that hangs costs a command its deadline and no more.

torch starts CUDA (`cuInit`) in the process that asks it for GPUs, and a sick card can make that call hang or
crash. The other process loads nothing but the driver's library, so it takes as long as the driver does.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import cache

from nameplate.base.environment import READY_VARIABLE, read_seconds
from nameplate.base.errors import InputError
from nameplate.base.formatting import duration
from nameplate.base.processes import ChildSilent, run_to_end

# Eight cards that aren't kept initialised take some 20 s.
_START_S = 120.0
# A driver is loaded where one of these exists: Linux, and Linux under Windows.
_DRIVER_FILES = ("/dev/nvidiactl", "/dev/dxg")
_START = "import ctypes; ctypes.CDLL('libcuda.so.1').cuInit(0)"


class CudaUnusable(InputError):
    """CUDA can't be started on this machine: the call that starts it hangs or crashes."""


def is_driver_loaded() -> bool:
    """Whether there is an NVIDIA driver whose start could hang."""
    return any(map(os.path.exists, _DRIVER_FILES))


def require_cuda_start() -> None:
    """Raise CudaUnusable where CUDA doesn't start; an error that it returns is for torch to tell.

    Asked once in a process: whoever may be the first to have torch start CUDA calls this before.
    """
    if is_driver_loaded():
        _start_elsewhere()


@cache  # keeps no exception
def _start_elsewhere() -> None:
    try:
        done = run_to_end(
            (sys.executable, "-I", "-S", "-c", _START), deadline_s=read_seconds(READY_VARIABLE, _START_S)
        )
    except ChildSilent as silent:
        raise _unusable(f"cuInit gave no answer within {duration(silent.deadline_s)}") from None
    if done.returncode < 0:
        raise _unusable(f"cuInit ended by {_name_signal(done)}")


def _unusable(said: str) -> CudaUnusable:
    return CudaUnusable(
        "the NVIDIA driver is here, but CUDA can't be started",
        where="--device",
        got=said,
        expected="a driver that answers: see dmesg for an Xid, reset the GPU it names or hide it with "
        "CUDA_VISIBLE_DEVICES; or --device cpu to measure the CPU",
    )


def _name_signal(done: subprocess.CompletedProcess[str]) -> str:
    try:
        return signal.Signals(-done.returncode).name
    except ValueError:
        return f"signal {-done.returncode}"
