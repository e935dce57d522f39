"""Flags that several commands share, declared once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on standard output.")]
Results = Annotated[Path, typer.Option("--results", metavar="DIR", help="Folder that holds the runs.")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="A run folder, or the id of one in --results.")]
DEFAULT_RESULTS = Path("runs")
