"""Rows as CSV: what `--csv` prints."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from nameplate.base.text import disarm_formulas, plain

# Columns that hold tables, even where this row's are empty.
_TABLES = frozenset({"price", "ladder", "inputs", "sensitivity", "all_of", "run"})


def rows_to_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return JSON rows as CSV, a line a row: lists and chains as text, other tables left out, null empty."""
    tables = {name for row in rows for name, value in row.items() if not _fits(name, value)}
    names = [name for name in rows[0] if name not in tables and name not in _TABLES] if rows else []
    out = io.StringIO()
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(row[name]) for name in names} for row in rows)
    return out.getvalue()


def _fits(name: str, value: Any) -> bool:
    """Whether a value can be a cell: tables can't, except for a chain."""
    if isinstance(value, list) and value:
        return name == "chain" or isinstance(value[0], str)
    return not isinstance(value, dict)


def _cell(value: Any) -> Any:
    if isinstance(value, list):
        value = "; ".join(each if isinstance(each, str) else _link(each) for each in value)
    return disarm_formulas(plain(value)) if isinstance(value, str) else value


def _link(link: Mapping[str, Any]) -> str:
    return f"{link['from']} → {link['to']} {link['value']:.4g} ({link['id'] or link['provenance']})"
