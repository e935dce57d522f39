"""What shows itself in a notebook: runs, comparisons, priced fleets.

Their packages lie below `report`, which lays them out, and import nothing of it. So the top of the package
(`nameplate/__init__.py`) says once who does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_renderers: list[Callable[[Any], str]] = []
_summarizers: list[Callable[[Any], str]] = []


def show_in_notebooks_by(renderer: Callable[[Any], str], summarizer: Callable[[Any], str]) -> None:
    """Set the functions that return the HTML of every object shown in a notebook, and its answer as text."""
    _renderers[:] = [renderer]
    _summarizers[:] = [summarizer]


class ShownInNotebooks:
    """An object that IPython and Jupyter show as a table, not as its `repr`."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        """Return HTML without scripts, every text escaped; IPython calls this."""
        return _renderers[0](self)

    def summary(self) -> str:
        """Return the answer as plain text: at most twelve lines of at most 80 columns."""
        return _summarizers[0](self)
