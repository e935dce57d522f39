"""Builds the stand-in for NVML, and writes what it is to answer.

    folder = build(tmp_path)                                # LD_LIBRARY_PATH; None without a compiler
    write_scenario(path, "eight_a800", "gpu.3.lost_after = 20")   # NAMEPLATE_NVML_SCENARIO

nvml_stub.c says what a scenario can hold. Functions named in `missing` aren't in the library at all.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

LIBRARY = "libnvidia-ml.so.1"
SCENARIO = "NAMEPLATE_NVML_SCENARIO"
# What a driver of 2020 lacks of the functions asked for.
OLD_DRIVER = (
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetNumGpuCores",
    "nvmlDeviceGetTemperatureV",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetRemappedRows",
    "nvmlSystemGetCudaDriverVersion_v2",
)

_HERE = Path(__file__).parent


def compiler() -> str | None:
    """The C compiler: $CC, else cc or gcc where there is one."""
    return next(
        (path for name in (os.environ.get("CC"), "cc", "gcc") if name and (path := shutil.which(name))), None
    )


def build(folder: Path, missing: Iterable[str] = ()) -> Path:
    """Compile the library into `folder` and return it, for LD_LIBRARY_PATH."""
    command = [str(compiler()), "-shared", "-fPIC", "-fvisibility=hidden", "-O1", "-o", str(folder / LIBRARY)]
    hidden = "".join(f"{name};" for name in missing)
    if hidden:
        script = folder / "missing.map"
        script.write_text(f"{{ local: {hidden} }};\n", encoding="ascii")
        command.append(f"-Wl,--version-script={script}")
    subprocess.run([*command, str(_HERE / "nvml_stub.c")], check=True, capture_output=True, text=True)
    return folder


def write_scenario(path: Path, *parts: str) -> Path:
    """Write a scenario of shipped ones, by name, and lines of its own; later parts override earlier ones.

    It is put in place at once, so that a library that is reading never sees half of it.
    """
    texts = [
        part if "=" in part else (_HERE / "scenarios" / f"{part}.txt").read_text("utf-8") for part in parts
    ]
    draft = path.with_suffix(".draft")
    draft.write_text("\n".join(texts) + "\n", encoding="utf-8")
    return draft.replace(path)
