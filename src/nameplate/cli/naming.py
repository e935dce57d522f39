"""The runs that a command is given by name."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from nameplate.base.text import plain


def named_runs(names: Sequence[str] | None, results: Path | None) -> list[Path]:
    """The folders of these runs; without a name that of the latest, as standard error then says.

    Raises InputError as `find_run` does.
    """
    from nameplate.store.find import LATEST, find_run

    if names:
        return [find_run(name, results) for name in names]
    latest = find_run(LATEST, results)
    print(f"bench: this is the latest run, {plain(latest)}", file=sys.stderr)
    return [latest]
