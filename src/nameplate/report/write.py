"""Writes a report's files."""

from __future__ import annotations

from pathlib import Path

from nameplate.errors import InputError
from nameplate.report import chart, markdown
from nameplate.report.view import view
from nameplate.store.folder import Run, write_durably


def write_report(run: Run, output: Path) -> list[Path]:
    """Write `output` (Markdown) and, beside it, its pictures; return what was written.

    `NAME.md` has the efficiency of each case in `NAME.svg`, and a course from idle in `NAME-from-idle.svg`.
    Raises InputError for another suffix than .md and for a folder that can't be written.
    """
    if output.suffix != ".md":
        raise InputError("no such format", where="--output", got=str(output), expected="a name ending in .md")
    drawn = {
        "Efficiency by case, with 95 % intervals": ("", chart.efficiency_svg(run)),
        "Throughput after the onset from idle": ("-from-idle", chart.onset_svg(run)),
    }
    pictures = {
        shows: (output.with_name(f"{output.stem}{ending}.svg"), drawing)
        for shows, (ending, drawing) in drawn.items()
        if drawing is not None
    }
    text = markdown.render(view(run), {shows: path.name for shows, (path, _) in pictures.items()})
    try:
        write_durably(output, text)
        for path, drawing in pictures.values():
            write_durably(path, drawing)
    except OSError as error:
        raise InputError(
            f"can't write the report: {error.strerror}",
            where="--output",
            got=str(output),
            expected="a folder",
        ) from error
    return [output, *(path for path, _ in pictures.values())]
