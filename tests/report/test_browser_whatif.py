"""The what-if panel in a browser: what it shows after any change is what the Python model says."""

import base64
import hashlib
import math

import jinja2
import pytest

from nameplate.base.formatting import change, count, figure, rmb
from nameplate.fleet import Fleet, catalogue
from nameplate.fleet import cost as cost_of
from nameplate.fleet.outputs import OUTPUTS, compute, z_of_slowest
from nameplate.fleet.size import round_up
from nameplate.report.whatif import RESULTS, make_panel, script_json

pytestmark = pytest.mark.browser
A800, A100 = "nvidia-a800-sxm4-80gb", "nvidia-a100-sxm4-80gb"
COLUMNS = ("model", "what_if")
TEXTS = {
    "delivered_eflops": figure,
    "cards_exact": lambda value: count(round_up(value)),
    "servers_exact": lambda value: count(round_up(value)),
    "power_mw": lambda value: f"{figure(value)} MW",
}


def cost(*fleets, **options):
    return cost_of(*fleets, **({"draws": 1000} | options))


def text(name, value):
    """A figure as Python prints it."""
    return "–" if value is None else TEXTS.get(name, rmb)(value)


def hashed(source):
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def document(model):
    """A page of the panel alone, which runs this script and no other, and loads nothing."""
    loader = jinja2.PackageLoader("nameplate.report.media", "assets")
    environment = jinja2.Environment(loader=loader, autoescape=True)
    script, style = (loader.get_source(environment, f"whatif.{kind}")[0] for kind in ("js", "css"))
    policy = f"default-src 'none'; script-src {hashed(script)}; style-src {hashed(style)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>what if</title>'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"><style>{style}</style>'
        f"<body>{environment.get_template('whatif.html.j2').render(panel=model)}"
        f'<script type="application/json" id="whatif-model">{script_json(model)}</script>'
        f"<script>{script}</script></body></html>"
    )


class Panel:
    """The panel as its user sees it: by labels and roles."""

    def __init__(self, page, model):
        self.page, self.model, self.fleet = page, model, model["fleets"][model["first"]]

    def choose(self, name):
        self.fleet = next(fleet for fleet in self.model["fleets"] if fleet["name"] == name)
        self.page.get_by_label("Fleet", exact=True).select_option(label=self.fleet["label"])

    def label(self, name):
        return next(control["label"] for control in self.fleet["controls"] if control["name"] == name)

    def number(self, name):
        return self.page.get_by_role("spinbutton", name=self.label(name), exact=True)

    def slider(self, name):
        return self.page.get_by_role("slider", name=self.label(name), exact=True)

    def open_more(self):
        self.page.get_by_text("More inputs", exact=True).click()

    def set(self, **values):
        for name, value in values.items():
            self.number(name).fill(str(value))

    def cell(self, name, column):
        return self.page.locator(f'tr[data-figure="{name}"] td[data-column="{column}"]')

    def shown(self, column):
        """Each figure's text, and the number behind it."""
        cells = self.page.locator(f'td[data-column="{column}"]').evaluate_all(
            "all => all.map(td => [td.closest('tr').dataset.figure, td.innerText, td.dataset.value])"
        )
        return {name: (said, None if value is None else float(value)) for name, said, value in cells}

    def changes(self):
        return {name: said for name, (said, _) in self.shown("change").items()}

    def summary(self, said):
        """Wait for the sentence that a screen reader is told."""
        self.page.get_by_role("status").get_by_text(said, exact=True).wait_for()


@pytest.fixture
def open_panel(browser, tmp_path):
    """Open a panel in a page of its own; whatever goes wrong there fails the test."""
    opened, wrong = [], []

    def open_one(model):
        page = browser.new_page(viewport={"width": 360, "height": 800})
        opened.append(page)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        path = tmp_path / "panel.html"
        path.write_text(document(model))
        page.goto(path.as_uri())
        return Panel(page, model)

    yield open_one
    for page in opened:
        page.close()
    assert wrong == []


def figures_of(priced):
    """Every figure as the tables have it."""
    return {name: priced.value(name) for name in OUTPUTS}


def follow(before, points):
    """The tables' figures times what a change makes of the formulas; where there are none, the formulas'."""
    usual, figures = before.points(), figures_of(before)
    return {
        name: point if figures.get(name) is None else figures[name] * (point / usual[name])
        for name, point in points.items()
    }


def agrees(found, figures):
    """A column is these figures, number by number and letter by letter."""
    for each in RESULTS:
        expected = figures.get(each.name)
        said, value = found[each.name]
        assert (value is None) == (expected is None), each.name
        assert value is None or math.isclose(value, expected, rel_tol=1e-9), each.name
        assert said == text(each.name, expected), each.name


def test_untouched_every_fleet_stands_as_the_model_has_it(open_panel):
    costs = cost()
    shown = open_panel(make_panel(costs))
    priced = {part.size.name: part for each in costs for part in (each.mix or (each,))}
    assert len(shown.model["fleets"]) > 10
    for fleet in shown.model["fleets"]:
        shown.choose(fleet["name"])
        figures = figures_of(priced[fleet["name"]])
        expected = {each.name: (text(each.name, figures[each.name]), figures[each.name]) for each in RESULTS}
        for column in COLUMNS:
            assert shown.shown(column) == expected, fleet["name"]
        known = {each.name: figures[each.name] is not None for each in RESULTS}
        assert shown.changes() == {name: "none" if known[name] else "–" for name in known}
    shown.summary(f"{shown.fleet['name']}: every figure is as the model has it.")


CHANGES = {
    "a price": ("li-auto-2024-08", {"server_rmb": 812_345}),
    "power": ("xpeng-2024-10", {"electricity_rmb_per_kwh": 0.41, "pue": 1.12, "average_draw_over_tdp": 0.9}),
    "a derate and goodput": ("nio-2024-10", {"link_1": 0.537, "goodput": 0.913}),
    "a price that isn't known": ("tesla-2024-q3", {"server_rmb": 2_400_000, "pue": 1.4}),
    "all": (
        "li-auto-target-2024-12",
        {
            "server_rmb": 1_234_567.5,
            "electricity_rmb_per_kwh": 1.05,
            "pue": 2.0,
            "average_draw_over_tdp": 0.61,
            "depreciation_years": 4,
            "link_1": 0.7,
            "goodput": 0.85,
            "busy_share": 0.6,
            "server_power_over_gpu_power": 1.7,
            "fabric_price_factor": 1.31,
            "spare_nodes": 0.2,
            "opex_share_per_year": 0.033,
        },
    ),
}


def python(fleet, part, values):
    """The same change by the model: a price, derates from the datasheet on, and inputs."""
    values = dict(values)
    asked = {"price": {part: values.pop("server_rmb")}} if "server_rmb" in values else {}
    ratios = (values.pop("link_1", None), values.pop("goodput", None))
    spans = ("datasheet:scaled", "scaled:goodput")
    derate = [f"{span}={ratio}" for span, ratio in zip(spans, ratios, strict=True) if ratio is not None]
    (priced,) = cost(fleet, derate=derate, assume=values, **asked)
    return priced


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_gives_what_python_says_of_it(open_panel, change):
    fleet, values = CHANGES[change]
    (before,) = cost(fleet)
    shown = open_panel(make_panel([before]))
    shown.open_more()
    shown.set(**values)
    after = python(fleet, before.size.part.id, values)
    agrees(shown.shown("what_if"), follow(before, after.points()))
    agrees(shown.shown("model"), figures_of(before))
    for name, said in shown.changes().items():
        was, now = before.points().get(name), after.points().get(name)
        assert said == ("–" if was is None else "none" if was == now else f"{now / was - 1:+,.1%}"), name


@pytest.mark.long
def test_each_derate_of_a_longer_chain_counts_once(open_panel):
    chain = ("datasheet:gemm_burst={}", "gemm_burst:step={}", "step:scaled={}", "scaled:goodput={}")

    def derates(*ratios):
        return [span.format(ratio) for span, ratio in zip(chain, ratios, strict=True)]

    (before,) = cost("nio-2024-10", derate=derates(0.8, 0.75, 0.9, 0.95))
    shown = open_panel(make_panel([before]))
    assert [control["label"] for control in shown.fleet["controls"] if control["group"] == "derates"] == [
        "datasheet → gemm_burst",
        "gemm_burst → step",
        "step → scaled",
        "scaled → goodput",
    ]
    shown.set(link_1=0.83, link_2=0.71)
    (after,) = cost("nio-2024-10", derate=derates(0.83, 0.71, 0.9, 0.95))
    agrees(shown.shown("what_if"), follow(before, after.points()))
    shown.set(link_4=0.5)
    (after,) = cost("nio-2024-10", derate=derates(0.83, 0.71, 0.9, 0.5))
    agrees(shown.shown("what_if"), follow(before, after.points()))


@pytest.mark.long
def test_goodput_that_the_model_has_is_its_link_and_no_factor_more(open_panel):
    (before,) = cost("xpeng-2024-10", goodput=True)
    shown = open_panel(make_panel([before]))
    agrees(shown.shown("what_if"), figures_of(before))
    shown.set(link_2=0.8)
    after = python("xpeng-2024-10", A800, {"link_1": before.chain[1].value, "goodput": 0.8})
    agrees(shown.shown("what_if"), follow(before, after.points()))


@pytest.mark.long
def test_a_cards_tdp_may_be_changed_though_no_flag_does_that(open_panel):
    (before,) = cost("nio-2024-10")
    shown = open_panel(make_panel([before]))
    shown.open_more()
    shown.set(tdp_w=550)
    size = {
        "nominal_eflops": before.size.nominal_eflops,
        "cards_exact": before.size.cards_exact,
        "tdp_w": 550.0,
    }
    expected = follow(before, compute(before.unit.known | size))
    for name, (_, value) in shown.shown("what_if").items():
        assert value == pytest.approx(expected[name], rel=1e-9), name
    assert expected["power_mw"] > before.value("power_mw")


def test_every_formula_of_the_model_computes_in_the_browser_as_in_python(open_panel):
    (before,) = cost("li-auto-2024-08")
    model = make_panel([before])
    turned = {"name": "turned", "needs": ["pue"], "tree": ["+", ["-", "pue"], ["-", 1, "pue"]]}
    model["formulas"].append(turned)
    names = [*OUTPUTS, "turned"]
    model["figures"] = [model["figures"][0] | {"name": name, "headline": None} for name in names]
    shown = open_panel(model)
    shown.set(server_rmb=1_000_001, link_1=0.55, pue=1.33)
    after = python(
        "li-auto-2024-08", A800, {"server_rmb": 1_000_001, "link_1": 0.55, "pue": 1.33, "goodput": 1.0}
    )
    # A derate that is given names no devices: how many the link of the MFU is for stays the panel's.
    size = {"nominal_eflops": after.size.nominal_eflops, "cards_exact": after.size.cards_exact}
    given = after.unit.known | size | {"measured_z": z_of_slowest(before.chain[1].n_to)}
    expected = compute(given)
    expected |= compute(given | expected | {"fleet_z": z_of_slowest(after.size.cards_exact)}, of_fleet=True)
    expected = follow(before, expected) | {"turned": -1.33 + (1 - 1.33)}
    assert expected.keys() == set(names)
    for name, (_, value) in shown.shown("what_if").items():
        assert value == pytest.approx(float(expected[name]), rel=1e-9), name


TRICKY = (
    *(0.0, 65250.0, 65350.0, 999499.0, 999500.0, 0.5, 1.5, 2.5, 0.125, 0.375, 1234.5, 1235.5, 999.5, 9.995),
    *(9.999, 99.95, 0.09999, 1.005, 2.675, 0.00219, 1e6, 123456789.5, 16843.75, 16844.0000004, 16844.000001),
)


def test_numbers_are_rounded_and_grouped_as_python_does_it(open_panel):
    model = make_panel(cost("nio-2024-10"))
    rules = {"figure": figure, "count": lambda value: count(round_up(value)), "rmb": rmb}
    plain = {"label": "", "text": "{value}", "better": None, "headline": None}
    model["figures"] = [
        plain | {"name": f"{kind}-{value}", "kind": kind} for kind in rules for value in TRICKY
    ]
    model["fleets"][0]["model"] = {f"{kind}-{value}": value for kind in rules for value in TRICKY}
    shown = open_panel(model).shown("model")
    assert shown == {
        f"{kind}-{value}": (form(value), value) for kind, form in rules.items() for value in TRICKY
    }


# By what factor a figure changes, on both sides of 1 % and of nothing.
PUE = 1.25
FACTORS = (1.00994, 1.00996, 0.99004, 0.9, 1.5, 12.345, 1 + 1e-9, 1 - 1e-9, 0.9999, 1.0105)


@pytest.mark.long
def test_changes_are_printed_as_python_does_it(open_panel):
    model = make_panel(cost("nio-2024-10"))
    plain = {"label": "", "text": "{value}", "kind": "figure", "better": None, "headline": None}
    model["figures"] = [plain | {"name": f"x-{factor}"} for factor in FACTORS]
    fleet = model["fleets"][0]
    fleet["model"] = {f"x-{factor}": 1.0 for factor in FACTORS}
    # 1 at the PUE that the model has, the factor at one that is higher by 1
    model["formulas"] += [
        {
            "name": f"x-{factor}",
            "needs": ["pue"],
            "tree": ["+", 1, ["*", factor - 1, ["-", "pue", PUE]]],
        }
        for factor in FACTORS
    ]
    shown = open_panel(model)
    shown.set(pue=PUE + 1)
    assert shown.changes() == {f"x-{factor}": change(factor - 1) for factor in FACTORS}


@pytest.mark.long
def test_a_key_on_a_slider_moves_the_figures(open_panel):
    (before,) = cost("li-auto-2024-08")
    shown = open_panel(make_panel([before]))
    shown.slider("server_rmb").press("ArrowRight")
    moved = float(shown.number("server_rmb").input_value())
    assert moved > 950_000
    after = python("li-auto-2024-08", A800, {"server_rmb": moved})
    agrees(shown.shown("what_if"), follow(before, after.points()))
    shown.slider("goodput").press("Home")
    assert shown.number("goodput").input_value() == "0.005"
    assert shown.slider("goodput").get_attribute("aria-valuetext") == "0.005"


@pytest.mark.long
def test_the_whole_panel_is_reached_by_keys_alone(open_panel):
    shown = open_panel(make_panel(cost("li-auto-2024-08")))
    reached = set()
    for _ in range(40):
        shown.page.keyboard.press("Tab")
        reached.add(shown.page.evaluate("document.activeElement.id || document.activeElement.textContent"))
    assert {
        "whatif-fleet",
        "Back to the model",
        "whatif-server_rmb",
        "whatif-goodput",
        "More inputs",
    } <= reached


@pytest.mark.long
def test_the_slider_follows_the_number_and_stays_at_its_end_where_that_is_farther(open_panel):
    (before,) = cost("li-auto-2024-08")
    shown = open_panel(make_panel([before]))
    shown.set(pue=2.0)
    assert shown.slider("pue").input_value() == "2"
    shown.set(pue=4.5)
    assert shown.slider("pue").input_value() == shown.slider("pue").get_attribute("max")
    points = python("li-auto-2024-08", A800, {"pue": 4.5}).points()
    agrees(shown.shown("what_if"), follow(before, points))


@pytest.mark.long
def test_reset_brings_the_model_back(open_panel):
    (before,) = cost("xpeng-2024-10", goodput=True)  # a modelled goodput has more digits than a field shows
    shown = open_panel(make_panel([before]))
    untouched = shown.shown("what_if")
    shown.set(server_rmb=700_000, link_1=0.5, link_2=0.7)
    assert shown.shown("what_if") != untouched
    shown.page.get_by_role("button", name="Back to the model").click()
    assert shown.shown("what_if") == untouched == shown.shown("model")
    assert shown.number("server_rmb").input_value() == "950000"
    shown.summary("XPeng: every figure is as the model has it.")


@pytest.mark.long
def test_another_fleet_begins_at_its_own_inputs(open_panel):
    costs = cost()
    shown = open_panel(make_panel(costs))
    shown.choose("XPeng")
    shown.set(server_rmb=500_000)
    shown.choose("NIO")
    nio = next(each for each in costs if each.size.id == "nio-2024-10")
    agrees(shown.shown("what_if"), figures_of(nio))


@pytest.mark.long
def test_a_number_that_cant_be_is_refused_in_words_and_its_figures_are_not_known(open_panel):
    (before,) = cost("li-auto-2024-08")
    shown = open_panel(make_panel([before]))
    for value in ("0.5", "5.01", "", "e"):
        shown.number("pue").fill("")
        shown.number("pue").press_sequentially(value)
        assert shown.number("pue").get_attribute("aria-invalid") == "true"
        assert shown.page.get_by_text("Takes a number from 1 to 5.", exact=True).count() == 1
        found = shown.shown("what_if")
        assert found["power_mw"] == found["rmb_per_pflop_day"] == ("–", None)
        assert found["capex_rmb"][1] == before.value("capex_rmb")
        shown.summary("Li Auto: an input can't be used, so the figures that need it aren't known.")
    shown.set(server_rmb=-3)
    assert shown.page.get_by_text("Takes a number from 1 on.", exact=True).count() == 1
    assert shown.shown("what_if")["capex_rmb"] == ("–", None)
    shown.set(server_rmb=950_000, pue=1.25)
    assert shown.number("pue").get_attribute("aria-invalid") == "false"
    agrees(shown.shown("what_if"), figures_of(before))


@pytest.mark.long
def test_a_price_that_is_taken_back_is_unknown_again(open_panel):
    (before,) = cost(part=A100)
    shown = open_panel(make_panel([before]))
    assert shown.slider("server_rmb").get_attribute("aria-valuetext") == "not known RMB"
    shown.set(server_rmb=2_000_000)
    (after,) = cost(part=A100, price={A100: 2_000_000})
    agrees(shown.shown("what_if"), follow(before, after.points()))
    shown.number("server_rmb").fill("")
    assert shown.number("server_rmb").get_attribute("aria-invalid") == "false"
    agrees(shown.shown("what_if"), figures_of(before))


@pytest.mark.long
def test_one_sentence_says_what_changed_and_the_table_is_not_read_out(open_panel):
    (before,) = cost("li-auto-2024-08")
    shown = open_panel(make_panel([before]))
    shown.set(pue=1.5)
    after = python("li-auto-2024-08", A800, {"pue": 1.5})
    followed = follow(before, after.points())
    power, day, was = (
        *map(followed.get, ("power_mw", "rmb_per_pflop_day")),
        before.value("rmb_per_pflop_day"),
    )
    money = f"RMB {day:,.0f} for one delivered PFLOPS for a day ({day / was - 1:+.1%})"
    said = f"{figure(power)} MW (+20.0%), {money}"
    shown.summary(f"Li Auto, what if: {said}.")
    live = shown.page.locator("[aria-live]")
    assert live.count() == 1
    assert live.evaluate("element => element.tagName") == "P"


@pytest.mark.long
def test_a_name_with_mark_up_stays_text(open_panel):
    hostile = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"
    fleet = Fleet(id="hostile", name=hostile, as_of="2026", part=A800, eflops=1, source=hostile)
    listed = catalogue()
    mine = listed.model_copy(update={"fleet": (fleet,)})
    shown = open_panel(make_panel(cost("hostile", catalogue=mine)))
    shown.summary(f"{hostile}: every figure is as the model has it.")
    shown.set(pue=1.5)
    assert shown.page.locator("img").count() == 0
    assert shown.page.locator("script").count() == 2
    assert hostile in shown.page.get_by_label("Fleet", exact=True).inner_text()


@pytest.mark.long
@pytest.mark.parametrize("width", [360, 800, 1400])
def test_nothing_is_wider_than_its_page(open_panel, width):
    shown = open_panel(make_panel(cost()))
    shown.page.set_viewport_size({"width": width, "height": 800})
    shown.open_more()
    shown.page.get_by_text("Where the model's inputs come from", exact=True).click()
    assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
    table = shown.page.locator(".whatif-results")
    assert table.evaluate("element => element.scrollWidth <= element.clientWidth")


@pytest.mark.long
def test_print_keeps_results_and_values_and_hides_what_nobody_can_move(open_panel):
    shown = open_panel(make_panel(cost("li-auto-2024-08")))
    assert shown.slider("pue").is_visible()
    shown.page.emulate_media(media="print")
    assert not shown.slider("pue").is_visible()
    assert not shown.page.get_by_role("button", name="Back to the model").is_visible()
    assert shown.number("pue").is_visible()
    assert shown.cell("capex_rmb", "what_if").is_visible()


@pytest.mark.long
def test_the_panel_says_that_its_figures_have_no_interval(open_panel):
    shown = open_panel(make_panel(cost("li-auto-2024-08")))
    assert shown.page.get_by_text("A what-if figure has no interval").is_visible()


def marked(model):
    """The panel's JSON with a mark before each of its words."""

    def mark(words):
        if isinstance(words, dict):
            return {name: mark(each) for name, each in words.items()}
        return words and f"§{words}"

    def some(row, *names):
        return row | {name: mark(row[name]) for name in names}

    fleets = [
        some(fleet, "name", "label", "rated")
        | {"controls": [some(control, "label", "hint", "unit", "source") for control in fleet["controls"]]}
        for fleet in model["fleets"]
    ]
    figures = [some(each, "label", "text", "headline") for each in model["figures"]]
    return model | {"words": mark(model["words"]), "figures": figures, "fleets": fleets}


@pytest.mark.long
def test_every_word_comes_from_the_model(open_panel):
    shown = open_panel(marked(make_panel(cost("li-auto-2024-08"))))
    shown.summary("§§Li Auto: every figure is as the model has it.")
    said = shown.page.evaluate(
        """() => {
          const walk = document.createTreeWalker(document.querySelector("section"), NodeFilter.SHOW_TEXT);
          const found = [];
          while (walk.nextNode()) if (walk.currentNode.parentElement.tagName !== "NOSCRIPT") {
            found.push(walk.currentNode.textContent.trim());
          }
          return found.filter(Boolean);
        }"""
    )
    assert len(said) > 70
    assert [each for each in said if not each.startswith("§")] == []
