"""A run as one JSON document: what `--json` prints."""

from __future__ import annotations

import json
from typing import Any

from nameplate.derate.chain import chain
from nameplate.store.folder import Run


def document(run: Run) -> dict[str, Any]:
    """Return `{"run", "records", "chain"}`; each record flat, with the columns of `nameplate.load`.

    A figure not known is null; the document holds neither NaN nor infinity.
    """
    return {
        "run": {
            **run.manifest.summary(),
            "folder": str(run.folder),
            "finished": run.finished,
            "missing": [each.model_dump() for each in run.missing],
            "problems": list(run.problems),
        },
        "records": [record.flat() for record in run.records],
        "chain": [link.as_json() for link in chain(run.records)],
    }


def to_json(data: Any) -> str:
    """Serialise for standard output. Raises ValueError for NaN and infinity, which JSON doesn't have."""
    return json.dumps(data, indent=2, allow_nan=False)
