"""What fill and cache change: which cases are compared with which, and by how much."""

import pytest

from nameplate.chain.effects import find_effects
from nameplate.record import Batch

ROUNDS = 12


@pytest.fixture
def state(make_record):
    """One product in a state of its inputs and caches, this much as fast as usual, over a drifting window."""

    def make(fill="normal", cache="warm", speed=1.0, *, edge=512, **changes):
        drift = [1 + 0.05 * number for number in range(ROUNDS)]
        fields = {
            "case": f"matmul/bf16/{edge}x{edge}x{edge}/{fill}/{cache}/-/torch",
            "shape": f"{edge}x{edge}x{edge}",
            "fill": fill,
            "cache": cache,
            "group": f"sensitivity-{edge}",
            "batches": [
                Batch(start_s=n, elapsed_s=each / speed, launches=100, round=n)
                for n, each in enumerate(drift)
            ],
        }
        return make_record(**(fields | changes))

    return make


def test_each_state_is_compared_with_normal_and_warm(state):
    usual, *others = states = [state(), state("zeros", speed=1.25), state(cache="flushed", speed=0.8)]
    found = find_effects(states)
    assert [effect.case for effect in found] == [each.case for each in others]
    assert {effect.beside for effect in found} == {usual.case}
    assert [effect.value for effect in found] == pytest.approx([1.25, 0.8])
    assert all(effect.high - effect.low < 1e-9 for effect in found)  # the drift was everyone's


def test_sums_in_fp32_are_compared_with_torchs_default(state):
    fp32_sums = state(speed=0.9, shape="512x512x512-fp32sums", case="matmul/bf16/512x512x512-fp32sums/…")
    usual = state()
    (effect,) = find_effects([fp32_sums, usual])
    assert (effect.case, effect.beside) == (fp32_sums.case, usual.case)
    assert effect.value == pytest.approx(0.9)
    assert find_effects([fp32_sums]) == []


def test_the_order_of_the_records_does_not_matter(state):
    assert find_effects([state("zeros", speed=1.25), state()]) == find_effects(
        [state(), state("zeros", speed=1.25)]
    )


def test_without_a_warm_one_normal_in_the_commonest_cache_state_is_the_usual(state):
    states = [state("zeros", "rotating"), state(cache="flushed"), state(cache="rotating")]
    assert {effect.beside for effect in find_effects(states)} == {state(cache="rotating").case}


def test_without_normal_inputs_there_is_nothing_to_compare_with(state):
    assert find_effects([state("zeros"), state("uniform")]) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"edge": 2048},
        {"group": "another"},
        {"dtype": "fp16"},
        {"device": "cuda:1"},
        {"phase": "burst"},
        {"verdict": "unverified", "verdicts": ("unverified",)},
    ],
)
def test_only_what_differs_in_fill_or_cache_alone_and_is_right_is_compared(state, changes):
    assert find_effects([state(), state("zeros", **changes)]) == []


def test_records_of_no_group_are_compared_with_nothing(state):
    assert find_effects([state(group=None), state("zeros", group=None)]) == []


def test_an_effect_carries_the_verdicts_of_both(state):
    unstable = state("zeros", verdict="unstable", verdicts=("unstable",))
    contended = state(verdict="contended", verdicts=("contended",))
    assert find_effects([contended, unstable])[0].verdicts == ("contended", "unstable")
    assert find_effects([state(), state("zeros")])[0].verdicts == ("clean",)


def test_an_effect_in_json(state):
    (row,) = [effect.as_json() for effect in find_effects([state(), state("zeros")])]
    assert list(row) == ["case", "beside", "device", "value", "low", "high", "verdicts"]
    assert row["verdicts"] == ["clean"]
