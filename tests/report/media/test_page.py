"""The page as it is written, before any browser draws it: whole, readable, and nobody's script but ours."""

import base64
import hashlib
import io
import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from rich.console import Console

from nameplate.base.language import use_language
from nameplate.base.text import plain
from nameplate.report.charts import vega
from nameplate.report.charts.data import MOST_BARS, MOST_POINTS
from nameplate.report.media import terminal
from nameplate.report.run import make_report

pytestmark = pytest.mark.usefixtures("few_draws")
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script><!--\x1b[2J\u202e|x| {{ 7*7 }} \"'&"
VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Node:
    """An element: its attributes, and what is in it in order."""

    tag: str
    attributes: dict = field(default_factory=dict)
    inside: list = field(default_factory=list)

    def every(self, *tags):
        """The elements within that are one of these; all without any."""
        for each in self.inside:
            if isinstance(each, Node):
                if not tags or each.tag in tags:
                    yield each
                yield from each.every(*tags)

    def of_class(self, name):
        return [each for each in self.every() if name in each.attributes.get("class", "").split()]

    @property
    def text(self):
        return "".join(each if isinstance(each, str) else each.text for each in self.inside)


class Reader(HTMLParser):
    """Builds the tree; a tag that is closed out of order fails the test."""

    def __init__(self):
        super().__init__()
        self.open = [Node("document")]

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(self.open[-1].inside[-1])

    def handle_startendtag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}: {attrs}"
        self.open[-1].inside.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        self.open[-1].inside.append(data)

    def handle_comment(self, data):
        self.open[-1].inside.append(Node("a comment"))


def read(path):
    reader = Reader()
    reader.feed(path.read_text())
    (document,) = reader.open
    return document


@pytest.fixture(scope="module")
def path(page_of, a800_run):
    return page_of(a800_run())


@pytest.fixture(scope="module")
def page(path):
    return read(path)


@pytest.fixture(scope="module")
def two_runs(a800_run):
    return a800_run(), a800_run(0.9, run="20261123T120000-standard-a801")


@pytest.fixture(scope="module")
def both(page_of, two_runs):
    """Two runs side by side."""
    return read(page_of(*two_runs))


@pytest.fixture(scope="module", params=["one run", "several runs"])
def either(request, page, both):
    return page if request.param == "one run" else both


def views_of(*runs):
    return make_report(runs).views


def test_the_page_is_a_whole_document(path, page):
    text = path.read_text()
    assert text.startswith("<!doctype html>")
    assert text.rstrip().endswith("</html>")
    (html,) = (each for each in page.inside if isinstance(each, Node))
    assert [each.tag for each in html.inside if isinstance(each, Node)] == ["head", "body"]
    assert next(page.every("title")).text == "standard on NVIDIA A800-SXM4-80GB · Nameplate"


@pytest.mark.long
def test_the_page_of_eight_devices_is_under_5_mb(page_of, a800_run):
    assert page_of(a800_run(*(1 - n / 100 for n in range(8)))).stat().st_size < 5_000_000


def test_every_id_is_unique_and_every_reference_to_one_resolves(either):
    ids = [each.attributes["id"] for each in either.every() if "id" in each.attributes]
    assert len(ids) == len(set(ids)) > 30
    links = [each.attributes["href"] for each in either.every("a")]
    assert all(link.startswith("#") for link in links)
    named = [
        each.attributes["aria-labelledby"] for each in either.every() if "aria-labelledby" in each.attributes
    ]
    searched = [each.attributes["data-rows-of"] for each in either.every("input")]
    assert {*(link[1:] for link in links), *named, *searched} <= set(ids)


def test_every_chart_has_a_text_a_title_and_a_table_in_its_section(either):
    sections = [each for each in either.every("section") if each.of_class("chart")]
    assert len(either.of_class("chart")) >= 6
    assert all(list(section.every("table")) for section in sections)
    for article in either.every("article"):
        beside = [each for each in article.inside if isinstance(each, Node) and each.tag == "figure"]
        assert len(beside) == (0 if "side by side" in next(article.every("h1")).text else 1)
        for figure in article.every("figure"):
            (chart,) = figure.of_class("chart")
            assert chart.attributes["role"] == "img"
            assert chart.attributes["aria-label"].endswith(".")
            assert [each.tag for each in chart.inside if isinstance(each, Node)] == ["svg"]
            (title,) = figure.every("figcaption")
            assert title.text


def test_every_table_has_scoped_headers_and_a_name(either):
    tables = list(either.every("table"))
    assert len(tables) >= 10
    for table in tables:
        head, *rows = table.every("tr")
        columns = list(head.every("th", "td"))
        assert {(each.tag, each.attributes["scope"]) for each in columns} == {("th", "col")}
        assert all(each.text.strip() for each in columns)
        for row in rows:
            cells = list(row.every("th", "td"))
            assert len(cells) == len(columns)
            assert [each.tag for each in cells] == ["th"] + ["td"] * (len(cells) - 1)
            assert cells[0].attributes["scope"] == "row"
    for region in either.of_class("scroll"):
        assert (region.attributes["role"], region.attributes["tabindex"]) == ("region", "0")
        assert region.attributes["aria-labelledby"]


def test_headings_skip_no_level_and_begin_at_the_first(either):
    levels = [int(each.tag[1]) for each in either.every(*(f"h{n}" for n in range(1, 7)))]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert set(levels) == {1, 2}


@pytest.fixture(scope="module", params=["en", "zh"])
def spoken(request, page_of, two_runs, both):
    """A language, two runs, and their page in it."""
    page = both if request.param == "en" else read(page_of(*two_runs, lang=request.param))
    return request.param, two_runs, page


def test_the_page_declares_its_language(spoken):
    lang, _runs, page = spoken
    (html,) = page.every("html")
    assert html.attributes["lang"] == {"en": "en", "zh": "zh-Hans"}[lang]
    title = next(html.every("h2")).text
    assert bool(re.search("[\u4e00-\u9fff]", title)) == (lang == "zh")


def test_the_page_loads_nothing(path, page):
    assert not list(page.every("link", "img", "iframe", "object", "embed", "image", "use", "base", "form"))
    loading = {"src", "srcset", "data", "xlink:href", "action", "poster", "background", "ping"}
    assert not [each.tag for each in page.every() if loading & each.attributes.keys()]
    styles = "".join(each.text for each in page.every("style"))
    assert not re.search(r"url\(|@import|@font-face", styles)
    assert not re.search(r"<meta[^>]*refresh", path.read_text())


def test_the_policy_lets_the_pages_own_scripts_run_and_no_other(page):
    (policy,) = (
        each.attributes["content"]
        for each in page.every("meta")
        if "Policy" in each.attributes.get("http-equiv", "")
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    scripts = [each.text for each in page.every("script") if each.attributes["type"] != "application/json"]
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    assert rules["script-src"].split() == [f"'sha256-{digest}'" for digest in digests]
    assert len(scripts) == 3
    assert rules.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    assert {rules[name] for name in ("base-uri", "form-action")} == {"'none'"}
    assert "unsafe-eval" not in policy


def test_no_element_has_a_script_of_its_own(page):
    names = {name for each in page.every() for name in each.attributes}
    assert not [name for name in names if name.startswith("on")]


def test_interactive_charts_and_pictures_have_the_same_specification(a800_run, page):
    charts = {
        chart.name: chart for view in views_of(a800_run()) for table in view.tables for chart in table.charts
    }
    held = json.loads(
        next(each.text for each in page.every("script") if each.attributes.get("id") == "charts")
    )
    elements = {each.attributes["id"]: each for each in page.of_class("chart")}
    assert elements.keys() == held.keys()
    assert len(held) == len(charts) == 6
    for key, spec in held.items():
        chart = next(chart for name, chart in charts.items() if key.endswith(f"-{name}"))
        assert spec == json.loads(json.dumps(vega.make_spec(chart)))
        drawn = Reader()
        drawn.feed(vega.draw_svg(spec))
        assert shape(elements[key].inside[0]) == shape(drawn.open[0].inside[0])


def shape(node):
    """The element, its attributes' names and what is in it, without any text."""
    return (
        node.tag,
        tuple(node.attributes),
        tuple(shape(each) for each in node.inside if isinstance(each, Node)),
    )


@pytest.fixture(scope="module")
def hostile(page_of, a800_run):
    return read(page_of(a800_run(text=HOSTILE)))


def test_hostile_names_change_no_element_of_the_page(page_of, a800_run, hostile):
    calm = read(page_of(a800_run(text="a" * len(plain(HOSTILE)))))
    assert shape(hostile) == shape(calm)


def test_hostile_names_are_shown_as_they_are(hostile):
    said = plain(HOSTILE)
    (title,) = hostile.every("h1")
    assert title.text == f"standard{said} on NVIDIA A800-SXM4-80GB{said}"
    facts = {each.text: after.text for each, after in pairs(hostile, "dt", "dd")}
    assert facts["host"] == f"node17{said}"
    cells = {each.text for each in hostile.every("td", "th")}
    assert {f"Llama-3-8B{said}", f"it spread by 3 %{said}", f"power limit 9%{said}"} <= cells
    (problem,) = hostile.of_class("problem")
    assert problem.text == said
    assert "49" not in title.text  # no template in a name is filled in


def pairs(page, *tags):
    for parent in page.every("dl"):
        for each in parent.every("div"):
            yield tuple(each.every(*tags))


def test_no_control_character_is_in_the_page(hostile):
    scripts = {id(each) for each in hostile.every("script")}
    said = "".join(each.text for each in hostile.every() if id(each) not in scripts and each.tag != "html")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", said)


def printed(view):
    out = io.StringIO()
    terminal.show(view, Console(file=out, width=200, force_terminal=False))
    return out.getvalue()


def test_what_is_in_the_page_is_on_the_terminal_too(spoken):
    lang, runs, page = spoken
    with use_language(lang):
        views = views_of(*runs)
        screens = [printed(view) for view in views]
        facts = {name for view in views for name, _value in view.facts}
    in_page = [each.text for each in page.every("h2")]
    tables = [table.heading for view in views for table in view.tables]
    assert [each for each in in_page if each in tables] == tables  # each, and in this order
    for view, screen in zip(views, screens, strict=True):
        lines = screen.splitlines()
        assert [table.heading for table in view.tables if table.heading not in lines] == []
        assert all(answer.value in screen for answer in view.answers)
        assert all(name in screen for name, _value in view.facts)
    assert facts <= {each.text for each in page.every("dt")}


def test_several_runs_are_an_article_each_after_the_side_by_side_article(both):
    assert [next(each.every("h1")).text for each in both.every("article")] == [
        "2 runs side by side",
        *["standard on NVIDIA A800-SXM4-80GB"] * 2,
    ]
    assert [each.text for each in both.of_class("part")] == [each.text for each in both.every("h1")]


def test_the_what_if_panel_follows_the_first_fleets_once(both):
    sections = [each.attributes.get("aria-labelledby") for each in both.every("section")]
    fleets = [
        each.attributes["aria-labelledby"]
        for each in both.every("section")
        if any(chart.attributes["id"].endswith("-fleets") for chart in each.of_class("chart"))
    ]
    assert len(fleets) == 2
    assert sections.count("whatif-heading") == 1
    assert sections[sections.index(fleets[0]) + 1] == "whatif-heading"


@pytest.fixture(scope="module")
def long(a800_run):
    """A run of 1,100 records."""

    def records(found):
        base = found[2]
        named = ((f"{n}x8x8", f"matmul/bf16/{n}x8x8/normal/rotating/sustained/torch") for n in range(1_100))
        more = [base.model_copy(update={"shape": shape, "case": case}) for shape, case in named]
        return [*found, *more][:1_100]

    return a800_run(records=records)


@pytest.fixture(scope="module")
def long_page(page_of, long):
    return read(page_of(long))


def test_charts_of_a_long_run_show_the_first_cases_and_their_number(long_page):
    titles = [each.text for each in long_page.every("figcaption")]
    assert [re.findall(r": the first (\d+) of (\d+)$", title) for title in titles] == [
        [],
        [(str(MOST_BARS), "1097")],
        [(str(MOST_BARS), "1092")],
        [(str(MOST_POINTS), "1097")],
        [],
        [],
    ]
    assert len(list(long_page.every("path"))) < 4_000


def test_every_record_of_a_long_run_is_in_a_folded_table(long, long_page):
    folded = {
        next(section.every("h2")).text: section
        for section in long_page.every("section")
        if list(section.every("details")) and "whatif" not in section.attributes.get("class", "")
    }
    assert "Achieved, in TFLOPS" in folded
    rows = list(folded["Every record"].every("tr"))[1:]
    assert [next(row.every("th")).text for row in rows][-1] == f"matmul bf16 {long.records[-1].shape}"
    assert len(rows) == 1_100
    (summary,) = folded["Every record"].every("summary")
    assert summary.text == "Every record"
    (search,) = folded["Every record"].every("input")
    assert search.attributes["type"] == "search"


def test_a_short_table_is_open(page):
    assert page.of_class("find") == []


def test_the_search_field_is_hidden_until_its_script_runs(long_page):
    assert [each for each in long_page.of_class("find") if "hidden" not in each.attributes] == []
    assert len(long_page.of_class("find")) >= 3
