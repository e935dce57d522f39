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
from nameplate.base.formatting import stated
from nameplate.device.identity import CudaIdentity
from nameplate.selftest.gpu.driver_checks import find_ramp_s
from nameplate.selftest.gpu.seen import CostsSeen, LoadSeen, Seen
from nameplate.selftest.gpu.subject import EDGE
from nameplate.store.publish import hash_secret
from nameplate.twin.card import Card, list_twins, parse_card, read_card

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
    name = _name(seen)
    lines = [
        f"# What `bench selftest --on {seen.device}` saw of one card, {seen.made}.",
        f"# What isn't here wasn't seen, and is what the twin {base.name} has, with its sources.",
        *([] if seen.measured else ["# Simulated: it was seen of a twin. Nothing here is a measurement."]),
        "",
        f"schema = {base.schema_}",
        f"name = {_quote(name)}",
        f"base = {_quote(base.name)}",
        "",
        "[sources]",
        f"{SOURCE} = {{ text = {_quote(_describe_source(seen, host))}, date = {_quote(seen.made[:10])} }}",
    ]
    for heading, table in _tables(seen, base):
        entries = [f"{key} = {_write(entry)}" for key, entry in table.items() if entry is not None]
        if entries:
            lines += ["", f"[{heading}]", *entries]
    text = "\n".join(lines) + "\n"
    parse_card(text, name)
    return text


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
    """Return the shipped twin of this card: of the same PCI id, else name, else generation, else any."""
    cards = [read_card(name) for name in list_twins()]

    def likeness(card: Card) -> tuple[bool, bool, bool]:
        known = card.identity
        return (
            known.pci_id == identity.pci_id,
            known.name == identity.name,
            known.compute_capability == identity.compute_capability,
        )

    return max(cards, key=likeness)


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
    yield "power", _power(identity, load)
    if costs is not None:
        yield "compute.bf16", {"efficiency": _efficiency(costs, identity, base)}
        yield "memory", {"gb_s": _figure(costs.copy_gb_s, "a copy of 4 GiB, bytes read and written")}
    yield "launch", _launch(seen, costs)
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


def _power(identity: CudaIdentity, load: LoadSeen | None) -> _Table:
    return {
        "limit_w": _figure(identity.power_limit_w, "by the driver: the one in force"),
        "default_limit_w": _figure(identity.default_power_limit_w, "by the driver"),
        "idle_w": _figure(
            None if load is None else load.idle.power_w, "by the driver, after five seconds of rest"
        ),
    }


def _efficiency(costs: CostsSeen, identity: CudaIdentity, base: Card) -> _Figure | None:
    """What the product on zeros reached of full waves of the largest tile at the clock that it held.

    The twin takes FLOP a clock and its largest tile from its base, so these must be of the same generation.
    """
    multiprocessors = identity.multiprocessors
    same = identity.compute_capability == base.identity.compute_capability
    if (
        not same
        or "bf16" not in base.compute
        or multiprocessors is None
        or costs.zeros_tflops is None
        or costs.zeros_mhz is None
    ):
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


def _launch(seen: Seen, costs: CostsSeen | None) -> _Table:
    table: dict[str, _Entry | None] = {}
    if costs is not None:
        table |= {
            "host_s": _figure(costs.host_s, "mean of 200 small kernels, none of which had to wait"),
            "product_host_s": _figure(costs.product_host_s, "mean of 200 products of 256 cubed"),
            "event_host_s": _figure(costs.event_host_s, "mean of 200 events"),
        }
    depth = None if seen.queue is None else seen.queue.depth
    return {**table, "queue_kernels": _figure(depth, "launches until the host had to wait")}


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
