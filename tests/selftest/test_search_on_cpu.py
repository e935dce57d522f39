"""The ceiling beside whole grids: how looks in turn are judged. The looks are made up."""

import pytest

from nameplate.base.errors import InputError
from nameplate.record import SearchSummary
from nameplate.report.media.markdown import lines_of
from nameplate.report.selftest import ceilings_table
from nameplate.selftest.search_on_cpu import find_ceiling, judge, prove_on_cpu, time_in_turn


@pytest.fixture(scope="module")
def runs(make_record):
    """The records of a ceiling and of three grids."""

    def record(dtype, backend, m, tflops, fill="normal", silicon=1.2):
        return make_record(
            case=f"matmul/{dtype}/best/{fill}/warm/sustained/{backend}",
            dimensions={"m": m, "n": 512, "k": 1024, "layout": "nn"},
            tflops=tflops,
            tflops_low=0.99 * tflops,
            tflops_high=1.01 * tflops,
            silicon_tflops=silicon,
            silicon_tflops_low=silicon,
            silicon_tflops_high=silicon,
            search=SearchSummary(shapes=4356, seen=300, cost_s=9.0, grid_s=200.0, looks=[]),
        )

    ceiling = [
        record("fp32", "torch", 1024, 1.00),
        record("fp32", "numpy", 1024, 1.10),
        record("fp32", "numpy", 2048, 1.19, fill="zeros"),
        record("bf16", "torch", 1024, 4.0, silicon=5.0),
    ]
    # What a grid says of itself isn't compared.
    grids = [record("fp32", "torch", 768, 1.05), record("fp32", "numpy", 768, 1.30)]
    return ceiling, [*grids, record("bf16", "torch", 768, 4.1)]


def _judge(speeds, records, grids):
    """Judge with TFLOPS by dtype, library and M; the machine is slower by a fifth every other round."""
    calls = []

    def time_one(found):
        calls.append(found)
        slow = 0.8 if (len(calls) - 1) // 5 % 2 else 1.0
        return slow * speeds[found.dtype, found.backend, found.m]

    contenders = [find_ceiling(records, "fp32"), find_ceiling(records, "bf16")]
    contenders += [find_ceiling([each], each.dtype) for each in grids]
    return judge(records, grids, time_in_turn(contenders, time_one))


SPEEDS = {
    ("fp32", "numpy", 1024): 1.10,
    ("fp32", "torch", 768): 1.12,
    ("fp32", "numpy", 768): 1.09,
    ("bf16", "torch", 1024): 4.00,
    ("bf16", "torch", 768): 4.02,
}


def test_a_ceiling_near_the_better_grid_passes_and_says_which_that_is(runs):
    proof = _judge(SPEEDS, *runs)
    assert proof.passed
    fp32, bf16 = proof.rows
    assert fp32.best.found.backend == "torch"
    assert fp32.ceiling.found.m == 1024  # the fastest with a normal fill
    assert fp32.ratio == pytest.approx(1.10 / 1.12)
    assert bf16.ratio == pytest.approx(4.00 / 4.02)
    assert len(fp32.ceiling.tflops) == len(bf16.best.tflops) > 2
    said = "\n".join(lines_of(ceilings_table(proof)))
    assert "torch 768x512x1024 nn \\(300 of 4,356\\)" in said


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({("fp32", "numpy", 768): 1.20}, "fp32: the ceiling is 91.7% of the grids' best"),
        ({("bf16", "torch", 768): 4.10}, "bf16: the ceiling is 97.6% of the grids' best"),
    ],
)
def test_a_ceiling_too_far_below_a_grid_fails(runs, changed, said):
    (failure,) = _judge(SPEEDS | changed, *runs).failures
    assert failure.startswith(said)


def test_a_figure_above_the_silicon_fails_and_so_does_a_dtype_without_one(runs):
    (*others, bf16), grids = runs
    above, within = (bf16.model_copy(update={"tflops": tflops}) for tflops in (5.2, 5.05))
    assert "104.0% of what the silicon can do" in _judge(SPEEDS, [*others, above], grids).failures[0]
    assert _judge(SPEEDS, [*others, within], grids).passed
    nothing = judge([], [], {})
    assert not nothing.passed
    assert len(nothing.failures) == 2


def test_a_budget_without_time_for_grids_is_refused():
    with pytest.raises(InputError, match="too short to time grids"):
        prove_on_cpu(60.0)
