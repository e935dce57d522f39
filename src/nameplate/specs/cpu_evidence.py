"""What a machine reports and shows of its CPU: the evidence that a part is recognised by."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Literal, get_args

# The flags of /proc/cpuinfo that tell of arithmetic, as Linux spells them. A literal, so that a misspelt flag
# in a table fails instead of never matching.
Flag = Literal[
    "avx2",
    "fma",
    "avx512f",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx_vnni",
    "avx_vnni_int8",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
    "amx_int8",
    "amx_complex",
    "asimd",
    "asimdhp",
    "asimdfhm",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
    "sve2",
    "svebf16",
    "svei8mm",
    "sme",
]
ARITHMETIC = frozenset(get_args(Flag))


@dataclass(frozen=True)
class CoreKind:
    """Physical cores that work alike. None: not known, or the only kind.

    `name` says how the system calls the kind: performance, efficiency, low-power. The numbers are Arm's.
    """

    cores: int
    maximum_mhz: float | None = None
    name: str | None = None
    implementer: int | None = None
    arm_part: int | None = None


@dataclass(frozen=True)
class CpuEvidence:
    """What a machine reports of its CPU, as in /proc/cpuinfo, numbers parsed; None: not reported.

    `name` is the model's name; where the kernel prints none, the one that the firmware gives. `core_kinds`
    are the kinds of its cores, the fastest first.
    """

    vendor: str | None = None
    family: int | None = None
    model: int | None = None
    stepping: int | None = None
    implementer: int | None = None  # Arm's MIDR fields
    arm_part: int | None = None
    name: str = ""
    flags: frozenset[str] = frozenset()
    reported_mhz: float | None = None
    core_kinds: tuple[CoreKind, ...] = ()

    @property
    def arithmetic_flags(self) -> frozenset[str]:
        """The flags that tell of arithmetic."""
        return self.flags & ARITHMETIC

    @property
    def has_numbers(self) -> bool:
        """Whether the processor identifies itself by numbers, true or not."""
        return self.family is not None or self.arm_part is not None

    def fingerprint(self, architecture: str = "") -> str:
        """Return eight hexadecimal digits of a hash of what was seen; clocks and cores may differ.

        Flags beside those of arithmetic come and go with kernels and microcode.
        """
        numbers = (self.vendor, self.family, self.model, self.stepping, self.implementer, self.arm_part)
        seen = [*numbers, normalize_brand(self.name), architecture, sorted(self.arithmetic_flags)]
        return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:8]


_AFTER_NAME = re.compile(r"@.*$|\bw(?:ith|/) radeon.*$")
_NOT_PART_OF_NAME = re.compile(
    r"\(r\)|\(tm\)|\(virtual\)|[®™]|\b\d+th gen\b|\b\d+-core\b|\b(?:cpu|processor)\b"
)


def normalize_brand(brand: str | None) -> str:
    """Return the model name without case, trademarks, "CPU", "64-Core", "12th Gen", "@ 2.30GHz"; or ""."""
    name = _AFTER_NAME.sub(" ", (brand or "").casefold())
    return " ".join(_NOT_PART_OF_NAME.sub(" ", name).split())


@dataclass(frozen=True)
class _Tier:
    """Instructions that all processors from some part on have, and no earlier ones."""

    id: str
    flags: frozenset[str]
    what: str


# The first whose flags are all shown names a processor that isn't in the tables. Vendors' documents say which
# part had an instruction first; a later part has it too.
_TIERS = {
    "x86-64": (
        _Tier("amx-fp16", frozenset({"amx_fp16"}), "AMX-FP16 (Granite Rapids or later)"),
        _Tier("amx", frozenset({"amx_tile"}), "AMX (Sapphire Rapids or later)"),
        _Tier("avx512-fp16", frozenset({"avx512_fp16"}), "AVX512-FP16 (Sapphire Rapids or later)"),
        _Tier("avx512-bf16", frozenset({"avx512_bf16"}), "AVX512-BF16 (Cooper Lake, Zen 4 or later)"),
        _Tier("avx512-vnni", frozenset({"avx512_vnni"}), "AVX512-VNNI (Cascade Lake, Zen 4 or later)"),
        _Tier("avx512", frozenset({"avx512f"}), "AVX-512 (Skylake-SP or later)"),
        _Tier("avx2", frozenset({"avx2", "fma"}), "AVX2 and FMA (Haswell, Zen or later)"),
    ),
    "aarch64": (
        _Tier("sve2", frozenset({"sve2"}), "SVE2 (Armv9)"),
        _Tier("bf16", frozenset({"bf16", "i8mm"}), "BF16 and I8MM (Armv8.6)"),
        _Tier("sve", frozenset({"sve"}), "SVE"),
        _Tier("dotprod", frozenset({"asimddp"}), "dot products (Armv8.2)"),
        _Tier("fp16", frozenset({"asimdhp"}), "FP16 (Armv8.2)"),
    ),
}
_OTHERS = ("x86", "arm", "riscv64", "ppc64le", "s390x", "loongarch64", "cpu")
_SPELLINGS = {
    "armv7l": "arm",
    "amd64": "x86-64",
    "x86_64": "x86-64",
    "arm64": "aarch64",
    "i686": "x86",
    "i386": "x86",
}
_UNKNOWN_ID = re.compile(r"^(?P<tier>[a-z0-9]+(?:-[a-z0-9]+)*)-(?P<print>[0-9a-f]{8})$")


@dataclass(frozen=True)
class CertainName:
    """A processor that no table has, named by what is certain of it: its instructions.

    `id` ends in the fingerprint of what was seen, so that two such processors have two ids.
    """

    id: str
    name: str


def name_by_instructions(evidence: CpuEvidence, architecture: str = "") -> CertainName:
    """Name a processor by its architecture (platform.machine()'s word) and its best instructions."""
    family = _find_family(evidence, architecture)
    tier = next((one for one in _TIERS.get(family, ()) if one.flags <= evidence.flags), None)
    tier_id = family if tier is None else f"{family}-{tier.id}"
    return CertainName(f"{tier_id}-{evidence.fingerprint(architecture)}", _describe_tier(family, tier))


def find_family(architecture: str) -> str | None:
    """Return "x86" or "arm" for platform.machine()'s word, 32 or 64 bits; any other as it is; None for ""."""
    said = architecture.casefold()
    if said in ("x86_64", "amd64", "x86") or re.fullmatch("i[3-6]86", said):
        return "x86"
    return "arm" if said.startswith(("arm", "aarch64")) else said or None


def find_certain_name(part: str) -> CertainName | None:
    """Return the name of an id that `name_by_instructions` gave; None for any other id."""
    matched = _UNKNOWN_ID.match(part)
    for family in (*_TIERS, *_OTHERS) if matched else ():
        for tier in (None, *_TIERS.get(family, ())):
            if matched and matched["tier"] == (family if tier is None else f"{family}-{tier.id}"):
                return CertainName(part, _describe_tier(family, tier))
    return None


def _find_family(evidence: CpuEvidence, architecture: str) -> str:
    said = architecture.casefold()
    if said:
        family = _SPELLINGS.get(said, said)
        return family if family in (*_TIERS, *_OTHERS) else "cpu"
    if evidence.arm_part is not None or "asimd" in evidence.flags:
        return "aarch64"
    return "x86-64" if evidence.family is not None or "avx2" in evidence.flags else "cpu"


def _describe_tier(family: str, tier: _Tier | None) -> str:
    return family if tier is None else f"{family} with {tier.what}"
