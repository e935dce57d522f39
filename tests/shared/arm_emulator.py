"""Machine code of Arm, run under an emulator: for what it computes alone, since its speed says nothing."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

_PREFIX = "" if platform.machine() in ("aarch64", "arm64") else "aarch64-linux-gnu-"
_TOOLS = tuple(shutil.which(f"{_PREFIX}{tool}") for tool in ("as", "ld"))
_EMULATOR = next(filter(None, map(shutil.which, ("qemu-aarch64", "qemu-aarch64-static"))), None)
WHY_NOT = None if all(_TOOLS) and _EMULATOR else "needs binutils and qemu-user for aarch64"

# Calls the function of `code` with what `arguments` puts into registers, and prints `size` bytes of `result`.
_PROGRAM = """
    .global _start
_start:
{arguments}
    bl      code
    mov     x0, #1
    ldr     x1, =result
    ldr     x2, ={size}
    mov     x8, #64               // write
    svc     #0
    mov     x0, #0
    mov     x8, #93               // exit
    svc     #0
    .ltorg
    .p2align 12
code:
    .incbin "code"
    .data
    .p2align 12
{data}
    .p2align 12
result:
    .space  {size}
"""


def emulate(folder: Path, code: bytes, arguments: str, data: str, size: int) -> bytes:
    """Return the `size` bytes that the code leaves in `result`; `arguments` and `data` are assembly.

    What `data` includes (`.incbin`) lies in `folder`.
    """
    assert _EMULATOR is not None
    (folder / "code").write_bytes(code)
    (folder / "run.s").write_text(_PROGRAM.format(arguments=arguments, data=data, size=size))
    assembler, linker = map(str, _TOOLS)
    subprocess.run([assembler, "-o", "run.o", "run.s"], check=True, cwd=folder)
    subprocess.run([linker, "-o", "run", "run.o"], check=True, cwd=folder)
    command = [_EMULATOR, "-cpu", "max", str(folder / "run")]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
