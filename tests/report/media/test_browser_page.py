"""The page in a browser: it asks the network for nothing, fits its window, answers, and believes no name."""

import itertools
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from nameplate.base.text import plain
from nameplate.report.charts.palette import COLOURS

pytestmark = pytest.mark.browser
WIDTHS = {"wide": 1280, "narrow": 390}
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\x1b[2J\u202e|x|"
CHINESE = re.compile("[\u4e00-\u9fff]")
# The menu of a chart holds a picture too; a chart's own is of this class.
DRAWN = ".vega-embed svg.marks"


@pytest.fixture(scope="module")
def pages(page_of, a800_run):
    """The pages that these tests look at, each written when it is first asked for."""

    def long(found):
        named = ((f"{n}x8x8", f"matmul/bf16/{n}x8x8/normal/rotating/sustained/torch") for n in range(40))
        return [
            *found,
            *(found[2].model_copy(update={"shape": shape, "case": case}) for shape, case in named),
        ]

    made = {
        "one run": lambda: page_of(a800_run()),
        "several runs": lambda: page_of(
            a800_run(1.0, 0.9), a800_run(0.9, run="20261123T120000-standard-a801")
        ),
        "in Chinese": lambda: page_of(a800_run(), lang="zh"),
        "a long run": lambda: page_of(a800_run(records=long)),
        "hostile": lambda: page_of(a800_run(text=HOSTILE)),
        "calm": lambda: page_of(a800_run(text="a" * len(plain(HOSTILE)))),
    }
    written = {}

    def page(name):
        if name not in written:
            written[name] = made[name]()
        return written[name]

    return page


class Shown:
    """A page as it stands in a browser, what went wrong in it, and what it asked for."""

    def __init__(self, page):
        self.page, self.wrong, self.asked = page, [], []
        page.on("console", lambda message: self.wrong.append(message.text))
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self.asked.append(request.url))

    def chart(self, name):
        found = self.page.locator(f'.chart[id$="-{name}"]').first
        found.evaluate("each => each.closest('details')?.setAttribute('open', '')")
        found.locator(DRAWN).wait_for()
        found.scroll_into_view_if_needed()
        return found

    def section(self, heading):
        return self.page.locator("section", has=self.page.get_by_role("heading", name=heading, exact=True))

    def unfold(self):
        """Open every section."""
        for summary in self.page.locator("details.section:not([open]) > summary").all()[::-1]:
            summary.click()
        return self

    def hovered(self, mark, position=None):
        """What hovering a mark tells, by its names."""
        mark.hover(position=position, force=True)
        tip = self.page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        return dict(
            zip(
                tip.locator("td.key").all_inner_texts(),
                tip.locator("td.value").all_inner_texts(),
                strict=True,
            )
        )


@pytest.fixture
def show(browser, tmp_path):
    """Open a page, offline; what goes wrong in it fails the test unless that takes it out of `wrong`."""
    contexts, opened = [], []

    def open_one(page, width="wide", scheme="light", drawn=True, **options):
        size = {"width": WIDTHS[width], "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, **options)
        contexts.append(context)
        if isinstance(page, str):
            (tmp_path / "page.html").write_text(page)
            page = tmp_path / "page.html"
        shown = Shown(context.new_page())
        opened.append(shown)
        shown.page.goto(page.as_uri())
        if drawn:
            shown.page.locator('html[data-drawn="true"]').wait_for(state="attached")
        return shown

    yield open_one
    for context in contexts:
        context.close()
    assert [each.wrong for each in opened if each.wrong] == []


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        pytest.param(*look, marks=[pytest.mark.long] if number else [])
        for number, look in enumerate(
            itertools.product(("one run", "several runs"), WIDTHS, ("light", "dark"))
        )
    ],
)
def test_the_page_opens_offline_fits_its_window_and_its_charts_answer(show, pages, name, width, scheme):
    shown = show(pages(name), width, scheme)
    assert shown.asked == [pages(name).as_uri()]
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    charts = shown.page.locator(".chart")
    assert charts.count() == {"one run": 6, "several runs": 14}[name]
    for index in range(charts.count()):
        chart = charts.nth(index)
        assert chart.locator(DRAWN).count() == 1
        box, column = chart.locator(DRAWN).bounding_box(), chart.bounding_box()
        assert 0.8 * column["width"] < box["width"] <= column["width"]
    ground = shown.page.evaluate("getComputedStyle(document.body).backgroundColor")
    paper = COLOURS["paper"][("light", "dark").index(scheme)]
    assert ground == f"rgb({', '.join(str(int(paper[at : at + 2], 16)) for at in (1, 3, 5))})"


@pytest.mark.parametrize(("width", "screens", "height"), [("wide", 4, 900), ("narrow", 6, 844)])
def test_the_answer_comes_first_and_the_folded_page_is_short(show, pages, width, screens, height):
    """Banner, at most four figures, one chart and the advice; everything else is folded below them."""
    shown = show(pages("one run"), width)
    assert shown.page.evaluate("document.documentElement.scrollHeight") <= screens * height
    tops = [
        shown.page.locator(f"article {each}").first.bounding_box()["y"]
        for each in ("ul.banners", "dl.answers", "figure", "ul.advice", "details.section")
    ]
    assert tops == sorted(tops)
    assert 1 <= shown.page.locator("dl.answers > div").count() <= 4
    assert shown.page.locator("figure:visible").count() == 1
    assert shown.page.locator("details.section[open]").count() == 0
    # A link of the navigation opens the section that it leads to, and draws its charts.
    shown.page.evaluate(
        "location.hash = document.querySelector('section:has(table) .chart').closest('section').id"
    )
    shown.page.locator("details.section[open] .chart " + DRAWN).first.wait_for()


@pytest.mark.long
def test_in_chinese_the_page_fits_a_narrow_window_and_its_charts_speak_it_too(show, pages):
    shown = show(pages("in Chinese"), "narrow")
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["narrow"]
    chart = shown.chart("efficiency")
    assert CHINESE.search(chart.locator("summary").get_attribute("aria-label"))
    assert CHINESE.search(chart.locator(".vega-actions").text_content())
    told = shown.hovered(chart.locator("[aria-roledescription=bar]").first)
    assert [name for name in told if not CHINESE.search(name)] == []
    assert "85.9%" in told.values()


@pytest.mark.long
def test_every_id_is_still_unique_once_everything_is_drawn(show, pages):
    ids = show(pages("several runs")).page.evaluate(
        "[...document.querySelectorAll('[id]')].map(one => one.id)"
    )
    assert [each for each, count in Counter(ids).items() if count > 1] == []


@pytest.mark.long
def test_a_drawn_chart_keeps_its_text_for_those_who_dont_see_it(show, pages):
    shown = show(pages("one run"))
    drawn = shown.page.locator(".chart [role=graphics-document]")
    assert drawn.count() == shown.page.locator(".chart").count()
    assert all(label.endswith(".") for label in drawn.evaluate_all("all => all.map(one => one.ariaLabel)"))
    # An image has nothing within for a screen reader, and here there is a menu.
    assert shown.page.locator(".chart[role=img]").count() == 0
    assert shown.chart("efficiency").locator("summary").get_attribute("aria-label") == "Click to view actions"


@pytest.mark.long
def test_hovering_a_bar_tells_its_figures_as_the_table_has_them(show, pages):
    shown = show(pages("one run"))
    bars = shown.chart("efficiency").locator("[aria-roledescription=bar]")
    assert shown.hovered(bars.first) == {
        "case": "matmul bf16 8192x8192x8192 burst",
        "kind": "trusted",
        "achieved ÷ nominal": "85.9%",
        "95 % interval": "85.1% … 86.8%",
    }
    row = shown.section("Achieved, in TFLOPS").get_by_role("row", name="8192x8192x8192 burst")
    assert "85.9% ± 0.9" in row.inner_text()


@pytest.mark.long
def test_hovering_a_step_a_field_a_point_and_a_moment_tells_what_it_is(show, pages):
    shown = show(pages("one run"))
    step = shown.chart("chain").locator("[aria-roledescription=bar]").last
    assert shown.hovered(step) == {
        "stage": "transformer block",
        "of nominal": "64.1%",
        "95 % interval": "63.4% … 64.7%",
        "how": "measured",
    }
    field = shown.chart("shapes").locator(".mark-rect path").first
    assert shown.hovered(field) == {"shape": "8192x8192x8192", "dtype": "bf16", "achieved": "81.2%"}
    point = shown.chart("roofline").locator("[aria-roledescription=point]").last
    assert shown.hovered(point) == {
        "case": "transformer_block bf16 1x4096x4096-forward_backward rotating sustained",
        "dtype": "bf16",
        "TFLOPS": "205",
        "FLOP a byte": "5,376",
        "of roof": "64.1% of the roof, bound by compute",
    }
    moments = shown.chart("from-idle").locator(".mark-symbol path")
    assert shown.hovered(moments.nth(4)) == {
        "case": "matmul bf16 8192x8192x8192",
        "seconds": "1.6",
        "TFLOPS": "267",
    }


@pytest.mark.long
def test_a_chart_is_drawn_anew_where_the_window_changes(show, pages):
    shown = show(pages("one run")).unfold()
    shown.page.set_viewport_size({"width": WIDTHS["narrow"], "height": 900})
    width = shown.page.locator('.chart[id$="-efficiency"]').evaluate("one => one.clientWidth")
    shown.page.locator(f'.chart[id$="-efficiency"][data-width="{width}"] {DRAWN}').wait_for()
    shown.page.locator(f'.chart[id$="-fleets"][data-width="{width}"] {DRAWN}').wait_for()
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS["narrow"]


@pytest.mark.long
def test_a_chart_can_be_saved_as_a_picture(show, pages):
    shown = show(pages("one run"))
    chart = shown.chart("efficiency")
    chart.locator("summary").click()
    with shown.page.expect_download() as waiting:
        chart.get_by_text("Save as SVG").click()
    path = waiting.value.path()
    assert waiting.value.suggested_filename == "nameplate.svg"
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def visible(rows):
    return [text for text, shown in rows if shown]


def rows_of(section):
    return section.locator("tbody tr").evaluate_all(
        "all => all.map(one => [one.innerText, one.checkVisibility()])"
    )


@pytest.mark.long
def test_a_folded_table_opens_and_its_field_finds_rows(show, pages):
    shown = show(pages("a long run"))
    section = shown.section("Every record")
    assert visible(rows_of(section)) == []
    section.get_by_role("heading").click()
    assert len(visible(rows_of(section))) == 54
    search = section.get_by_label("Only rows with")
    search.fill("17x8x8")
    section.locator("tr[hidden]").nth(52).wait_for(state="attached")
    (row,) = visible(rows_of(section))
    assert row.startswith("matmul bf16 17x8x8")
    # Each word may stand anywhere, in either case.
    search.fill("SUSTAINED block")
    section.locator("tr:not([hidden])", has_text="transformer_block").wait_for()
    assert len(visible(rows_of(section))) == 1
    search.fill("")
    section.locator("tbody:not(:has(tr[hidden]))").wait_for()
    assert len(visible(rows_of(section))) == 54


@pytest.mark.long
def test_a_folded_table_opens_by_keys_alone(show, pages):
    shown = show(pages("a long run"))
    summary = shown.section("Achieved, in TFLOPS").locator("details.section > summary")
    summary.focus()
    shown.page.keyboard.press("Enter")
    assert len(visible(rows_of(shown.section("Achieved, in TFLOPS")))) == 51


@pytest.mark.long
def test_print_has_neither_navigation_nor_fields_shows_every_row_and_is_light(show, pages):
    shown = show(pages("a long run"), scheme="dark")
    page, section = shown.page, shown.section("Every record")
    assert page.get_by_role("navigation").is_visible()
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert not page.locator("nav").is_visible()
    assert not page.locator(".skip").is_visible()
    assert not section.locator("input").is_visible()
    assert not shown.chart("efficiency").locator("summary").is_visible()
    assert len(visible(rows_of(section))) == 54
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert visible(rows_of(section)) == []


@pytest.mark.long
def test_without_scripts_pictures_and_tables_are_there(show, pages):
    shown = show(pages("a long run"), drawn=False, java_script_enabled=False).unfold()
    charts = shown.page.locator(".chart > svg")
    assert charts.count() == 6
    assert all(charts.nth(n).is_visible() for n in range(6))
    assert shown.page.get_by_role("rowheader", name="gemm_model → block").is_visible()
    section = shown.section("Every record")
    assert section.get_by_role("rowheader", name="matmul bf16 39x8x8").is_visible()
    assert not section.locator("input").is_visible()  # it would do nothing
    assert shown.page.locator("noscript p").is_visible()  # says what the panel needs
    width = shown.page.locator("html").evaluate("one => one.scrollWidth")
    assert width <= WIDTHS["wide"]


@pytest.mark.long
def test_the_first_key_leads_past_the_navigation(show, pages):
    shown = show(pages("one run"))
    shown.page.keyboard.press("Tab")
    link = shown.page.get_by_role("link", name="Skip to the content")
    assert link.evaluate("one => one === document.activeElement")
    assert link.bounding_box()["x"] >= 0
    shown.page.keyboard.press("Enter")
    assert shown.page.url.endswith("#main")


# Without the tooltip, which is made where the pointer comes to lie over a mark while sections unfold.
ELEMENTS = (
    "[...document.querySelectorAll('*:not(#vg-tooltip-element)')]"
    ".map(one => one.tagName).filter(name => name !== 'TSPAN')"
)


@pytest.mark.long
@pytest.mark.parametrize("width", ["wide", "narrow"])
def test_hostile_names_do_nothing_and_are_shown_as_text(show, pages, width):
    shown, calm = show(pages("hostile"), width).unfold(), show(pages("calm"), width).unfold()
    assert Counter(shown.page.evaluate(ELEMENTS)) == Counter(calm.page.evaluate(ELEMENTS))
    assert shown.page.locator("img").count() == 0
    assert shown.asked == [pages("hostile").as_uri()]
    said = plain(HOSTILE)
    assert (
        shown.page.get_by_role("heading", level=1).inner_text()
        == f"standard{said} on NVIDIA A800-SXM4-80GB{said}"
    )
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[width]
    seen = shown.page.evaluate("document.body.innerText")
    assert f"node17{said}" in seen
    assert not re.search("[\x1b\u202e]", seen)


@pytest.mark.long
def test_hostile_names_do_nothing_where_they_are_hovered(show, pages):
    shown = show(pages("hostile"))
    said = plain(HOSTILE)
    case = f"matmul bf16 8192x8192x8192{said.replace('/', ' ')} burst"
    told = shown.hovered(shown.chart("efficiency").locator("[aria-roledescription=bar]").first)
    assert told["case"] == case
    told = shown.hovered(shown.chart("shapes").locator(".mark-rect path").first)
    assert told["shape"] == f"8192x8192x8192{said}"
    assert (
        shown.page.locator("#vg-tooltip-element *").evaluate_all(
            "all => [...new Set(all.map(one => one.tagName))].sort().join(' ')"
        )
        == "TABLE TBODY TD TR"
    )
    assert shown.page.locator("img").count() == 0


SMUGGLED = {
    "a script": "<script>document.title = 'it ran'</script>",
    "a handler": "<img src='data:,' onerror=\"document.title = 'it ran'\">",
    "a script of elsewhere": "<script src='https://example.invalid/x.js'></script>",
    "a link that runs": "<a id='smuggled' href=\"javascript:document.title = 'it ran'\">x</a>",
}


def smuggle(text, what):
    assert text.count("</main>") == 1
    return text.replace("</main>", f"{SMUGGLED[what]}</main>")


@pytest.mark.long
@pytest.mark.parametrize("what", SMUGGLED)
def test_the_policy_alone_would_stop_a_script_that_got_into_the_page(show, pages, what):
    shown = show(smuggle(pages("one run").read_text(), what))
    for link in shown.page.locator("#smuggled").all():
        link.click()
    assert shown.page.title() == "standard on NVIDIA A800-SXM4-80GB · Nameplate"
    assert shown.wrong
    assert all("Content Security Policy" in message for message in shown.wrong)
    shown.wrong.clear()


@pytest.mark.long
def test_the_check_above_can_fail(show, pages):
    bare = re.sub("<meta http-equiv=[^>]*>", "", pages("one run").read_text())
    assert show(smuggle(bare, "a script")).page.title() == "it ran"
