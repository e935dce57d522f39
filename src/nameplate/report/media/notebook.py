"""The view in a notebook: HTML without scripts, of the tables alone, since pictures are the report's.

Every text is escaped. The style is that of the notebook, light or dark, by JupyterLab's own variables.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from nameplate.base.language import _
from nameplate.report.view import VERDICT, Column, Table, View, rate_verdicts, text_table, translate_verdicts

# Where the answer isn't said apart, so many tables are open; all others, and the facts, are folded.
_OPEN_TABLES = 1
_STYLE = """\
<style>
.nameplate h3, .nameplate h4 { margin: 0.6em 0 0.2em; }
.nameplate p, .nameplate ul, .nameplate details { margin: 0.3em 0; }
.nameplate th, .nameplate td { text-align: left; vertical-align: top; }
.nameplate .n { text-align: right; white-space: nowrap; }
.nameplate .good { color: var(--jp-success-color0, inherit); }
.nameplate .doubt { color: var(--jp-warn-color0, inherit); }
.nameplate .bad { color: var(--jp-error-color0, inherit); font-weight: bold; }
</style>"""


def render(view: View) -> str:
    """Return the view as one `div`: the answer first, then the tables, the later ones folded."""
    return "\n".join((_STYLE, '<div class="nameplate">', *_list_lines(view), "</div>"))


def _list_lines(view: View) -> Iterator[str]:
    if view.notice:
        yield f'<p class="bad">{escape(view.notice)}</p>'
    yield f"<h3>{escape(view.title)}</h3>"
    for banner in view.banners:
        word = f'<strong class="{rate_verdicts(banner.word)}">{escape(_(banner.word))}</strong>'
        yield f"<p>{word} {escape(banner.text)}</p>"
    if view.answers:
        yield "<ul>"
        for answer in view.answers:
            said = f"<strong>{escape(answer.value)}</strong> {escape(answer.label)} {escape(answer.detail)}"
            verdict = escape(translate_verdicts(answer.verdict))
            yield f'<li>{said} <span class="{rate_verdicts(answer.verdict)}">{verdict}</span></li>'
        yield "</ul>"
    yield from (f"<p>{escape(line)}</p>" for line in view.meaning.split("\n") if line)
    if view.advice:
        yield "<ul>"
        yield from (f"<li>{escape(line)}</li>" for line in view.advice)
        yield "</ul>"
    yield from (f'<p class="bad">{escape(line)}</p>' for line in view.problems)
    facts = text_table(_("This run"), ("", ""), view.facts)
    most_open = 0 if view.summary else _OPEN_TABLES
    for number, table in enumerate((*view.tables, facts)):
        if table.rows:
            yield from _list_section(table, folded=number >= most_open)


def _list_section(table: Table, *, folded: bool) -> Iterator[str]:
    heading = escape(table.heading)
    yield f"<details><summary>{heading}</summary>" if folded else f"<h4>{heading}</h4>"
    if table.lead:
        yield f"<p>{escape(table.lead)}</p>"
    yield "<table>"
    if any(table.column_names):
        names = (_cell(column, _(column.name), "th") for column in table.columns)
        yield f"<thead><tr>{''.join(names)}</tr></thead>"
    yield "<tbody>"
    yield from (_row(table.columns, row) for row in table.rows)
    yield "</tbody></table>"
    if folded:
        yield "</details>"


def _row(columns: Sequence[Column], row: Sequence[str]) -> str:
    cells = (
        _cell(column, column.translate(text), "td", rate_verdicts(text) if column.name == VERDICT else "")
        for column, text in zip(columns, row, strict=True)
    )
    return f"<tr>{''.join(cells)}</tr>"


def _cell(column: Column, text: str, tag: str, rating: str = "") -> str:
    css_class = " ".join(filter(None, ("n" if column.is_number else "", rating)))
    return (
        f'<{tag} class="{css_class}">{escape(text)}</{tag}>'
        if css_class
        else f"<{tag}>{escape(text)}</{tag}>"
    )
