"""Cases measured in turn: in a round each draws a batch, in random order; slow cases in fewer rounds.

So drift favours no case, ratios between cases are taken round by round, and a short disturbance affects all
of them alike. On a device that has probes, a dtype's probe takes its turn beside the cases of its dtype.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from statistics import median

import numpy as np

from nameplate.device.protocol import Counters
from nameplate.engine.case_run import CaseRun, is_compute_bound
from nameplate.engine.ceiling import ProbeData, ProbeRun
from nameplate.engine.group import Group
from nameplate.engine.group_data import CaseData
from nameplate.engine.turns import LEAD_SHARE, drop_leads, fill_up, find_lead_s
from nameplate.engine.window import (
    SHORTEST_WINDOW_S,
    TimedBatch,
    Window,
    keep_whole_periods,
    relative_times,
)
from nameplate.stats.estimate import FEWEST_BATCHES
from nameplate.stats.settling import SHORTEST_S, Settling, find_settling
from nameplate.suite import Case

# Batches that a window is divided into, of all processes together. More than `stats.BATCHES`, so that a slow
# one doesn't leave too few.
AIMED_BATCHES = 25
# … where the window may begin late: batches before the device has settled are left out. A clock at its power
# limit swings with a period of about 3 s: in a minute these batches show it, where sixty of them didn't.
SETTLING_BATCHES = 120
# How long a case of a GPU runs at a stretch, where the time allows. A power limit looks at the mean of power
# over some 0.2 s (from the onset of a load until the clock falls, 0.15 to 0.4 s were seen), so a turn begins
# at the clock that the case before left, up to 10 % off. What counts of a turn: `turns.py`.
_LEAST_TURN_S = {"cuda": 1.0}
# Batches of a GPU last so long at least, if launches aren't longer: between two of them the queue is empty.
_SHORTEST_BATCH_S = {"cuda": 0.01}
# A process has so many turns of each case at least: several tell more of the clock's swing than one, and a
# process, which costs a GPU seconds, must be worth it.
_FEWEST_TURNS = 2
_FEWEST_LONG_TURNS = 4  # … of all processes together
# Batches of a case, of all processes together: enough are left where the last one finds no time.
_FEWEST_IN_ALL = FEWEST_BATCHES + 2
_SETTLED = Settling(0.0, None, 0.0, None)
# A series is shorter than its window: it ends with the middle of the last batch.
_MARGIN = 1.1
# Finding whether a series has settled takes milliseconds, so it is done again only after 5 % more rounds.
_LOOK_AGAIN = 1.05
# What the first process takes after its batches: the check, and torch's profiler that names the kernels. On a
# GPU that has to start first, which takes a second or two.
_AFTER_FIRST_S = {"cuda": 2.0}
_AFTER_FIRST_ELSE_S = 0.5
_AFTER_SHARE = 0.2  # of the group's time, at most
# A device that has been at work for `SHORTEST_S` is warm. Only its clock recovers during set-up, and clocks
# at a power limit oscillate with a period of about 3 s.
_SHORTEST_WHEN_WARM_S = 3.0
# … of one process at least: a few of them may be disturbed.
_FEWEST_AIMED = 10
# What disturbs a host lasts for some launches, or much longer. A case and the probe beside it share the
# latter where their batches are short, and of many rounds the middle half passes over the former: on two
# cores of a shared host, 1.3 s of a bf16 product and its probe in batches of 10 to 40 ms gave their ratio
# within 0.2 to 0.25 % (standard deviation), in batches of 80 ms within 0.6 % (2026-11-30).
# An untimed launch and a timed one may take twice as long; longer launches have thrifty batches.
_PAIRED_BATCH_S = 0.025
# … of all processes together. Records keep every batch.
_MOST_PAIRED = 200
# Of four rounds in a process the middle two give a typical one (`stats/typical.py`).
_ENOUGH_ROUNDS = 4
# The last process may lack this share of its time: windows end with a whole round, often a little late.
_SLACK = 0.1
_WARM_UP_SHARE = 0.1
_LONGEST_WARM_UP_S = 1.0
_LONGEST_WARM_UP_BEFORE_TURNS_S = 0.2  # every long turn begins with a warm-up of its own
# The device is at work when a later process begins; that its libraries are loaded, its first launches see to.
_LATER_WARM_UP_S = 0.02


@dataclass
class Rounds(Group):
    """Cases that take turns. Their windows end when every interval is narrow, or the time is over."""

    probes: dict[str, ProbeRun] = field(default_factory=dict, init=False)  # by dtype
    _latest: CaseRun | None = field(default=None, init=False)  # drew the latest batch; None: a probe did

    def __post_init__(self) -> None:
        """Note when it began, and make the random order repeatable."""
        super().__post_init__()
        # Each process has an order of its own: in long turns a case may inherit something of the one before.
        own = f" {self.process}" if self.process > 1 else ""
        self._order = random.Random(f"{self.pilots.seed} {self.name}{own}")
        self._has_sustained = any(map(_is_sustained, self.cases))
        self._window_s = 0.0  # seconds to draw for
        self._window_begin_s = 0.0  # when the sustained window begins, on the device's clock

    def prepare(self) -> None:
        """Prepare every case and warm it up."""
        weight = sum(case.weight for case in self.cases)
        for case in self.cases:
            share_s = self.allowance.share_s / self.sharing * case.weight / weight
            run = self.prepare_case(case, takes_turns=self._takes_turns(case))
            longest_s = _LONGEST_WARM_UP_S if self.process == 1 else _LATER_WARM_UP_S
            longest_s = _LONGEST_WARM_UP_BEFORE_TURNS_S if self._has_long_turns else longest_s
            run.attempt(partial(run.warm_up, min(_WARM_UP_SHARE * share_s, longest_s)))

    def _takes_turns(self, case: Case) -> bool:
        """Whether another case or a probe may run between the batches of this case."""
        return len(self.cases) > 1 or bool(self.device.probes(case.workload.dtype))

    def get_ready(self) -> None:
        """Open the probes, then plan the batches."""
        # A probe is torch's: beside a library with threads of its own it would slow both.
        by_torch = [
            run.case for run in self.active if getattr(run.case.workload, "thread_pool", None) is None
        ]
        workloads = [case.workload for case in by_torch]
        begin_s = self.device.clock()
        for dtype in dict.fromkeys(work.dtype for work in workloads if is_compute_bound(work)):
            with suppress(Exception):  # a library may raise anything; without a probe there is no ceiling
                probe = self.probe_choice.open(dtype, self.allowance.share_s, self.left_s())
                if probe is not None:
                    self.probes[dtype] = probe
        self._once_s += self.device.clock() - begin_s if self.process == 1 else 0.0
        self._plan_window()
        self._plan_batches()

    def _plan_window(self) -> None:
        """Choose how long to draw: what is left of the share, divided among as many processes as it holds.

        But long enough to judge contention by all of them together, and to see whether a sustained case has
        settled; never past the limit.
        """
        self.setup_s = self.opened_s + self.spent_s - self.once_s
        after_s = self._after_s
        rest_s = max(self.allowance.share_s - self.spent_s - after_s, 0.0)
        # Fewer processes each draw more batches: the largest number that then fits.
        while self.sharing > 1 + self._count_more(rest_s):
            self.sharing -= 1
        fair_s = (rest_s - (self.sharing - 1) * self.setup_s) / self.sharing
        least_s = SHORTEST_WINDOW_S * len(self.active) / self._processes
        if self._processes > 1:
            # A process too short to tell may make the figure of all unknown: one that was begun, since there
            # was time for it, is long enough also where its set-up takes longer than the one before.
            settling_s = _MARGIN * self._settling_s
            least_s = max(least_s, settling_s if self.process > 1 else min(settling_s, rest_s))
        self._window_s = min(max(fair_s, least_s), max(self.allowance.limit_s - self.spent_s, 0.0))

    def _count_more(self, rest_s: float) -> int:
        """Return how many processes fit after this one, where as many share the time as is planned now."""
        own_s = max(self.least_s, _MARGIN * self._settling_s)
        return count_fitting(rest_s - own_s, self.setup_s, self.least_s, self.sharing - 1)

    @property
    def _processes(self) -> int:
        """How many processes measure the group in all, by the present plan."""
        return self.process - 1 + self.sharing

    @property
    def _after_s(self) -> float:
        """What this process takes after its batches that another one doesn't; it comes out of the time for
        batches.

        A single process of a CPU is over its time by that much: it is little, and no other waits for it.
        """
        if self.process > 1 or (self.sharing == 1 and self.device.kind not in _AFTER_FIRST_S):
            return 0.0
        return min(
            _AFTER_FIRST_S.get(self.device.kind, _AFTER_FIRST_ELSE_S), _AFTER_SHARE * self.allowance.share_s
        )

    @property
    def least_s(self) -> float:
        """The fewest seconds of batches that make a process worth its set-up.

        Those of a GPU must settle, and give each case its turns.
        """
        if self.device.kind != "cuda":
            return super().least_s
        turns_s = _FEWEST_TURNS * _LEAST_TURN_S["cuda"] * len(self.active) if self._has_long_turns else 0.0
        # The last process may lack `_SLACK` of set-up and window, but nothing of what shows that it settled.
        settling_s = _MARGIN * self._settling_of_several_s
        with_slack_s = (settling_s + _SLACK * self.setup_s) / (1 - _SLACK) if settling_s else 0.0
        return max(super().least_s, with_slack_s, turns_s)

    @property
    def fewest_batches_s(self) -> float:
        """Seconds of the fewest batches that give every case an interval, the probes' included."""
        return super().fewest_batches_s * (1 + len(self.probes) / max(len(self.active), 1))

    @property
    def _settling_s(self) -> float:
        """How long a series must be to tell whether it has settled; 0.0 where nothing asks for that."""
        if not self._has_sustained or self._stays_settled:
            return 0.0
        if self._processes == 1:
            return SHORTEST_S if self.busy_s < SHORTEST_S else _SHORTEST_WHEN_WARM_S
        return self._settling_of_several_s

    @property
    def _settling_of_several_s(self) -> float:
        """The same in one of several processes, also where this one is alone so far."""
        if not self._has_sustained or self._stays_settled:
            return 0.0
        if self.device.kind == "cuda":
            # Its clock recovers while a process begins. A case alone sees another onset in each, and has to
            # tell it from the clock's swing; of a turn the beginning doesn't count.
            return _SHORTEST_WHEN_WARM_S if self._has_long_turns else SHORTEST_S
        # A CPU doesn't cool while a process begins: the processes together show an oscillation.
        return max(SHORTEST_S - self.busy_s, _SHORTEST_WHEN_WARM_S / self._processes)

    @property
    def _stays_settled(self) -> bool:
        """Whether the device is as an earlier process of the group found it: settled.

        A GPU's clock recovers while the next process begins. A CPU is at work then, and stays warm.
        """
        return self.has_settled and self.device.kind != "cuda"

    def _plan_batches(self) -> None:
        """Choose the size of every batch, and in which rounds it is drawn."""
        shares_s = self._divide_window(self.active)
        if self._has_long_turns:
            self._plan_long_turns(shares_s)
        else:
            self._plan_short_turns(shares_s)

    def _plan_short_turns(self, shares_s: Sequence[float]) -> None:
        """Plan a batch of every case a round; of a slower case one in every second round, fourth, and so on.

        So the rounds of a slow case are rounds of every faster one too. A probe is drawn in the rounds of its
        dtype's cases, for as long as they are.
        """
        aimed, runs = self._count_aimed(), self.active
        possible = [
            min(self._count_batches(run, share_s), max(aimed, self._count_paired(run, share_s)))
            for run, share_s in zip(runs, shares_s, strict=True)
        ]
        slowest = min(possible)
        doublings = [int(math.log2(number / slowest)) for number in possible]
        rounds = slowest * 2 ** max(doublings)
        for run, share_s, own in zip(runs, shares_s, doublings, strict=True):
            run.every = 2 ** (max(doublings) - own)
            run.sampler.choose_size(share_s / rounds * run.every)
        round_s = sum(run.sampler.batch_cost_s / run.every for run in runs)
        room_s = (self.allowance.limit_s - self.spent_s) / rounds - round_s
        for dtype, probe in self.probes.items():
            batches_s = [run.sampler.batch_cost_s for run in runs if run.case.workload.dtype == dtype]
            every = self._probe_every(dtype)
            probe.choose_size(min(median(batches_s), every * room_s / len(self.probes)))

    def _probe_every(self, dtype: str) -> int:
        return min(run.every for run in self.active if run.case.workload.dtype == dtype)

    def _plan_long_turns(self, shares_s: Sequence[float]) -> None:
        """Plan several batches of every case a round, one after the other: telemetry needs long turns."""
        aimed, runs = self._count_aimed(), self.active
        possible = [
            min(self._count_batches(run, share_s), aimed) for run, share_s in zip(runs, shares_s, strict=True)
        ]
        longest = int(min(shares_s) / _LEAST_TURN_S[self.device.kind])
        rounds = max(min(*possible, longest), self.fewest_rounds)
        for run, share_s, number in zip(runs, shares_s, possible, strict=True):
            run.batches_per_round = max(1, round(number / rounds))
            run.sampler.batches_a_turn = run.batches_per_round
            run.sampler.choose_size(share_s / rounds / run.batches_per_round)
            # A batch of short launches has no more than MOST_SAMPLES samples.
            whole_turn = round(share_s / rounds / run.sampler.batch_cost_s)
            run.batches_per_round = max(run.batches_per_round, whole_turn)
            run.sampler.batches_a_turn = run.batches_per_round

    def _find_shortest_batch_s(self, run: CaseRun) -> float:
        """Return the seconds of the shortest batch that a case is to have where the time allows others.

        In a long turn the untimed launch before it comes once.
        """
        shortest_s = run.sampler.cost_s if self._has_long_turns else run.sampler.thrifty_batch_s
        return max(shortest_s, _SHORTEST_BATCH_S.get(self.device.kind, 0.0))

    def _count_aimed(self) -> int:
        """Return how many batches a window is divided into, of a case that could draw any number of them."""
        counted = 1 - LEAD_SHARE if self._has_long_turns else 1.0  # the share of a turn that counts
        if self._has_sustained and not self._stays_settled:
            return math.ceil(max(SETTLING_BATCHES / self._processes, AIMED_BATCHES) / counted)
        return math.ceil(max(AIMED_BATCHES / self._processes, _FEWEST_AIMED) / counted)

    def _count_batches(self, run: CaseRun, share_s: float) -> int:
        """Return how many batches a case's seconds hold: thrifty ones, or shorter ones that are enough.

        Beside a probe, more rounds tell more than what the untimed launches take.
        """
        thrifty, shortest = (
            int(share_s / each) for each in (self._find_shortest_batch_s(run), run.sampler.least_batch_s)
        )
        if self._has_long_turns:
            return max(thrifty, FEWEST_BATCHES)
        enough = max(_ENOUGH_ROUNDS, self._count_paired(run, share_s))
        return max(thrifty, min(shortest, enough), self.fewest_rounds)

    def _count_paired(self, run: CaseRun, share_s: float) -> int:
        """Return how many batches of a case keep it close to the probe beside it; 0 where there is none."""
        if run.case.workload.dtype not in self.probes:
            return 0
        least_s = run.sampler.least_batch_s
        is_short = least_s <= 2 * _PAIRED_BATCH_S
        batch_s = max(_PAIRED_BATCH_S, least_s if is_short else run.sampler.thrifty_batch_s)
        return min(int(share_s / batch_s), math.ceil(_MOST_PAIRED / self._processes))

    def _divide_window(self, runs: Sequence[CaseRun]) -> list[float]:
        """Return the seconds for each case, by weight.

        Of long turns each case has its fewest, however small its weight: one at the clock that the case
        before left tells nothing, and makes the whole series look as if it were still changing. Cases get
        less where the fewest batches of slow ones would otherwise exceed the limit.
        """
        weight = sum(run.case.weight for run in runs) * (1 + len(self.probes) / len(runs))
        shares_s = [self._window_s * run.case.weight / weight for run in runs]
        if self._has_long_turns:
            shares_s = fill_up(shares_s, self.fewest_rounds * _LEAST_TURN_S[self.device.kind])
        least_s = [self.fewest_rounds * run.sampler.least_batch_s for run in runs]
        both = list(zip(shares_s, least_s, strict=True))
        spare_s = self.allowance.limit_s - self.spent_s - self._window_s
        over_s = sum(max(least - share, 0.0) for share, least in both) - spare_s
        roomy_s = sum(share for share, least in both if share > least)
        if over_s <= 0 or roomy_s == 0:
            return shares_s
        kept = max(1 - over_s / roomy_s, 0.0)
        return [max(kept * share, least) if share > least else share for share, least in both]

    def draw(self) -> None:
        """Draw rounds until every interval is narrow, the window is over, or another would pass the limit.

        Never fewer than `fewest_rounds`.
        """
        begin_s, number, next_look = self.device.clock(), 0, 0
        while self.active:
            for turn in self._shuffle_turns(number):
                turn()
            self.fetch_telemetry()
            number += 1
            passed_s = self.device.clock() - begin_s
            # Of several processes, each window ends with the round that ends nearest to its time: all of them
            # late by half a round would cost the last one.
            late_s = passed_s / number / 2 if self._processes > 1 and not self._settling_s else 0.0
            next_s = self.spent_s + passed_s / number
            is_over = passed_s + late_s >= self._window_s and self._reaches_settling(begin_s)
            is_over = is_over or next_s > self.allowance.limit_s
            if self._has_sustained and self.active and (is_over or number >= next_look):
                self._update_settling(begin_s)
                next_look = math.ceil(number * _LOOK_AGAIN)
            if self._has_enough_rounds(number) and (is_over or all(map(self._is_narrow, self.active))):
                return

    def _reaches_settling(self, begin_s: float) -> bool:
        """Whether the series is long enough to tell whether it has settled, where the window is to be."""
        counted = [self._counted(run)[-1] for run in self.active if run.batches]
        needed_s = self._settling_s if self._settling_s <= self._window_s else 0.0
        return not counted or max(each.middle_s for each in counted) - begin_s >= needed_s

    def _has_enough_rounds(self, number: int) -> bool:
        slowest = max((run.every for run in self.active), default=1)
        return number > (self.fewest_rounds - 1) * slowest

    def _shuffle_turns(self, number: int) -> list[Callable[[], object]]:
        """Return the draws of one round in random order; those beside the same probe follow one another.

        A long turn has all batches of a case.
        """
        beside: dict[str, list[Callable[[], object]]] = {}  # by dtype; of a case without a probe, by its id
        for run in self.active:
            if number % run.every:
                continue
            dtype, draw = run.case.workload.dtype, partial(self._draw_batch, run, number)
            turn = partial(_draw_all, [draw] * run.batches_per_round) if self._has_long_turns else draw
            beside.setdefault(dtype if dtype in self.probes else run.case.id, []).append(turn)
        for dtype in self.probes:
            if dtype in beside:
                beside[dtype].append(partial(self._draw_probe, dtype, number))
        groups = list(beside.values())
        self._order.shuffle(groups)
        for turns in groups:
            self._order.shuffle(turns)
        return list(chain.from_iterable(groups))

    @property
    def fewest_rounds(self) -> int:
        """How many rounds a process draws at least: the processes together as many as an interval needs.

        Few long turns tell more than many shorter ones, since as much is left out at the beginning of each.
        Where turns are short, a turn is a single batch: at least two in each process, and seven in all. On a
        busy host three processes of two batches tell what one of five can't: what processes differ by.
        """
        if self._has_long_turns:
            return max(math.ceil(_FEWEST_LONG_TURNS / self._processes), _FEWEST_TURNS)
        return min(max(math.ceil(_FEWEST_IN_ALL / self._processes), 2), FEWEST_BATCHES)

    @property
    def _has_long_turns(self) -> bool:
        return self.device.kind in _LEAST_TURN_S and len(self.cases) > 1

    def _draw_batch(self, run: CaseRun, number: int) -> None:
        run.attempt(partial(run.draw, number, after_other_work=self._latest is not run))
        self._latest = run

    def _draw_probe(self, dtype: str, number: int) -> None:
        self._latest = None
        try:
            self.probes[dtype].draw(number)
        except Exception:  # a library may raise anything; without a probe there is no ceiling
            del self.probes[dtype]

    def _update_settling(self, begin_s: float) -> None:
        """Find when all cases together settle, each relative to its own median launch time."""
        if self._stays_settled:
            self.settling, self._window_begin_s = _SETTLED, begin_s
            return
        points = sorted(point for run in self.active for point in relative_times(self._counted(run), begin_s))
        at_s, launch_s = zip(*points, strict=True)
        self.settling = find_settling(np.asarray(at_s), np.asarray(launch_s), self._settling_s)
        # Not settled: use the second half. Undetermined: use everything. Records flag both.
        begins_s = at_s[-1] / 2 if self.settling.is_changing else self.settling.settled_s or 0.0
        self._window_begin_s = begin_s + begins_s

    def _is_narrow(self, run: CaseRun) -> bool:
        if _is_sustained(run.case) and self.settling.settled_s is None:
            return False
        return self.window(run).is_narrow_for(self._processes)

    def _counted(self, run: CaseRun) -> list[TimedBatch]:
        """Return the batches of a case that count: of long turns those after their beginning."""
        return drop_leads(run.batches) if self._has_long_turns else list(run.batches)

    def window(self, run: CaseRun, rows: Sequence[Counters] = ()) -> Window:
        """Return all batches, or of a sustained case those since it settled, in whole periods.

        Without those at the beginning of a long turn.
        """
        counted = self._counted(run)
        if not _is_sustained(run.case):
            return Window(counted, run.sampler.resolution_s, has_turns=self._has_long_turns)
        since = [each for each in counted if each.timing.start_s >= self._window_begin_s]
        if len(since) < FEWEST_BATCHES:
            since = counted[-FEWEST_BATCHES:]
        batches = keep_whole_periods(since, self.settling.period_s)
        return Window(
            batches,
            run.sampler.resolution_s,
            self.settling,
            has_turns=self._has_long_turns,
            goes_on=True,
            earlier=counted[: len(counted) - len(batches)],
        )

    def case_data(self, run: CaseRun, rows: Sequence[Counters]) -> CaseData:
        """Return what was found of a case."""
        led_s = find_lead_s(run.batches) if self._has_long_turns and run.batches else 0.0
        return replace(super().case_data(run, rows), led_s=led_s)

    def other_spans(self, run: CaseRun) -> list[tuple[float, float]]:
        """Return when other cases and the probes ran."""
        probes = [span for probe in self.probes.values() for span in probe.spans]
        return [*super().other_spans(run), *probes]

    def probe_data(self) -> dict[str, ProbeData]:
        """Return what the probes measured, by dtype."""
        return {dtype: self.probe_choice.data(dtype, probe) for dtype, probe in self.probes.items()}


def count_fitting(rest_s: float, setup_s: float, least_s: float, most: int) -> int:
    """Return how many processes, `most` at most, fit the seconds: each has a set-up and its least window."""
    each_s = setup_s + least_s
    return max(min(most if each_s <= 0 else int(rest_s / each_s + _SLACK), most), 0)


def _draw_all(draws: Sequence[Callable[[], object]]) -> None:
    for draw in draws:
        draw()


def _is_sustained(case: Case) -> bool:
    return case.phase == "sustained"
