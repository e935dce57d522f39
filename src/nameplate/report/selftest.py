"""The tables of `bench selftest`, and a sentence for each bound that doesn't hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nameplate.base.formatting import change, count, figure, interval, percent, ratio, stated
from nameplate.base.language import N_, _
from nameplate.base.text import plain
from nameplate.compare.simulated_pairs import SPEED_OUTCOMES, PairRow
from nameplate.health.simulated_nodes import WAYS, CheckRow
from nameplate.report.view import Field, Table, table_of
from nameplate.selftest.again import Again, AgainRow
from nameplate.selftest.collectives import CollectiveRow
from nameplate.selftest.draws import CardRow
from nameplate.selftest.gpu.check import Check, Outcome
from nameplate.selftest.repeat import ContenderRow, Repeated
from nameplate.selftest.search import SearchProof, SearchRow
from nameplate.selftest.search_on_cpu import CeilingProof, CeilingRow, Found
from nameplate.selftest.silicon import CheckedSilicon, PathRow, ProductRow
from nameplate.selftest.simulate import ScenarioRow

_SHORT_NAMES = {
    "mean of 100 after 50": "mean of 100",
    "median of 0.2 s blocks": "0.2 s",
    "mean over 100 ms": "100 ms",
    "five rounds": "5 rounds",
}
_FIGURES = {
    "tflops": N_("TFLOPS"),
    "bandwidth_gb_s": N_("GB/s"),
    "normalized_efficiency": N_("normalized"),
}
_SCENARIO = Field[ScenarioRow]("scenario", lambda row: row.scenario, unbroken=True)


def simulated_table(rows: Sequence[ScenarioRow]) -> Table:
    """For each scenario: the estimate, its interval and its verdict, beside the truth."""
    fields = [
        _SCENARIO,
        Field[ScenarioRow]("truth", lambda row: figure(row.truth), is_number=True, drop_priority=0),
        Field[ScenarioRow]("estimate", lambda row: figure(row.estimate), is_number=True, drop_priority=1),
        Field[ScenarioRow]("bias", lambda row: change(row.bias), is_number=True),
        Field[ScenarioRow]("coverage", lambda row: percent(row.coverage), is_number=True),
        Field[ScenarioRow]("width", lambda row: percent(row.width), is_number=True),
        Field[ScenarioRow]("oracle", lambda row: percent(row.oracle_width), is_number=True),
        Field[ScenarioRow]("expected", lambda row: _(row.verdict_due) if row.verdict_due else "–"),
        Field[ScenarioRow]("given", lambda row: percent(row.verdict_rate), is_number=True),
        Field[ScenarioRow]("passed", _passed),
    ]
    return table_of(_("Devices with a known truth"), fields, rows)


def _passed(row: ScenarioRow) -> str:
    if row.is_limit:
        return _("a limit")
    return _("yes") if row.passed else _("NO")


def search_table(proof: SearchProof) -> Table:
    """For each kind of simulated surface: how near the search's winner comes to the best, and its bound."""
    fields = [
        Field[SearchRow]("surface", lambda row: _(row.kind)),
        Field[SearchRow]("searched", lambda row: count(row.surfaces), is_number=True, drop_priority=0),
        Field[SearchRow]("winner ÷ best", lambda row: percent(row.median), is_number=True),
        Field[SearchRow]("1 of 20 below", lambda row: percent(row.fifth), is_number=True),
        Field[SearchRow]("of all its time", lambda row: percent(row.time_share), is_number=True),
        Field[SearchRow]("bound", lambda row: change(row.gain), is_number=True),
        Field[SearchRow]("bound holds", lambda row: percent(row.bounded), is_number=True),
    ]
    return table_of(_("The search for the best shape, on surfaces whose best is known"), fields, proof.rows)


def ceilings_table(proof: CeilingProof) -> Table:
    """For each dtype: what the ceiling's search found beside the best of the grids, timed in turn."""
    fields = [
        Field[CeilingRow](N_("dtype"), lambda row: row.dtype),
        Field[CeilingRow](N_("ceiling"), lambda row: _product_text(row.ceiling.found)),
        Field[CeilingRow](N_("best of the grids"), lambda row: _product_text(row.best.found)),
        Field[CeilingRow](N_("ceiling ÷ best"), lambda row: percent(row.ratio), is_number=True),
        Field[CeilingRow](N_("at least"), lambda row: percent(row.least), is_number=True),
    ]
    return table_of(_("The ceiling of a minute beside whole grids, timed in turn"), fields, proof.rows)


def _product_text(found: Found) -> str:
    timed = _("{seen} of {shapes}", seen=count(found.seen), shapes=count(found.shapes))
    return plain(f"{found.backend} {found.shape} ({timed})")


def readings_table(rows: Sequence[ScenarioRow]) -> Table:
    """The bias of the same launches as other tools read them, after ours."""
    peers = dict.fromkeys(name for row in rows for name in row.peers)
    fields = [
        _SCENARIO,
        Field[ScenarioRow]("nameplate", lambda row: change(row.bias), is_number=True),
        *(_peer_bias(name) for name in peers),
    ]
    return table_of(_("The same launches as other tools read them: bias against the truth"), fields, rows)


def _peer_bias(name: str) -> Field[ScenarioRow]:
    def text(row: ScenarioRow) -> str:
        peer = row.peers.get(name)
        return "–" if peer is None else change(peer.bias)

    return Field[ScenarioRow](_SHORT_NAMES.get(name, name), text, is_number=True)


def cards_table(rows: Sequence[CardRow]) -> Table:
    """For each kind of simulated card: its figures against its own truth, and its verdicts."""
    fields = [
        Field[CardRow]("scenario", lambda row: row.scenario, unbroken=True),
        Field[CardRow]("figure", lambda row: _(row.figure)),
        Field[CardRow]("draws", lambda row: count(row.runs), is_number=True, drop_priority=0),
        Field[CardRow]("bias", lambda row: change(row.bias), is_number=True),
        Field[CardRow]("largest error", lambda row: percent(row.worst), is_number=True),
        Field[CardRow]("coverage", lambda row: percent(row.coverage), is_number=True, drop_priority=1),
        Field[CardRow]("expected", lambda row: _(row.verdict_due) if row.verdict_due else "–"),
        Field[CardRow]("given", lambda row: percent(row.verdict_rate), is_number=True),
        Field[CardRow]("passed", lambda row: _("yes") if row.passed else _("NO")),
    ]
    return table_of(_("GPUs drawn at random, simulated: each against its own truth"), fields, rows)


def pairs_table(rows: Sequence[PairRow]) -> Table:
    """Simulated pairs of runs: how often `bench compare` finds each outcome, and how often a wrong one."""
    return _pairs_table(_("Two single runs of five processes compared"), rows)


def neighbours_table(rows: Sequence[PairRow]) -> Table:
    """Each of several runs compared with the one before it."""
    return _pairs_table(_("Each run compared with the one before it, by case"), rows)


def _pairs_table(heading: str, rows: Sequence[PairRow]) -> Table:
    fields = [
        Field[PairRow](
            N_("pairs of runs"), lambda row: row.scenario.removeprefix("compare: "), unbroken=True
        ),
        *map(_outcome_field, SPEED_OUTCOMES),
        Field[PairRow](N_("wrong"), lambda row: percent(row.wrong), is_number=True),
        Field[PairRow]("passed", lambda row: _("yes") if row.passed else _("NO")),
    ]
    return table_of(heading, fields, rows)


def checks_table(rows: Sequence[CheckRow]) -> Table:
    """Simulated nodes: how often each way of judging accuses a healthy one, and which drop it finds."""
    fields = [
        Field[CheckRow](N_("way"), lambda row: _(WAYS[row.way])),
        Field[CheckRow](N_("cards differ by"), lambda row: percent(row.card_deviation), is_number=True),
        Field[CheckRow](N_("runs differ by"), lambda row: percent(row.run_deviation), is_number=True),
        Field[CheckRow](N_("healthy nodes accused"), lambda row: percent(row.alarms), is_number=True),
        Field[CheckRow](N_("found in 99 of 100"), lambda row: percent(row.found), is_number=True),
        Field[CheckRow]("passed", _check_passed),
    ]
    heading = _("{count} simulated nodes of eight GPUs", count=count(rows[0].nodes))
    return table_of(heading, fields, rows)


def collectives_table(rows: Sequence[CollectiveRow]) -> Table:
    """Each collective by our timing and by a loop written by hand, with the ratio's interval."""
    fields = [
        Field[CollectiveRow]("case", lambda row: plain(row.case)),
        Field[CollectiveRow](N_("ours, GB/s"), lambda row: figure(row.ours_gb_s), is_number=True),
        Field[CollectiveRow](N_("loop, GB/s"), lambda row: figure(row.bare_gb_s), is_number=True),
        Field[CollectiveRow](N_("ours ÷ loop"), lambda row: ratio(row.ratio), is_number=True),
        Field[CollectiveRow](
            "95 % interval", lambda row: interval(ratio, row.ratio_low, row.ratio_high), is_number=True
        ),
        Field[CollectiveRow]("passed", lambda row: _("yes") if row.passed else _("NO")),
    ]
    return table_of(_("Collectives beside a loop written by hand, in turn"), fields, rows)


def _check_passed(row: CheckRow) -> str:
    """Return whether a row's bounds hold; a dash for a row without one."""
    if row.most is None and row.bound is None:
        return "–"
    return _("yes") if row.passed else _("NO")


def _outcome_field(outcome: str) -> Field[PairRow]:
    return Field[PairRow](outcome, lambda row: percent(row.outcomes[outcome]), is_number=True)


def again_table(found: Again) -> Table:
    """How far runs of one suite agree, a line a case and figure."""
    devices = {row.device for row in found.rows}
    fields = [
        Field[AgainRow]("case", lambda row: plain(row.case), unbroken=True),
        *([Field[AgainRow]("device", lambda row: plain(row.device))] if len(devices) > 1 else []),
        Field[AgainRow]("figure", lambda row: _(_FIGURES[row.figure])),
        Field[AgainRow]("n", lambda row: count(row.runs), is_number=True),
        Field[AgainRow](N_("processes"), lambda row: count(row.processes), is_number=True),
        Field[AgainRow]("clean", lambda row: count(row.clean), is_number=True),
        Field[AgainRow](N_("between runs"), lambda row: percent(row.deviation), is_number=True),
        Field[AgainRow](N_("half-width"), lambda row: percent(row.half_width), is_number=True),
        Field[AgainRow](N_("hold the others' mean"), lambda row: percent(row.held), is_number=True),
        Field[AgainRow](N_("next as expected"), lambda row: percent(row.next_held), is_number=True),
    ]
    heading = _("{count} runs of {suite}, one after the other", count=count(found.runs), suite=found.suite)
    return table_of(heading, fields, found.rows)


def describe_failures(rows: Iterable[ScenarioRow | CardRow | PairRow]) -> list[str]:
    """Return a sentence for each bound that doesn't hold."""
    return [_("{name}: {said}", name=row.scenario, said=failure) for row in rows for failure in row.failures]


def silicon_table(checked: CheckedSilicon) -> Table:
    """The arithmetic peak of a CPU: each instruction path at two starts, and its theory."""
    fields = [
        Field[PathRow]("path", lambda row: row.loop, unbroken=True),
        Field[PathRow]("instruction", lambda row: row.instruction, drop_priority=0),
        Field[PathRow]("MHz", lambda row: count(round(row.clock_mhz)), is_number=True),
        Field[PathRow]("FLOP a cycle", lambda row: figure(row.flop_per_cycle), is_number=True),
        Field[PathRow]("in theory", lambda row: stated(row.theory), is_number=True),
        Field[PathRow]("TFLOPS", lambda row: figure(row.tflops), is_number=True),
        Field[PathRow]("again", lambda row: figure(row.again_tflops), is_number=True),
        Field[PathRow]("passed", _passes),
    ]
    return table_of(_("The arithmetic peak of this CPU, all usable cores"), fields, checked.paths)


def products_table(checked: CheckedSilicon) -> Table:
    """Torch's best matrix products beside the peak."""
    fields = [
        Field[ProductRow]("dtype", lambda row: row.dtype),
        Field[ProductRow]("best product", lambda row: row.product),
        Field[ProductRow]("TFLOPS", lambda row: figure(row.tflops), is_number=True),
        Field[ProductRow]("peak", lambda row: figure(row.silicon_tflops), is_number=True),
        Field[ProductRow]("of the peak", lambda row: percent(row.share), is_number=True),
        Field[ProductRow]("passed", _passes),
    ]
    return table_of(_("Torch's matrix products: none can do more"), fields, checked.products)


def _passes(row: PathRow | ProductRow) -> str:
    return _("NO") if any(row.failures()) else _("yes")


def proof_table(checks: Sequence[Check], device: str, name: str) -> Table:
    """The harness proven on a GPU: a line a check, with what was seen and the bound that it is held to."""
    fields = [
        Field[Check]("check", lambda row: _(row.name)),
        Field[Check]("seen", lambda row: row.figure),
        Field[Check]("bound", lambda row: row.bound, drop_priority=0),
        Field[Check]("passed", lambda row: _(row.outcome.value)),
    ]
    return table_of(_("The harness on {device}, {name}", device=device, name=name), fields, checks)


def describe_unpassed(checks: Sequence[Check]) -> list[str]:
    """Return a sentence for each check that didn't pass, the failed ones first."""
    texts = {
        Outcome.FAILED: N_("FAIL: {check}: {why}"),
        Outcome.UNKNOWN: N_("not told: {check}: {why}"),
        Outcome.LEFT_OUT: N_("left out: {check}: {why}"),
    }
    return [
        _(text, check=_(each.name), why=each.why or f"{each.figure}, {each.bound}")
        for outcome, text in texts.items()
        for each in checks
        if each.outcome is outcome
    ]


def repeated_table(repeated: Repeated) -> Table:
    """The spread over restarts of the process: ours and that of other tools."""
    heading = _(
        "Spread over {count} restarts, {contended} of them while the machine was contended",
        count=len(repeated.rounds),
        contended=repeated.contended_rounds,
    )
    fields = [
        Field[ContenderRow]("contender", lambda row: row.contender),
        Field[ContenderRow]("n", lambda row: count(row.spread.n), is_number=True),
        Field[ContenderRow]("mean TFLOPS", lambda row: figure(row.spread.mean), is_number=True),
        Field[ContenderRow]("spread", lambda row: percent(row.spread.relative), is_number=True),
        Field[ContenderRow]("upper 90 % limit", lambda row: percent(row.spread.upper), is_number=True),
        Field[ContenderRow]("failed", lambda row: count(row.failed), is_number=True),
        Field[ContenderRow]("ours ÷ theirs", lambda row: ratio(row.ratio), is_number=True),
    ]
    return table_of(heading, fields, repeated.rows)
