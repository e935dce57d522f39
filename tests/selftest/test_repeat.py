"""Repeatability: its arithmetic, that a contender's failure shows, and that each peer gives a figure."""

import json
import math
import sys
from itertools import count

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.base.processes import ChildSilent
from nameplate.device.protocol import Counters
from nameplate.selftest.contenders import NORMALIZED, OURS, PEERS, RAW, NoFigure, make_peers, read_answer
from nameplate.selftest.repeat import (
    _read_counters,
    repeat,
    spread_of,
)


def around(mean, relative):
    """A contender whose figures alternate: over an even n their spread is relative · √(n ÷ (n − 1))."""
    return lambda number: mean * (1 + relative * (-1) ** number)


def ours(relative=0.001, raw=0.1):
    return lambda number: {RAW: around(1.0, raw)(number), NORMALIZED: around(1.0, relative)(number)}


def peers(**figures):
    """Peers by name, each from a function of the round's number."""
    return {name: lambda number, of=of, name=name: {name: of(number)} for name, of in figures.items()}


def contested(foreign=0.0, steal=0.0, own=1.0):
    """Counters of rounds of 10 s, in which that many CPU seconds a second go to each."""
    moments = count()

    def look():
        at_s = 10.0 * next(moments)
        return Counters(
            at_s=at_s,
            process_cpu_s=own * at_s,
            busy_cpu_s=(own + foreign) * at_s,
            steal_s=steal * at_s,
            tick_s=0.01,
        )

    return look


def test_the_spread_of_known_figures():
    spread = spread_of([9.0, 10.0, 11.0, 10.0, 10.0])
    assert (spread.n, spread.mean, spread.reason) == (5, 10.0, None)
    assert spread.relative == pytest.approx(math.sqrt(2 / 4) / 10)
    # Chi-square's 10 % point of 4 degrees of freedom is 1.064 in every printed table.
    assert spread.upper == pytest.approx(spread.relative * math.sqrt(4 / 1.064), rel=1e-3)


def test_the_limit_of_thirty_figures_is_by_the_printed_table():
    spread = spread_of([around(2.0, 0.01)(number) for number in range(30)])
    assert spread.relative == pytest.approx(0.01 * math.sqrt(30 / 29))
    assert spread.upper / spread.relative == pytest.approx(math.sqrt(29 / 19.768), rel=1e-4)


def test_the_limit_holds_the_truth_as_often_as_it_says():
    samples = np.random.default_rng(3).normal(5.0, 0.05, (2000, 30))
    held = sum(spread_of(sample.tolist()).upper >= 0.01 for sample in samples)
    assert held / 2000 == pytest.approx(0.90, abs=0.02)


@pytest.mark.parametrize("n", range(5))
def test_too_few_figures_have_no_spread_and_a_reason(n):
    spread = spread_of([1.0] * n)
    assert (spread.n, spread.relative, spread.upper) == (n, None, None)
    assert spread.mean == (1.0 if n else None)
    assert spread.reason == f"{n} figures; a spread needs 5"


def test_where_no_process_gives_a_figure_the_test_ends_with_3(bench, monkeypatch):
    """As where the machine is so busy that a process of ours is given up."""

    def starve(*_, **__):
        raise ChildSilent(60.0)

    monkeypatch.setattr("nameplate.selftest.contenders.run_to_end", starve)
    result = bench("selftest", "--repeat", "5")
    assert result.status == 3
    last = result.err.splitlines()[-1]
    assert last == "bench: none of our processes gave a figure: still running after 1.0 min: ended"


def test_every_contender_runs_once_a_round_in_an_order_of_its_own():
    seen = []
    names = {"a", "b", "c", OURS}
    found = repeat(
        20,
        ours(),
        peers(**{name: around(1.0, 0.1) for name in "abc"}),
        progress=lambda *turn: seen.append(turn),
    )
    assert all(set(each.order) == names and len(each.order) == 4 for each in found.rounds)
    assert len({each.order for each in found.rounds}) > 5
    assert seen == [(each.number, name) for each in found.rounds for name in each.order]


def test_the_order_follows_from_the_seed():
    def orders(seed):
        found = repeat(6, ours(), peers(a=around(1.0, 0.1), b=around(1.0, 0.1)), seed=seed)
        return [each.order for each in found.rounds]

    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_contenders_are_told_the_round():
    found = repeat(3, ours(), peers(peer=lambda number: number + 1.0))
    assert [each.tflops["peer"] for each in found.rounds] == [1.0, 2.0, 3.0]


def test_the_table_has_ours_first_and_our_limit_by_each_peers_spread():
    found = repeat(30, ours(0.01), peers(wide=around(2.0, 0.20), narrow=around(3.0, 0.10)))
    assert [row.contender for row in found.rows] == [RAW, NORMALIZED, "wide", "narrow"]
    assert [row.spread.n for row in found.rows] == [30] * 4
    assert [row.spread.mean for row in found.rows] == pytest.approx([1.0, 1.0, 2.0, 3.0])
    assert [row.ratio for row in found.rows[:2]] == [None, None]
    factor = math.sqrt(29 / 19.768)
    assert [row.ratio for row in found.rows[2:]] == pytest.approx([factor * 0.05, factor * 0.10], rel=1e-4)
    assert found.best_peer == "narrow"
    assert found.ratio == found.rows[3].ratio


def test_a_contender_that_crashes_is_counted_and_the_others_go_on():
    def crashes(number):
        if number % 2:
            raise NoFigure("exit status 1: out of memory")
        return 1.0

    found = repeat(8, ours(), peers(crashes=crashes, steady=around(1.0, 0.1)))
    row = found.rows[2]
    assert (row.contender, row.failed, row.spread.n) == ("crashes", 4, 4)
    assert row.spread.reason == "4 figures; a spread needs 5"
    assert row.ratio is None
    assert found.rounds[1].failures == {"crashes": "exit status 1: out of memory"}
    assert "crashes" not in found.rounds[1].tflops
    assert found.best_peer == "steady"
    assert found.passed  # a peer's crash isn't held against ours


@pytest.mark.parametrize("figure", [math.nan, math.inf, 0.0, -1.0])
def test_what_is_no_figure_is_a_failure(figure):
    found = repeat(5, ours(), peers(peer=lambda number: figure))
    assert found.rows[2].failed == 5
    assert f"{figure} TFLOPS is no finite figure above 0" in found.rounds[0].failures["peer"]
    json.dumps(found.as_json(), allow_nan=False)


def test_an_error_of_any_kind_is_named():
    found = repeat(1, lambda number: {}["missing"], {})
    assert found.rounds[0].failures == {OURS: "KeyError: 'missing'"}
    assert found.rounds[0].tflops == {}


def test_interrupting_ends_it():
    def interrupted(number):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        repeat(5, ours(), peers(peer=interrupted))


def goals(relative, peer, rounds=30):
    found = repeat(rounds, ours(relative), peers(peer=around(1.0, peer)))
    return [goal.met for goal in found.goals], found


@pytest.mark.parametrize(
    ("relative", "peer", "met"),
    [
        (0.016, 0.05, [True, True, True]),  # upper limit 1.97 %, a quiet hour
        (0.018, 0.05, [True, False, True]),  # 2.22 %
        (0.018, 0.20, [True, False, True]),  # a loud hour: 2.22 % is less than a quarter of 20 %
        (0.030, 0.10, [True, False, False]),  # 3.69 % is more than a quarter of 10 %
    ],
)
def test_the_goals(relative, peer, met):
    found_met, found = goals(relative, peer)
    assert found_met == met
    assert found.passed is all(met)
    assert [goal.describe().startswith("pass: ") for goal in found.goals] == met


def test_without_any_spread_no_goal_passes():
    found = repeat(3, ours(), peers(peer=around(1.0, 0.05)))
    assert [goal.met for goal in found.goals] == [True, None, None]
    assert (found.passed, found.failed) == (False, False)
    assert found.goals[1].describe().startswith("unknown: ")
    assert "3 figures; a spread needs 5" in found.goals[1].words
    assert "no peer has a spread" in found.goals[2].words


def test_one_failure_of_ours_fails():
    def fails_once(number):
        if number == 7:
            raise NoFigure("still running after 60 s: ended")
        return ours()(number)

    found = repeat(30, fails_once, peers(peer=around(1.0, 0.05)))
    assert [row.failed for row in found.rows] == [1, 1, 0]
    assert [goal.met for goal in found.goals] == [False, True, True]
    assert found.goals[0].describe() == "FAIL: 29 of 30 rounds of ours gave a figure"


@pytest.mark.parametrize(
    ("foreign", "steal", "loud"),
    [(0.0, 0.0, False), (0.02, 0.0, False), (0.10, 0.0, True), (0.0, 0.05, True)],
)
def test_a_round_is_loud_by_the_limits_of_a_contended_record(foreign, steal, loud, monkeypatch):
    monkeypatch.setattr("nameplate.selftest.repeat.usable_cpus", lambda: frozenset({0, 1}))
    found = repeat(2, ours(), {}, counters=contested(2 * foreign, 2 * steal))
    for each in found.rounds:
        assert (each.elapsed_s, each.loud) == (10.0, loud)
        assert each.foreign_share == pytest.approx(foreign)
        assert each.steal_share == pytest.approx(steal)
    assert found.contended_rounds == 2 * loud


def test_where_the_system_does_not_tell_a_round_is_neither_loud_nor_quiet():
    moments = count()
    found = repeat(1, ours(), {}, counters=lambda: Counters(at_s=float(next(moments))))
    assert (found.rounds[0].foreign_share, found.rounds[0].loud) == (None, None)
    assert found.contended_rounds == 0


def test_real_counters_only_grow():
    first, second = _read_counters(), _read_counters()
    assert second.at_s > first.at_s
    assert second.process_cpu_s >= first.process_cpu_s


def test_json_holds_what_the_table_is_computed_from():
    found = repeat(6, ours(0.01), peers(peer=around(2.0, 0.1)), seed=9)
    row = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert (row["passed"], row["best_peer"], row["seed"]) == (found.passed, "peer", 9)
    values = [each["tflops"][NORMALIZED] for each in row["rounds"]]
    again = spread_of(values)
    assert row["rows"][1]["spread"] == {
        "n": 6,
        "mean": again.mean,
        "relative": again.relative,
        "upper": again.upper,
        "reason": None,
    }
    assert row["ratio"] == pytest.approx(again.upper / row["rows"][2]["spread"]["relative"])


@pytest.mark.parametrize("times", [0, -1])
def test_no_rounds_are_refused(times):
    with pytest.raises(InputError, match="--repeat: no rounds to run"):
        repeat(times, ours(), {})


def python(code):
    return (sys.executable, "-c", code)


@pytest.mark.process
def test_the_answer_is_the_last_line():
    code = "import os; print('noise'); print('{\"tflops\": ' + os.environ['FIGURE'] + '}')"
    assert read_answer(python(code), env={"FIGURE": "2.5"}) == {"tflops": 2.5}


@pytest.mark.process
def test_a_process_that_hangs_is_ended_with_its_children():
    # The grandchild holds the pipe, so communicate() would wait for it too.
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
    with pytest.raises(NoFigure, match=r"still running after 0\.5 s: ended"):
        read_answer(python(code), deadline_s=0.5)


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; sys.exit('out of memory')", "exit status 1: out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
        ("print('hello')", "said 'hello', which is no figure"),
        ("print('[1]')", "which is no figure"),
        ("", "said '', which is no figure"),
    ],
)
def test_a_process_that_gives_no_figure_says_why(code, why):
    with pytest.raises(NoFigure, match=why.replace("[", r"\[")):
        read_answer(python(code))


def test_an_unknown_dtype_is_refused():
    with pytest.raises(InputError, match="unknown dtype; got 'fp8'; expected bf16 or fp32"):
        make_peers("fp8")


@pytest.mark.process
def test_an_unknown_peer_is_refused():
    with pytest.raises(NoFigure, match="exit status 2: unknown peer; got 'nobody'"):
        read_answer((sys.executable, "-m", "nameplate.selftest.contenders", "nobody", "bf16"))


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("name", PEERS)
def test_each_peer_gives_a_figure(name, monkeypatch):
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark wouldn't measure in one
    figure = make_peers("fp32")[name](0)[name]  # fp32 is fast everywhere; bf16 may be emulated
    assert math.isfinite(figure)
    assert figure > 0
