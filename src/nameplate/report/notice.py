"""The first line of every screen and page of a twin's run: that nothing in it was measured."""

from __future__ import annotations

from collections.abc import Iterable

from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.report.labels import join_counted
from nameplate.store.manifest import Manifest


def describe_simulated(manifests: Iterable[Manifest]) -> str:
    """Say that the figures of these runs, or of some of them, are simulated; "" where all are measured."""
    simulated = [each for each in manifests if not each.measured]
    return describe_twins(entry.identity.name for manifest in simulated for entry in manifest.devices)


def describe_twins(names: Iterable[str]) -> str:
    """Say that the figures of these devices are simulated; "" for none."""
    twins = join_counted(plain(name) for name in names)
    return _("simulated: a twin of {gpus}, not a measurement", gpus=twins) if twins else ""
