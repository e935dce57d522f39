"""Throughput ratios: paired round by round where cases were drawn in turn, quotients elsewhere."""

import numpy as np
import pytest

from nameplate.chain.throughput import Throughput, combine_throughputs, divide_throughputs, throughput_of
from nameplate.record import Batch, Spread
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.interval import Interval, ratio

ROUNDS = 20
FLOPS = 10**9


@pytest.fixture
def drawn(make_record):
    """A case with these seconds a launch in its rounds, ten launches a batch; its figures follow."""

    def make(launch_s, *, group="layer", flops=FLOPS, batches=None, **changes):
        each = [Batch(start_s=n, elapsed_s=10 * s, launches=10, round=n) for n, s in enumerate(launch_s)]
        tflops = flops / float(np.mean(launch_s)) / 1e12
        figures = {"tflops": tflops, "tflops_low": 0.9 * tflops, "tflops_high": 1.1 * tflops, "flops": flops}
        return make_record(**{"group": group, "batches": batches or each, **figures, **changes})

    return make


@pytest.fixture
def drifting():
    """Seconds a launch that drift by 60 % over the rounds, for all cases alike."""
    return 1e-3 * np.linspace(1.0, 1.6, ROUNDS)


def test_what_both_shared_in_a_round_cancels(drawn, drifting):
    one, beside = throughput_of(drawn(drifting / 0.8)), throughput_of(drawn(drifting))
    found = divide_throughputs(one, beside)
    assert found.value == pytest.approx(0.8)
    assert found.high - found.low < 1e-9
    assert ratio(one.tflops, beside.tflops).relative_half_width > 0.1


def test_noise_of_either_case_is_in_the_interval(drawn, drifting):
    noise = np.random.default_rng(3).normal(1.0, 0.02, (2, ROUNDS))
    found = divide_throughputs(
        throughput_of(drawn(drifting / 0.8 * noise[0])), throughput_of(drawn(drifting * noise[1]))
    )
    assert found.low < 0.8 < found.high
    assert 0.002 < found.relative_half_width < 0.03


@pytest.mark.parametrize(
    ("one", "beside"),
    [({"group": "a"}, {"group": "b"}), ({"group": None}, {"group": None}), ({"group": "a"}, {"group": None})],
)
def test_cases_that_were_not_drawn_in_turn_are_a_quotient(drawn, drifting, one, beside):
    first, second = throughput_of(drawn(drifting, **one)), throughput_of(drawn(drifting, **beside))
    assert divide_throughputs(first, second) == ratio(first.tflops, second.tflops)


def test_so_are_those_with_too_few_rounds_in_common(drawn, drifting):
    whole = drawn(drifting)
    for rounds, paired in ((FEWEST_BATCHES - 1, False), (FEWEST_BATCHES, True)):
        part = throughput_of(drawn(drifting, batches=whole.batches[:rounds]))
        found = divide_throughputs(part, throughput_of(whole))
        assert (found == ratio(part.tflops, throughput_of(whole).tflops)) is not paired


def test_rounds_pair_by_their_number_not_by_their_place(drawn, drifting):
    whole = drawn(drifting)
    late = throughput_of(drawn(drifting, batches=whole.batches[8:]))
    assert divide_throughputs(late, throughput_of(whole)).value == pytest.approx(1.0)


def test_several_batches_of_a_round_are_one(drawn):
    batches = [
        Batch(start_s=n, elapsed_s=seconds, launches=launches, round=n // 2)
        for n, (seconds, launches) in enumerate([(1.0, 10), (2.0, 10), (3.0, 10), (3.0, 20)])
    ]
    found = throughput_of(drawn([0.1], batches=batches)).flop_s
    assert found == pytest.approx({0: 3.0 / 20 / FLOPS, 1: 6.0 / 30 / FLOPS})


def test_works_together_take_the_sum_of_their_times_in_each_round(drawn):
    once, twice = drawn([1e-3] * 6, flops=FLOPS), drawn([3e-3] * 6, flops=2 * FLOPS)
    both = combine_throughputs([once, twice], [1, 2])
    assert both.group == "layer"
    assert both.flop_s == pytest.approx(dict.fromkeys(range(6), 7e-3 / (5 * FLOPS)))
    assert both.tflops.value == pytest.approx(5 * FLOPS / 7e-3 / 1e12)


def test_together_only_rounds_of_all_count_and_only_one_group_is_one(drawn):
    one, other = drawn([1e-3] * 6), drawn([1e-3] * 9)
    assert list(combine_throughputs([one, other], [1, 1]).flop_s) == list(range(6))
    assert combine_throughputs([one, drawn([1e-3] * 6, group="other")], [1, 1]).group is None


def test_a_record_without_throughput_has_none(make_record):
    with pytest.raises(ValueError, match="has no throughput"):
        throughput_of(make_record(status="skipped"))


def test_a_rating_has_no_rounds():
    rated, reached = Throughput(Interval(320.0, 320.0, 320.0)), Throughput(Interval(240.0, 239.0, 241.0), "a")
    assert divide_throughputs(reached, rated).value == 0.75


def test_a_link_allows_for_what_runs_of_both_ends_differ_by(drawn):
    """Its processes agree; the runs of one end differ by 10 %, of the other by 3 %."""

    def made(level, between_runs):
        launch_s = np.full(ROUNDS, level)
        batches = [
            Batch(start_s=n, elapsed_s=10 * s, launches=10, round=n, process=1 + n // 4)
            for n, s in enumerate(launch_s)
        ]
        known = {} if between_runs is None else {"between_runs": between_runs, "between_runs_freedom": 4.0}
        spread = Spread(by_process=tuple(launch_s[::4]), **known)
        return drawn(launch_s, batches=batches, spreads={"time_s": spread}, processes=5)

    alone = divide_throughputs(throughput_of(made(1e-3, None)), throughput_of(made(2e-3, None)))
    found = divide_throughputs(throughput_of(made(1e-3, 0.1)), throughput_of(made(2e-3, 0.03)))
    assert alone.log_half_width < 1e-6
    assert found.value == pytest.approx(2.0)
    assert 2.5 * 0.1 < found.log_half_width < 3.0 * 0.11
    both = combine_throughputs([made(1e-3, 0.1), made(2e-3, 0.03)], [1, 1])
    assert both.between_runs.deviation == pytest.approx(0.1)
