"""Write the published JSON Schemas: `python scripts/write_schemas.py`, after a change of what files hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nameplate.base.toml import schema_of
from nameplate.export import json_lines
from nameplate.fleet import catalogues, claims
from nameplate.models.model import Model
from nameplate.specs.registry import PartsFile
from nameplate.twin import card

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schema"
SCHEMAS: Mapping[str, Callable[[], dict[str, Any]]] = {
    "claims.schema.json": claims.schema,
    "fleets.schema.json": catalogues.schema,
    "model.schema.json": partial(schema_of, Model),
    "parts.schema.json": partial(schema_of, PartsFile),
    "record.schema.json": json_lines.make_schema,
    "twin.schema.json": card.schema,
}


def main() -> None:
    """Write every schema."""
    for name, make in SCHEMAS.items():
        text = json.dumps(make(), indent=2, ensure_ascii=False) + "\n"
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
