"""Writes a report's files."""

from __future__ import annotations

from pathlib import Path

from nameplate.errors import InputError
from nameplate.report import chart, markdown
from nameplate.report.view import view
from nameplate.store.folder import Run, write_durably


def write_report(run: Run, output: Path) -> list[Path]:
    """Write `output` (Markdown) and, beside it, its SVG under the same name; return what was written.

    Raises InputError for another suffix than .md and for a folder that can't be written.
    """
    if output.suffix != ".md":
        raise InputError("no such format", where="--output", got=str(output), expected="a name ending in .md")
    drawing = chart.efficiency_svg(run)
    picture = output.with_suffix(".svg")
    text = markdown.render(view(run), picture.name if drawing else None)
    try:
        write_durably(output, text)
        if drawing:
            write_durably(picture, drawing)
    except OSError as error:
        raise InputError(
            f"can't write the report: {error.strerror}",
            where="--output",
            got=str(output),
            expected="a folder",
        ) from error
    return [output, picture] if drawing else [output]
