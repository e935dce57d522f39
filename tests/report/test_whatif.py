"""What the what-if panel is given: the fleets that can be shown, their inputs, figures and words."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nameplate.fleet import Fleet, catalogue
from nameplate.fleet import cost as cost_of
from nameplate.fleet.catalogues import INPUTS
from nameplate.fleet.outputs import OUTPUTS, inputs_of
from nameplate.report import whatif
from nameplate.report.whatif import RESULTS, make_panel, script_json
from nameplate.stats.uncertain import Uncertain, exact

A800 = "nvidia-a800-sxm4-80gb"


def cost(*fleets, **options):
    return cost_of(*fleets, **({"draws": 1000} | options))


@pytest.fixture(scope="module")
def costs():
    return cost()


@pytest.fixture(scope="module")
def model(costs):
    return make_panel(costs)


def fleet(*names, **options):
    (found,) = make_panel(cost(*names, **options))["fleets"]
    return found


def controls(shown):
    return {control["name"]: control for control in shown["controls"]}


def test_a_fleet_of_one_part_that_delivers_is_shown_and_no_other(costs, model):
    delivering = [part for each in costs for part in (each.mix or (each,)) if part.derate is not None]
    assert [shown["name"] for shown in model["fleets"]] == [each.size.name for each in delivering]
    ids = {shown["id"] for shown in model["fleets"]}
    assert {"nio-2024-10", "huawei-2024-10"} <= ids
    assert not ids & {"world-2023", "tesla-dojo-1-2024-12", "suppliers-2024"}


def test_a_mix_is_shown_as_if_it_were_all_of_each_part(model):
    names = [shown["name"] for shown in model["fleets"] if shown["id"] == "huawei-2024-10"]
    assert names == [
        "Huawei (automated driving), all A800",
        "Huawei (automated driving), all Ascend 910B (variants)",
    ]


def test_there_is_no_panel_where_nothing_delivers():
    assert make_panel(cost("world-2023")) is None
    assert make_panel(()) is None


def test_the_first_fleet_on_the_page_is_one_whose_price_is_known(model):
    assert model["fleets"][model["first"]]["name"] == "Tesla"
    after = make_panel([*cost(part="A100"), *cost("nio")])
    assert [each["model"]["capex_rmb"] is None for each in after["fleets"]] == [True, False]
    assert after["fleets"][after["first"]]["name"] == "NIO"


def test_the_models_figures_are_those_of_the_tables(costs, model):
    (nio,) = (each for each in costs if each.size.id == "nio-2024-10")
    (shown,) = (each for each in model["fleets"] if each["id"] == "nio-2024-10")
    assert shown["model"] == {name: nio.value(name) for name in OUTPUTS}
    # A figure at its inputs' values is another one: the panel showed that beside the tables' own.
    point = nio.points()["ownership_rmb_per_year"]
    assert shown["model"]["ownership_rmb_per_year"] != pytest.approx(point, rel=5e-3)


def test_every_input_of_the_figures_is_known_or_offered_and_none_is_both(model):
    followed = set[str]().union(*(inputs_of(each.name) for each in RESULTS))
    priced = [shown for shown in model["fleets"] if shown["model"]["capex_rmb"] is not None]
    for shown in priced:
        known, offered = set(shown["known"]), set(controls(shown))
        assert followed <= known | offered | {"derate"}
        assert not known & offered
        assert "derate" not in known


def test_whatever_a_flag_can_set_of_these_figures_can_be_set_here():
    settable = {name for each in RESULTS for name in inputs_of(each.name) if name in INPUTS}
    assert settable | {"server_rmb", "tdp_w", "link_1", "goodput"} == controls(fleet("nio-2024-10")).keys()


def test_an_input_has_the_models_value_and_says_its_meaning_range_and_source():
    found = controls(fleet("nio-2024-10"))
    tariff = found["electricity_rmb_per_kwh"]
    assert (tariff["label"], tariff["unit"], tariff["value"]) == (
        "Electricity, RMB per kWh",
        "RMB per kWh",
        0.65,
    )
    assert tariff["hint"] == "what a kilowatt-hour costs; the model has 0.65, from 0.35 to 0.95, assumed"
    assert tariff["source"].startswith("assumed: no tariff was read")
    assert (tariff["least"], tariff["most"]) == (0, 100)
    price = found["server_rmb"]
    assert price["label"] == "Price of a server of 8 cards, RMB"
    assert price["hint"].endswith("the model has 950,000, from 900,000 to 1,000,000, cited")
    assert (price["least"], price["most"], price["brings"]) == (1, None, {})
    assert found["busy_share"]["hint"].endswith("; the model has 1, assumed")


def test_an_input_that_was_assumed_anew_stands_as_it_was_given():
    found = controls(fleet("nio-2024-10", assume={"pue": "1.1..1.3"}, price={A800: 700_000}))
    assert found["pue"]["value"] == pytest.approx(1.2)
    assert found["server_rmb"]["value"] == 700_000


def test_a_price_that_isnt_known_may_be_given_and_brings_the_servers():
    shown = fleet(part="A100")
    price = controls(shown)["server_rmb"]
    assert price["value"] is None
    assert price["hint"] == "what one server was quoted at; the model has none for this part"
    assert price["brings"] == {"cards_per_server": 8}
    assert "cards_per_server" not in shown["known"]


def test_a_fleet_whose_cards_arent_known_offers_its_derates_alone(model):
    (shown,) = (each for each in model["fleets"] if "Ascend" in each["name"] and "months" not in each["name"])
    assert {control["group"] for control in shown["controls"]} == {"derates"}


def test_the_first_link_is_said_and_stays_the_others_are_offered_with_goodput_after_them():
    shown = fleet("nio-2024-10", derate=["datasheet:block=0.8", "block:scaled=0.7..0.9"])
    assert shown["rated"] == "nominal → datasheet: 0.975, a ratio of two ratings, published"
    labels = [control["label"] for control in shown["controls"] if control["group"] == "derates"]
    assert labels == ["datasheet → block", "block → scaled", "Goodput"]
    assert shown["derate"] == ["*", ["*", ["*", 0.975, "link_1"], "link_2"], "goodput"]
    found = controls(shown)
    assert found["link_2"]["hint"] == "what is left of block; the model has 0.8, from 0.7 to 0.9, assumed"
    assert (found["goodput"]["value"], found["goodput"]["most"]) == (1.0, 1.0)
    assert found["goodput"]["hint"].endswith("the model's chain ends at scaled, before it")


def test_a_chain_that_reaches_goodput_gets_no_factor_more():
    shown = fleet("nio-2024-10", goodput=True)
    assert "goodput" not in controls(shown)
    assert controls(shown)["link_2"]["label"] == "scaled → goodput"
    assert shown["derate"] == ["*", ["*", 0.975, "link_1"], "link_2"]


def test_a_derate_above_one_is_within_its_slider():
    found = controls(fleet("nio-2024-10", derate="datasheet:scaled=1.0331"))["link_1"]
    assert found["slider"] == (0.005, 1.035, 0.005)
    assert found["most"] is None


@pytest.mark.parametrize(
    ("spread", "least", "most", "slider"),
    [
        (Uncertain(0.65, 0.35, 0.95, "triangular"), 0, 100, (0.05, 1.3, 0.01)),
        (Uncertain(1.25, 1.1, 1.5, "triangular"), 1, 5, (1, 2.5, 0.01)),
        (exact(400), 1, math.inf, (200, 800, 5)),
        (exact(1), 0.01, 1, (0.5, 1, 0.005)),
        (exact(0), 0, 1, (0, 1, 0.01)),
    ],
)
def test_a_slider_reaches_from_half_to_double_or_twice_as_far_as_the_ends(spread, least, most, slider):
    assert whatif._slider(spread, least, most) == pytest.approx(slider)


@given(value=st.floats(1e-3, 1e7), below=st.floats(0, 1), above=st.floats(0, 3))
def test_a_slider_keeps_to_what_may_be_and_holds_the_value(value, below, above):
    low, high = value * (1 - below), value * (1 + above)
    spread = exact(value) if low == high else Uncertain(value, low, high, "triangular")
    from_, to, step = whatif._slider(spread, value / 3, value * 3)
    assert value / 3 * (1 - 1e-6) <= from_ < value < to <= value * 3 * (1 + 1e-6)
    assert 0 < step <= (to - from_) / 50


def test_a_label_says_how_large_and_of_what():
    assert fleet("nio-2024-10")["label"] == "NIO: 1.40 EFLOPS of A800"


def test_the_panel_is_json_and_no_string_of_it_ends_its_script():
    hostile = "</script><!--<script>& \u2028 {name}"
    entry = Fleet(id="hostile", name=hostile, as_of="2026", part=A800, eflops=1, source="x")
    listed = catalogue().model_copy(update={"fleet": (entry,)})
    shown = make_panel(cost("hostile", catalogue=listed))
    text = script_json(shown) + script_json(hostile)
    assert not set("<>&\u2028\u2029") & set(text)
    assert json.loads(script_json(shown)) == json.loads(json.dumps(shown))
    assert json.loads(script_json(hostile)) == hostile
    assert shown["fleets"][0]["label"] == "</script><!--<script>&  {name}: 1.00 EFLOPS of A800"


def test_a_figure_that_isnt_finite_is_no_json():
    with pytest.raises(ValueError, match="Out of range float values"):
        script_json({"value": math.inf})


def test_what_moves_a_cursor_is_gone_from_names_and_sources(costs):
    (nio,) = (each for each in costs if each.size.id == "nio-2024-10")
    link = replace(nio.chain[1], source="over\x1b[2Jthere")
    size = replace(nio.size, name="N\x1bIO\u202e")
    (shown,) = make_panel([replace(nio, size=size, chain=(nio.chain[0], link))])["fleets"]
    assert shown["name"] == "NIO"
    assert controls(shown)["link_1"]["source"].endswith("over[2Jthere")


def test_the_words_are_said_in_the_readers_language(monkeypatch, costs):
    monkeypatch.setattr(
        whatif, "_", lambda message, **values: f"«{message.format(**values) if values else message}»"
    )
    told = make_panel(costs)
    assert told["words"]["heading"] == "«What if?»"
    assert told["words"]["untouched"] == "«{fleet}: every figure is as the model has it.»"
    assert all(each["label"].startswith("«") for each in told["figures"])
    for shown in told["fleets"]:
        assert shown["label"].startswith("«")
        assert all("«" in control["hint"] for control in shown["controls"])


def test_the_skeleton_escapes_its_words_and_says_what_holds_without_a_script(model):
    loader = jinja2.PackageLoader("nameplate.report.media", "assets")
    for autoescape in (True, False):
        template = jinja2.Environment(loader=loader, autoescape=autoescape).get_template("whatif.html.j2")
        words = model["words"] | {"heading": "a <b> & c"}
        html = template.render(panel={"words": words})
        assert '<h2 id="whatif-heading">a &lt;b&gt; &amp; c</h2>' in html
        assert "<noscript><p" in html
        assert '<div id="whatif"></div>' in html


def test_the_script_runs_no_text_as_code_or_mark_up_and_asks_nobody():
    script = (files("nameplate.report.media") / "assets" / "whatif.js").read_text()
    for forbidden in ("eval(", "Function(", "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write",
                      "fetch(", "XMLHttpRequest", "import(", "</script", "http:", "https:"):  # fmt: skip
        assert forbidden not in script


def test_the_style_takes_its_colours_from_the_page():
    style = (files("nameplate.report.media") / "assets" / "whatif.css").read_text()
    assert "var(--ink)" in style
    assert not [word for word in ("#fff", "rgb(", "hsl(", "url(", "@import") if word in style.lower()]


@pytest.mark.process
def test_making_the_panel_takes_no_torch():
    program = (
        "import sys; import nameplate.fleet; from nameplate.report.whatif import make_panel; "
        "assert make_panel(nameplate.fleet.cost('nio-2024-10', draws=1000)); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
