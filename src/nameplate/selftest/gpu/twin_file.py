"""A twin's file made of what was seen of a card: a card becomes its twin.

It builds on a shipped twin of the same card, or else of the nearest one, and gives only what was seen; all
else keeps that twin's figures with their sources. Each figure says how it was seen, and their source says
when, where (the host's name, hashed as in its published results) and by what.
"""

from __future__ import annotations

import json
import math
import platform
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np

from nameplate.base.errors import write_error
from nameplate.base.formatting import figure, stated
from nameplate.device.identity import CudaIdentity
from nameplate.selftest.gpu.driver_checks import find_limit_s, find_ramp_s, settled_clock_mhz
from nameplate.selftest.gpu.seen import CostsSeen, LoadSeen, Seen
from nameplate.selftest.gpu.subject import EDGE
from nameplate.store.publish import hash_secret
from nameplate.twin.card import Card, list_twins, parse_card, read_card
from nameplate.twin.kernels import KernelModel

SOURCE = "this-card"  # no shipped twin has a source of that name
_MIB = 1 << 20
_DIGITS = 4
_FEWEST_STEPS = 3


@dataclass(frozen=True)
class _Figure:
    """A value, and how it was seen."""

    value: float
    note: str


_Entry = _Figure | str | bool
_Table = Mapping[str, _Entry | None]  # None: not seen


def make_twin_file(seen: Seen, host: str) -> str:
    """Return the text of the twin's file: TOML, checked as every card is. `host` names the machine.

    Raises InputError where what was seen makes no card.
    """
    base = find_base(seen.identity)
    tables = dict(_tables(seen, base))
    card = parse_card(_write_file(seen, base, host, tables), _name(seen))
    if (power := _product_power(seen, card, base)) is not None:  # of a card that has all the other figures
        tables["compute.bf16"] = {**tables.get("compute.bf16", {}), "power_w": power}
    text = _write_file(seen, base, host, tables)
    parse_card(text, _name(seen))
    return text


def _write_file(seen: Seen, base: Card, host: str, tables: Mapping[str, _Table]) -> str:
    lines = [
        f"# What `bench selftest --on {seen.device}` saw of one card, {seen.made}.",
        f"# What isn't here wasn't seen, and is what the twin {base.name} has, with its sources.",
        *([] if seen.measured else ["# Simulated: it was seen of a twin. Nothing here is a measurement."]),
        "",
        f"schema = {base.schema_}",
        f"name = {_quote(_name(seen))}",
        f"base = {_quote(base.name)}",
        "",
        "[sources]",
        f"{SOURCE} = {{ text = {_quote(_describe_source(seen, host))}, date = {_quote(seen.made[:10])} }}",
    ]
    for heading, table in tables.items():
        entries = [f"{key} = {_write(entry)}" for key, entry in table.items() if entry is not None]
        if entries:
            lines += ["", f"[{heading}]", *entries]
    return "\n".join(lines) + "\n"


def write_twin_file(seen: Seen, path: Path) -> Path:
    """Write the twin's file and return its path. Raises InputError and OutputError where it can't be."""
    text = make_twin_file(seen, hash_secret(platform.node()))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise write_error(
            "can't write the twin's file", error, where="--twin", got=str(path), expected="a file"
        ) from error
    return path


def default_path(seen: Seen) -> Path:
    """Where it is written unless told: beside the runs."""
    return Path("runs", f"twin-{_name(seen)}.toml")


def find_base(identity: CudaIdentity) -> Card:
    """Return the shipped twin of this card: of the same PCI id, else name, else generation, else any.

    Nodes and cards in containers build on one that is by itself; a slice's twin serves a slice.
    """
    cards = [read_card(name) for name in list_twins()]
    alone = [each for each in cards if each.environment.gpus == 1 and not each.environment.container]

    def likeness(card: Card) -> tuple[bool, bool, bool, bool]:
        known = card.identity
        return (
            (card.environment.mig is not None) == bool(identity.mig_slice),
            known.pci_id == identity.pci_id,
            known.name == identity.name,
            known.compute_capability == identity.compute_capability,
        )

    return max(alone, key=likeness)


def _name(seen: Seen) -> str:
    """A name that tells the card and the time."""
    card = re.sub(r"[^a-z0-9]+", "-", seen.identity.name.lower()).strip("-")[:40] or "gpu"
    return f"{card}-{re.sub(r'[^0-9T]', '', seen.made)[:13]}".lower()


def _describe_source(seen: Seen, host: str) -> str:
    how = f"bench selftest --on {seen.device}, nameplate {version('nameplate')}"
    tools = [f"{tool} {seen.versions.get(tool) or 'unknown'}" for tool in ("torch", "cuda")]
    made_by = ", ".join([how, *tools, f"driver {seen.identity.driver or 'unknown'}"])
    return f"{'' if seen.measured else 'simulated, not a measurement: '}{made_by}; host {host}, {seen.made}"


def _quote(text: str) -> str:
    """A TOML string; JSON's escapes are TOML's too, and DEL is the one character that JSON leaves alone."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write(entry: _Entry) -> str:
    if isinstance(entry, bool):
        return "true" if entry else "false"
    if isinstance(entry, str):
        return _quote(entry)
    value = str(int(entry.value)) if float(entry.value).is_integer() else _round(entry.value)
    return f"{{ value = {value}, source = {_quote(SOURCE)}, note = {_quote(entry.note)} }}"


def _round(value: float) -> str:
    """Four significant digits, as TOML has numbers."""
    return np.format_float_positional(value, precision=_DIGITS, unique=False, fractional=False, trim="-")


def _tables(seen: Seen, base: Card) -> Iterator[tuple[str, _Table]]:
    identity, load, costs = seen.identity, seen.load, seen.costs
    yield "identity", _identity(identity)
    yield "clock", _clock(identity, load)
    yield "power", _power(identity, load, base)
    if costs is not None:
        yield "compute.bf16", {"efficiency": _efficiency(costs, identity, base)}
        yield "memory", {"gb_s": _figure(costs.copy_gb_s, "the smoke suite's copy, bytes read and written")}
    yield "launch", _launch(seen, costs, base)
    if load is not None:
        yield "telemetry", {"energy_step_s": _energy_step(load)}
    yield "environment", _environment(identity, load)


def _figure(value: float | None, note: str) -> _Figure | None:
    """The figure; None where it wasn't seen, or is none that a card can have."""
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    return _Figure(value, note)


def _identity(identity: CudaIdentity) -> _Table:
    memory, l2 = identity.memory_bytes, identity.l2_bytes
    return {
        "name": identity.name,
        "pci_id": identity.pci_id,
        "compute_capability": identity.compute_capability,
        "driver": identity.driver,
        "cuda_driver": identity.cuda_driver,
        "cuda": identity.cuda,
        "multiprocessors": _figure(identity.multiprocessors, "by torch"),
        "memory_mib": _figure(None if memory is None else memory // _MIB, "by torch"),
        "l2_mib": _figure(None if l2 is None else l2 / _MIB, "by torch"),
    }


def _clock(identity: CudaIdentity, load: LoadSeen | None) -> _Table:
    idle = None if load is None else load.idle.sm_clock_mhz
    memory = [] if load is None else [each.memory_clock_mhz for each in load.rows if each.memory_clock_mhz]
    return {
        "idle_mhz": _figure(idle, "by the driver, after five seconds of rest"),
        "maximum_mhz": _figure(identity.max_sm_clock_mhz, "by the driver"),
        "ramp_s": _figure(
            None if load is None else find_ramp_s(load), "from the first launch after rest to full speed"
        ),
        "memory_mhz": _figure(max(memory, default=None), "by the driver, under load"),
    }


def _power(identity: CudaIdentity, load: LoadSeen | None, base: Card) -> _Table:
    return {
        "limit_w": _figure(identity.power_limit_w, "by the driver: the one in force"),
        "default_limit_w": _figure(identity.default_power_limit_w, "by the driver"),
        "idle_w": _figure(
            None if load is None else load.idle.power_w, "by the driver, after five seconds of rest"
        ),
        "window_s": None if load is None else _window(load, identity, base),
    }


def _window(load: LoadSeen, identity: CudaIdentity, base: Card) -> _Figure | None:
    """The window of the mean power that is held at the limit, from when the limit was felt after rest.

    Power p above rest is what the highest clock would draw, and the limit leaves p·(held ÷ highest)^exponent
    of it. The mean over a window w has got there after −w·ln(1 − (held ÷ highest)^exponent).
    """
    felt_s, held, highest = find_limit_s(load), settled_clock_mhz(load), identity.max_sm_clock_mhz
    if felt_s is None or held is None or highest is None or not 0 < held < highest:
        return None
    left = (held / highest) ** base.power.exponent.value
    note = f"the limit was felt {figure(felt_s)} s after rest, and left {stated(held)} MHz"
    return _figure(-felt_s / math.log(1 - left), note)


def _product_power(seen: Seen, card: Card, base: Card) -> _Figure | None:
    """The power of bf16's arithmetic by which the twin is held at the clock that the card was held at.

    At the limit, power is what the card draws at rest and as hot as it was, what the memory draws, and this
    at the clock held: see `twin.card.Power`. None where the limit didn't hold the clock.
    """
    load = seen.load
    if load is None or "bf16" not in card.compute or not _is_of_generation(seen.identity, base):
        return None
    held, shown = settled_clock_mhz(load), find_limit_s(load)
    celsius = load.loaded.temperature_c
    if held is None or shown is None or celsius is None or held >= card.clock.maximum_mhz.value:
        return None
    cost = KernelModel(card).sequence([KernelModel(card).product(EDGE, EDGE, EDGE, "bf16", 2)]).at(held)
    leaked = 1 + card.heat.leakage_per_c.value * (celsius - card.heat.reference_c.value)
    left_w = card.power.limit_w.value - card.power.active_w.value * leaked - cost.memory_j / cost.seconds
    factor = left_w * cost.seconds / cost.compute_j
    note = f"so that {stated(card.power.limit_w.value)} W hold {stated(held)} MHz at {celsius} °C"
    return _figure(card.compute["bf16"].power_w.value * factor, note)


def _is_of_generation(identity: CudaIdentity, base: Card) -> bool:
    """Whether the base's FLOP a clock and tiles are those of this card."""
    return identity.compute_capability == base.identity.compute_capability


def _efficiency(costs: CostsSeen, identity: CudaIdentity, base: Card) -> _Figure | None:
    """What the product on zeros reached of full waves of the largest tile at the clock that it held.

    The twin takes FLOP a clock and its largest tile from its base, so these must be of the same generation.
    """
    multiprocessors = identity.multiprocessors
    if not _is_of_generation(identity, base) or "bf16" not in base.compute or multiprocessors is None:
        return None
    if costs.zeros_tflops is None or costs.zeros_mhz is None:
        return None
    largest = max(base.tile, key=lambda tile: tile.m * tile.n)
    tiles = math.ceil(EDGE / largest.m) * math.ceil(EDGE / largest.n)
    full_waves = tiles / (math.ceil(tiles / multiprocessors) * multiprocessors)
    peak = base.compute["bf16"].flop_per_clock.value * multiprocessors * costs.zeros_mhz * 1e6
    share = costs.zeros_tflops * 1e12 / peak / full_waves
    if share > 1:
        return None
    note = f"{stated(costs.zeros_tflops)} TFLOPS of {EDGE} cubed on zeros at {stated(costs.zeros_mhz)} MHz"
    return _figure(share, note)


def _launch(seen: Seen, costs: CostsSeen | None, base: Card) -> _Table:
    table: dict[str, _Entry | None] = {}
    if costs is not None:
        table |= {
            "host_s": _figure(costs.host_s, "mean of 200 small kernels, none of which had to wait"),
            "product_host_s": _figure(costs.product_host_s, "mean of 200 products of 256 cubed"),
            "event_host_s": _figure(costs.event_host_s, "mean of 200 events"),
            "latency_s": _latency(costs, base),
            "event_step_s": _event_step(costs, base),
            "context_s": _figure(costs.context_s, "from CUDA's start to the end of a first product"),
        }
    profiler_s = None if seen.blocks is None else seen.blocks.profiler_s
    table["profiler_s"] = _figure(profiler_s, "torch's profiler, the first time in a process")
    depth = None if seen.queue is None else seen.queue.depth
    return {**table, "queue_kernels": _figure(depth, "launches until the host had to wait")}


def _event_step(costs: CostsSeen, base: Card) -> _Figure | None:
    """The smallest difference that was seen: the timer's step may be smaller yet, and can't be larger."""
    if costs.event_step_s is None or costs.event_step_s >= base.launch.event_step_s.value:
        return None
    return _figure(costs.event_step_s, "the smallest difference of 200 times between events")


def _latency(costs: CostsSeen, base: Card) -> _Figure | None:
    """What the smallest launch takes between events besides enqueuing it and running it."""
    if costs.empty_launch_s is None or costs.host_s is None:
        return None
    seconds = costs.empty_launch_s - costs.host_s - base.launch.kernel_s.value
    return _figure(seconds, "the smallest launch between events, less host_s and kernel_s")


def _energy_step(load: LoadSeen) -> _Figure | None:
    """The usual time between steps of the energy counter; None where readings were too far apart for it."""
    rows = [each for each in load.rows if each.energy_j is not None]
    at_s = [second.at_s for first, second in pairwise(rows) if second.energy_j != first.energy_j]
    if len(at_s) < _FEWEST_STEPS:
        return None
    step_s = float(np.quantile(np.diff(at_s), 0.25))
    apart_s = float(np.quantile(np.diff([each.at_s for each in rows]), 0.25))
    return (
        _figure(step_s, "by readings of the driver, the usual time between two")
        if step_s > 1.5 * apart_s
        else None
    )


def _environment(identity: CudaIdentity, load: LoadSeen | None) -> _Table:
    hidden = None if load is None or load.idle.pids_match is None else not load.idle.pids_match
    return {
        "container": hidden,
        "virtualization": identity.virtualization_mode,
        "persistence_mode": identity.persistence_mode,
        "ecc_mode": identity.ecc_mode,
    }
