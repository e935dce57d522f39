"""The spread of figures from that of inputs: draws, what fleets share, sensitivity, the slowest card."""

import math

import numpy as np
import pytest

from nameplate.chain.published import find_figure
from nameplate.fleet import frame
from nameplate.fleet.montecarlo import MonteCarlo
from nameplate.fleet.outputs import z_of_slowest
from nameplate.fleet.rows import cost_row
from prices import A800, H100, PUBLISHED, cost, one


def test_parts_have_a_studys_part_of_the_spread_in_common():
    drawn = MonteCarlo(20_000)
    choice = {name: one(part=name).chain[-1] for name in (A800, "A100", H100)}
    a800, a100, h100 = (drawn.draw_link(link) for link in choice.values())
    assert np.corrcoef(a800, a100)[0, 1] > 0.999
    common = choice[A800].shared_variance.variance
    assert 0.2 < common < 0.6
    assert np.corrcoef(a800, h100)[0, 1] == pytest.approx(common, abs=0.03)


def test_identical_seeds_give_identical_figures_and_others_other_ones():
    again = [frame(cost(seed=seed)).drop(columns=["chain", "seed"]).to_json() for seed in (3, 3, 4)]
    assert again[0] == again[1] != again[2]


def test_an_input_more_changes_no_other_inputs_draws():
    alone, both = (one("nio", assume=given) for given in ({"pue": 1.2}, {"pue": "1.1..1.3"}))
    assert alone.estimates["rmb_per_delivered_eflops"] == both.estimates["rmb_per_delivered_eflops"]
    assert alone.estimates["power_mw"] != both.estimates["power_mw"]


def test_a_published_mfu_spreads_over_the_conventions_that_its_source_may_have_used():
    delivered = one("nio", derate="ampere-scaled-175b-x12288", draws=20_000).estimates["delivered_eflops"]
    low, high = (1.4 * 0.975 * each for each in find_figure("ampere-scaled-175b-x12288").ends)
    for share, found in ((0.05, delivered.p5), (0.5, delivered.p50), (0.95, delivered.p95)):
        assert found == pytest.approx(low + share * (high - low), rel=1e-4)


def test_an_mfu_of_a_known_convention_is_a_point():
    delivered = one("nio", derate="a100-sxm-80gb-scaled-175b").estimates["delivered_eflops"]
    # 0.514 with all of attention, which the chain counts half of.
    assert delivered.p5 == delivered.value == delivered.p95 == pytest.approx(1.4 * 0.975 * 0.5071, rel=1e-4)


def test_what_two_fleets_share_is_drawn_together():
    """Both train on A800: their ratio is sure but for their size, though neither figure is."""
    nio, xpeng = cost(["nio", "xpeng"])
    ratios = [
        getattr(xpeng.estimates["delivered_eflops"], end) / getattr(nio.estimates["delivered_eflops"], end)
        for end in ("p5", "p50", "p95")
    ]
    assert ratios == pytest.approx([2.51 / 1.4] * 3, rel=0.01)


def ranking(**options):
    return [
        share["input"] for share in cost_row(one("nio", draws=20_000, **options))["sensitivity"]["power_mw"]
    ]


def test_the_ranking_changes_with_an_inputs_spread():
    assert ranking() == ["average_draw_over_tdp", "pue", "server_power_over_gpu_power"]
    assert ranking(assume={"pue": "1.1..2.5"})[0] == "pue"
    assert ranking(assume={"average_draw_over_tdp": 0.75}) == ["pue", "server_power_over_gpu_power"]


def test_shares_of_an_outputs_variance_are_of_what_it_follows_from_and_at_most_one():
    row = cost_row(one("nio", draws=20_000))["sensitivity"]
    for shares in row.values():
        assert 0.9 < sum(share["share"] for share in shares) < 1.02
    assert [share["input"] for share in row["delivered_eflops"]] == ["mfu-ampere-ga100"]


def test_a_gang_goes_at_its_slowest_card_and_a_card_alone_at_the_mean():
    nio = one("nio", derate=PUBLISHED, assume={"card_sd": 0.0135}, price={A800: 950_000})
    gang, single = nio.value("gang_eflops"), nio.value("independent_eflops")
    assert gang < nio.delivered_eflops < single
    assert gang == pytest.approx(
        nio.delivered_eflops * math.exp(0.0135 * (z_of_slowest(8) - z_of_slowest(4375)))
    )
    assert nio.value("gang_rmb_per_delivered_eflops") == pytest.approx(nio.value("capex_rmb") / gang)
    assert nio.value("independent_rmb_per_delivered_eflops") == pytest.approx(nio.value("capex_rmb") / single)


def test_cards_that_are_all_alike_leave_no_gang_to_wait_for():
    nio = one("nio", assume={"card_sd": 0})
    assert nio.value("gang_eflops") == nio.value("independent_eflops") == nio.delivered_eflops


def test_an_mfu_of_the_fleets_own_size_has_its_slowest_card_in_it():
    nio = one("nio", assume={"card_sd": 0.0135})
    assert nio.value("gang_eflops") == pytest.approx(nio.delivered_eflops)
    assert nio.value("independent_eflops") > nio.delivered_eflops


def test_a_gang_needs_to_know_on_how_many_devices_the_chain_was_measured():
    priced = one("tesla", derate="h100-sxm-scaled-2b")
    assert priced.value("gang_eflops") is priced.value("independent_eflops") is None
