"""Self-tests for a reader: tables as `report.view` has them, and the sentences beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nameplate.base.formatting import change, count, figure, percent, ratio
from nameplate.base.language import _
from nameplate.report.view import Table
from nameplate.selftest.repeat import Repeated
from nameplate.selftest.repeat import Row as Contender
from nameplate.selftest.simulate import Row

_SHORT = {
    "mean of 100 after 50": "mean of 100",
    "median of 0.2 s blocks": "0.2 s",
    "mean over 100 ms": "100 ms",
    "five rounds": "5 rounds",
}


def simulated_table(rows: Sequence[Row]) -> Table:
    """Truth beside estimate, the interval's coverage and width, the verdict beside the one due."""
    return Table(
        _("Devices with a known truth"),
        ("scenario", "truth", "estimate", "bias", "coverage", "width", "oracle", "due", "given", "passed"),
        tuple(
            (
                row.scenario,
                figure(row.truth),
                figure(row.estimate),
                change(row.bias),
                percent(row.coverage),
                percent(row.width),
                percent(row.oracle_width),
                _(row.verdict_due) if row.verdict_due else "–",
                percent(row.verdict_rate),
                _("a limit") if row.verdict_due is None else _("yes") if row.passed else _("NO"),
            )
            for row in rows
        ),
        frozenset({1, 2, 3, 4, 5, 6, 8}),
        (1, 2),
        whole=(0,),
    )


def readings_table(rows: Sequence[Row]) -> Table:
    """The bias of the same launches read as other tools read them, ours first."""
    peers = list(dict.fromkeys(name for row in rows for name in row.peers))
    return Table(
        _("The same launches as other tools read them: bias against the truth"),
        ("scenario", "nameplate", *(_SHORT.get(name, name) for name in peers)),
        tuple(
            (
                row.scenario,
                change(row.bias),
                *(change(peer.bias) if (peer := row.peers.get(name)) else "–" for name in peers),
            )
            for row in rows
        ),
        frozenset(range(1, 2 + len(peers))),
        whole=(0,),
    )


def failures(rows: Iterable[Row]) -> list[str]:
    """A sentence for each bound that doesn't hold."""
    return [_("{name}: {said}", name=row.scenario, said=failure) for row in rows for failure in row.failures]


def repeated_table(repeated: Repeated) -> Table:
    """Spread over restarts of the process, ours beside the peers'."""
    return Table(
        _(
            "Spread over {count} restarts, {loud} of them in loud moments",
            count=len(repeated.rounds),
            loud=repeated.loud_rounds,
        ),
        ("contender", "n", "mean TFLOPS", "spread", "upper 90 % limit", "failed", "ours ÷ theirs"),
        tuple(_contender(row) for row in repeated.rows),
        frozenset({1, 2, 3, 4, 5, 6}),
    )


def _contender(row: Contender) -> tuple[str, ...]:
    spread = row.spread
    return (
        row.contender,
        count(spread.n),
        figure(spread.mean),
        percent(spread.relative),
        percent(spread.upper),
        count(row.failed),
        ratio(row.ratio),
    )
