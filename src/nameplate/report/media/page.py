"""The report as one HTML page that holds everything and loads nothing, so that it can be read from a file.

Each chart is in it twice, from one specification (`charts.vega`): as SVG, which needs no script and is
printed, and as an interactive chart that replaces the SVG once the page's scripts have run. Jinja2 escapes
every value. Only the page's own scripts run: its Content Security Policy allows them by their digests.
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
from nameplate.report.view import VERDICT, Column, Table, View, rate_verdicts, translate_verdicts
from nameplate.report.whatif import script_json

if TYPE_CHECKING:
    import jinja2

# Every page that we write has this element.
GENERATOR = '<meta name="generator" content="nameplate '
# A table with more rows is folded, and has a field to search it.
_MOST_OPEN_ROWS = 24
# A column whose cells are no longer never breaks its lines.
_MOST_UNBROKEN_CHARACTERS = 30
_LANGUAGE_TAGS = {"en": "en", "zh": "zh-Hans"}
_COMMAND = "command"


@dataclass(frozen=True)
class _Picture:
    """A chart in the page: the id of its element, and its SVG."""

    key: str
    title: str
    alt: str
    svg: Any


@dataclass(frozen=True)
class _Section:
    """A table in the page, with its charts."""

    key: str
    table: Table
    charts: tuple[_Picture, ...]
    folds: bool = False  # the whole section is closed at first: the answer is elsewhere

    @property
    def short_heading(self) -> str:
        """The heading up to its first comma or colon, for the navigation."""
        heading = self.table.heading
        for mark in ",:，：":
            heading = heading.split(mark)[0]
        return heading

    @property
    def is_long(self) -> bool:
        """Whether its table has a field to search it, and is closed where its section isn't."""
        return len(self.table.rows) > _MOST_OPEN_ROWS

    @property
    def columns(self) -> list[tuple[str, str]]:
        """Each column's name and the class of its heading."""
        return [(_(column.name), "n" if column.is_number else "") for column in self.table.columns]

    @property
    def rows(self) -> Iterator[list[tuple[str, str]]]:
        """The cells of each row: the text and the classes of each."""
        columns = self.table.columns
        classes = [_column_class(*column) for column in zip(columns, *self.table.rows, strict=True)]
        for row in self.table.rows:
            yield [
                (column.translate(cell), f"{css_class} {_rating(column, cell)}".strip())
                for column, css_class, cell in zip(columns, classes, row, strict=True)
            ]


def _column_class(column: Column, *cells: str) -> str:
    if column.is_number:
        return "n"
    if column.name == _COMMAND:
        return "code"
    return "s" if all(len(cell) <= _MOST_UNBROKEN_CHARACTERS for cell in cells) else ""


def _rating(column: Column, cell: str) -> str:
    return rate_verdicts(cell) if column.name == VERDICT else ""


@dataclass(frozen=True)
class _Article:
    """A view in the page, and the picture beside its answer."""

    key: str
    view: View
    sections: tuple[_Section, ...]
    chart: _Picture | None = None

    @property
    def banners(self) -> list[tuple[str, str, str]]:
        """The word, the class and the text of each banner."""
        return [(_(each.word), rate_verdicts(each.word), each.text) for each in self.view.banners]


def render(views: Sequence[View], panel: dict[str, Any] | None = None) -> str:
    """Return the page of one view, or of several one after another.

    `panel` is the model of the what-if panel, which follows the first section about fleets.
    Raises InputError where the libraries that draw the page aren't installed.
    """
    template = _environment().get_template("page.html.j2")
    has_charts = any(view.chart or table.charts for view in views for table in view.tables)
    wait_for_library = vega.start_bundling_library() if has_charts else None
    specs: dict[str, vega.Spec] = {}
    articles = [_draw_article(f"r{number}", view, specs) for number, view in enumerate(views, start=1)]
    panel_after = next(
        (section for article in articles for section in article.sections if _is_about_fleets(section)), None
    )
    if panel_after is None:
        panel = None
    scripts = [_asset("page.js")]
    if wait_for_library:
        scripts.insert(0, wait_for_library())
    if panel:
        scripts.append(_asset("whatif.js"))
    style = style_sheet() + _asset("page.css") + (_asset("whatif.css") if panel else "")
    return template.render(
        language=_LANGUAGE_TAGS[current_language()],
        title=views[0].title,
        policy=_policy(scripts),
        version=__version__,
        style=_unescaped(style),
        articles=articles,
        panel=panel,
        panel_after=panel_after,
        charts=_unescaped(script_json(specs)),
        scripts=[_unescaped(script) for script in scripts],
        say=_,
        words=translate_verdicts,
        script_json=lambda data: _unescaped(script_json(data)),
    )


def _draw_article(key: str, view: View, specs: dict[str, vega.Spec]) -> _Article:
    """Draw the charts of a view; adds the specification of each to `specs`, by the id of its element."""

    def draw(section_key: str, chart: Chart) -> _Picture:
        chart_key = f"{section_key}-{chart.name}"
        specs[chart_key] = vega.make_spec(chart)
        return _Picture(chart_key, chart.title, chart.alt, _unescaped(vega.draw_svg(specs[chart_key])))

    first = None if view.chart is None else draw(key, view.chart)
    sections = []
    for number, table in enumerate(view.tables, start=1):
        section_key = f"{key}-s{number}"
        pictures = [draw(section_key, chart) for chart in table.charts if chart is not view.chart]
        sections.append(_Section(section_key, table, tuple(pictures), folds=bool(view.summary)))
    return _Article(key, view, tuple(sections), first)


def _is_about_fleets(section: _Section) -> bool:
    return any(chart.name == FLEETS for chart in section.table.charts)


def _policy(scripts: Sequence[str]) -> str:
    """Return the Content Security Policy: these scripts may run, and nothing may be loaded."""
    digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
    allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _asset(name: str) -> str:
    return (files("nameplate.report.media") / "assets" / name).read_text(encoding="utf-8")


def _unescaped(text: str) -> Any:
    """Mark text that we wrote as markup, so that the template doesn't escape it."""
    from markupsafe import Markup

    return Markup(text)


def _environment() -> jinja2.Environment:
    try:
        import jinja2
    except ImportError as error:
        raise InputError(
            "a page needs jinja2", where="bench report", expected="pip install 'nameplate[report]'"
        ) from error
    loader = jinja2.FunctionLoader(_asset)
    return jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
