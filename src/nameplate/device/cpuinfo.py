"""Parses the text of Linux's /proc/cpuinfo, x86 or Arm. Nonsense gives empty fields and never raises."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nameplate.device.system_files import parse_integer, parse_number
from nameplate.specs.cpu_evidence import CpuEvidence


def parse_cpuinfo(text: str) -> CpuEvidence:
    """Parse the first processor's block."""
    fields = next(_split_blocks(text), {})
    return CpuEvidence(
        name=fields.get("model name", ""),
        vendor=fields.get("vendor_id"),
        family=parse_integer(fields.get("cpu family")),
        model=parse_integer(fields.get("model")),
        stepping=parse_integer(fields.get("stepping")),
        implementer=parse_integer(fields.get("CPU implementer")),
        arm_part=parse_integer(fields.get("CPU part")),
        flags=frozenset((fields.get("flags") or fields.get("Features") or "").split()),
        reported_mhz=parse_number(fields.get("cpu MHz")),
    )


def parse_arm_parts(text: str) -> dict[int, tuple[int, int]]:
    """Return implementer and part number of each CPU that has them."""
    found = {}
    for fields in _split_blocks(text):
        cpu, implementer, part = (
            parse_integer(fields.get(name)) for name in ("processor", "CPU implementer", "CPU part")
        )
        if cpu is not None and implementer is not None and part is not None:
            found[cpu] = implementer, part
    return found


def _split_blocks(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the fields of each processor's block."""
    for block in text.strip().split("\n\n"):
        lines = (line.partition(":") for line in block.splitlines())
        yield {key.strip(): value.strip() for key, _, value in lines}
