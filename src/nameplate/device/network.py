"""What a node's network adapters are rated at, as their drivers say."""

from __future__ import annotations

import re
from pathlib import Path

from nameplate.device import host
from nameplate.device.system_files import read_integer, read_line
from nameplate.specs.links import RatedLink


def read_network(root: Path = host.ROOT) -> RatedLink | None:
    """Return the rating of this node's adapters in one direction: all InfiniBand and RoCE ports that are up.

    Where there are none, the fastest Ethernet adapter that is up. None where neither says its speed. `root`
    is the folder that holds the system's files.
    """
    ports = [
        rate
        for state in sorted(root.glob("sys/class/infiniband/*/ports/*/state"))
        if "ACTIVE" in (read_line(state) or "") and (rate := _parse_rate(read_line(state.with_name("rate"))))
    ]
    if ports:
        return RatedLink("network", sum(ports), f"{len(ports)} InfiniBand or RoCE ports, by their driver")
    speeds = [
        speed / 8e3
        for device in sorted(root.glob("sys/class/net/*/device"))  # others are virtual
        if read_line(device.with_name("operstate")) == "up"
        and (speed := read_integer(device.with_name("speed")) or 0) > 0
    ]
    return RatedLink("network", max(speeds), "an Ethernet adapter, by its driver") if speeds else None


def _parse_rate(text: str | None) -> float | None:
    """Return GB/s of a port's rate as InfiniBand's drivers write it: `400 Gb/sec (4X NDR)`."""
    found = re.match(r"(\d+(?:\.\d+)?) Gb/sec", text or "")
    return None if found is None else float(found[1]) / 8
