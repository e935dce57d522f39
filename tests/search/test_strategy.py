"""The search for the fastest point: its time, what it believes, and the bound on what it hasn't seen."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from nameplate.search.features import TILES, find_fills
from nameplate.search.space import Space
from nameplate.search.strategy import SearchResult, search
from nameplate.selftest.search import KINDS, SearchProof, Tried, prove_search, search_surface, summarize
from nameplate.selftest.surfaces import make_cpu_surface, make_gpu_surface

AXES = {"m": list(range(8)), "n": list(range(8)), "layout": ["nn", "nt"]}
LOOK_S = 0.01


def _run(
    tflops: Callable[[int], float | None],
    budget_s: float = 1.0,
    *,
    exhaustive: bool = False,
    to_beat: float = 0.0,
) -> SearchResult | None:
    """Search 128 points whose looks take a hundredth of a second each."""
    space, now_s = Space(AXES, np.ones(128)), 0.0

    def look(point: int) -> float | None:
        nonlocal now_s
        now_s += LOOK_S
        return tflops(point)

    return search(space, look, lambda: now_s, budget_s, seed=3, exhaustive=exhaustive, to_beat=to_beat)


def _smooth(point: int) -> float:
    m, n, layout = point // 16, point // 2 % 8, point % 2
    return math.exp(-0.1 * (m - 5) ** 2 - 0.05 * (n - 2) ** 2 - 0.2 * layout)


def test_it_finds_the_peak_of_a_smooth_surface_in_a_part_of_the_time():
    found = _run(_smooth)
    assert found is not None
    assert Space(AXES, np.ones(128)).point(found.winner) == {"m": 5, "n": 2, "layout": "nn"}
    assert found.seen < 128
    assert found.cost_s <= 1.0


def test_the_time_is_never_passed_by_more_than_a_look():
    for budget_s in (0.2, 0.55, 3.0):
        found = _run(_smooth, budget_s)
        assert found is not None
        assert found.cost_s <= budget_s + LOOK_S


def test_a_single_lucky_look_doesn_t_win():
    seen: list[int] = []

    def tflops(point: int) -> float:
        seen.append(point)
        return 10.0 if len(seen) == 5 else _smooth(point)  # the fifth look is ten times too fast

    found = _run(tflops, 2.0)
    assert found is not None
    assert found.winner != seen[4]


def test_points_that_cant_be_measured_are_left_out_and_a_grid_of_them_finds_nothing():
    found = _run(lambda point: None if point % 2 == 0 else _smooth(point))
    assert found is not None
    assert found.winner % 2 == 1
    assert all(look.tflops is None for look in found.looks if look.point % 2 == 0)
    assert _run(lambda _: None) is None


def test_exhaustive_looks_at_every_point_before_it_confirms():
    found = _run(_smooth, 4.0, exhaustive=True)
    assert found is not None
    assert found.seen == 128
    assert found.unseen_gain == 0.0
    assert {look.stage for look in found.looks} == {"explore", "confirm"}


def test_the_bound_shrinks_with_what_was_seen_and_is_unknown_from_a_few_points():
    few, some, many = (_run(_smooth, budget_s) for budget_s in (0.05, 0.5, 1.2))
    assert few is not None
    assert some is not None
    assert many is not None
    assert few.unseen_gain is None
    assert some.unseen_gain is not None
    assert many.unseen_gain is not None
    assert 0 <= many.unseen_gain <= some.unseen_gain < 0.1


def test_looks_that_a_host_interrupts_dont_widen_the_bound():
    """They are slower by any amount; nothing of that makes a shape that wasn't timed faster."""
    rng = np.random.default_rng(4)

    def interrupted(point: int) -> float:
        return _smooth(point) * (1 - 0.4 * rng.random() if rng.random() < 0.3 else 1.0)

    calm, loud = _run(_smooth, 0.8), _run(interrupted, 0.8)
    assert calm is not None
    assert loud is not None
    assert calm.unseen_gain is not None
    assert loud.unseen_gain is not None
    assert _smooth(loud.winner) >= 0.97
    assert loud.unseen_gain < 0.1


def test_a_clock_that_falls_meanwhile_doesnt_widen_the_bound():
    """A card at its power limit: the first looks are at a clock that it can't hold."""
    steady, settling = (
        search_surface(make_gpu_surface(np.random.default_rng(6)), np.random.default_rng(7), speed)
        for speed in (lambda _share: 1.0, lambda share: 1.13 if share < 0.1 else 1.0)
    )
    assert settling.is_bounded
    assert settling.gain < 0.02 + 1.5 * steady.gain


def test_the_time_of_the_whole_grid_is_predicted():
    space, now_s = Space(AXES, np.full(128, 1e10)), 0.0

    def look(point: int) -> float:
        nonlocal now_s
        now_s += 1e10 / 1e12 / _smooth(point)
        return _smooth(point)

    found = search(space, look, lambda: now_s, 5.0, seed=1)
    assert found is not None
    assert found.grid_s == pytest.approx(sum(0.01 / _smooth(point) for point in range(128)), rel=0.1)


def test_tiles_that_fill_every_wave_have_no_loss():
    m, n = np.array([1280.0, 1280.0]), np.array([1280.0, 1408.0])
    by_tile = dict(zip(TILES, np.exp(find_fills(m, n, 100)), strict=False))
    assert by_tile[128, 128] == pytest.approx([1.0, 110 / 200])  # 100 tiles: one wave; 110: two


def test_a_grid_without_values_or_rows_is_refused():
    with pytest.raises(ValueError, match="no values"):
        Space({"m": []}, np.ones(0))
    with pytest.raises(ValueError, match="128 points"):
        Space(AXES, np.ones(3))


def test_surfaces_with_a_known_best_are_searched_to_within_a_per_cent():
    proof = prove_search(40, seed=5)
    assert proof.passed, proof.failures
    assert [row.kind for row in proof.rows] == [kind.name for kind in KINDS]
    assert all(row.time_share <= 0.05 for row in proof.rows)


def test_a_search_that_stops_at_random_points_fails_the_proof(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nameplate.search.strategy._EXPLORE_SHARE", 0.75)
    rng = np.random.default_rng(2)
    row = summarize("CPU", [search_surface(make_cpu_surface(rng), rng) for _ in range(20)])
    assert "5th percentile" in " ".join(row.failures)


def test_each_bound_that_fails_is_a_sentence():
    row = summarize("some surface", [Tried(0.9, 0.2, 0.0)] * 10)
    proof = SearchProof((row,))
    assert not proof.passed
    assert len(proof.failures) == 4
    assert proof.as_json()["passed"] is False
    assert "some surface: the search took 20.0% of the exhaustive time" in " ".join(proof.failures)


def test_a_search_of_what_cant_win_ends_early_and_one_that_may_goes_on():
    within_a_tenth = _run(_smooth, 2.0, to_beat=0.9)
    assert within_a_tenth is not None
    assert within_a_tenth.winner == _run(_smooth, 2.0).winner
    hopeless = _run(_smooth, 2.0, to_beat=10.0)
    assert hopeless is not None
    assert hopeless.cost_s < 0.4 * within_a_tenth.cost_s
    assert {look.stage for look in hopeless.looks} == {"explore"}
    assert hopeless.winner == max(hopeless.looks, key=lambda look: look.tflops or 0.0).point
