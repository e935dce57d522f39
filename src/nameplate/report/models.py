"""What a model's sizes say before anything is measured: parameters, FLOPs a token, and its products."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nameplate.base.formatting import count, factor, figure, percent, scientific, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.models.conventions import CONVENTIONS, OWN, flops_per_token_by_convention
from nameplate.models.model import Model
from nameplate.models.products import ProductSet, find_products
from nameplate.report.view import Column, Table, View

_GIGA = 1e9
_GRADIENTS = {"input_gradient": N_("{product}: input"), "weight_gradient": N_("{product}: weights")}
_DEFAULT_TOKENS = 4096  # where a model doesn't say what context it was trained on

Document = Mapping[str, Any]


def model_document(model: Model, tokens: Sequence[int] = (), *, shapes: bool = False) -> dict[str, Any]:
    """Return a model as JSON: sizes, parameters, and GFLOP a token, forward and backward, by convention.

    `tokens` are contexts; without any, that which the model was trained on, else 4,096. The first one's
    figures stand at the top, all of them in `contexts`. With `shapes`, the products of a layer follow, for a
    sequence of the first context.
    """
    contexts = list(tokens) or [model.context or _DEFAULT_TOKENS]
    shape = model.shape
    found = [{"tokens": context, **_flops_of(model, context)} for context in contexts]
    document = {
        "model": model.name,
        **found[0],
        "convention": OWN,
        "formulas": {name: CONVENTIONS[name].formula_of(shape) for name in found[0]["gflop_per_token"]},
        "parameters": shape.total_parameters,
        "active_parameters": shape.active_parameters,
        "layers": shape.layers,
        "width": shape.width,
        "heads": shape.heads,
        "kv_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.features_of_head,
        "ffn": shape.expert_ffn if shape.experts else shape.ffn,
        "gated": shape.gated,
        "experts": shape.experts,
        "active_experts": shape.active_experts,
        "vocabulary": shape.vocabulary,
        "causal": shape.causal,
        "norm": model.norm,
        "bias": model.bias,
        "positions": model.positions,
        "context": model.context,
        "source": model.source,
        "contexts": found,
    }
    if not shapes:
        return document
    forward = find_products(model, contexts[0], ("forward",))
    return document | {"products": _rows_of(forward), "gradients": _gradients_of(model, contexts[0])}


def _flops_of(model: Model, context: int) -> dict[str, Any]:
    counted = flops_per_token_by_convention(model.shape, context)
    return {
        "gflop_per_token": {name: flops / _GIGA for name, flops in counted.items()},
        "of_megatron": {name: flops / counted[OWN] for name, flops in counted.items()},
    }


def set_document(found: ProductSet) -> dict[str, Any]:
    """Return a published set of products as JSON: each with its share of the FLOPs."""
    return {"set": found.name, "source": found.source, "products": _rows_of(found)}


def _rows_of(found: ProductSet) -> list[dict[str, Any]]:
    """A row a product. `m` is tokens, in a mixture of experts those of one expert where they are spread
    evenly; `times` counts how often all layers run it.
    """
    return [
        {
            "name": each.name,
            "shape": f"{each.m}x{each.n}x{each.k}",
            "m": each.m,
            "n": each.n,
            "k": each.k,
            "layout": each.layout,
            "times": each.times * each.groups,
            "gflop": each.flops * each.times / _GIGA,
            "flop_share": each.flops * each.times / found.flops,
        }
        for each in found.products
    ]


def _gradients_of(model: Model, tokens: int) -> list[dict[str, Any]]:
    found = find_products(model, tokens, ("input_gradient", "weight_gradient"))
    passes = [each.pass_ for each in found.products]
    return [{**row, "pass": of} for row, of in zip(_rows_of(found), passes, strict=True)]


def set_view(one: Document) -> View:
    """A published set of products."""
    return View(
        title=plain(_("{name}: {count} products", name=one["set"], count=count(len(one["products"])))),
        facts=((_("source"), plain(one["source"])),),
        tables=(_products_table(one["products"], _("Products")),),
        meaning=_("Nothing was measured. `bench run --shapes {name}` measures them.", name=one["set"]),
    )


def model_view(one: Document) -> View:
    """One model: FLOPs a token by convention at each context, and its products where they were asked for."""
    conventions = list(one["gflop_per_token"])
    several = len(one["contexts"]) > 1
    columns = [Column("convention"), Column("formula", drop_priority=0)]
    columns += [Column(_heading(each), is_number=True) for each in one["contexts"]]
    if not several:
        columns.append(Column("÷ megatron", is_number=True))
    rows = []
    for name in conventions:
        cells = [
            name,
            one["formulas"][name],
            *(figure(each["gflop_per_token"][name]) for each in one["contexts"]),
        ]
        rows.append((*cells, *(() if several else (factor(one["of_megatron"][name]),))))
    tables = [
        Table(
            _("GFLOP a token, forward and backward"),
            tuple(columns),
            tuple(rows),
            lead=_(
                "By tokens of a sequence. The same run has another MFU by each convention: compare only "
                "figures of one."
            ),
        )
    ]
    if "products" in one:
        tables.append(_products_table(one["products"], _("Products of a forward pass over one sequence")))
        tables.append(
            _products_table(
                one["gradients"], _("Products of the backward pass over it: gradients of input and weights")
            )
        )
    return View(
        title=plain(
            _("{model}: {count} parameters", model=one["model"], count=scientific(one["parameters"]))
        ),
        facts=_facts(one),
        tables=tuple(tables),
        meaning=_("Nothing was measured: these figures follow from the model's sizes."),
    )


def _heading(each: Document) -> str:
    return str(each["tokens"])


def _facts(one: Document) -> tuple[tuple[str, str], ...]:
    sizes = _(
        "{layers} layers of width {width}, {heads} heads of {head_dim}, {kv_heads} of keys and values, "
        "MLP {ffn}",
        **{name: count(one[name]) for name in ("layers", "width", "heads", "head_dim", "kv_heads", "ffn")},
    )
    facts = [(_("sizes"), sizes)]
    if one["experts"]:
        facts.append(
            (
                _("experts"),
                _(
                    "{active} of {experts} work on a token, {parameters} parameters",
                    active=stated(one["active_experts"]),
                    experts=stated(one["experts"]),
                    parameters=scientific(one["active_parameters"]),
                ),
            )
        )
    if one["source"]:
        facts.append((_("source"), plain(one["source"])))
    return tuple(facts)


def _products_table(products: Sequence[Document], heading: str) -> Table:
    return Table(
        heading,
        (
            Column("product"),
            Column("MxNxK", unbroken=True),
            Column("layout"),
            Column("times", is_number=True),
            Column("GFLOP", is_number=True, drop_priority=0),
            Column("share", is_number=True),
        ),
        tuple(
            (
                _(_GRADIENTS[row["pass"]], product=plain(row["name"]))
                if "pass" in row
                else plain(row["name"]),
                row["shape"],
                row["layout"],
                count(row["times"]),
                figure(row["gflop"]),
                percent(row["flop_share"]),
            )
            for row in products
        ),
        lead=_(
            "`bench run --shape MxNxK --layout LAYOUT` measures one, `bench run --shapes NAME` all of them."
        ),
    )
