"""Opens the device that a flag names."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from nameplate.base.errors import InputError
from nameplate.device.identity import Identity
from nameplate.device.interface import Described, Device
from nameplate.specs.rating import Rating

_EXPECTED = "auto, cpu, cuda, cuda:N or all"


@dataclass
class _Seen:
    """A GPU as it can be described without opening it: opening takes its memory, and it isn't ours to use."""

    name: str
    kind: str
    identity: Identity
    rating: Rating
    memory_bytes: int | None


def device_names(name: str = "auto") -> list[str]:
    """The devices that a flag names: `auto` (a GPU where there is one, else the CPU), `cpu`, `cuda` (the
    first), `cuda:N`, or `all` (every GPU, or the CPU where there is none).

    Raises InputError for an unknown name, for a GPU that isn't there, and for a GPU that NVML sees and torch
    can't use: that is never a silent CPU run.
    """
    if name == "cpu":
        return ["cpu"]
    match = re.fullmatch(r"cuda:(\d+)", name)
    if match is None and name not in ("auto", "cuda", "all"):
        raise InputError("unknown device", where="--device", got=name, expected=_EXPECTED)
    count = _gpu_count()
    if count == 0:
        _refuse_unusable_gpu()
        if name in ("auto", "all"):
            return ["cpu"]
    if match is not None and int(match[1]) < count:
        return [name]
    if match is not None or count == 0:
        here = f"one of the {count} GPUs here" if count else "cpu: no CUDA GPU is here"
        raise InputError("no such GPU", where="--device", got=name, expected=here)
    return [f"cuda:{index}" for index in range(count)][: None if name == "all" else 1]


def describe(name: str) -> Described:
    """What is known of `cpu` or `cuda:N` without opening it."""
    if name == "cpu":
        return _cpu()  # opening it takes nothing
    from nameplate.device.cuda import rate, read_identity

    identity = read_identity(int(name.removeprefix("cuda:")))
    return _Seen(name, "cuda", identity, rate(identity), identity.memory_bytes)


def open_device(name: str = "auto") -> Device:
    """Open the device that a flag names, the first where it names several.

    Raises InputError as `device_names` does.
    """
    first = device_names(name)[0]
    if first == "cpu":
        return _cpu()
    from nameplate.device.cuda import CudaDevice, read_identity

    return CudaDevice(read_identity(int(first.removeprefix("cuda:"))))


def _gpu_count() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _cpu() -> Device:
    from nameplate.device.cpu import CpuDevice

    return CpuDevice()


def _refuse_unusable_gpu() -> None:
    """Raise where the driver shows a GPU that this build of torch can't use."""
    from nameplate.device.cuda import build_of_torch, driver_and_count

    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):  # the user hides them
        return
    seen = driver_and_count()
    if seen is None or seen[1] == 0:
        return
    driver, count = seen
    raise InputError(
        f"NVML sees {count} GPU{'s' if count > 1 else ''} but torch can't use any",
        where="--device",
        got=f"driver {driver}, {build_of_torch()}",
        expected="a torch build that this driver supports, or --device cpu to measure the CPU",
    )
