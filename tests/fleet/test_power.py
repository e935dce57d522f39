"""Power limits: speeds as they were measured, servers by hand, and what a site holds."""

import math

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet import cost, fill_site
from nameplate.fleet.ownership import own
from nameplate.fleet.power import explain_no_speed, find_curve, find_speed, load_power_curves
from nameplate.specs.registry import load_shipped

A800, A800_PCIE = "nvidia-a800-sxm4-80gb", "nvidia-a800-pcie-80gb"
H100, GB300 = "nvidia-h100-sxm5-80gb", "nvidia-gb300"
FEW = {"draws": 1000}
# A server of 1,000 W beside 8 cards of 400 W, and no spread: figures by hand.
EXACT = {
    "server_power_over_gpu_power": 2.0,
    "pue": 1.25,
    "network_storage_power_share": 0.1,
    "average_draw_over_tdp": 0.75,
}
parts = load_shipped().parts


def test_the_speed_at_a_limit_is_that_of_the_published_seconds():
    # 400 W lies between the clocks of 1,275 and 1,320 MHz, 293.4 W is that of 1,095 MHz.
    gpt3 = find_curve(parts[A800]).workload[0]
    usual = 1 / 0.15078 + (400 - 399.5) / (435.4 - 399.5) * (1 / 0.14687 - 1 / 0.15078)
    assert gpt3.speed(293.4, 400) == pytest.approx(1 / 0.17273 / usual)
    speed = find_speed(parts[A800], 300)
    assert (speed.low, speed.high) == (pytest.approx(0.8823, abs=5e-4), pytest.approx(0.9011, abs=5e-4))
    assert speed.value == pytest.approx(math.sqrt(speed.low * speed.high))
    assert "SOSP 2024" in speed.source
    pcie = find_speed(parts[A800_PCIE], 225)
    assert pcie.low == pytest.approx(60.095 / 73.329)
    assert find_speed(parts[A800], 400) is None  # its TDP: no factor


def test_every_curve_is_of_a_known_part_and_holds_its_tdp():
    curves = load_power_curves()
    for curve in curves.curve:
        for each in (curve.part, *curve.stands_in_for):
            assert curve.least < parts[each].tdp_w.value <= curve.most
    assert {each for hint in curves.hint for each in hint.parts} <= set(parts)


@pytest.mark.parametrize(
    ("part", "limit", "said"),
    [
        (H100, 500, "no curve was read; arXiv 2603.16164"),
        (GB300, 500, "617 TFLOPS at 500 W"),
        ("nvidia-l20", 200, "how fast L20 is at a power limit isn't known: no curve was read"),
        (A800, 200, "was measured from 237.7 W on"),
        (A800, 450, "a limit of 450 W is above the TDP of A800, 400 W"),
    ],
)
def test_where_no_source_has_a_speed_that_is_said_and_nothing_is_delivered(part, limit, said):
    assert said in explain_no_speed(parts[part], limit)
    (priced,) = cost(part=part, power_limit=limit, **FEW)
    assert priced.delivered_eflops is None
    assert said in priced.reason


def test_a_limit_slows_the_chain_in_every_draw_and_cuts_the_cards_share_of_power():
    assume = {name: EXACT[name] for name in EXACT if name != "network_storage_power_share"}
    (usual,) = cost(part=A800, assume=assume, **FEW)
    (limited,) = cost(part=A800, assume=assume, power_limit=300, **FEW)
    speed = find_speed(parts[A800], 300).value
    for point in ("p5", "p50", "p95"):
        before, after = (getattr(each.estimates["delivered_eflops"], point) for each in (usual, limited))
        assert after == pytest.approx(before * speed, rel=1e-5)
    assert limited.derate == pytest.approx(usual.derate * speed)
    # of each card 300 W in place of 400, and the server's other 400 W stay
    assert limited.value("power_mw") == pytest.approx(3125 * 700 * 0.75 * 1.25 / 1e6)
    assert limited.unit.inputs["tdp_w"].uncertain.value == 300
    assert "300 W a card" in limited.chain[-1].scope
    (with_goodput,) = cost(part=A800, power_limit=300, goodput=True, **FEW)
    assert with_goodput.chain[-2].speed_at_limit == speed
    assert with_goodput.chain[-1].speed_at_limit == 1


def test_a_limit_beside_a_run_is_refused(a800_run):
    with pytest.raises(InputError, match="a run's figures contain the power limit"):
        cost(part=A800, run=a800_run(), power_limit=300, **FEW)
    for wrong in (0, -5, math.nan, 1e9):
        with pytest.raises(InputError, match="not a power limit"):
            cost(part=A800, power_limit=wrong, **FEW)
    with pytest.raises(TypeError, match="power_limits"):
        cost(part=A800, power_limits=300)


def test_known_rents_are_not_compared_with_limited_cards():
    (found,) = own(part=A800, years=(3,), power_limit=350, **FEW)
    assert found.rent is None
    assert own(part=A800, years=(3,), power_limit=350, rent=9, **FEW)[0].rent is not None


def test_a_site_holds_what_its_power_divides_by_and_the_best_limit_is_the_best_of_all():
    (site,) = fill_site(20, A800, assume=EXACT, derate="datasheet:scaled=0.5", **FEW)
    assert [each.limit_w for each in site.at] == [250, 275, 300, 325, 350, 375, 400]
    for each in site.at:
        cards = math.floor(20e6 / ((each.limit_w + 400) * 1.1 * 1.25))
        assert each.cards == cards
        speed = find_speed(parts[A800], each.limit_w)
        slowed = 1.0 if speed is None else speed.value
        delivered = each.estimates["delivered_eflops"].p50
        assert delivered == pytest.approx(cards * 312 * 0.5 * slowed / 1e6, rel=1e-5)
        assert each.estimates["capex_rmb"].p50 == pytest.approx(cards / 8 * 950_000)
    assert site.best.estimates["delivered_eflops"].p50 == max(
        each.estimates["delivered_eflops"].p50 for each in site.at
    )
    assert sum(each.first_in for each in site.at) == pytest.approx(1)
    assert f"more than {site.usual.cards:,} cards at 400 W" in site.sentence
    (only,) = fill_site(20, A800, power_limit=300, assume=EXACT, **FEW)
    assert [each.limit_w for each in only.at] == [300]


def test_a_part_without_a_curve_is_planned_at_its_tdp_and_says_why():
    (site,) = fill_site(20, H100, **FEW)
    assert [each.limit_w for each in site.at] == [700]
    assert "no curve was read" in site.unlimited
    (small,) = fill_site(0.001, H100, **FEW)
    assert small.best is not None or small.reason == "no site of 0.001 MW holds one server of it"
    with pytest.raises(InputError, match="not the power of a site"):
        fill_site(-1, A800)
