"""The screen of `bench fleet list`: the fleets of the catalogue, as stated and converted to cards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nameplate.base.formatting import UNKNOWN, count, stated
from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.fleet.catalogues import KINDS, Catalogue
from nameplate.fleet.size import DTYPE, size_of_fleet
from nameplate.report.view import Field, View, table_of
from nameplate.specs.registry import load_registry

Row = dict[str, Any]


def list_rows(catalogue: Catalogue, parts: Sequence[str | Path] = ()) -> list[Row]:
    """Return the fleets as JSON rows: cards and EFLOPS as stated, and both as converted."""
    known = load_registry(parts)
    rows = []
    for fleet in catalogue.fleet:
        size = size_of_fleet(fleet, known)
        rows.append(
            {
                "fleet": fleet.id,
                **fleet.model_dump(mode="json", exclude={"id", "cards", "eflops", "part", "mix"}),
                "part": fleet.part,
                "mix": list(fleet.mix or ()),
                "stated_cards": fleet.cards,
                "stated_eflops": fleet.eflops,
                "cards": size.cards,
                "nominal_eflops": size.nominal_eflops,
            }
        )
    return rows


def list_view(rows: Sequence[Row], *, details: bool = False) -> View:
    """The fleets on one screen; their sources are details."""
    fields = [
        Field[Row]("fleet", lambda row: plain(row["fleet"])),
        Field[Row]("as of", lambda row: plain(row["as_of"])),
        Field[Row]("kind", lambda row: _(row["kind"]), drop_priority=1),
        Field[Row]("EFLOPS", lambda row: stated(row["stated_eflops"]), is_number=True),
        Field[Row]("in", lambda row: _(row["precision"]) if row["stated_eflops"] else UNKNOWN),
        Field[Row]("cards stated", lambda row: count(row["stated_cards"]), is_number=True, drop_priority=2),
        Field[Row]("cards", lambda row: count(row["cards"]), is_number=True),
    ]
    sources = [fields[0], Field[Row]("part", _name_part), Field[Row]("from", _sources_text)]
    kinds = dict.fromkeys(row["kind"] for row in rows)
    mixed = any(row["mix"] for row in rows)
    held = [row for row in rows if row["kind"] == "held"]
    tables = [table_of(_("Fleets, as stated"), fields, rows)]
    return View(
        title=_("{count} fleets are known, {held} of them as held.", count=len(rows), held=len(held)),
        tables=(*tables, table_of(_("Parts and sources"), sources, rows)) if details else tuple(tables),
        meaning=_(
            "Where only EFLOPS are stated, cards are those EFLOPS ÷ the {dtype} nominal of one card.",
            dtype=DTYPE,
        ),
        advice=(
            *(_("{name}: {said}.", name=_(kind), said=_(KINDS[kind])) for kind in kinds),
            *((_("A mix of parts in unknown shares has no number of cards."),) if mixed else ()),
            *(() if details else (_("Parts, sources and notes: `--details`."),)),
        ),
    )


def _name_part(row: Row) -> str:
    return plain(row["part"] or (_("a mix") if row["mix"] else UNKNOWN))


def _sources_text(row: Row) -> str:
    mix = row["mix_source"] and _("the mix: {source}", source=row["mix_source"])
    return plain(_("; ").join(each for each in (row["source"], row["note"], mix) if each))
