"""What a notebook shows of runs, comparisons and priced fleets: the figures of the screen, and no mark-up of
others."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from nameplate.base.notebook import ShownInNotebooks
from nameplate.compare import compare
from nameplate.fleet.price import cost
from nameplate.report.media.notebook import render
from nameplate.report.run import run_view
from nameplate.report.view import Banner, View

COMPARED = Path(__file__).parents[1] / "data" / "compare"
TAGS = {"style", "div", "h3", "h4", "p", "ul", "li", "strong", "span", "details", "summary"}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td"}
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;"


class Page(HTMLParser):
    """The tags and attributes of a fragment, its texts, and whether every tag is closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.texts, self.style = [], set(), set(), [], ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.texts)

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.texts.append(data)


def test_a_run_is_its_screen_in_html_and_names_of_others_open_no_tag(a800_run):
    run = a800_run(1.0, 0.9, text=f" see {HOSTILE}")
    (entry, *others) = run.manifest.devices
    identity = entry.identity.model_copy(update={"name": HOSTILE})
    devices = (entry.model_copy(update={"identity": identity}), *others)
    changes = {"hostname": HOSTILE, "suite": HOSTILE, "devices": devices}
    run = replace(run, manifest=run.manifest.model_copy(update=changes))
    page = Page(run._repr_html_())
    assert page.tags <= TAGS
    assert page.attributes <= {"class"}
    assert page.text.count(HOSTILE) >= 3  # the device, the suite or the host, a warning
    assert "<" not in page.style
    view = run_view(run)
    assert all(banner.text in page.text for banner in view.banners)
    assert all(answer.value in page.text for answer in view.answers)
    assert view.tables[0].heading in page.text
    assert all(cell in page.text for cell in view.tables[0].rows[-1])


def test_a_comparison_and_priced_fleets_show_the_answer_of_their_screens():
    found = Page(compare(COMPARED / "base", COMPARED / "slower")._repr_html_())
    assert found.tags <= TAGS
    assert "slower than base" in found.text
    costs = cost(eflops=10, part="A800", draws=1_000)
    several, one = Page(costs._repr_html_()), Page(costs[0]._repr_html_())
    assert several.text == one.text
    assert "deliver" in one.text
    # They stay what they were: a tuple of frozen figures.
    assert (type(costs).__mro__[1], len(costs)) == (tuple, 1)


def test_a_banner_has_the_colour_of_its_word():
    banners = [Banner(word, "cuda:0", "") for word in ("fit", "degraded", "unknown", "unfit")]
    html = render(View(title="", banners=tuple(banners)))
    classes = re.findall(r'<strong class="(\w+)">(\w+)</strong>', html)
    assert classes == [("good", "fit"), ("doubt", "degraded"), ("doubt", "unknown"), ("bad", "unfit")]


def test_an_object_that_has_no_view_says_so():
    with pytest.raises(TypeError, match="no view of Odd"):
        type("Odd", (ShownInNotebooks,), {})()._repr_html_()
