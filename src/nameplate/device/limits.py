"""Reads the limits of this process's control groups: CPUs and memory, both versions, ancestors' limits too.

A group's files lie under the mount of its hierarchy, at the group's path. A container may see only a part of
a hierarchy: /proc/self/mountinfo says which part is mounted where (proc(5), cgroups(7)). The smallest limit
on the way up counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from nameplate.device.system_files import parse_integer, read_integer, read_text

_ROOT = Path("/")
_MOUNTS = "sys/fs/cgroup"  # where mounts are looked for if mountinfo can't be read
# Version 1 writes "no limit" as a number near 2^63.
_NO_LIMIT = 1 << 60


def read_cgroup_cpus(root: Path = _ROOT) -> float | None:
    """Return the CPUs that the control groups let this process use at once; None: no limit."""
    limits = [_parse_quota(read_text(folder / "cpu.max")) for folder in _find_folders(root, "")]
    for folder in _find_folders(root, "cpu"):
        quota = read_integer(folder / "cpu.cfs_quota_us")
        period = read_integer(folder / "cpu.cfs_period_us")
        if period is None:  # the kernel's default
            period = 100_000
        limits.append(quota / period if quota and quota > 0 and period > 0 else None)
    return min((limit for limit in limits if limit is not None), default=None)


def read_cgroup_memory(root: Path = _ROOT) -> int | None:
    """Return the bytes that the control groups let this process hold without being slowed; None: no limit.

    `memory.high` counts as much as `memory.max`: above it the kernel slows a process down until it has given
    memory back.
    """
    limits = [
        read_integer(folder / name)
        for folder in _find_folders(root, "")
        for name in ("memory.max", "memory.high")
    ]
    limits += [read_integer(folder / "memory.limit_in_bytes") for folder in _find_folders(root, "memory")]
    return min((limit for limit in limits if limit is not None and 0 < limit < _NO_LIMIT), default=None)


def _parse_quota(text: str | None) -> float | None:
    """CPUs that a line of cpu.max allows: `150000 100000` is 1.5; None for `max` and for any other text."""
    first, _, second = (text or "").strip().partition(" ")
    quota, period = parse_integer(first), parse_integer(second or "100000")
    return quota / period if quota and period and quota > 0 and period > 0 else None


@dataclass(frozen=True)
class _Mount:
    """A mounted hierarchy: `controllers` is empty for version 2, `shows` is the group at the mount point."""

    controllers: frozenset[str]
    shows: PurePosixPath
    point: PurePosixPath


def _find_folders(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of its ancestors, in each mount of the hierarchy.

    `controller` is `cpu` or `memory`; empty for version 2, which has one hierarchy for all.
    """
    group = _read_group(root, controller)
    mounts = [*_parse_mounts(read_text(root / "proc/self/mountinfo") or "")] or [*_usual_mounts(root)]
    for mount in mounts:
        if (controller in mount.controllers) if controller else not mount.controllers:
            point = root / str(mount.point).lstrip("/")
            below = _path_below(mount, group)
            yield from (point / each for each in (below, *below.parents))


def _read_group(root: Path, controller: str) -> PurePosixPath:
    """The group's path in the hierarchy: a line of /proc/self/cgroup reads `4:cpu,cpuacct:/path`."""
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon and (controller in names.split(",") if controller else number == "0"):
            return PurePosixPath(path or "/")
    return PurePosixPath("/")


def _path_below(mount: _Mount, group: PurePosixPath) -> PurePosixPath:
    """The group's path from the mount point on; the mount point itself where the mount doesn't show it."""
    if ".." in group.parts or not group.is_relative_to(mount.shows):
        return PurePosixPath()
    return group.relative_to(mount.shows)


def _parse_mounts(mountinfo: str) -> Iterator[_Mount]:
    """The control group mounts: `31 23 0:28 ROOT POINT options … - TYPE source superoptions`."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            names = frozenset() if kind[0] == "cgroup2" else frozenset(kind[2].split(","))
            yield _Mount(names, _unescape(fields[3]), _unescape(fields[4]))


def _unescape(path: str) -> PurePosixPath:
    """The path without mountinfo's escapes, such as an octal 040 for a space."""
    return PurePosixPath(re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), path))


def _usual_mounts(root: Path) -> Iterator[_Mount]:
    """The mounts as distributions place them."""
    slash = PurePosixPath("/")
    for name in ("", "unified"):
        yield _Mount(frozenset(), slash, slash / _MOUNTS / name)
    for name in ("cpu", "cpu,cpuacct", "cpuacct,cpu", "memory"):
        yield _Mount(frozenset(name.split(",")), slash, slash / _MOUNTS / name)
