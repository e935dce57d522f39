"""Compare two sides case by case: is the new one faster, slower or the same, as far as the data can tell?

`compare` takes runs that were measured before, one or several a side, or pytest-benchmark's files;
`interleave` measures two commits or environments in turn. Submodules are imported at first use, so importing
this package is cheap; torch is never imported.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.compare.comparison import Comparison as Comparison
    from nameplate.compare.comparison import compare as compare
    from nameplate.compare.interleaving import interleave as interleave
    from nameplate.compare.rows import Row as Row

_HOMES = {"Comparison": "comparison", "Row": "rows", "compare": "comparison", "interleave": "interleaving"}
__all__ = ["Comparison", "Row", "compare", "interleave"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
