"""Runs in the formats of other tools, and many runs as one data set."""

from __future__ import annotations

from nameplate.export.formats import Written, export, merge

__all__ = ["Written", "export", "merge"]
