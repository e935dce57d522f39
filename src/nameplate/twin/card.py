"""A model of a card as data: a TOML file with a source beside each figure, validated into frozen models.

A shipped twin is named (`h200`), any other by its file (`mine.toml`). A file may build on another by `base`
and then gives only what differs: tables are merged, figures replaced. Its JSON Schema is
docs/schema/twin.schema.json.

Times are in seconds, clocks in MHz, power in watts, temperatures in °C. Every figure is a table
`{ value, source }`: `source` names an entry of `[sources]`, or is `assumed` for what nobody has published,
and then `note` says why this value. Nothing here is a measurement, and no figure made from it is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from nameplate.base import toml
from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel, Number
from nameplate.specs.figure import Source
from nameplate.twin.faults import Fault

ASSUMED = "assumed"
"""The source of a figure that nobody has published."""

SCHEMA_VERSION = 1
PREFIX = "twin:"
_PACKAGE = "nameplate.twin"
_SUFFIX = ".toml"
_SHIPPED = "the twin "  # before the name of a shipped one, in errors
_MOST_BASES = 8  # files that build on one another

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp16_acc16", "fp8_e4m3", "fp8_e5m2", "int8"]
DTYPES = get_args(Dtype)
FILLS = ("normal", "uniform", "integers", "zeros")


class Figure(FrozenModel):
    """A number with its source; `note` says how it follows from the source, or why it was assumed."""

    value: Number
    source: Annotated[str, Field(min_length=2)]
    note: Annotated[str, Field(min_length=4)] | None = None

    @model_validator(mode="after")
    def _check_source(self, info: ValidationInfo) -> Self:
        known = info.context
        if self.source == ASSUMED:
            if self.note is None:
                raise ValueError(f"a note that says why, for a figure that is {ASSUMED}")
        elif isinstance(known, frozenset) and self.source not in known:
            raise ValueError(f"a source from [sources], or {ASSUMED}")
        return self


def _require_positive(figure: Figure) -> Figure:
    if figure.value <= 0:
        raise ValueError("a value above 0")
    return figure


def _require_not_negative(figure: Figure) -> Figure:
    if figure.value < 0:
        raise ValueError("a value of 0 or more")
    return figure


def _require_share(figure: Figure) -> Figure:
    if not 0 < figure.value <= 1:
        raise ValueError("a share: above 0, at most 1")
    return figure


def _require_count(figure: Figure) -> Figure:
    if figure.value < 1 or figure.value != int(figure.value):
        raise ValueError("a whole number from 1")
    return figure


# What any card can have, by how a figure's name ends: least (0 may be allowed too) and most. They keep every
# figure made of them a number, and a simulation within its time.
_RANGES: Mapping[str, tuple[float, float]] = {
    "_mhz_per_c": (1e-3, 1e6),
    "_per_c": (1e-9, 1e3),
    "c_per_w": (1e-6, 1e3),
    "gb_s": (1e-3, 1e9),
    "_mhz": (1e-3, 1e6),
    "_mib": (1e-3, 1e9),
    "_w": (1e-3, 1e7),
    "_c": (1e-3, 1e4),
    "_s": (1e-9, 1e6),
    "": (1e-3, 1e9),
}


class _Table(FrozenModel):
    """A table of figures, each within what a card can have."""

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name, figure in self:
            if not isinstance(figure, Figure):
                continue
            least, most = next(ends for suffix, ends in _RANGES.items() if name.endswith(suffix))
            if figure.value and not least <= abs(figure.value) <= most:
                raise ValueError(f"{name} from {least:g} to {most:g}, got {figure.value:g}")
        return self


Above0 = Annotated[Figure, AfterValidator(_require_positive)]
From0 = Annotated[Figure, AfterValidator(_require_not_negative)]
Share = Annotated[Figure, AfterValidator(_require_share)]
WholeNumber = Annotated[Figure, AfterValidator(_require_count)]
Text = Annotated[str, Field(min_length=1)]


class Identity(_Table):
    """What the card and its driver say of it. `cuda` is what torch was built for."""

    name: Text
    pci_id: Annotated[str, Field(pattern=r"^[0-9a-f]{4}:[0-9a-f]{4}$")]
    compute_capability: Annotated[str, Field(pattern=r"^[0-9]{1,3}\.[0-9]$")]
    driver: Annotated[str, Field(pattern=r"^[0-9]{1,4}(\.[0-9]{1,4}){0,3}$")]
    cuda_driver: Annotated[str, Field(pattern=r"^[0-9]{1,3}\.[0-9]{1,2}$")]
    cuda: Text
    multiprocessors: WholeNumber
    memory_mib: WholeNumber
    l2_mib: Above0
    link_gb_s: Above0 | None = None  # NVLink, both directions together


class Clock(_Table):
    """The clock of the multiprocessors: from idle through a ramp to its maximum, and back after a pause."""

    idle_mhz: Above0
    maximum_mhz: Above0
    step_mhz: Above0
    ramp_s: From0
    idle_after_s: Above0
    memory_mhz: Above0

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.idle_mhz.value > self.maximum_mhz.value:
            raise ValueError("idle_mhz of at most maximum_mhz")
        return self


class Power(_Table):
    """Power and its limit.

    At clock f a card at work draws `active_w` (at `heat.reference_c`) + the memory's part + the arithmetic's
    part × (f ÷ maximum)^`exponent`. Of that, the mean over some `window_s` is held at `limit_w` by the clock,
    which goes on to swing by `swing_mhz` to each side of that clock every `swing_s`. `fill` is what the
    arithmetic's part of a tensor core product is multiplied by, by what its matrices hold.
    """

    limit_w: Above0
    default_limit_w: Above0
    idle_w: Above0
    active_w: Above0
    exponent: Above0
    window_s: Above0
    swing_mhz: From0
    swing_s: Above0
    fill: Mapping[Literal["normal", "uniform", "integers", "zeros"], Above0]

    @model_validator(mode="after")
    def _check_fills(self) -> Self:
        if missing := [fill for fill in FILLS if fill not in self.fill]:
            raise ValueError(f"power.fill with {', '.join(FILLS)}; without: {', '.join(missing)}")
        return self


class Heat(_Table):
    """Temperature: towards `ambient_c` + `c_per_w` × power, with one time constant.

    Above `slowdown_c` the driver lowers the clock by `slowdown_mhz_per_c` for each degree. `active_w` of the
    power grows by `leakage_per_c` of it for each degree above `reference_c`.
    """

    ambient_c: Figure
    c_per_w: Above0
    time_constant_s: Above0
    slowdown_c: Above0
    slowdown_mhz_per_c: Above0
    reference_c: Above0
    leakage_per_c: From0
    memory_above_c: From0  # how much hotter the memory is than the multiprocessors


class Compute(_Table):
    """Products in one dtype: what a multiprocessor computes a clock, and what a library reaches of it.

    `efficiency` is the share in full waves of the largest tile; `power_w` the arithmetic's part of the power
    at that rate, at the highest clock, with a normal fill.
    """

    flop_per_clock: WholeNumber
    efficiency: Share
    power_w: Above0


class Tile(FrozenModel):
    """A tile of a product that one multiprocessor computes, and its efficiency ÷ that of the largest."""

    m: Annotated[int, Field(ge=1, le=4096)]
    n: Annotated[int, Field(ge=1, le=4096)]
    efficiency: Share


class Attention(_Table):
    """Fused causal attention: the share of the dtype's highest rate that each pass reaches."""

    forward: Share
    backward: Share


class Memory(_Table):
    """Device memory: bytes read and written together by a large copy. `power_w` is its part at that rate.

    `host_gb_s` is what a copy to or from the host's pinned memory reaches.
    """

    gb_s: Above0
    l2_gb_s: Above0
    power_w: Above0
    host_gb_s: Above0 | None = None


class Launch(_Table):
    """What a launch costs host and card.

    The host takes `host_s` to enqueue a kernel, `product_host_s` for a product by cuBLAS, `event_host_s` for
    an event. `queue_kernels` wait at most; then the host waits. `latency_s` passes until the first kernel of
    an empty queue begins. `kernel_s` is the least time of a kernel, at its beginning and end. A process takes
    `context_s` to start CUDA, make its context and load its libraries, and `profiler_s` to start torch's
    profiler; left out, nothing.
    """

    host_s: Above0
    product_host_s: Above0
    event_host_s: Above0
    graph_host_s: Above0
    synchronize_s: Above0
    queue_kernels: WholeNumber
    latency_s: Above0
    kernel_s: Above0
    event_step_s: Above0
    context_s: From0 | None = None
    profiler_s: From0 | None = None


class Telemetry(_Table):
    """How the driver counts, and how long it takes.

    The energy counter moves every `energy_step_s`. Power is looked at every `power_step_s`, each time as the
    mean of the `power_window_s` before; averaged power is that of `average_s`. A call takes `call_s`. On a
    superchip energy is the whole module's: `beside_w` is what the module draws besides the GPU.
    """

    energy_step_s: Above0
    power_step_s: Above0
    power_window_s: Above0
    average_s: Above0
    call_s: Above0
    beside_w: From0 | None = None


class Environment(FrozenModel):
    """Where the card is: what a container hides, and whether it is a slice of a card."""

    container: bool = False
    mig: Text | None = None  # the name of the slice's profile: 3g.71gb
    virtualization: Literal["none", "passthrough", "vgpu", "host_vgpu", "host_vsga"] = "none"
    persistence_mode: bool = True
    ecc_mode: bool | None = True
    gpus: Annotated[int, Field(ge=1, le=64)] = 1  # of a node


class Card(FrozenModel):
    """One card, as a twin answers for it."""

    schema_: Annotated[Literal[1], Field(alias="schema")]
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=64)]
    base: Text | None = None
    sources: Mapping[str, Source] = {}
    identity: Identity
    clock: Clock
    power: Power
    heat: Heat
    compute: Annotated[Mapping[Dtype, Compute], Field(min_length=1)]
    tile: Annotated[tuple[Tile, ...], Field(min_length=1)]
    attention: Attention
    memory: Memory
    launch: Launch
    telemetry: Telemetry
    environment: Environment = Environment()
    fault: tuple[Fault, ...] = ()

    def peak_flops(self, dtype: str, mhz: float | None = None) -> float:
        """FLOP a second of every multiprocessor in `dtype` at this clock, by default the highest.

        Raises KeyError for a dtype that the card has no figures for.
        """
        clock_mhz = self.clock.maximum_mhz.value if mhz is None else mhz
        per_clock = self.compute_of(dtype).flop_per_clock.value * self.identity.multiprocessors.value
        return per_clock * clock_mhz * 1e6

    def compute_of(self, dtype: str) -> Compute:
        """The figures of products in `dtype`; raises KeyError where the card has none."""
        return {str(name): each for name, each in self.compute.items()}[dtype]


def list_twins() -> tuple[str, ...]:
    """The names of the shipped twins."""
    found = (each.name for each in (files(_PACKAGE) / "data").iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


def read_card(name: str) -> Card:
    """Read a shipped twin by its name, or a file that ends in `.toml`.

    Raises InputError for an unknown name, a file that can't be read, and the first value that can't be used.
    """
    text, where = _read(name, "--device")
    return parse_card(text, where)


def parse_card(text: str, where: str) -> Card:
    """Read a card from TOML; `where` names the file in errors, and a relative `base` is beside it.

    Raises InputError as `read_card` does.
    """
    data = toml.load(text, where)
    for base in _bases(data, where):
        data = _merge(base, data)
    sources = data.get("sources")
    return toml.validate(Card, data, where, frozenset(sources if isinstance(sources, dict) else ()))


def schema() -> dict[str, Any]:
    """The JSON Schema of a twin's file. With `base` every other key may be left out."""
    found = toml.schema_of(Card)
    for table in found["$defs"].values():
        if "source" not in table.get("properties", {}) and "text" not in table.get("properties", {}):
            table.pop("required", None)
    required = found.pop("required")
    return {**found, "anyOf": [{"required": ["schema", "name", "base"]}, {"required": required}]}


def _read(name: str, where: str) -> tuple[str, str]:
    if name.endswith(_SUFFIX):
        return toml.read_file(name, "a twin"), name
    if name not in list_twins():
        known = ", ".join(f"{PREFIX}{each}" for each in list_twins())
        raise InputError("no such twin", where=where, got=name, expected=f"{known} or {PREFIX}FILE.toml")
    return toml.read_packaged(_PACKAGE, name + _SUFFIX), _SHIPPED + name


def _bases(data: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Yield the document that a file builds on, then the one which that builds on, and so on."""
    for _ in range(_MOST_BASES):
        name = data.get("base")
        if name is None:
            return
        if not isinstance(name, str):
            raise toml.bad_value(where, "base", name, "the name of a twin, or of a file that ends in .toml")
        if name.endswith(_SUFFIX) and not where.startswith(_SHIPPED):
            name = str(Path(where).parent / name)
        text, where = _read(name, f"base of {where}")
        data = toml.load(text, where)
        yield data
    raise InputError(
        "the files build on one another without an end",
        where=where,
        got=f"more than {_MOST_BASES} of them",
        expected="a base that leads to a file without one",
    )


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with what `over` gives: tables merged, figures and all else replaced."""
    merged = dict(base)
    for key, given in over.items():
        value, below = given, merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict) and "value" not in value:
            value = _merge(below, value)
        merged[key] = value
    return merged
