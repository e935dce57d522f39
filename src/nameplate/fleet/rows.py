"""A priced fleet as a row of JSON: its figures, what they follow from, and the sentences that say them."""

from __future__ import annotations

from typing import Any

from nameplate.fleet.costs import Cost, Rung
from nameplate.fleet.montecarlo import Estimate
from nameplate.fleet.outputs import OUTPUTS
from nameplate.fleet.size import DTYPE
from nameplate.fleet.words import ownership, sentence


def cost_row(cost: Cost) -> dict[str, Any]:
    """The fleet as `bench fleet cost --json` has it; what isn't known is null."""
    size, unit = cost.size, cost.unit
    return {
        "fleet": cost.fleet,
        "name": cost.name,
        "kind": size.kind,
        "as_of": size.as_of,
        "part": cost.part and cost.part.id,
        "parts": [part.id for part in size.parts],
        "dtype": DTYPE,
        "precision": size.precision,
        "nominal_tflops": cost.card_tflops,
        "stated_cards": size.stated_cards,
        "stated_eflops": size.stated_eflops,
        "cards": cost.cards,
        "servers": cost.servers,
        "servers_with_spares": cost.servers_with_spares,
        **columns("nominal_eflops", _point(cost.nominal_eflops)),
        "derate": cost.derate,
        **{key: each for name in OUTPUTS for key, each in _output(cost, name).items()},
        "capex_whole_servers_rmb": cost.capex_whole_servers_rmb,
        "full_capex_whole_servers_rmb": cost.full_capex_whole_servers_rmb,
        "reaches": cost.reaches and cost.reaches.value,
        "not_yet": [stage.value for stage in cost.reaches.following] if cost.reaches else None,
        "price": cost.price and cost.price.model_dump(mode="json", exclude={"replaces"}),
        "chain": [link.as_json() for link in cost.chain],
        "ladder": [_rung_row(rung) for rung in cost.ladder] if cost.chain else [],
        "inputs": {name: each.as_json() for name, each in unit.inputs.items()} if unit else {},
        "sensitivity": {name: [vars(share) for share in each] for name, each in unit.shares.items()}
        if unit
        else {},
        "all_of": [cost_row(each) for each in cost.mix],
        "draws": cost.draws,
        "seed": cost.seed,
        "sentence": sentence(cost),
        "ownership": ownership(cost),
        "reason": cost.reason,
        "notes": list(cost.notes),
        "run": cost.run and {**vars(cost.run), "parts": list(cost.run.parts)},
        "source": size.source,
    }


def columns(name: str, found: Estimate | None) -> dict[str, float | None]:
    """A figure's four columns: its value and the 5 %, 50 % and 95 % of its draws."""
    if found is None:
        return dict.fromkeys((name, f"{name}_p5", f"{name}_p50", f"{name}_p95"))
    return {name: found.value, f"{name}_p5": found.p5, f"{name}_p50": found.p50, f"{name}_p95": found.p95}


def _output(cost: Cost, name: str) -> dict[str, float | None]:
    if name == "cards_exact":  # known of a fleet whose cards were counted, whatever its part
        return columns(name, cost.estimates.get(name) or _point(cost.cards_exact))
    return columns(name, cost.estimates.get(name))


def _point(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value, value, value, value)


def _rung_row(rung: Rung) -> dict[str, Any]:
    return {
        "stage": rung.stage.value,
        "derate": rung.derate,
        "cards_exact": rung.cards_exact,
        "servers_exact": rung.servers_exact,
        "rmb": rung.rmb,
        "cards": rung.cards,
        "servers": rung.servers,
        "whole_servers_rmb": rung.whole_servers_rmb,
    }
