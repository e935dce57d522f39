"""Two sides measured in turn: how often the outcome is right, when it stops, runs that break off.

The replays feed the real decision with runs as restarts of a process scatter: as `bench selftest --repeat`
found them (docs/validation.md), as the engine measures simulated devices, and, where pairs were recorded on a
machine, as those did.
"""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest

import nameplate.compare.interleaving
from nameplate.base.errors import InputError, RunIncomplete
from nameplate.compare.comparison import compare_sides
from nameplate.compare.interleaving import (
    FEWEST_PAIRS,
    NOTHING_KEPT,
    PAIRS,
    interleave,
    plan_looks,
    take_turns,
)
from nameplate.compare.results import CaseResult, MetricValue, RunResults, Side, results_of_run
from nameplate.compare.validate import CompareOptions
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import Law, Noise, make_constant
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.run.deadlines import Deadlines
from nameplate.stats.interval import Interval
from nameplate.suite import Case

RECORDED = sorted((Path(__file__).parents[1] / "data" / "compare").glob("pairs-*.json"))
TRIES = 100
# What restarts of a process do to a figure beside its probe (its upper limit), and to throughput itself.
RESTART, RAW_RESTART = 0.0111, 0.158
CASES = ("product", "block", "layer")


def look(case, achieved, normalized, within=0.003):
    def figure(value, unit):
        return MetricValue(Interval(value, value * (1 - within), value * (1 + within)), unit)

    figures = {"achieved": figure(achieved, "TFLOPS"), "normalized": figure(normalized, "of the probe")}
    return CaseResult(case, "cpu", "cpu", "a part", work="one", metrics=figures, normalized_by="a probe")


def restarts(seed, change=1.0, sd=RESTART, cases=CASES):
    """A machine whose processes scatter, with tails longer than Gauss's; new's first case is changed."""
    generator = np.random.default_rng(seed)

    def measure(side):
        machine = math.exp(generator.normal(0, RAW_RESTART))
        scatter = np.exp(sd / math.sqrt(2) * generator.standard_t(4, len(cases)))
        scatter[0] *= change if side else 1.0
        looks = [look(case, machine * x, x) for case, x in zip(cases, scatter.tolist(), strict=True)]
        return RunResults("a run", "method 2", tuple(looks), {})

    return measure


def decided(measure, seed, **changes):
    """The outcomes of one try, by case, and how many pairs they took."""
    pairs = changes.pop("pairs", PAIRS)
    found = take_turns(measure, ("a", "b"), CompareOptions(**changes), pairs=pairs, seed=seed)
    return {row.case: row.outcome for row in found.rows}, len(found.base.runs)


def tries(measured, number=TRIES, **changes):
    return [decided(measured(seed), seed, **changes)[0] for seed in range(number)]


# ---- how often the outcome is right ----


@pytest.mark.stat
def test_two_identical_ones_are_the_same_in_95_of_100_tries_and_never_slower():
    found = tries(restarts)
    assert sum(set(outcomes.values()) == {"same"} for outcomes in found) >= 95
    assert not [outcomes for outcomes in found if {"slower", "faster"} & set(outcomes.values())]


@pytest.mark.stat
@pytest.mark.parametrize(("change", "outcome"), [(0.97, "slower"), (1 / 0.97, "faster")])
def test_a_change_of_three_per_cent_is_found_in_95_of_100_tries_and_never_taken_for_another(change, outcome):
    found = tries(lambda seed: restarts(seed, change))
    counts = Counter(outcomes["product"] for outcomes in found)
    assert counts[outcome] >= 95
    assert set(counts) <= {outcome, "ambiguous"}
    assert not [
        outcomes for outcomes in found if {outcomes["block"], outcomes["layer"]} & {"slower", "faster"}
    ]


@pytest.mark.long
@pytest.mark.stat
@pytest.mark.parametrize("change", [0.985, 1.015])
def test_at_the_margin_itself_it_is_seldom_said_to_be_beyond(change):
    """There looking again and again costs most."""
    found = Counter(outcomes["product"] for outcomes in tries(lambda seed: restarts(seed, change)))
    assert found["slower"] + found["faster"] <= 5


@pytest.mark.stat
def test_without_the_probe_next_to_nothing_is_decided_and_next_to_nothing_wrong():
    """Pairs scatter by 22 % then, beside which the margin is nothing: hence what looks share."""
    found = Counter(outcomes["product"] for outcomes in tries(restarts, by="achieved"))
    assert found["ambiguous"] >= 95


@pytest.mark.stat
def test_modes_that_a_process_keeps_are_never_taken_for_a_change():
    """Two levels 12 % apart, one drawn at each start: too far apart for 60 pairs to tell 1.5 %."""

    def measured(seed):
        generator = np.random.default_rng(seed)

        def measure(side):
            x = float(generator.choice([1.0, 0.88]) * np.exp(generator.normal(0, 0.003)))
            return RunResults("a run", "method 2", (look("product", x, x),), {})

        return measure

    found = Counter(outcomes["product"] for outcomes in tries(measured))
    assert found["ambiguous"] >= 95


@pytest.fixture
def engine(make_run):
    """Runs of simulated devices, measured by the real engine; each start of a process has its own speed."""

    def measured(seed, change=1.0):
        generator = np.random.default_rng([seed, 17])

        def measure(side):
            launch_s = 1e-3 * math.exp(generator.normal(0, RESTART)) / (change if side else 1.0)
            law = Law(launch_s, Noise(sd=0.02), make_constant(1.0))
            device = SimulatedDevice(law, seed=int(generator.integers(1 << 31)), nominal_tflops=2.0)
            case = Case(SimulatedWork(device, 10**9))
            records = measure_group([case], device, Pilots(device, seed), Allowance(1.5, 20.0))
            return results_of_run(make_run(*(r.model_copy(update={"device": "cpu"}) for r in records)))

        return measure

    return measured


@pytest.mark.long
@pytest.mark.stat
@pytest.mark.parametrize(("change", "outcome"), [(1.0, "same"), (0.97, "slower")])
def test_so_it_is_with_records_of_the_real_engine(engine, change, outcome):
    found = Counter(
        next(iter(outcomes.values())) for outcomes in tries(lambda seed: engine(seed, change), 10)
    )
    assert found[outcome] >= 9
    assert set(found) <= {outcome, "ambiguous"}


def replayed(document, seed, change=1.0):
    """Pairs drawn again from recorded ones; which side a figure was of is drawn too, so both are alike."""
    by_case = {}
    for pair in document["pairs"]:
        by_case.setdefault(pair["case"], {})[pair["pair"]] = (pair["base"], pair["new"])
    generator = np.random.default_rng(seed)
    numbers = sorted(set.intersection(*(set(pairs) for pairs in by_case.values())))
    drawn = []

    def measure(side):
        if not drawn:
            first = int(generator.integers(2))
            number = int(generator.choice(numbers))
            drawn.extend([(number, first), (number, 1 - first)])
        number, which = drawn.pop()
        figures = {case: pairs[number][which] * (change if side else 1.0) for case, pairs in by_case.items()}
        return RunResults("a run", "method 2", tuple(look(case, x, x) for case, x in figures.items()), {})

    return measure


def record(measure, pairs=40):
    """What `bench compare --interleave . . --at-least 40 --pairs 40 --json` prints."""
    found = take_turns(measure, (".", "."), CompareOptions(), pairs=pairs, at_least=pairs)
    return json.loads(json.dumps(found.as_json()))


def right(document, change, outcome):
    """In how many tries each case got this outcome, and the cases that ever got the opposite one."""
    found = [decided(replayed(document, seed, change), seed)[0] for seed in range(TRIES)]
    by_case = {case: Counter(outcomes[case] for outcomes in found) for case in found[0]}
    opposite = {"same": {"slower", "faster"}, "slower": {"same", "faster"}}[outcome]
    return {case: counts[outcome] for case, counts in by_case.items()}, [
        case for case, counts in by_case.items() if opposite & set(counts)
    ]


@pytest.mark.stat
@pytest.mark.parametrize(("change", "outcome"), [(1.0, "same"), (0.97, "slower")])
def test_recorded_pairs_can_be_drawn_again(change, outcome):
    counts, opposite = right(record(restarts(5)), change, outcome)
    assert set(counts) == set(CASES)
    assert min(counts.values()) >= 95
    assert opposite == []


def scatter(document, case):
    """The standard deviation of a pair's log ratio, as it was recorded."""
    pairs = [pair for pair in document["pairs"] if pair["case"] == case]
    return float(np.std([np.log(pair["new"] / pair["base"]) for pair in pairs], ddof=1))


# What 60 pairs can still tell 1.5 % by, for one case; docs/compare.md has the table behind it.
QUIET = 0.022
OUTCOMES_OF = [(1.0, "same"), (0.97, "slower"), (0.9, "slower")]


@pytest.mark.stat
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
@pytest.mark.parametrize(("change", "outcome"), OUTCOMES_OF)
def test_pairs_recorded_on_a_machine_get_no_wrong_outcome_and_where_that_can_be_told_the_right_one(
    path, change, outcome
):
    """A machine may be too loud for 3 %: the outcome is then `ambiguous`, and 10 % are found all the same."""
    document = json.loads(path.read_text())
    by_probe = {pair["case"] for pair in document["pairs"] if pair["basis"] == "normalized"}
    counts, opposite = right(document, change, outcome)
    assert by_probe
    assert opposite == []
    told = {case for case in by_probe if scatter(document, case) <= QUIET or change == 0.9}
    assert {case: counts[case] for case in told if counts[case] < 95} == {}


# ---- when it stops, and in which order ----


def counting(measure):
    order = []

    def counted(side):
        order.append(side)
        return measure(side)

    return order, counted


def test_runs_are_taken_in_pairs_whose_first_is_drawn_by_lot():
    order, measure = counting(restarts(1, sd=0.05))
    take_turns(measure, ("a", "b"), CompareOptions(), pairs=12, at_least=12, seed=3)
    pairs = [tuple(order[n : n + 2]) for n in range(0, len(order), 2)]
    assert len(pairs) == 12
    assert set(pairs) == {(0, 1), (1, 0)}


def test_it_is_looked_a_few_times_only_the_last_time_when_all_pairs_are_taken():
    assert plan_looks(5, 60) == [5, 8, 12, 18, 27, 41, 60]
    assert plan_looks(40, 40) == [40]
    found = take_turns(restarts(1), ("a", "b"), CompareOptions(), pairs=5)
    assert found.confidence == pytest.approx(1 - 0.05 / len(CASES))
    first = take_turns(restarts(1, sd=1e-4), ("a", "b"), CompareOptions())
    assert first.confidence == pytest.approx(1 - 0.05 / len(CASES) * 5 / (5 + 8 + 12 + 18 + 27 + 41 + 60))


def test_the_same_seed_draws_the_same_order():
    drawn = []
    for _ in range(2):
        order, measure = counting(restarts(1))
        take_turns(measure, ("a", "b"), CompareOptions(), seed=3)
        drawn.append(order)
    assert drawn[0] == drawn[1]


def test_it_stops_when_every_case_is_decided_and_not_before_five_pairs():
    outcomes, pairs = decided(restarts(1, sd=1e-4), 1)
    assert set(outcomes.values()) == {"same"}
    assert pairs == FEWEST_PAIRS


def test_what_is_too_noisy_to_be_decided_keeps_nobody_waiting():
    outcomes, pairs = decided(restarts(2, sd=0.2), 2)
    assert set(outcomes.values()) == {"ambiguous"}
    assert pairs < 20


@pytest.mark.stat
def test_a_large_change_in_much_noise_is_waited_for():
    """30 % slower, with a scatter of 20 %: at the third look many might be given up, for all that noise."""
    found = [decided(restarts(seed, 0.7, sd=0.2, cases=("product",)), seed) for seed in range(20)]
    assert Counter(outcomes["product"] for outcomes, _ in found)["slower"] >= 19
    assert max(pairs for _, pairs in found) > plan_looks(FEWEST_PAIRS, PAIRS)[2]


def test_what_lies_at_the_margin_takes_all_the_pairs_and_stays_ambiguous():
    outcomes, pairs = decided(restarts(4, 0.985, cases=("product",)), 4, pairs=15)
    assert (outcomes, pairs) == ({"product": "ambiguous"}, 15)


def test_a_case_that_new_gets_wrong_ends_it_where_it_is_the_only_one():
    def measure(side):
        state = "wrong" if side else "ok"
        return RunResults(
            "a run",
            "method 2",
            (CaseResult("product", "cpu", "cpu", "a part", state, "its bits changed"),),
            {},
        )

    def measured(side):
        return (
            RunResults("a run", "method 2", (look("product", 1.0, 1.0),), {}) if not side else measure(side)
        )

    found = take_turns(measured, ("a", "b"), CompareOptions())
    (row,) = found.rows
    assert (row.outcome, row.broken, found.exit_status, len(found.base.runs)) == ("incomparable", True, 3, 1)


def test_a_run_without_one_case_costs_that_pair_alone():
    whole = restarts(1, sd=1e-4)
    count = [0]

    def measure(side):
        count[0] += 1
        run = whole(side)
        return RunResults(run.name, run.method, run.cases[1:], run.facts) if count[0] == 1 else run

    found = take_turns(measure, ("a", "b"), CompareOptions())
    assert {row.case: row.base_runs for row in found.rows} == {"product": 4, "block": 5, "layer": 5}


def test_pairs_without_a_common_figure_say_so():
    one, other = (look("product", 1.0, 1.0), look("block", 1.0, 1.0))
    sides = [
        Side(name, tuple(RunResults(str(n), "method 2", looks, {}) for n, looks in enumerate(runs)))
        for name, runs in (("a", [(one, other), (other,)]), ("b", [(other,), (one, other)]))
    ]
    found = {row.case: row for row in compare_sides(*sides, CompareOptions(), in_pairs=True).rows}
    assert (found["product"].outcome, str(found["product"].reason)) == (
        "ambiguous",
        "no pair has a figure of both",
    )


def test_the_document_holds_every_pair_from_which_it_follows():
    document = record(restarts(1), pairs=6)
    assert document["in_pairs"] is True
    assert len(document["pairs"]) == 6 * len(CASES)
    mine = [pair for pair in document["pairs"] if pair["case"] == "product"]
    assert mine[0] == {
        "pair": 0,
        "case": "product",
        "device": "cpu",
        "basis": "normalized",
        "base": mine[0]["base"],
        "new": mine[0]["new"],
    }
    ratio = math.exp(np.mean([math.log(pair["new"] / pair["base"]) for pair in mine]))
    assert document["rows"][0]["ratio"] == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"pairs": 4}, "--pairs: too few pairs; got 4; expected 5 or more"),
        ({"at_least": 4}, "--at-least: too few pairs; got 4; expected 5 or more"),
        ({"pairs": 6, "at_least": 8}, "--pairs: too few pairs; got 6; expected 8 or more"),
        ({"budget": 0.0}, "--budget: not a time to measure in"),
        ({"threshold": 2}, "--threshold: not a fraction"),
    ],
)
def test_what_can_not_be_used_is_refused_before_anything_is_measured(flags, said, tmp_path, monkeypatch):
    monkeypatch.setattr(nameplate.compare.interleaving, "prepare_contender", None)
    with pytest.raises(InputError) as refused:
        interleave(".", ".", results=tmp_path, **flags)
    assert str(refused.value).startswith(said)
    assert list(tmp_path.iterdir()) == []


# ---- real processes, of a nameplate that only pretends to measure ----

PRETENDER = """
import json, os, random, sys, time
from pathlib import Path
from nameplate.speed import BREAKS, SPEED

if BREAKS == "hang":
    time.sleep(600)
if BREAKS is not None:
    print("loading", "measuring", "Segmentation fault", sep="\\n", file=sys.stderr)
    sys.exit(BREAKS)
flags = dict(zip(sys.argv[3::2], sys.argv[4::2]))
template = next(Path(os.environ["TEMPLATE"]).iterdir())
name = f"20261122T120000-smoke-{random.randrange(16**8):08x}"
folder = Path(flags["--results"]) / name
folder.mkdir(parents=True)
manifest = json.loads((template / "manifest.json").read_text())
(folder / "manifest.json").write_text(json.dumps({**manifest, "run": name}))
with (folder / "records-cpu-0.jsonl").open("w") as file:
    for line in (template / "records-cpu-0.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["tflops"]:
            speed = SPEED * random.gauss(1.0, 0.002)
            for column in record:
                if column.startswith(("tflops", "efficiency", "datasheet_eff", "bandwidth", "normalized")):
                    record[column] = record[column] and record[column] * speed
            record["time_s"] /= speed
            for batch in record["batches"]:
                batch["elapsed_s"] /= speed
        print(json.dumps(record), file=file)
(folder / "DONE").touch()
Path(flags["--results"], "flags.json").write_text(json.dumps([sys.argv[1:3], flags]))
"""


@pytest.fixture
def commits(tmp_path, monkeypatch):
    """A repository of the pretender, a commit for each speed (by a tag), entered; returns where runs go."""

    def made(**speeds):
        top = tmp_path / "repository"
        package = top / "src" / "nameplate"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(PRETENDER)
        git = ["git", "-C", str(top), "-c", "user.name=x", "-c", "user.email=x@y"]
        run = subprocess.run
        run(["git", "init", "--quiet", str(top)], check=True)
        for name, (speed, breaks) in speeds.items():
            (package / "speed.py").write_text(f"SPEED, BREAKS = {speed}, {breaks}\n")
            run([*git, "add", "-A"], check=True)
            run([*git, "commit", "--quiet", "--allow-empty", "-m", name], check=True)
            run([*git, "tag", name], check=True)
        monkeypatch.chdir(top)
        monkeypatch.setenv("TEMPLATE", str(Path(__file__).parents[1] / "data" / "compare" / "base"))
        return tmp_path / "runs"

    return made


@pytest.mark.process
def test_commits_are_checked_out_measured_in_turn_and_compared(commits):
    results = commits(old=(1.0, None), new=(0.97, None))
    said = []
    found = interleave("old", "new", results=results, only="*", budget=2.5, watch=said.append)
    outcomes = {row.case.split("/")[0]: row.outcome for row in found.rows}
    assert outcomes == {"matmul": "slower", "transformer_block": "slower", "memory": "same"}
    assert found.base.name.startswith("old (")
    (folder,) = results.iterdir()
    assert said[0] == f"the runs are kept in {folder}"
    assert said[-1] == f"after {len(found.base.runs)} of at most 60 pairs: 2 slower, 1 same"
    assert {len(list((folder / side).glob("*/DONE"))) for side in ("a", "b")} == {len(found.base.runs)}
    command, flags = json.loads((folder / "a" / "flags.json").read_text())
    assert command == ["run", "smoke"]
    assert flags == {
        "--device": "auto",
        "--only": "*",
        "--budget": "2.5",
        "--results": str(folder / "a"),
    }


@pytest.mark.process
def test_a_run_that_breaks_ends_it_with_its_last_lines_and_where_the_others_are(commits):
    results = commits(old=(1.0, None), new=(1.0, 139))
    first = {seed: random.Random(seed).sample((0, 1), k=2)[0] for seed in range(20)}
    for seed, kept in ((next(seed for seed in first if first[seed] == side), side == 0) for side in (1, 0)):
        with pytest.raises(RunIncomplete) as broken:
            interleave("old", "new", results=results, seed=seed)
        sentence = str(broken.value)
        assert sentence.startswith("new (")
        assert ": its run ended with exit status 139: loading | measuring | Segmentation fault; " in sentence
        assert results.exists() == kept
        folder = next(results.iterdir()) if kept else None
        assert sentence.endswith(f"; what was measured is in {folder}" if kept else f"; {NOTHING_KEPT}")


@pytest.mark.process
def test_a_run_that_hangs_is_ended_and_told(commits, monkeypatch):
    monkeypatch.setattr(Deadlines, "whole_run_s", lambda self, limit_s: limit_s / 10)
    results = commits(old=(1.0, "'hang'"), new=(1.0, "'hang'"))
    with pytest.raises(
        RunIncomplete, match=r"its run hadn't ended after 1\.0 s and was ended: its driver or a"
    ):
        interleave("old", "new", results=results, budget=10)


@pytest.mark.parametrize(("suite", "budget", "limit_s"), [("smoke", 7.0, 7.0), ("nowhere", 7.0, 7.0)])
def test_the_limit_of_a_run_is_its_budget_and_without_one_its_suites(suite, budget, limit_s):
    assert nameplate.compare.interleaving._find_limit(suite, budget) == limit_s
    assert nameplate.compare.interleaving._find_limit(suite, None) >= 30
    # Beside it a run may load torch twice, and have steps that hang.
    assert Deadlines().whole_run_s(limit_s) > limit_s + 2 * Deadlines().ready_s


def test_runs_that_can_not_be_kept_are_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(
        InputError, match=r"--results: can't write runs here: .*; got '.*file'; expected a folder"
    ):
        interleave(".", ".", results=tmp_path / "file")


@pytest.mark.process
def test_a_run_that_refuses_its_flags_ends_it_with_that(commits):
    said, results = [], commits(old=(1.0, 2), new=(1.0, 2))
    with pytest.raises(
        InputError, match=r"(old|new) \(.*\): its run was refused: loading \| measuring \| Segm"
    ):
        interleave("old", "new", results=results, watch=said.append)
    assert not results.exists()
    assert said[-1] == NOTHING_KEPT


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_side_that_is_refused_leaves_no_folder(tmp_path, monkeypatch, name):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        interleave(name, "nowhere", results=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []


INTERLEAVE = """
import sys
from nameplate.base.exit_status import raise_on_signals
from nameplate.compare.interleaving import interleave

with raise_on_signals():
    interleave("old", "new", results=sys.argv[1], watch=lambda line: print(line, flush=True))
"""


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize(
    "numbers",
    [
        (signal.SIGTERM,),
        pytest.param((signal.SIGHUP, signal.SIGHUP), marks=pytest.mark.long),
        pytest.param((signal.SIGKILL,), marks=pytest.mark.long),
    ],
)
def test_killing_it_leaves_no_process_and_nothing_registered(commits, tmp_path, monkeypatch, numbers):
    """A closed terminal sends SIGHUP twice. What SIGKILL leaves is a folder in TMPDIR."""
    results = commits(old=(1.0, "'hang'"), new=(1.0, "'hang'"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = subprocess.Popen([sys.executable, "-c", INTERLEAVE, results], stdout=subprocess.PIPE, text=True)
    measuring = []
    try:
        assert command.stdout.readline().startswith("the runs are kept in")
        assert command.stdout.readline().startswith("pair 1 of at most 60: ")
        deadline_s = time.monotonic() + 60
        while not measuring and time.monotonic() < deadline_s:
            time.sleep(0.02)
            found = psutil.Process(command.pid).children(recursive=True)
            measuring = [each for each in found if "nameplate" in each.cmdline()]
        for number in numbers:
            command.send_signal(number)
        command.wait(60)
    finally:
        command.kill()
        command.communicate()
    assert len(measuring) == 1
    _, alive = psutil.wait_procs(measuring, timeout=20)
    assert not alive
    assert list(Path(".git").glob("worktrees/*")) == []
    if numbers != (signal.SIGKILL,):
        assert list(temporary.iterdir()) == []
        assert not results.exists()
