"""The loops that ship with the program: `data/loops.toml`, validated when first used."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged

LOOPS_FILE = "loops.toml"
# Adds in a turn of the chain that every loop has beside it; each needs the one before it, so one a cycle.
CHAIN_ADDS = 50

Architecture = Literal["x86_64", "aarch64"]
Operands = Literal["fp64", "fp32", "bf16", "fp16", "int8"]


class Loop(FrozenModel):
    """One instruction path as machine code; the fields are explained at the top of the file."""

    name: str
    architecture: Architecture
    dtypes: Annotated[tuple[str, ...], Field(min_length=1)]
    instruction: str
    flop: int = Field(gt=0)
    per_turn: int = Field(gt=0)
    operands: Operands
    requires: Annotated[tuple[str, ...], Field(min_length=1)]
    tiles: bool = False
    code: Annotated[str, Field(pattern=r"^([0-9a-f]{2})+$")]

    @property
    def flop_per_turn(self) -> int:
        """FLOP of one turn of the loop on one core; integer operations for int8."""
        return self.flop * self.per_turn


class _LoopsFile(FrozenModel):
    schema_version: Literal[1] = Field(alias="schema")
    loop: Annotated[tuple[Loop, ...], Field(min_length=1)]


@cache
def load_loops() -> tuple[Loop, ...]:
    """Return every loop. Raises InputError for a bad file."""
    return parse_toml(_LoopsFile, read_packaged("nameplate.silicon", LOOPS_FILE), LOOPS_FILE).loop


def find_loops(architecture: str, flags: Collection[str]) -> tuple[Loop, ...]:
    """Return the loops that a machine can run: those whose flags it shows, all of them.

    `architecture` is platform.machine()'s word, `flags` those of /proc/cpuinfo.
    """
    known = {"amd64": "x86_64", "arm64": "aarch64"}
    kind = known.get(architecture.casefold(), architecture.casefold())
    return tuple(
        loop
        for loop in load_loops()
        if loop.architecture == kind and all(flag in flags for flag in loop.requires)
    )
