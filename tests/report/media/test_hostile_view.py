"""Texts that could do harm on a terminal or in Markdown are printed as text."""

import re

import pytest
from markdown_it import MarkdownIt

from nameplate.base.text import plain
from nameplate.report.media import markdown
from nameplate.report.run import run_view
from run_views import memory, printed

PICTURES = {"efficiency": "x.svg"}

# What a host name, a driver's message or a file from elsewhere may hold.
HOSTILE = {
    "html": "<img src=x onerror=alert(1)>",
    "pipe": "a|b",
    "row": "x |\n| forged | 999 | 999 | 999 | 99% | clean",
    "escape": "\x1b[2J\x1b[31mred",
    "c1": "\x9b2Jgone",
    "bidi": "\u202e%99 fo",
    "zero width": "a\u200bb\u2066c",
    "rich": "[red]x[/red] [link=file:///etc/passwd]y[/link] [/nothing]",
    "link": "[click](https://evil.example) ![p](https://evil.example/x.png) <https://evil.example>",
    "emphasis": "**bold** _it_ `code` ~~no~~",
    "heading": "# Not a heading\n\n---\n\n- item\n> quote",
    "backslash": "C:\\x\\| y",
    "entity": "&lt;script&gt; &#x202e;",
    "carriage": "real\rfake",
}

_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")


@pytest.fixture
def hostile_run(make_run, make_record, make_manifest):
    """A run in which every free text says this."""

    def make(text):
        (entry,) = make_manifest().devices
        identity = entry.identity.model_copy(update={"name": text})
        entry = entry.model_copy(
            update={"name": text, "evidence": text, "notes": (text,), "identity": identity}
        )
        product = make_record(
            case=f"matmul/bf16/{text}/normal/warm/-/torch",
            shape=text,
            nominal_source=text,
            datasheet_source=text,
        )
        copy = memory(make_record, shape=text)
        failed = make_record(status="failed", reason=text, case=f"conv/bf16/{text}/normal/warm/-/torch")
        return make_run(
            product,
            copy,
            failed,
            missing=[f"lost/{text}"],
            problems=(text,),
            suite=text,
            hostname=text,
            created=text,
            devices=(entry,),
            software={"nameplate": text, "torch": text},
        )

    return make


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_terminal_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    out = printed(hostile_run(text))
    assert _CONTROL.search(out) is None
    host = next(line for line in out.splitlines() if line.startswith("host"))
    assert plain(text) in host


def tokens(text):
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [each for token in parsed for each in (token, *(token.children or ()))]


@pytest.mark.parametrize("kind", HOSTILE)
def test_markdown_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    calm_report = markdown.render(run_view(hostile_run("calm")), PICTURES)
    calm = [token.type for token in tokens(calm_report)]
    report = markdown.render(run_view(hostile_run(text)), PICTURES)
    assert _CONTROL.search(report) is None
    parsed = tokens(report)
    assert [token.type for token in parsed if token.type != "text"] == [
        kind for kind in calm if kind != "text"
    ]
    cell = "".join(token.content for token in parsed if token.type == "text")
    assert plain(text).strip() in cell


def test_the_hostile_texts_would_do_harm_if_they_were_not_escaped():
    kinds = {token.type for token in tokens("\n\n".join(HOSTILE.values()))}
    assert {"html_block", "link_open", "image", "strong_open", "heading_open", "code_inline"} <= kinds


def test_plain_strips_what_moves_a_cursor_and_keeps_letters():
    assert plain("\x1b[2J\u202eabc\x00") == "[2Jabc"
    assert plain("a\tb\nc\rd") == "a b c d"
    assert plain("EPYC™ é 中 …") == "EPYC™ é 中 …"
    assert plain(None) == "None"
