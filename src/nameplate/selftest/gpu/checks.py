"""What must hold of a card that was looked at: each check is a function of what was seen alone.

A check passes, fails, or can't be told: where the driver gives too little, where a look gave nothing, or
where an interval holds its bound. No check passes for want of data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from nameplate.base.formatting import change, count, figure, interval, percent, ratio
from nameplate.base.language import N_, _
from nameplate.engine.case_run import MEMORY_SHARE
from nameplate.selftest.gpu.check import Check, Outcome
from nameplate.selftest.gpu.driver_checks import (
    ENERGY,
    FIGURES,
    LIMIT,
    RAMP,
    check_energy,
    check_figures,
    check_limit,
    check_ramp,
)
from nameplate.selftest.gpu.seen import (
    DO_BENCH,
    EVENTS,
    GRAPH,
    WALL_CLOCK,
    WAYS,
    BlockSeen,
    ContextSeen,
    DigestsSeen,
    QueueSeen,
    Seen,
    TurnsSeen,
)
from nameplate.stats.estimate import FEWEST_BATCHES, paired_ratio
from nameplate.stats.interval import Interval

PRODUCT_TOLERANCE = 0.01
TELEMETRY_COST = 0.002
CONTEXT, QUEUE, DIGESTS = N_("context"), N_("queue"), N_("digests")
BLOCK, COST = N_("block"), N_("telemetry's cost")
PRODUCT_BY = {
    EVENTS: N_("product by events"),
    WALL_CLOCK: N_("product by wall clock"),
    GRAPH: N_("product by graph"),
    DO_BENCH: N_("product by do_bench"),
}
WITH, WITHOUT = "with telemetry", "without telemetry"
# Enqueuing is timed over five launches from an empty queue (device/cuda.py). A pass of the full block has the
# most kernels: forward and backward are 118 operators, as torch's dispatcher counts them.
_LAUNCHES_IN_QUEUE, _BLOCK_KERNELS = 5, 118
# A context takes 300 to 600 MiB of the card's memory; less than this isn't one.
_CONTEXT_BYTES = 100 << 20

_Observed = TypeVar("_Observed")


def check(seen: Seen) -> tuple[Check, ...]:
    """Judge everything that was seen of a card, a line a check; what wasn't seen can't be told."""
    return tuple(_check(seen))


def _check(seen: Seen) -> Iterator[Check]:
    load, blocks, identity = seen.load, seen.blocks, seen.identity
    judge = partial(_judge, seen)
    if seen.measured or seen.context is not None:
        yield judge(CONTEXT, "context", seen.context, check_context)
    else:
        yield Check(CONTEXT, _("not seen"), "", Outcome.LEFT_OUT, _("a twin has no context"))
    yield judge(FIGURES, "load", load, lambda it: check_figures(it, identity))
    yield judge(RAMP, "load", load, check_ramp)
    yield judge(LIMIT, "load", load, lambda it: check_limit(it, identity))
    yield judge(ENERGY, "load", load, check_energy)
    kernels = max((each.kernels for each in blocks.passes), default=0) if blocks else 0
    yield judge(QUEUE, "queue", seen.queue, lambda it: check_queue(it, kernels or _BLOCK_KERNELS))
    for way in WAYS:
        yield judge(PRODUCT_BY[way], "product", seen.product, partial(check_product, way=way))
    yield judge(DIGESTS, "digests", seen.digests, check_digests)
    if blocks is not None and blocks.passes:
        yield from map(check_block, blocks.passes)
    else:
        yield judge(BLOCK, "blocks", None, check_block)
    yield judge(COST, "telemetry", seen.telemetry, check_telemetry)


def _judge(
    seen: Seen, name: str, look: str, observed: _Observed | None, judge: Callable[[_Observed], Check]
) -> Check:
    """The check's line; one that can't be told where its look gave nothing."""
    if observed is None:
        return Check(
            name, _("not seen"), "", Outcome.UNKNOWN, seen.unseen.get(look) or _("it wasn't looked at")
        )
    return judge(observed)


def check_context(seen: ContextSeen) -> Check:
    """Describing the card gives the process that starts a run no context on it; a child's own is seen.

    By process ids where the driver's are ours, else by the number of processes, else by memory: so that a
    list that shows nobody can't pass.
    """
    bound = _("the child's context is seen, and none of the parent's")
    for ways in (_context_by_id, _context_by_number, _context_by_memory):
        found = ways(seen)
        if found is not None:
            said, clean = found
            why = "" if clean else _("describing the card made a context in the parent")
            return Check(CONTEXT, said, bound, Outcome.of(clean), why)
    why = _("the driver shows the child neither among the card's processes nor by its memory")
    return Check(CONTEXT, _("not seen"), bound, Outcome.UNKNOWN, why)


def _context_by_id(seen: ContextSeen) -> tuple[str, bool] | None:
    described, opened = ({one.pid for one in each.processes or ()} for each in (seen.described, seen.opened))
    if seen.described.processes is None or not seen.opened.pids_match or seen.child_pid not in opened:
        return None
    return _("child seen by its process id"), seen.pid not in described | opened


def _context_by_number(seen: ContextSeen) -> tuple[str, bool] | None:
    listed = [each.processes for each in (seen.before, seen.described, seen.opened)]
    if any(each is None for each in listed):
        return None
    before, described, opened = (len(each or ()) for each in listed)
    if opened <= described:
        return None
    return _(
        "{before}, {described}, {opened} processes", before=before, described=described, opened=opened
    ), (described == before)


def _context_by_memory(seen: ContextSeen) -> tuple[str, bool] | None:
    used = [each.memory_used_bytes for each in (seen.before, seen.described, seen.opened)]
    if any(each is None for each in used):
        return None
    before, described, opened = (each or 0 for each in used)
    if opened - described < _CONTEXT_BYTES:
        return None
    grown = (figure((later - before) / 2**20) for later in (described, opened))
    said = _(
        "memory +{parent} MiB by the parent, +{child} MiB with the child",
        **dict(zip(("parent", "child"), grown, strict=True)),
    )
    return said, described - before < _CONTEXT_BYTES


def check_queue(seen: QueueSeen, kernels: int) -> Check:
    """The queue takes the launches by which the host's part is timed, each of so many kernels."""
    needed = _LAUNCHES_IN_QUEUE * kernels
    bound = _(
        "at least {needed}: {launches} launches of {kernels} kernels",
        needed=count(needed),
        launches=_LAUNCHES_IN_QUEUE,
        kernels=count(kernels),
    )
    text = (
        N_("more than {depth} wait; {host} µs of host time each")
        if seen.depth is None
        else N_("{depth} wait; {host} µs of host time each")
    )
    depth = seen.tried if seen.depth is None else seen.depth
    said = _(text, depth=count(depth), host=figure(seen.host_s * 1e6))
    why = "" if depth >= needed else _("the host's part of a launch would be timed while the host waits")
    return Check(QUEUE, said, bound, Outcome.of(depth >= needed), why)


def check_product(seen: TurnsSeen, way: str) -> Check:
    """The harness's time of the product and an independent one's agree, measured in turn."""
    bound = _("within {share}", share=percent(PRODUCT_TOLERANCE))
    name = PRODUCT_BY[way]
    if way in seen.left_out:
        return Check(name, _("not seen"), bound, Outcome.LEFT_OUT, _(seen.left_out[way]))
    found = _compare(seen, way, WAYS[way])
    if found is None:
        return Check(name, _("not seen"), bound, Outcome.UNKNOWN, _too_few_rounds())
    theirs, ours = (_mean(seen.seconds[each]) for each in (way, WAYS[way]))
    said = _(
        "{ours} TFLOPS, {theirs} by {way}: ratio {ratio} ({range})",
        ours=figure(seen.flops / ours / 1e12),
        theirs=figure(seen.flops / theirs / 1e12),
        way=_(way),
        ratio=ratio(found.value),
        range=interval(ratio, found.low, found.high),
    )
    outcome = _within(found, 1 - PRODUCT_TOLERANCE, 1 + PRODUCT_TOLERANCE)
    return Check(name, said, bound, outcome, _why_not_told(outcome))


def check_digests(seen: DigestsSeen) -> Check:
    """The same product gives the same bits at every launch."""
    bound = _("one digest a product")
    launches = sum(sum(each.values()) for each in seen.digests.values())
    if not any(seen.digests.values()):
        return Check(DIGESTS, _("not seen"), bound, Outcome.UNKNOWN, _("no product has a digest"))
    differing = [name for name, found in seen.digests.items() if len(found) > 1]
    said = _(
        "{launches} launches of {products} products, {differing} differ",
        launches=count(launches),
        products=count(len(seen.digests)),
        differing=count(len(differing)),
    )
    why = _("several digests: {names}", names=", ".join(differing)) if differing else ""
    return Check(DIGESTS, said, bound, Outcome.of(not differing), why)


def check_block(seen: BlockSeen) -> Check:
    """A pass of the block is right, its kernels are counted, and it held no more memory than it declares.

    A case may declare a share of the memory, so that it may hold as much more.
    """
    bound = _("error at most 1 of its bound; kernels counted; memory as declared")
    said = _(
        "{shape}: error {error} of its bound; {kernels} kernels, attention {attention}",
        shape=seen.shape,
        error=figure(seen.error),
        kernels=count(seen.kernels),
        attention=seen.attention or _("unknown"),
    )
    if not seen.passed or seen.error is None or seen.error > 1:
        return Check(BLOCK, said, bound, Outcome.FAILED, _("the result is wrong"))
    if seen.peak_bytes is not None and seen.declared_bytes is not None:
        held, declared = (figure(each / 1e9) for each in (seen.peak_bytes, seen.declared_bytes))
        said = _("{said}; {held} of {declared} GB", said=said, held=held, declared=declared)
        if seen.peak_bytes > seen.declared_bytes / MEMORY_SHARE:
            return Check(BLOCK, said, bound, Outcome.FAILED, _("it holds more memory than it declares"))
    if not seen.kernels:
        return Check(BLOCK, said, bound, Outcome.UNKNOWN, _("torch's profiler names no kernel here"))
    return Check(BLOCK, said, bound, Outcome.PASSED)


def check_telemetry(seen: TurnsSeen) -> Check:
    """Sampling the driver costs the product next to nothing, measured in turn with it and without."""
    bound = _("below {share}", share=percent(TELEMETRY_COST))
    if WITH in seen.left_out:
        return Check(COST, _("not seen"), bound, Outcome.LEFT_OUT, _(seen.left_out[WITH]))
    found = _compare(seen, WITH, WITHOUT)
    if found is None:
        return Check(COST, _("not seen"), bound, Outcome.UNKNOWN, _too_few_rounds())
    if not seen.rows_per_s:
        return Check(COST, _("not seen"), bound, Outcome.UNKNOWN, _("telemetry gave no rows"))
    said = _(
        "{cost} ({range}) at {rows} rows a second",
        cost=change(found.value - 1),
        range=interval(change, found.low - 1, found.high - 1),
        rows=figure(seen.rows_per_s),
    )
    outcome = _within(found, 0.0, 1 + TELEMETRY_COST)
    return Check(COST, said, bound, outcome, _why_not_told(outcome))


def _compare(seen: TurnsSeen, way: str, other: str) -> Interval | None:
    """Throughput of `other` ÷ that of `way`, with its interval; None with too few rounds.

    Time of `way` ÷ time of `other` is the same number.
    """
    first, second = seen.seconds.get(way, ()), seen.seconds.get(other, ())
    rounds = min(len(first), len(second))
    if rounds < FEWEST_BATCHES:
        return None
    return paired_ratio(first[:rounds], second[:rounds])


def _within(found: Interval, low: float, high: float) -> Outcome:
    """Passed where the whole interval lies between the bounds, failed where it lies outside."""
    if low <= found.low and found.high <= high:
        return Outcome.PASSED
    return Outcome.FAILED if found.high < low or found.low > high else Outcome.UNKNOWN


def _why_not_told(outcome: Outcome) -> str:
    return (
        _("the interval holds the bound: too few rounds, or other work on the machine")
        if outcome is Outcome.UNKNOWN
        else ""
    )


def _too_few_rounds() -> str:
    return _("fewer than {count} rounds", count=FEWEST_BATCHES)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
