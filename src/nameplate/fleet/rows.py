"""Priced fleets as rows: of JSON and of DataFrames. Rows of a DataFrame become fleets too."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nameplate.base.model import explain_error
from nameplate.base.toml import bad_value
from nameplate.fleet.catalogues import Catalogue, Fleet, load_shipped, merge
from nameplate.fleet.describe import describe_delivered, describe_ownership
from nameplate.fleet.montecarlo import Estimate, exact_estimate
from nameplate.fleet.outputs import OUTPUTS
from nameplate.fleet.price import Cost
from nameplate.fleet.size import DTYPE
from nameplate.fleet.validation import ChainCheck
from nameplate.specs.registry import load_registry

if TYPE_CHECKING:
    import pandas

_FLEET_COLUMNS = frozenset(Fleet.model_fields)


def cost_row(cost: Cost) -> dict[str, Any]:
    """The fleet as `bench fleet cost --json` has it; a figure that isn't known is null."""
    size, unit = cost.size, cost.unit
    return {
        "fleet": size.id,
        "name": size.name,
        "kind": size.kind,
        "as_of": size.as_of,
        "part": size.part and size.part.id,
        "parts": [part.id for part in size.parts],
        "dtype": DTYPE,
        "precision": size.precision,
        "nominal_tflops": size.card_tflops,
        "stated_cards": size.stated_cards,
        "stated_eflops": size.stated_eflops,
        "cards": size.cards,
        "servers": cost.servers,
        "servers_with_spares": cost.servers_with_spares,
        **columns("nominal_eflops", _as_estimate(size.nominal_eflops)),
        "derate": cost.derate,
        **{key: each for name in OUTPUTS for key, each in columns(name, _estimate_of(cost, name)).items()},
        "capex_whole_servers_rmb": cost.capex_whole_servers_rmb,
        "full_capex_whole_servers_rmb": cost.full_capex_whole_servers_rmb,
        "reaches": cost.reaches and cost.reaches.value,
        "not_yet": [stage.value for stage in cost.reaches.following] if cost.reaches else None,
        "price": cost.price and cost.price.model_dump(mode="json", exclude={"replaces"}),
        "chain": [link.as_json() for link in cost.chain],
        "ladder": [asdict(rung) for rung in cost.ladder] if cost.chain else [],
        "inputs": {name: each.as_json() for name, each in unit.inputs.items()} if unit else {},
        "sensitivity": {name: [vars(index) for index in each] for name, each in unit.sensitivity.items()}
        if unit
        else {},
        "all_of": [cost_row(each) for each in cost.mix],
        "draws": cost.draws,
        "seed": cost.seed,
        "sentence": describe_delivered(cost),
        "ownership": describe_ownership(cost),
        "reason": cost.reason,
        "notes": list(cost.notes),
        "run": cost.run and {**vars(cost.run), "parts": list(cost.run.parts)},
        "source": size.source,
    }


def columns(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    """A figure's four columns: its value and the 5 %, 50 % and 95 % points of its draws."""
    names = (name, f"{name}_p5", f"{name}_p50", f"{name}_p95")
    if estimate is None:
        return dict.fromkeys(names)
    return dict(zip(names, (estimate.value, estimate.p5, estimate.p50, estimate.p95), strict=True))


def _estimate_of(cost: Cost, name: str) -> Estimate | None:
    estimate = cost.estimates.get(name)
    if estimate is None and name == "cards_exact":  # counted cards are known, whatever their part
        return _as_estimate(cost.size.cards_exact)
    return estimate


def _as_estimate(value: float | None) -> Estimate | None:
    return None if value is None else exact_estimate(value)


# DataFrames


def frame(rows: Catalogue | Iterable[Cost | Fleet | ChainCheck]) -> pandas.DataFrame:
    """One row a fleet, cost or check, with the columns of `--json`; the fleets, for a catalogue."""
    import pandas

    fleets = rows.fleet if isinstance(rows, Catalogue) else rows
    return pandas.DataFrame([_row_of(each) for each in fleets])


def _row_of(each: Cost | Fleet | ChainCheck) -> dict[str, Any]:
    if isinstance(each, Fleet):
        return each.model_dump(mode="json")
    return cost_row(each) if isinstance(each, Cost) else each.as_json()


def from_frame(
    table: pandas.DataFrame, *, catalogue: Catalogue | None = None, parts: Sequence[str | Path] = ()
) -> Catalogue:
    """The catalogue (the shipped one by default) with one more fleet for each row of `table`.

    Columns are those of a `[[fleet]]` in a file: `id` (or the index), `name`, `as_of`, `part`, `cards` or
    `eflops`, `source` …. An empty or NaN cell counts as absent, and columns of other names are ignored. So
    the frame of a catalogue, with rows added or changed, can be read back (`catalogue=Catalogue()`).

    Raises InputError, with the row, for a fleet that can't be used and for an id that another fleet has.
    """
    known = load_shipped() if catalogue is None else catalogue
    rows = zip(table.index, table.to_dict("records"), strict=True)
    fleets = tuple(_read_fleet(index, row) for index, row in rows)
    return merge(known, Catalogue(fleet=fleets), "the frame", load_registry(parts))


def _read_fleet(index: Hashable, row: Mapping[Hashable, Any]) -> Fleet:
    cells = {str(name): cell for name, cell in row.items() if name in _FLEET_COLUMNS}
    filled = {name: _as_python(cell) for name, cell in cells.items() if not _is_empty(cell)}
    try:
        return Fleet.model_validate({"id": str(index), **filled})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"])) or "fleet"
        raise bad_value(f"the frame, row {index!r}", key, *explain_error(first)) from None


def _is_empty(cell: Any) -> bool:
    """Whether a cell is None, NaN, pandas.NA, NaT or an empty text or list."""
    if isinstance(cell, str | tuple | list):
        return not cell
    return cell is None or str(cell) in ("nan", "NaN", "NaT", "<NA>")


def _as_python(cell: Any) -> Any:
    """A numpy number as Python's, a whole one as an int: a column with a gap makes its integers floats."""
    plain = cell.item() if hasattr(cell, "item") else cell
    is_whole = isinstance(plain, float) and math.isfinite(plain) and plain.is_integer()
    return int(plain) if is_whole else tuple(plain) if isinstance(plain, list) else plain
