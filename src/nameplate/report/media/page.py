"""The report as one HTML page: everything inside it, nothing loaded, readable from a file.

The page draws itself twice: as SVG when it is read (so it shows without scripts, and in print), and as
interactive charts once its scripts have run, from the same definitions (`vega`). What it shows is the view's;
every value is escaped by Jinja2. Only the page's own scripts run: its policy allows them by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from nameplate import __version__
from nameplate.base.errors import InputError
from nameplate.base.language import _, current_language
from nameplate.report.charts import vega
from nameplate.report.charts.data import FLEETS, Chart
from nameplate.report.charts.palette import style_sheet
from nameplate.report.view import VERDICT, Table, View, verdict_words
from nameplate.report.whatif import script_json

if TYPE_CHECKING:
    import jinja2

# By this every page is known for one of ours.
GENERATOR = '<meta name="generator" content="nameplate '
# A longer table is folded, with a field to search it by.
_LONGEST_OPEN = 24
_SHORT = 30
_LANGUAGE_TAGS = {"en": "en", "zh": "zh-Hans"}
_COMMAND = "command"
_VERDICT_KINDS = {"clean": "good", "unknown": "doubt", "throttled": "doubt"}


@dataclass(frozen=True)
class _Column:
    name: str
    is_number: bool


@dataclass(frozen=True)
class _Picture:
    """A chart in the page: `svg` is its markup, ours; `key` its element's id."""

    key: str
    title: str
    alt: str
    svg: Any


@dataclass(frozen=True)
class _Section:
    key: str
    table: Table
    charts: tuple[_Picture, ...]

    @property
    def short(self) -> str:
        """The heading as far as its first comma or colon: what fits among others."""
        return self.table.heading.split(",")[0].split(":")[0].split("，")[0].split("：")[0]

    @property
    def folded(self) -> bool:
        return len(self.table.rows) > _LONGEST_OPEN

    @property
    def columns(self) -> list[_Column]:
        table = self.table
        return [_Column(_(name), index in table.numbers) for index, name in enumerate(table.columns)]

    @property
    def rows(self) -> Iterator[list[tuple[str, str]]]:
        """The cells of each row, with their classes."""
        table = self.table
        kinds = [_kind(table, index) for index in range(len(table.columns))]
        for row in table.rows:
            yield [
                (verdict_words(cell), f"{kind} {_verdict_kind(cell)}".lstrip())
                if name == VERDICT
                else (cell, kind)
                for name, kind, cell in zip(table.columns, kinds, row, strict=True)
            ]


@dataclass(frozen=True)
class _Part:
    key: str
    view: View
    sections: tuple[_Section, ...]


def render(views: Sequence[View], panel: dict[str, Any] | None = None) -> str:
    """The page of one view, or of several one after another; `panel` is the what-if panel's model, which
    follows the first section of fleets.

    Raises InputError where the libraries that draw it aren't installed.
    """
    template = _environment().get_template("page.html.j2")
    drawn = any(table.charts for each in views for table in each.tables)
    library = vega.start_bundling_library() if drawn else None  # bundled while the rest is drawn
    specs: dict[str, vega.Spec] = {}
    parts = [_part(f"r{n}", each, specs) for n, each in enumerate(views, start=1)]
    after = next((section for part in parts for section in part.sections if _is_of_fleets(section)), None)
    shown = panel if after is not None else None
    scripts = [
        *([library()] if library else []),
        _asset("page.js"),
        *([_asset("whatif.js")] if shown else []),
    ]
    return template.render(
        language=_LANGUAGE_TAGS[current_language()],
        title=views[0].title,
        policy=_policy(scripts),
        version=__version__,
        style=_ours(style_sheet() + _asset("page.css") + (_asset("whatif.css") if shown else "")),
        parts=parts,
        panel=shown,
        panel_after=after,
        charts=_ours(script_json(specs)),
        scripts=[_ours(each) for each in scripts],
        say=_,
        words=verdict_words,
        script_json=lambda data: _ours(script_json(data)),
    )


def _part(key: str, view: View, specs: dict[str, vega.Spec]) -> _Part:
    """A view with its charts drawn; the definition of each goes into `specs`."""
    sections = []
    for n, table in enumerate(view.tables, start=1):
        pictures = [_picture(f"{key}-s{n}-{chart.name}", chart, specs) for chart in table.charts]
        sections.append(_Section(f"{key}-s{n}", table, tuple(pictures)))
    return _Part(key, view, tuple(sections))


def _picture(key: str, chart: Chart, specs: dict[str, vega.Spec]) -> _Picture:
    specs[key] = vega.make_spec(chart)
    return _Picture(key, chart.title, chart.alt, _ours(vega.draw_svg(specs[key])))


def _is_of_fleets(section: _Section) -> bool:
    return any(chart.name == FLEETS for chart in section.table.charts)


def _kind(table: Table, index: int) -> str:
    """The classes of a column's cells: numbers, commands, and what is short enough never to break."""
    if index in table.numbers:
        return "n"
    if table.columns[index] == _COMMAND:
        return "code"
    return "s" if all(len(row[index]) <= _SHORT for row in table.rows) else ""


def _verdict_kind(cell: str) -> str:
    return _VERDICT_KINDS.get(cell.split(" ", maxsplit=1)[0], "bad")


def _policy(scripts: Sequence[str]) -> str:
    """The page may run these scripts and load nothing: what a hostile value smuggled in would not run."""
    digests = (hashlib.sha256(each.encode()).digest() for each in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (files("nameplate.report.media") / "assets" / name).read_text(encoding="utf-8")


def _ours(text: str) -> Any:
    """Markup that we wrote, which isn't escaped again."""
    from markupsafe import Markup

    return Markup(text)


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise InputError(
            "a page needs jinja2", where="bench report", expected="pip install 'nameplate[report]'"
        ) from error
    folder = jinja2.FunctionLoader(_asset)
    return jinja2.Environment(loader=folder, autoescape=True, undefined=jinja2.StrictUndefined)
