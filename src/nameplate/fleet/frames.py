"""Fleets as DataFrames: costs and fleets as rows, and rows as fleets."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nameplate.base.errors import InputError
from nameplate.fleet.catalogues import Catalogue, Fleet, load_shipped, merge
from nameplate.fleet.costs import Cost
from nameplate.fleet.rows import cost_row
from nameplate.fleet.validation import ChainCheck
from nameplate.specs.parts import registry

if TYPE_CHECKING:
    import pandas

_FIELDS = frozenset(Fleet.model_fields)


def frame(rows: Catalogue | Iterable[Cost | Fleet | ChainCheck]) -> pandas.DataFrame:
    """One row a fleet, cost or check, with the columns of `--json`; the fleets, for a catalogue."""
    import pandas

    fleets = rows.fleet if isinstance(rows, Catalogue) else rows
    return pandas.DataFrame([_row(each) for each in fleets])


def _row(each: Cost | Fleet | ChainCheck) -> dict[str, Any]:
    if isinstance(each, Fleet):
        return each.model_dump(mode="json")
    return cost_row(each) if isinstance(each, Cost) else each.as_json()


def from_frame(
    table: pandas.DataFrame, *, catalogue: Catalogue | None = None, parts: Sequence[str | Path] = ()
) -> Catalogue:
    """The catalogue (the shipped one, unless given) with a fleet for each row of `table`.

    Columns are those of a `[[fleet]]` in a file: `id` (or the index), `name`, `as_of`, `part`, `cards` or
    `eflops`, `source` …; a cell that is empty or NaN isn't there, and columns of other names are left alone.
    So the frame of a catalogue, with rows added or changed, can come back (`catalogue=Catalogue()`).

    Raises InputError, with the row, for a fleet that can't be and for an id that is taken.
    """
    known = load_shipped() if catalogue is None else catalogue
    rows = zip(table.index, table.to_dict("records"), strict=True)
    fleets = tuple(_fleet(index, row) for index, row in rows)
    return merge(known, Catalogue(fleet=fleets), "the frame", registry(parts))


def _fleet(index: Hashable, row: Mapping[Hashable, Any]) -> Fleet:
    cells = {str(name): cell for name, cell in row.items() if name in _FIELDS}
    filled = {name: _plain(cell) for name, cell in cells.items() if not _empty(cell)}
    try:
        return Fleet.model_validate({"id": str(index), **filled})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "fleet"
        raise InputError(
            f"the value of {key} can't be used",
            where=f"the frame, row {index!r}",
            got="nothing" if first["type"] == "missing" else str(first["input"])[:120],
            expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
        ) from None


def _empty(cell: Any) -> bool:
    """None, NaN, pandas.NA and NaT: what isn't equal to itself, or can't say."""
    if isinstance(cell, str | tuple | list):
        return not cell
    return cell is None or str(cell) in ("nan", "NaN", "NaT", "<NA>")


def _plain(cell: Any) -> Any:
    """A numpy number as Python's, a whole one as an int: a column with a gap turns its integers to floats."""
    plain = cell.item() if hasattr(cell, "item") else cell
    whole = isinstance(plain, float) and math.isfinite(plain) and plain.is_integer()
    return int(plain) if whole else tuple(plain) if isinstance(plain, list) else plain
