"""Writes a report's files: a page, or Markdown with its pictures beside it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from nameplate.base.errors import InputError, NameplateError, write_error
from nameplate.base.garbage_collection import garbage_collection_off
from nameplate.base.language import use_language
from nameplate.report import whatif
from nameplate.report.charts import vega
from nameplate.report.charts.data import Chart
from nameplate.report.fleet.priced import Priced, price, priced_tables
from nameplate.report.media import markdown, page
from nameplate.report.run import run_view
from nameplate.report.side_by_side import side_by_side_view
from nameplate.report.view import View
from nameplate.store.folder import Run, write_durably

_KINDS = (".html", ".md")
# Characters of a page in which its generator is named.
_HEAD = 4096


def write_report(runs: Run | Sequence[Run], output: Path, lang: str = "en") -> list[Path]:
    """Write `output` and return what was written: NAME.html alone, or NAME.md with a NAME-….svg a chart.

    Several runs stand side by side first, then each by itself. Raises InputError for another suffix, an
    unknown language, a folder that can't be written, and where the libraries that draw aren't installed;
    OutputError where the disk takes no more.
    """
    if output.suffix not in _KINDS:
        expected = f"a name ending in {' or '.join(_KINDS)}"
        raise InputError("no such format", where="--output", got=str(output), expected=expected)
    several = [runs] if isinstance(runs, Run) else list(runs)
    if not os.path.isdir(output.absolute().parent):
        raise _unwritable(output, OSError(errno.ENOENT, os.strerror(errno.ENOENT)))
    with use_language(lang), garbage_collection_off():
        priced = [price(run) for run in several]
        views = report_views(several, priced)
        if output.suffix == ".html":
            best = _pricing(priced)
            panel = None if best is None else whatif.panel(priced[best].costs)
            files = {output: page.render(views, panel)}
        else:
            files = _markdown(views, output)
    _write(files)
    return list(files)


def default_output(runs: Sequence[Run]) -> Path:
    """The page where no other is asked for: `<run id>.html`, or `report.html` of several, in this folder.

    Raises InputError where a file of that name is there that no report was written to.
    """
    output = Path(f"{runs[0].id}.html" if len(runs) == 1 else "report.html")
    if output.exists() and not _is_report(output):
        raise InputError(
            "a file is there that isn't a report", where="bench report", got=str(output), expected="-o FILE"
        )
    return output


def _is_report(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return page.GENERATOR in file.read(_HEAD)
    except OSError:
        return False


def report_views(runs: Sequence[Run], priced: Sequence[Priced]) -> list[View]:
    """What a report says: several runs side by side first, then each whole, with the fleets it prices.

    Raises InputError where one of them is given twice.
    """
    ids = [run.id for run in runs]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise InputError("the same run twice", got=twice, expected="runs that differ")
    pricing = _pricing(priced)
    whole = [
        run_view(run, whole=True, fleets=priced_tables(each) if each.why is None or n == pricing else ())
        for n, (run, each) in enumerate(zip(runs, priced, strict=True))
    ]
    return whole if len(runs) == 1 else [side_by_side_view(runs), *whole]


def _pricing(priced: Sequence[Priced]) -> int | None:
    """The run whose fleets stand for all: the first that prices some; where none does, the first."""
    return next((n for n, each in enumerate(priced) if each.why is None), 0 if priced else None)


def _markdown(views: Sequence[View], output: Path) -> dict[Path, str]:
    """Every file of a Markdown report, by its path."""
    texts: list[str] = []
    pictures: dict[Path, str] = {}
    for n, each in enumerate(views):
        prefix = f"{output.stem}-" if n == 0 else f"{output.stem}-{n}-"
        drawn = {chart: output.with_name(f"{prefix}{chart.name}.svg") for chart in _charts(each)}
        texts.append(markdown.render(each, {chart.name: path.name for chart, path in drawn.items()}))
        pictures |= {path: vega.draw_svg_file(chart) for chart, path in drawn.items()}
    return {output: "\n".join(texts), **pictures}


def _charts(view: View) -> Iterator[Chart]:
    for table in view.tables:
        yield from table.charts


def _write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        try:
            write_durably(path, text)
        except OSError as error:
            raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> NameplateError:
    return write_error("can't write the report", error, where="--output", got=str(path))
