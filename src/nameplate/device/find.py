"""Opens the device that a flag names."""

from __future__ import annotations

import os
import re

from nameplate.device.interface import Device
from nameplate.errors import InputError

_EXPECTED = "auto, cpu, cuda, cuda:N or all"


def open_device(name: str = "auto") -> Device:
    """Open `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda` (the first), `cuda:N` or `all`.

    Raises InputError for an unknown name, for a GPU that isn't there, and for a GPU that NVML sees and torch
    can't use: that is never a silent CPU run.
    """
    if name == "cpu":
        return _cpu()
    if name in ("auto", "all", "cuda"):
        return _first_gpu(name)
    match = re.fullmatch(r"cuda:(\d+)", name)
    if match is None:
        raise InputError("unknown device", where="--device", got=name, expected=_EXPECTED)
    return _gpu(int(match[1]))


def _cpu() -> Device:
    from nameplate.device.cpu import CpuDevice

    return CpuDevice()


def _first_gpu(name: str) -> Device:
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        _refuse_unusable_gpu()
        if name == "cuda":
            raise InputError("no CUDA GPU here", where="--device", got=name, expected="cpu")
        return _cpu()
    if name == "all" and count > 1:
        raise InputError(
            "several GPUs at the same time aren't measured yet",
            where="--device",
            got=f"all ({count} GPUs)",
            expected=f"one of cuda:0 … cuda:{count - 1}",
        )
    return _gpu(0)


def _gpu(index: int) -> Device:
    import torch

    from nameplate.device.cuda import CudaDevice, read_identity

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if count == 0:
        _refuse_unusable_gpu()
    if index >= count:
        here = f"one of the {count} GPUs here" if count else "cpu: no CUDA GPU is here"
        raise InputError("no such GPU", where="--device", got=f"cuda:{index}", expected=here)
    return CudaDevice(read_identity(index))


def _refuse_unusable_gpu() -> None:
    """Raise where the driver shows a GPU that this build of torch can't use."""
    import torch

    from nameplate.device.cuda import driver_and_count

    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # the user hides them
        return
    seen = driver_and_count()
    if seen is None or seen[1] == 0:
        return
    driver, count = seen
    build = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    raise InputError(
        f"NVML sees {count} GPU{'s' if count > 1 else ''} but torch can't use any",
        where="--device",
        got=f"driver {driver}, torch {torch.__version__} {build}",
        expected="a torch build that this driver supports, or --device cpu to measure the CPU",
    )
