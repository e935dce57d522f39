"""Assemble scripts/loops/*.s into data: `python scripts/assemble_loops.py`.

Writes each loop's machine code into src/nameplate/silicon/data/loops.toml, or, for those that move memory,
into kernels/nameplate_kernels/data/memory_loops.toml, and the disassembly beside it.
Needs GNU binutils for both architectures; Debian has them as `binutils` and `binutils-aarch64-linux-gnu`.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "scripts/loops"
DATA = ROOT / "src/nameplate/silicon/data"
# The table of each set of loops; the sources are named by the set's prefix and the architecture.
TABLES = {"": DATA / "loops.toml", "memory_": ROOT / "kernels/nameplate_kernels/data/memory_loops.toml"}
ARCHITECTURES = ("x86_64", "aarch64")


def tools_prefix(architecture: str) -> str | None:
    """Return what the names of this architecture's binutils begin with; None where they aren't installed."""
    prefix = "" if platform.machine() == architecture else f"{architecture.replace('_', '-')}-linux-gnu-"
    return prefix if all(shutil.which(prefix + tool) for tool in ("as", "objcopy", "objdump")) else None


def assemble(architecture: str, prefix: str, of: str = "") -> tuple[dict[str, bytes], str]:
    """Return the machine code of every loop of the set `of` by its name, and the disassembly of all."""
    with tempfile.TemporaryDirectory() as folder:
        made, part = Path(folder) / "loops.o", Path(folder) / "loop.bin"
        _run(f"{prefix}as", str(SOURCES / f"{of}{architecture}.s"), "-o", str(made))
        headers = _run(f"{prefix}objdump", "-h", str(made))
        names = re.findall(r"\.text\.(\S+)", headers)
        code, listings = {}, []
        for name in names:
            section = f".text.{name}"
            _run(f"{prefix}objcopy", "-O", "binary", "-j", section, str(made), str(part))
            code[name] = part.read_bytes()
            listing = _run(f"{prefix}objdump", "-d", "--no-show-raw-insn", "-w", "-j", section, str(made))
            listings.append(_tidy(name, listing))
        return code, "\n".join(listings)


def _tidy(name: str, listing: str) -> str:
    """The instructions of one loop, each with its offset; targets of jumps without symbols."""
    lines = [line.rstrip() for line in listing.splitlines() if re.match(r"\s+[0-9a-f]+:\t", line)]
    plain = [" ".join(re.sub(r"<[^>]*>|//.*$", "", line).split()) for line in lines]
    return "\n".join([f"{name}:", *(f"  {line}" for line in plain), ""])


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def with_code(text: str, code: dict[str, bytes]) -> str:
    """Return the text of loops.toml with the code of these loops."""
    for name, each in code.items():
        pattern = re.compile(rf'(^name = "{re.escape(name)}"\n(?:.+\n)*?code = )".*"$', re.M)
        text, count = pattern.subn(rf'\g<1>"{each.hex()}"', text)
        if count != 1:
            raise SystemExit(f"loops.toml has {count} loops named {name}; expected 1")
    return text


def main() -> None:
    """Assemble every architecture and write the data files."""
    for architecture in ARCHITECTURES:
        prefix = tools_prefix(architecture)
        if prefix is None:
            raise SystemExit(f"no binutils for {architecture}: install them (see the top of this file)")
        for of, table in TABLES.items():
            code, listing = assemble(architecture, prefix, of)
            table.write_text(with_code(table.read_text(encoding="utf-8"), code), encoding="utf-8")
            (table.parent / f"{of}{architecture}.txt").write_text(listing, encoding="utf-8")


if __name__ == "__main__":
    main()
