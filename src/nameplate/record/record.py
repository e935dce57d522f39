"""The record: everything known about one case in one run, frozen and validated when made.

`Record` declares each column once, with its unit and number of digits. `load`, `show`, the exporters and the
documentation read that declaration (`columns`) instead of lists of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Annotated, Any, Self, get_args, get_origin, get_type_hints

from pydantic import Field, model_validator

from nameplate.base.messages import Message, Reason
from nameplate.base.model import FrozenModel, is_interval, is_possible
from nameplate.models.block import find_launch
from nameplate.record.values import (
    Batch,
    Derate,
    Ends,
    IntervalKind,
    LargestBatch,
    LaunchProfile,
    Moment,
    PartTime,
    SearchSummary,
    Spread,
    Verification,
)
from nameplate.record.verdicts import GRAVITY, WRONG, Status, Verdict
from nameplate.record.versions import METHOD, SCHEMA
from nameplate.stats.interval import Interval

MAIN_MEMORY = "memory"  # what work called `memory` moves bytes of, unless it names a level
MOST_CASES = 20_000  # of a run: a screen has a row for each, and the largest suite here has some hundred
# Number formats by the names used everywhere; fp16 and bf16 accumulate in fp32, fp16_acc16 in fp16.
DTYPES = frozenset(
    {
        *("fp64", "fp32", "tf32", "fp16", "fp16_acc16", "bf16"),
        *("fp8_e4m3", "fp8_e5m2", "mxfp8", "int8", "fp4", "nvfp4"),
    }
)


@dataclass(frozen=True)
class Column:
    """A column's meaning, its unit, and how many digits to print after the point."""

    text: str
    unit: str | None = None
    digits: int | None = None
    measured: bool = False  # only a measurement fills it, so a skipped or failed case has None

    def format(self, value: Any) -> str:
        """Return `value` as text; an unknown value is an en dash, never 0."""
        if value is None:
            return "–"
        if self.unit == "ratio":
            return f"{value:.1%}"
        if isinstance(value, float) and self.digits is not None:
            return f"{value:,.{self.digits}f}"
        return str(value)


# Figures with a 95 % confidence interval, each with the columns of its ends.
INTERVALS: Mapping[str, tuple[str, str]] = {
    "tflops": ("tflops_low", "tflops_high"),
    "efficiency": ("efficiency_low", "efficiency_high"),
    "bandwidth_gb_s": ("bandwidth_low_gb_s", "bandwidth_high_gb_s"),
    "silicon_tflops": ("silicon_tflops_low", "silicon_tflops_high"),
    "normalized_efficiency": ("normalized_efficiency_low", "normalized_efficiency_high"),
    "tflops_per_w": ("tflops_per_w_low", "tflops_per_w_high"),
}

_TFLOPS = "TFLOPS"
_LOW, _HIGH = (f"{end} end of the 95 % interval, of interval_kind" for end in ("lower", "upper"))


class Record(FrozenModel):
    """One case in one run. Unknown columns are None, never 0.

    Raises pydantic.ValidationError for fields that contradict each other: an `ok` record without a time, a
    skipped one with a figure, an interval that doesn't contain its value, a verdict that isn't the gravest;
    for a number that no quantity can have; and for a schema or method that this version doesn't know.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA), Column("version of the record's shape")] = SCHEMA
    method: Annotated[int, Field(ge=1, le=METHOD), Column("version of the measuring method")] = METHOD
    measured: Annotated[bool, Column("false: of a simulated device or a twin, and no measurement")] = True
    case: Annotated[str, Column("workload/dtype/shape/fill/cache/phase/backend")]
    workload: Annotated[str, Column("what was timed")]
    dtype: Annotated[str, Column("number format; fp16 accumulates in fp32")]
    shape: Annotated[str, Column("size, as in the case id")]
    dimensions: Mapping[str, int | float | str]
    fill: Annotated[str, Column("what the inputs held")]
    cache: Annotated[str, Column("state of the caches: warm, flushed, rotating")]
    phase: Annotated[str | None, Column("burst or sustained; null where they were not measured apart")]
    backend: Annotated[str, Column("the backend the case asks for")]
    reduction: Annotated[
        str | None,
        Column("how a GPU may add the sums of a split product: reduced (torch's default) or fp32"),
    ] = None
    represents: Annotated[str | None, Column("the model whose layer this is; null: none")]
    device: Annotated[str, Column("the device in the machine")]
    numa_node: Annotated[
        int | None, Column("the NUMA node, its GPU's, that the measuring process was bound to; null: unbound")
    ] = None
    part: Annotated[str | None, Column("the entry of the spec registry it was taken for")]

    search: SearchSummary | None = None  # of a case whose shape a search chose
    status: Annotated[Status, Column("ok, skipped or failed")]
    reason: Annotated[Message | None, Column("why it was skipped or failed")] = None
    verdict: Annotated[Verdict, Column("the gravest verdict")]
    verdicts: Annotated[tuple[Verdict, ...], Column("every verdict, gravest first")]
    warnings: Annotated[tuple[Message, ...], Column("what a reader should know, each with a next step")] = ()

    flops: Annotated[int | None, Column("FLOPs of one launch, by the convention", "FLOP")] = None
    bytes: Annotated[int | None, Column("bytes that one launch must move", "B")] = None
    convention: Annotated[str | None, Column("how the FLOPs were counted")] = None

    tflops: Annotated[
        float | None, Field(gt=0), Column("achieved: FLOPs ÷ time of the window", _TFLOPS, 3, measured=True)
    ] = None
    tflops_low: Annotated[float | None, Column(_LOW, _TFLOPS, 3, measured=True)] = None
    tflops_high: Annotated[float | None, Column(_HIGH, _TFLOPS, 3, measured=True)] = None
    tflops_median: Annotated[
        float | None, Field(gt=0), Column("FLOPs ÷ median sample time", _TFLOPS, 3, measured=True)
    ] = None
    nominal_tflops: Annotated[
        float | None, Field(gt=0), Column("the rating that efficiency is relative to", _TFLOPS, 3)
    ] = None
    nominal_tflops_low: Annotated[
        float | None, Column("lower end of the 95 % interval of a measured nominal", _TFLOPS, 3)
    ] = None
    nominal_tflops_high: Annotated[
        float | None, Column("upper end of the 95 % interval of a measured nominal", _TFLOPS, 3)
    ] = None
    nominal_basis: Annotated[
        str | None, Column("where nominal comes from: given, measured, table (of CPUs), or a kind of source")
    ] = None
    nominal_source: Annotated[Reason | None, Column("source of nominal, or why there is none")] = None
    efficiency: Annotated[float | None, Column("achieved ÷ nominal", "ratio", measured=True)] = None
    efficiency_low: Annotated[float | None, Column(_LOW, "ratio", measured=True)] = None
    efficiency_high: Annotated[float | None, Column(_HIGH, "ratio", measured=True)] = None
    datasheet_tflops: Annotated[float | None, Field(gt=0), Column("the vendor's own rating", _TFLOPS, 3)] = (
        None
    )
    datasheet_source: Annotated[Reason | None, Column("source of the datasheet figure")] = None
    datasheet_efficiency: Annotated[float | None, Column("achieved ÷ datasheet", "ratio", measured=True)] = (
        None
    )
    silicon_tflops: Annotated[
        float | None,
        Field(gt=0),
        Column("the physical limit: a CPU's measured arithmetic peak, a GPU's peak_tflops", _TFLOPS, 3),
    ] = None
    silicon_tflops_low: Annotated[float | None, Column("lower end of the 95 % interval", _TFLOPS, 3)] = None
    silicon_tflops_high: Annotated[float | None, Column("upper end of the 95 % interval", _TFLOPS, 3)] = None
    silicon_source: Annotated[
        Reason | None, Column("instruction, cores and clock of that peak, or why there is none")
    ] = None
    peak_tflops: Annotated[
        float | None,
        Field(gt=0),
        Column("what no figure may be above: datasheet × highest ÷ rated clock", _TFLOPS, 3),
    ] = None
    peak_source: Annotated[Message | None, Column("what the peak was computed from")] = None
    ceiling_tflops: Annotated[
        float | None,
        Field(gt=0),
        Column("what the device could do in the conditions of the window", _TFLOPS, 3, measured=True),
    ] = None
    normalized_efficiency: Annotated[float | None, Column("achieved ÷ ceiling", "ratio", measured=True)] = (
        None
    )
    normalized_efficiency_low: Annotated[float | None, Column(_LOW, "ratio", measured=True)] = None
    normalized_efficiency_high: Annotated[float | None, Column(_HIGH, "ratio", measured=True)] = None
    loss: Annotated[
        Message | None,
        Column("what held the ceiling below nominal: clock, power limit, heat, contention", measured=True),
    ] = None
    cpu_time_tflops: Annotated[
        float | None,
        Field(gt=0),
        Column(
            "FLOPs ÷ (CPU time of this process ÷ cores): without the effect of other load",
            _TFLOPS,
            3,
            measured=True,
        ),
    ] = None
    graph_tflops: Annotated[
        float | None,
        Field(gt=0),
        Column(
            "the same launches replayed as a CUDA graph, without host overhead", _TFLOPS, 3, measured=True
        ),
    ] = None
    enqueue_share: Annotated[
        float | None,
        Column("the host's time to enqueue a launch ÷ the launch's time", "ratio", measured=True),
    ] = None
    settled_s: Annotated[
        float | None, Column("seconds from the start until throughput settled", "s", 1, measured=True)
    ] = None
    bandwidth_gb_s: Annotated[
        float | None, Field(gt=0), Column("bytes ÷ time of the window", "GB/s", 1, measured=True)
    ] = None
    bandwidth_low_gb_s: Annotated[float | None, Column(_LOW, "GB/s", 1, measured=True)] = None
    bandwidth_high_gb_s: Annotated[float | None, Column(_HIGH, "GB/s", 1, measured=True)] = None
    nominal_gb_s: Annotated[
        float | None,
        Field(gt=0),
        Column("rated bandwidth of the memory, or of the link, that the case moves bytes of", "GB/s", 1),
    ] = None
    bandwidth_efficiency: Annotated[
        float | None, Column("bandwidth ÷ nominal_gb_s", "ratio", measured=True)
    ] = None
    time_s: Annotated[float | None, Column("mean seconds per launch", "s", 6, measured=True)] = None
    launches: Annotated[int | None, Column("launches timed", measured=True)] = None
    power_w: Annotated[float | None, Column("mean power over the window", "W", 0, measured=True)] = None
    energy_j: Annotated[float | None, Column("energy of the window", "J", 0, measured=True)] = None
    energy_integrated_j: Annotated[
        float | None, Column("energy of the window, from its power readings", "J", 0, measured=True)
    ] = None
    energy_method: Annotated[
        str | None, Column("source of energy_j and power_w: counter, or power readings", measured=True)
    ] = None
    tflops_per_w: Annotated[float | None, Column("achieved ÷ power", "TFLOPS/W", 3, measured=True)] = None
    tflops_per_w_low: Annotated[
        float | None,
        Column("lower end of the 95 % interval of achieved, ÷ power", "TFLOPS/W", 3, measured=True),
    ] = None
    tflops_per_w_high: Annotated[
        float | None,
        Column("upper end of the 95 % interval of achieved, ÷ power", "TFLOPS/W", 3, measured=True),
    ] = None
    processes: Annotated[
        int | None, Field(ge=1), Column("fresh processes that the case was measured in", measured=True)
    ] = None
    interval_kind: Annotated[
        IntervalKind | None,
        Column(
            "what intervals hold: run_to_run, the machine's mean over fresh processes; within, that of "
            "the one that measured",
            measured=True,
        ),
    ] = None
    interval_freedom: Annotated[
        float | None,
        Column("degrees of freedom of Student's law in a run-to-run interval", digits=1, measured=True),
    ] = None
    interval_within: Annotated[
        Ends | None,
        Column("95 % interval for the mean of the very processes that measured", measured=True),
    ] = None
    interval_next: Annotated[
        Ends | None,
        Column("where the figure of one more such run lies, with 95 %; null: unknown", measured=True),
    ] = None
    between_processes: Annotated[
        float | None,
        Column("standard deviation between the processes, as a fraction", "ratio", measured=True),
    ] = None
    between_runs: Annotated[
        float | None,
        Column(
            "standard deviation that runs have besides, from earlier ones within an hour; null: unknown",
            "ratio",
            measured=True,
        ),
    ] = None
    earlier_runs: Annotated[
        int | None, Column("earlier runs of this machine that the interval makes use of", measured=True)
    ] = None
    digest: Annotated[
        str | None,
        Column("digest of the result's bits; equal for equal inputs on the same part", measured=True),
    ] = None
    compile_s: Annotated[
        float | None,
        Column("seconds that compiling took, or capturing a graph, before any timing", "s", 1, measured=True),
    ] = None
    peak_memory_bytes: Annotated[
        int | None,
        Column(
            "most memory of the device that a launch held, inputs and weights included", "B", measured=True
        ),
    ] = None
    kernels: Annotated[
        tuple[str, ...], Column("the kernels that ran, library kernels first; empty: not known")
    ] = ()
    attention: Annotated[
        str | None,
        Column("torch's backend of attention that ran: cudnn, flash, efficient, math", measured=True),
    ] = None
    group: Annotated[str | None, Column("cases measured in turn share a group")] = None

    started: Annotated[str | None, Column("when the case started, UTC")] = None
    cost_s: Annotated[float | None, Column("seconds that the case took in all", "s", 1)] = None
    verification: Verification | None = None
    conditions: Mapping[str, float | str | None] = {}
    batches: tuple[Batch, ...] = ()
    course: tuple[Moment, ...] = ()
    derates: tuple[Derate, ...] = ()
    parts: tuple[PartTime, ...] = ()  # of a block, each timed by itself after those before it
    profile: LaunchProfile | None = None  # where a trace was asked for
    largest_batch: LargestBatch | None = None  # where that was asked for
    spreads: Mapping[str, Spread] = {}  # by figure: time_s, normalized_efficiency

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.status == "ok":
            self._check_measured()
        else:
            self._check_unmeasured()
        self._check_numbers()
        gravest = next(verdict for verdict in GRAVITY if verdict in self.verdicts) if self.verdicts else None
        if self.verdict != gravest:
            raise ValueError(f"verdict is {self.verdict!r}; the gravest of {self.verdicts} is {gravest!r}")
        if "clean" in self.verdicts and len(self.verdicts) > 1:
            raise ValueError(f"clean can't stand with other verdicts; got {self.verdicts}")
        return self

    def _check_numbers(self) -> None:
        """Raise ValueError for a number that is no quantity, on which arithmetic could overflow, and for a
        rating outside its own interval.
        """
        value, low, high = self.nominal_tflops, self.nominal_tflops_low, self.nominal_tflops_high
        if not is_interval(value, low, high):
            raise ValueError(f"interval {low}..{high} doesn't hold its value {value}")
        for name in _NUMBERS:
            value = getattr(self, name)
            if value is not None and (value < 0 or not is_possible(value)):
                raise ValueError(f"{name} can't be {_shorten(value)}")
        for name, found in (*self.conditions.items(), *self.dimensions.items()):
            if isinstance(found, int | float) and not is_possible(found):
                raise ValueError(f"{name} can't be {_shorten(found)}")

    def _check_measured(self) -> None:
        if self.time_s is None or self.time_s <= 0 or self.launches is None or self.launches <= 0:
            raise ValueError("an ok record needs a time above 0 and at least one launch")
        for figure, ends in INTERVALS.items():
            value, low, high = (getattr(self, name) for name in (figure, *ends))
            if value is not None and not (low is not None and high is not None and low <= value <= high):
                raise ValueError(f"interval {low}..{high} doesn't hold its value {value}")
        if any(after.at_s <= before.at_s for before, after in pairwise(self.course)):
            raise ValueError("the course isn't in the order of time")
        for each in (self.interval_within, self.interval_next):
            value = getattr(self, each.figure) if each is not None and each.figure in INTERVALS else None
            if each is not None and not (isinstance(value, float) and each.low <= value <= each.high):
                raise ValueError(f"interval {each.low}..{each.high} doesn't hold {each.figure} {value}")

    def _check_unmeasured(self) -> None:
        if self.reason is None or not str(self.reason):
            raise ValueError(f"a {self.status} record needs a reason")
        given = [
            name for name, each in columns().items() if each.measured and getattr(self, name) is not None
        ]
        found = self.verification is not None or self.profile is not None
        held = (self.batches, self.course, self.kernels, self.spreads, found)
        if given or any(held):
            raise ValueError(f"a {self.status} record can't have figures; got {given}")
        if "clean" in self.verdicts:
            raise ValueError(f"a {self.status} record can't be clean")

    def interval(self, figure: str) -> Interval | None:
        """Return one of `INTERVALS` with its 95 % confidence interval; None where the record lacks it."""
        low, high = INTERVALS[figure]
        found = (getattr(self, figure), getattr(self, low), getattr(self, high))
        return None if None in found else Interval(*found)

    def size(self, name: str) -> int | None:
        """Return one of the dimensions that is a whole number above 0; None where there is none, or another
        value: what others declare of their work may be anything.
        """
        found = self.dimensions.get(name)
        return found if type(found) is int and found > 0 else None

    @property
    def trusted(self) -> Annotated[bool, Column("whether it counts: clean, or power-capped and no burst")]:
        """Whether the record counts unasked, in a chain, a price, a comparison or a ranking.

        That is a measured one that is `clean`, or only `power_capped` and no burst figure: being held at the
        power limit is what a sustained figure means.
        """
        accepted: set[Verdict] = {"clean"} if self.phase == "burst" else {"clean", "power_capped"}
        return self.status == "ok" and accepted.issuperset(self.verdicts)

    @property
    def memory_level(self) -> str | None:
        """The level that memory work moves bytes of: `memory`, a cache, `host link`; None for other work."""
        return str(self.dimensions.get("level", MAIN_MEMORY)) if self.workload == "memory" else None

    @property
    def is_wrong(self) -> bool:
        """Whether its result or its figures can't be right, so that they mustn't be used at all."""
        return not WRONG.isdisjoint(self.verdicts)

    @property
    def reason_code(self) -> Annotated[str | None, Column("the reason's code, for programs")]:
        """The code of `reason`; None where there is none."""
        return None if self.reason is None else self.reason.code

    @property
    def warning_codes(self) -> Annotated[tuple[str, ...], Column("the warnings' codes, for programs")]:
        """The codes of `warnings` and of the messages that they are made of, each once."""
        return tuple(dict.fromkeys(code for warning in self.warnings for code in warning.codes))

    @property
    def flops_by_convention(
        self,
    ) -> Annotated[
        dict[str, int] | None,
        Column("FLOPs of one launch of a block, by each convention; null for other work", "FLOP"),
    ]:
        """FLOPs of one launch by each convention, from the dimensions; None for work other than layers."""
        launch = None if self.flops is None else find_launch(self.dimensions)
        return None if launch is None else launch.flops_by_convention

    @property
    def tflops_by_convention(
        self,
    ) -> Annotated[
        dict[str, float] | None,
        Column("achieved, by each convention: one time, other FLOPs", _TFLOPS, 3, measured=False),
    ]:
        """Throughput by each convention; None for work other than layers, and where nothing was measured."""
        counted = self.flops_by_convention
        if counted is None or self.tflops is None or not self.flops:
            return None
        return {name: self.tflops * (flops / self.flops) for name, flops in counted.items()}

    def flatten(self) -> dict[str, Any]:
        """Return the columns by name, in order, as `load` and `--json` show them.

        Messages become English sentences, whatever the language of the screen, tuples become lists, and ends
        of intervals objects.
        """
        found = {name: getattr(self, name) for name in columns()}
        return found | {name: flatten_value(found[name]) for name in structured_columns()}


# The columns that hold a number; none of them can be below 0.
_NUMBERS = tuple(
    name
    for name, field in Record.model_fields.items()
    if {int, float} & {field.annotation, *get_args(field.annotation)}
)


def _shorten(number: float) -> str:
    bits = 0 if isinstance(number, float) else number.bit_length()
    return f"{number:.4g}" if bits < 1024 else f"a number of {bits} bits"


def flatten_value(value: Any) -> Any:
    """Return a value as a table holds it: messages as sentences, tuples as lists, ends as objects."""
    if isinstance(value, tuple):
        return [flatten_value(each) for each in value]
    if isinstance(value, Ends):
        return value.model_dump()
    return str(value) if isinstance(value, Message) else value


@cache
def structured_columns() -> tuple[str, ...]:
    """Return the columns that `flatten_value` can change: looking at all would be slow for many records."""
    kinds = {name: column_type(name) for name in columns()}
    return tuple(
        name
        for name, kind in kinds.items()
        if get_origin(kind) is tuple or {Message, Ends} & set(get_args(kind))
    )


# Columns computed from others: no record line holds them. They come last.
_DERIVED = ("flops_by_convention", "tflops_by_convention", "reason_code", "warning_codes", "trusted")


@cache
def columns() -> dict[str, Column]:
    """Return every column of a record by name, in the order they are declared and printed."""
    return {name: column for name, (column, _type) in _declared().items()}


def column_type(name: str) -> Any:
    """Return the type that a column is declared with, without its `Column`."""
    return _declared()[name][1]


@cache
def _declared() -> dict[str, tuple[Column, Any]]:
    declared = [(name, field.annotation, field.metadata) for name, field in Record.model_fields.items()]
    for name in _DERIVED:
        hint = get_type_hints(getattr(Record, name).fget, include_extras=True)["return"]
        declared.append((name, hint.__origin__, list(hint.__metadata__)))
    return {
        name: (column, kind)
        for name, kind, metadata in declared
        for column in metadata
        if isinstance(column, Column)
    }
