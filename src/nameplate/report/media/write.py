"""Writes a report's files: a page, or Markdown with an SVG file for each chart."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from nameplate.base.errors import InputError, NameplateError, write_error
from nameplate.base.files import open_regular
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.language import use_language
from nameplate.report import whatif
from nameplate.report.charts import vega
from nameplate.report.media import markdown, page
from nameplate.report.run import make_report
from nameplate.report.view import View
from nameplate.store.folder import Run, write_durably

_SUFFIXES = (".html", ".md")
# A page names its generator within so many bytes.
_HEAD_BYTES = 4096


def write_report(
    runs: Run | Sequence[Run], output: Path, lang: str = "en", *, fleets: bool | None = None
) -> list[Path]:
    """Write `output` and return every path written: NAME.html, or NAME.md and a NAME-….svg for each chart.

    A report of several runs has them side by side first, then each by itself. Fleets are in it where a run is
    of an accelerator, or as `fleets` says. Raises InputError for another suffix, an unknown language, a place
    that can't be written to, and where the libraries that draw aren't installed; OutputError where the disk
    is full.
    """
    if output.suffix not in _SUFFIXES:
        expected = f"a name ending in {' or '.join(_SUFFIXES)}"
        raise InputError("no such format", where="--output", got=str(output), expected=expected)
    if not os.path.isdir(output.absolute().parent):
        raise _cannot_write(output, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    _check_name(output)  # before the work, which takes seconds
    with use_language(lang), garbage_collection_off():
        report = make_report([runs] if isinstance(runs, Run) else runs, fleets=fleets)
        if output.suffix == ".html":
            panel = whatif.make_panel(report.costs) if report.costs else None
            texts = {output: page.render(report.views, panel)}
        else:
            texts = _render_markdown(report.views, output)
    for path, text in texts.items():
        try:
            write_durably(path, text)
        except OSError as error:
            raise _cannot_write(path, error) from error
    return list(texts)


def _check_name(output: Path) -> None:
    """Raise InputError for a name that no file can have, such as one that is too long."""
    try:
        os.lstat(output)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _cannot_write(output, error) from error


def _render_markdown(views: Sequence[View], output: Path) -> dict[Path, str]:
    """Return the text of every file of a Markdown report, by its path."""
    views_as_text: list[str] = []
    pictures: dict[Path, str] = {}
    for number, view in enumerate(views):
        prefix = f"{output.stem}-" if number == 0 else f"{output.stem}-{number}-"
        names: dict[str, str] = {}
        for chart in (chart for table in view.tables for chart in table.charts):
            names[chart.name] = f"{prefix}{chart.name}.svg"
            pictures[output.with_name(names[chart.name])] = vega.draw_svg_file(chart)
        views_as_text.append(markdown.render(view, names))
    return {output: "\n".join(views_as_text), **pictures}


def default_output(runs: Sequence[Run]) -> Path:
    """Return where a report goes by default: `<run id>.html`, or `report.html` for several, in this folder.

    Raises InputError where a file of that name isn't a report of ours.
    """
    output = Path(f"{runs[0].id}.html" if len(runs) == 1 else "report.html")
    if os.path.lexists(output) and not _is_report(output):
        raise InputError(
            "a file is there that isn't a report", where="bench report", got=str(output), expected="-o FILE"
        )
    return output


def _is_report(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            return page.GENERATOR.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def _cannot_write(path: Path, error: OSError) -> NameplateError:
    return write_error("can't write the report", error, where="--output", got=str(path))
