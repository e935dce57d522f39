"""The short part of the fuzzing campaign, always the same: `make fuzz` is the long one."""

from __future__ import annotations

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing import campaign
from fuzzing.campaign import FUZZERS, Tally, examine, replay
from fuzzing.inputs import Corpus, Entry, Input
from fuzzing.judge import find_faults
from fuzzing.run_folders import COMMANDS, NAME, SEEDS, entries, load_seed
from fuzzing.sandbox import Outcome, call, nothing_measured
from fuzzing.user_files import KINDS, name_of

CORPUS = Corpus(Path(__file__).parent / "corpus")
PATIENCE_S = 120.0  # of a call, on a busy machine


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Nothing measures this machine here."""
    with nothing_measured():
        yield


@pytest.mark.parametrize("fuzzer", FUZZERS)
def test_no_input_breaks_a_command(fuzzer):
    @settings(
        max_examples=7,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(FUZZERS[fuzzer]())
    def check(drawn: list[Input]) -> None:
        for found in drawn:
            if "report" in found.words:  # it takes as long as all others
                continue
            faults = find_faults(found, call(found, PATIENCE_S))
            assert [fault for fault in faults if not fault.startswith("hang")] == []

    check()


def test_what_once_broke_a_command_does_so_no_more():
    tally, failing = replay(CORPUS)
    assert failing == {}
    assert tally.inputs == len(CORPUS.list()) > 0


@pytest.mark.nightly
@pytest.mark.process
@pytest.mark.parametrize("words", ["show GOOD --json", "compare GOOD GOOD", "export GOOD --format csv"])
def test_a_command_in_a_process_of_its_own_does_the_same(words):
    made = tuple(entries("good", load_seed(SEEDS[0])))
    asked = Input("a test", tuple(words.replace("GOOD", "good").split()), made)
    there, faults = examine(asked, in_process=False)
    here, _ = examine(asked)
    assert (there.status, there.out, faults) == (here.status, here.out, [])


# ---- the fuzzers begin with what is good ----


def test_what_the_fuzzers_change_is_accepted_as_it_is():
    for kind, (text, commands) in KINDS.items():
        entry = Entry(name_of(kind), content=text.encode())
        for words in commands:
            asked = Input("a test", tuple(words.replace("FILE", name_of(kind)).split()), (entry,))
            found = call(asked, PATIENCE_S)
            assert found.status == (3 if words.startswith("run") else 0), (words, found.err)
    for seed in SEEDS:
        made = tuple(entries(f"runs/{NAME}", load_seed(seed)))
        found = call(Input("a test", ("show", f"runs/{NAME}", "--json"), made), PATIENCE_S)
        assert (found.status, found.err) == (0, ""), seed


def test_every_command_that_reads_a_run_is_called():
    called = {words.split()[0] for _, words in COMMANDS}
    assert called >= {
        "show",
        "list",
        "report",
        "compare",
        "export",
        "merge",
        "publish",
        "leaderboard",
        "run",
        "check",
    }


# ---- the checks can fail ----

TRACEBACK = (
    'Traceback (most recent call last):\n  File "/x/src/nameplate/cli/read.py", line 7, in show\n'
    "KeyError: 'x'\n"
)
SLOWER = "bench: slower by more than 1.5%: x\n"
BROKEN = {
    "hang": ("show", {"cpu_s": 11.0}),
    "traceback: KeyError in nameplate/cli/read.py:show": ("show", {"status": 70, "traceback": TRACEBACK}),
    "exit 5": ("show", {"status": 5}),
    "exit 1 without a failed check": ("show", {"status": 1, "err": "bench: no\n"}),
    "exit 1 without a failed check: compare": ("compare a a", {"status": 1, "err": SLOWER}),
    "exit 2 without a sentence": ("show", {"status": 2, "out": "", "err": "no\n"}),
    "exit 2 after output": ("show", {"status": 2, "err": "bench: no\n"}),
    "a write outside": ("show", {"wrote": ("open /etc/passwd",)}),
    "raw U+001B in standard output": ("show", {"out": "\x1b[31m"}),
    "raw U+202E in standard error": ("show", {"err": "\u202e"}),
    "raw mark-up in a file md": ("report", {"files": {"x.md": "<script>alert(1)"}}),
    "no JSON document": ("show --json", {"out": '{"x": NaN}'}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_found(fault):
    words, changes = BROKEN[fault]
    sound = {"status": 0, "out": "a screen\n", "err": "", "seconds": 0.1}
    asked = Input("a test", tuple(words.split()))
    assert any(each.startswith(fault) for each in find_faults(asked, Outcome(**(sound | changes))))
    assert list(find_faults(Input("a test", ("show",)), Outcome(**sound))) == []


def test_a_write_beside_the_working_directory_is_seen(monkeypatch):
    def writes():
        Path("../outside/new.txt").write_text("x")
        Path("here.txt").write_text("x")
        Path(os.environ["TMPDIR"], "x.txt").write_text("x")

    monkeypatch.setattr("nameplate.cli.main", writes)
    outcome = call(Input("a test", ("show",)), PATIENCE_S)
    assert len(outcome.wrote) == 2  # it was opened, and is there afterwards
    assert all("outside" in place for place in outcome.wrote)


def test_a_call_has_the_variables_of_its_input_and_no_others_do(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("nameplate.cli.main", lambda: print(os.environ["RANK"], os.environ.get("TERM")))
    asked = Input("a test", ("check",), (), (("RANK", "-1"), ("TERM", None)))
    assert call(asked, PATIENCE_S).out == "-1 None\n"
    assert (os.environ.get("RANK"), os.environ["TERM"]) == (None, "xterm")
    assert Input.from_json(asked.as_json()) == asked


def test_what_fails_is_made_small_and_kept_and_a_campaign_goes_on(monkeypatch, tmp_path):
    def breaks(asked, _limit_s):
        return Outcome(70 if "--json" in asked.words else 0, "{}", "", 0.0)

    monkeypatch.setattr(campaign, "call", breaks)
    monkeypatch.setattr(campaign, "_PROCESS_OF", 10**9)
    tally = campaign.fuzz("pytest-benchmark", 60, 1, Corpus(tmp_path))
    assert tally.inputs == 60
    assert tally.faults == {"exit 70: compare": tally.statuses[70]}
    ((_, kept),) = Corpus(tmp_path).list()
    assert "--json" in kept.words
    assert kept == Input.from_json(kept.as_json())


def test_an_interrupted_campaign_has_what_was_counted(monkeypatch, tmp_path):
    class Pool(ThreadPoolExecutor):
        def __init__(self, *_):
            super().__init__(1)

    def job(given):
        started.append(given)
        if len(started) > 1:
            raise KeyboardInterrupt
        return Tally(given[0], inputs=500, statuses=Counter({2: 500}), faults=Counter({"hang": 1}))

    started = []
    monkeypatch.setattr(campaign, "ProcessPoolExecutor", Pool)
    monkeypatch.setattr(campaign, "_job", job)
    told = []
    tallies = campaign.run(10_000, 0, tmp_path, (), 1, told.append)
    assert told == ["500 inputs, 1 kinds of fault", "interrupted"]
    assert campaign.as_table(tallies)[-1].split()[:6] == ["all", "500", "0", "0", "0", "500"]


def test_a_campaign_has_as_many_inputs_as_were_asked_for_and_no_two_jobs_alike(tmp_path):
    jobs = campaign.plan(10_000, 3, tmp_path, ())
    assert sum(number for _, number, _, _ in jobs) == 10_000
    assert len({(fuzzer, begin) for fuzzer, _, begin, _ in jobs}) == len(jobs)
    assert max(number for _, number, _, _ in jobs) >= campaign._PROCESS_OF  # else no process is ever seen
    assert {fuzzer for fuzzer, *_ in jobs[:8]} == set(FUZZERS)  # each has its turn from the beginning on
    assert {fuzzer for fuzzer, *_ in campaign.plan(10, 0, tmp_path, ("user-files",))} == {"user-files"}
