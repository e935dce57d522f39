"""What the links between a job's processes are rated at, in one direction, as bus bandwidth counts.

Inside a node GPUs talk over their own links (NVLink, HCCS), rated with the part, or over PCIe. Between nodes
they talk over the node's network adapters: rings of NCCL use all of them, so their sum bounds what each
process gets, and no more than the slower of both is to be had.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.messages import Message, message
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.specs.figure import Positive, Source
from nameplate.specs.part import Part

LINKS_FILE = "links.toml"
Kind = Literal["gpu link", "pcie", "network"]


@dataclass(frozen=True)
class RatedLink:
    """A link's rating in GB/s (10⁹ bytes a second), in one direction, and where it comes from."""

    kind: Kind
    gb_s: float
    source: str


class PcieLane(FrozenModel):
    """What one lane of a generation of PCIe carries in one direction."""

    generation: Annotated[int, Field(ge=1, le=9)]
    lane_gb_s: Positive
    source: Source


class LinksFile(FrozenModel):
    """The file of links."""

    pcie: tuple[PcieLane, ...]


@cache
def load_lanes() -> dict[int, PcieLane]:
    """Return what a lane of PCIe carries, by generation."""
    given = parse_toml(LinksFile, read_packaged("nameplate.specs", LINKS_FILE), LINKS_FILE)
    return {each.generation: each for each in given.pcie}


def rate_gpu_link(part: Part | None) -> RatedLink | None:
    """Return the rating of a part's own links in one direction: half of the figure by which they are sold."""
    if part is None or part.link_gb_s is None:
        return None
    sources = "; ".join(str(each) for each in part.link_gb_s.sources)
    return RatedLink(
        "gpu link", part.link_gb_s.value / 2, f"half of {part.link_gb_s.value:g} GB/s: {sources}"
    )


def rate_pcie(generation: int | None, width: int | None) -> RatedLink | None:
    """Return the rating of a PCIe slot; None for a generation that isn't in the file."""
    lane = None if generation is None else load_lanes().get(generation)
    if lane is None or not width:
        return None
    return RatedLink("pcie", lane.lane_gb_s * width, f"PCIe {generation}.0 x{width}: {lane.source}")


def find_bounding_link(
    inside: Iterable[RatedLink | None], networks: Iterable[RatedLink | None], nodes: int
) -> RatedLink | Message:
    """Return the link that bounds a collective: the slowest of all processes'. A message says why none does.

    `inside` has each process's link inside its node, `networks` each node's adapters together. A link that
    isn't known leaves the collective without a rating: another one's would be a guess.
    """
    needed = [*networks] if nodes > 1 else []
    needed += list(inside)
    if not needed or None in needed:
        return message("link_not_rated")
    return min((each for each in needed if each is not None), key=lambda each: each.gb_s)
