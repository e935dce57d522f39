"""A run as one JSON document: what `--json` prints."""

from __future__ import annotations

import json
from typing import Any

from nameplate.chain.effects import effects
from nameplate.chain.from_run import chain
from nameplate.record import Record
from nameplate.store.folder import Run


def document(run: Run) -> dict[str, Any]:
    """Return `{"run", "records", "chain"}`; each record flat, with the columns of `nameplate.load`.

    What is no column stands in `run`: `courses`, an entry for each record that began from idle, with the
    curve after its onset and what was left at the moments people quote; `effects`, the ratios that fill and
    cache make. A figure not known is null; the document holds neither NaN nor infinity.
    """
    return {
        "run": {
            **run.manifest.summary(),
            "folder": str(run.folder),
            "finished": run.finished,
            "missing": [each.model_dump() for each in run.missing],
            "problems": [str(problem) for problem in run.problems],
            "courses": [_course(record) for record in run.records if record.course],
            "effects": [effect.as_json() for effect in effects(run.records)],
        },
        "records": [record.flat() for record in run.records],
        "chain": [link.as_json() for link in chain(run.records)],
    }


def _course(record: Record) -> dict[str, Any]:
    """The curve of one record and its derates, each a list of points in order of time."""
    return {
        "case": record.case,
        "device": record.device,
        "course": [moment.model_dump() for moment in record.course],
        "derates": [derate.model_dump() for derate in record.derates],
    }


def to_json(data: Any) -> str:
    """Serialise for standard output. Raises ValueError for NaN and infinity, which JSON doesn't have."""
    return json.dumps(data, indent=2, allow_nan=False)
