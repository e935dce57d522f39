"""What the fleet screens share: figures with their spread as cells, and tables of inputs and reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from nameplate.base.formatting import UNKNOWN, interval, percent, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.fleet.assumptions import UsedInput
from nameplate.fleet.montecarlo import Estimate, SensitivityIndex
from nameplate.report.view import Column, Field, Table, text_table

Formatter = Callable[[float], str]
PERCENTILES = "p5 … p50 … p95"
ENDS = "p5 … p95"
# Inputs that bring less of a figure's variance than this aren't named.
_LEAST_SHARE = 0.01


class HasEstimates(Protocol):
    """Whatever has figures by name, each with its spread."""

    @property
    def estimates(self) -> Mapping[str, Estimate]:
        """The known figures."""


Item = TypeVar("Item", bound=HasEstimates)


def value_text(found: Estimate | None, formatter: Formatter) -> str:
    """Return a figure's value, printed by `formatter`."""
    return UNKNOWN if found is None or found.value is None else formatter(found.value)


def range_text(found: Estimate | None, formatter: Formatter) -> str:
    """Return the 5 %, 50 % and 95 % points of a figure's draws, printed by `formatter`."""
    return UNKNOWN if found is None else interval(formatter, found.p5, found.p50, found.p95)


def ends_text(found: Estimate | None, formatter: Formatter) -> str:
    """Return the 5 % and 95 % points of a figure's draws, printed by `formatter`."""
    return UNKNOWN if found is None else interval(formatter, found.p5, found.p95)


def value_field(
    column: str, name: str, formatter: Formatter, *, drop_priority: int | None = None
) -> Field[Item]:
    """Make a column for the value of the estimate `name`."""
    return Field(
        column,
        lambda item: value_text(item.estimates.get(name), formatter),
        is_number=True,
        drop_priority=drop_priority,
    )


def range_field(name: str, formatter: Formatter, *, drop_priority: int | None = None) -> Field[Item]:
    """Make a column for the percentiles of the estimate `name`."""
    return Field(
        PERCENTILES, lambda item: range_text(item.estimates.get(name), formatter), drop_priority=drop_priority
    )


def ends_field(name: str, formatter: Formatter, *, drop_priority: int | None = None) -> Field[Item]:
    """Make a column for the ends of the estimate `name`, beside a column for its middle."""
    return Field(
        ENDS, lambda item: ends_text(item.estimates.get(name), formatter), drop_priority=drop_priority
    )


def inputs_table(heading: str, inputs: Iterable[tuple[str, UsedInput]]) -> Table:
    """Inputs by the name to show: value, ends of the range, law, unit, provenance and source."""
    rows = []
    for name, each in inputs:
        spread = each.uncertain
        ends = UNKNOWN if spread.law == "exact" else interval(stated, spread.low, spread.high)
        words = (_(spread.law), _(each.unit), _(each.basis))
        rows.append(tuple(map(plain, (name, stated(spread.value), ends, *words, each.source))))
    columns = (
        *(Column("input"), Column("value", is_number=True), Column("from … to", drop_priority=2)),
        *(Column("law", drop_priority=0), Column("unit", drop_priority=1), Column("how"), Column("from")),
    )
    return Table(heading, columns, tuple(rows))


def sensitivity_table(
    column: str, figures: Iterable[tuple[str, str, Sequence[SensitivityIndex]]], *, most: int
) -> Table:
    """The inputs that bring most of a figure's variance.

    `figures` are the cell of `column`, the figure's name, and its shares of variance, the largest first; at
    most `most` inputs are named. Rows that read alike stand once.
    """
    rows: dict[tuple[str, ...], None] = {}
    for cell, name, shares in figures:
        named = [each for each in shares[:most] if each.share >= _LEAST_SHARE]
        if named:
            said = _(", ").join(f"{each.input} {percent(each.share)}" for each in named)
            rows[plain(cell), name, plain(said)] = None
    heading = _("Where the spread comes from: the share of a figure's variance that each input brings")
    return text_table(heading, (column, "of", "from"), rows)


def unknown_table(reasons: Iterable[tuple[str, str | None]]) -> Table:
    """The fleets with figures that aren't known, and why; those without a reason are left out."""
    rows = tuple((plain(fleet), plain(reason)) for fleet, reason in reasons if reason)
    return text_table(_("Not known, and why"), ("fleet", "reason"), rows)
