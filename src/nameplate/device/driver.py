"""What the NVIDIA driver says at the start of a run: whether there is a GPU, and why not or not wholly.

It is asked where torch finds no GPU, so that no CPU is measured by mistake, and about each GPU of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nameplate.base.errors import InputError
from nameplate.base.messages import Message, Reason, message
from nameplate.device.cuda import describe_torch_build, open_nvml, share_nvml
from nameplate.device.identity import CudaIdentity
from nameplate.device.protocol import DeviceDescription

# NVML's errors where there is no NVIDIA driver, or none that runs: no GPU is hidden behind these.
_NO_DRIVER = ("NVML_ERROR_LIBRARY_NOT_FOUND", "NVML_ERROR_DRIVER_NOT_LOADED")
# What to do about its other errors (nvmlReturn_t of nvml.h).
_DRIVER_ERRORS = {
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": "the driver's library and kernel module of one version: reboot",
    "NVML_ERROR_NO_PERMISSION": "permission to use /dev/nvidia*: see the container's or job's device rules",
    "NVML_ERROR_OPERATING_SYSTEM": "access to the GPU, which the system blocks: see its device rules",
    "NVML_ERROR_GPU_IS_LOST": "a GPU on the bus: drain the node, then reset or reseat it",
}
# The wheel index for each major version of CUDA that a driver supports. A driver runs what is built for any
# minor version of its major one, 525 being the oldest of CUDA 12 and 580 that of 13 ("Minor Version
# Compatibility", docs.nvidia.com/deploy/cuda-compatibility, 2026-11-29). CUDA 12.6 and 13.0 are the stable
# builds of torch 2.11 to 2.13; the last with CUDA 11.8 was 2.7 (pytorch, RELEASE.md, "Release Compatibility
# Matrix", 2026-11-29).
_WHEEL_INDEXES = {12: "cu126", 13: "cu130"}
_WHEELS = "https://download.pytorch.org/whl/"


@dataclass(frozen=True)
class DriverState:
    """What NVML said: versions, how many GPUs it sees, usable by torch or not, or why it is `absent`."""

    version: str | None = None
    cuda: str | None = None  # the newest CUDA it supports
    count: int = 0
    absent: Reason | None = None


def ask_driver() -> DriverState:
    """Ask NVML for its state.

    Raises InputError where a driver is here but doesn't answer: there may be a GPU, and a run on the CPU
    would pass for one.
    """
    with open_nvml() as nvml:
        if nvml.count is not None:
            return DriverState(nvml.driver, nvml.cuda_driver, nvml.count)
        reason = nvml.absent or ""
    if isinstance(reason, Message):
        no_driver = reason.code == "nvml_not_installed"
    else:
        no_driver = reason.startswith(_NO_DRIVER)
    if no_driver:
        return DriverState(absent=reason)
    text = str(reason)
    meaning = next((said for code, said in _DRIVER_ERRORS.items() if text.startswith(code)), None)
    raise InputError(
        "an NVIDIA driver is here but doesn't answer, so whether there is a GPU isn't known",
        where="--device",
        got=text,
        expected=f"{meaning or 'a driver that nvidia-smi can talk to'}; or --device cpu to measure the CPU",
    )


def refuse_unusable(state: DriverState) -> None:
    """Raise InputError where the driver sees a GPU that this build of torch can't use."""
    if state.count == 0:
        return
    import torch

    raise InputError(
        f"NVML sees {state.count} GPU{'s' if state.count > 1 else ''} but torch can't use any",
        where="--device",
        got=f"driver {state.version or 'unknown'}, {describe_torch_build()}",
        expected=f"{advise_build(state.cuda, torch.version.cuda)}; or --device cpu to measure the CPU",
    )


def advise_build(driver_cuda: str | None, torch_cuda: str | None) -> str:
    """Return which torch can use a driver, by the newest CUDA of the driver and that of torch, as `12.4`."""
    supported, built = _major(driver_cuda), _major(torch_cuda)
    if supported is None:
        return "a torch build that this driver supports (nvidia-smi shows its CUDA version)"
    if built is not None and built <= supported:
        return (
            "torch to find it: CUDA_VISIBLE_DEVICES, a card in MIG mode without slices, or a broken driver "
            "hides it (python -c 'import torch; torch.cuda.init()' says why)"
        )
    index = _WHEEL_INDEXES.get(min(supported, max(_WHEEL_INDEXES)))
    if index is None:
        return (
            f"driver 525 or newer: this one ends at CUDA {driver_cuda}, and no torch from 2.11 on is built "
            f"for CUDA {supported}"
        )
    wanted = "torch built for CUDA" if built is None else "an older build of torch, or a newer driver"
    return f"{wanted}: this driver supports CUDA {driver_cuda}, so TORCH_INDEX_URL={_WHEELS}{index} make run"


def _major(version: str | None) -> int | None:
    """Return 12 for `12.4`; None where that isn't known."""
    first = (version or "").partition(".")[0]
    return int(first) if first.isdecimal() else None


def why_no_gpu(state: DriverState) -> Message:
    """Return why a CPU is measured though any device would have done, for the run's manifest."""
    return message("no_gpu_by_nvml") if state.absent is None else message("no_driver", why=state.absent)


def find_gpu_faults(devices: Iterable[DeviceDescription]) -> tuple[Message, ...]:
    """Return what NVML can't read of a run's GPUs, or reports wrongly, for the run's manifest."""
    named = [(device.name, device.identity) for device in devices]
    return tuple(
        fault
        for name, identity in named
        if isinstance(identity, CudaIdentity) and identity.twin is None
        for fault in _describe_gpu(name, identity)
    )


def _describe_gpu(name: str, identity: CudaIdentity) -> Iterator[Message]:
    nvml, uuid = share_nvml(), identity.uuid
    if uuid is None:
        yield message("gpu_without_nvml", device=name, why=message("no_uuid"))
        return
    facts = nvml.facts(uuid)
    if facts is None:
        yield message("gpu_without_nvml", device=name, why=nvml.why_unread(uuid))
        return
    reading = nvml.reading(uuid)
    if "*" in reading.absent:
        yield message("gpu_without_nvml", device=name, why=reading.absent["*"])
    reasons = [*facts.absent.values(), *reading.absent.values()]
    nonsense = [each for each in reasons if isinstance(each, Message) and each.code == "implausible"]
    if nonsense:
        yield message("gpu_nonsense", device=name, reasons=list(dict.fromkeys(nonsense)))
