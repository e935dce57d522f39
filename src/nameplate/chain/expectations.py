"""The least share of nominal that a run must deliver: met, missed, or not to be judged.

A gate must not fail on noise: a figure below the share whose interval reaches it can't be judged, and neither
can a record that isn't trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from nameplate.base.errors import CheckFailed, InputError, RunIncomplete
from nameplate.base.formatting import percent, percent_with_half_width
from nameplate.chain.from_run import REAL_FILL, find_chains
from nameplate.record import DTYPES, Record
from nameplate.store.folder import Run

# Beyond it no share of nominal is meant: 80 was, perhaps, 80 %.
_MOST_SHARE = 2.0


@dataclass(frozen=True)
class Finding:
    """Whether one device met the share expected in one dtype; `text` names case, got and expected."""

    outcome: Literal["met", "missed", "unknown"]
    text: str


def check_shares(where: str, shares: Mapping[str, float]) -> None:
    """Raise InputError for a dtype that is unknown, and for what is no share of nominal."""
    for dtype, share in shares.items():
        if dtype not in DTYPES:
            raise InputError("no such dtype", where=where, got=dtype, expected=" or ".join(sorted(DTYPES)))
        check_share(where, share)


def check_share(where: str, share: float) -> None:
    """Raise InputError for what is no share of nominal."""
    if not 0 < share <= _MOST_SHARE:
        raise InputError(
            "not a share of nominal", where=where, got=share, expected="such as 0.80 for 80 % of nominal"
        )


def judge_expectations(run: Run, shares: Mapping[str, float], least: float | None = None) -> list[Finding]:
    """Compare the best matrix product of each device with these shares of nominal, by dtype.

    `least` is the share for the dtype of the device's chain, which the screen puts first. The sustained
    product counts where phases were measured apart.
    """
    return list(_judge(run, shares, least))


def require_expectations(run: Run, shares: Mapping[str, float], least: float | None = None) -> None:
    """Raise CheckFailed for a share that was missed, else RunIncomplete for one that can't be judged."""
    found = judge_expectations(run, shares, least)
    for outcome, error in (("missed", CheckFailed), ("unknown", RunIncomplete)):
        said = [each.text for each in found if each.outcome == outcome]
        if said:
            raise error("; ".join(said))


def _judge(run: Run, shares: Mapping[str, float], least: float | None) -> Iterator[Finding]:
    first_dtypes = {chain.device: chain.dtype for chain in find_chains(run.records)}
    for entry in run.manifest.devices:
        records = [record for record in run.records if record.device == entry.name]
        for dtype, share in shares.items():
            yield _judge_dtype(entry.name, records, dtype, share)
        if least is None:
            continue
        if entry.name in first_dtypes:
            yield _judge_dtype(entry.name, records, first_dtypes[entry.name], least)
        else:
            why = "not judged: no matrix product has a share of nominal"
            yield Finding("unknown", f"{entry.name}: {why}; expected {percent(least)}")


def _judge_dtype(device: str, records: Sequence[Record], dtype: str, share: float) -> Finding:
    products = [
        record
        for record in records
        if record.workload == "matmul" and record.dtype == dtype and record.fill == REAL_FILL
    ]
    expected = f"expected {percent(share)} of nominal in {dtype}"
    rated = [record for record in products if record.status == "ok" and record.efficiency is not None]
    if not rated:
        why = "no product was measured" if not products else "no product has a share of nominal"
        return Finding("unknown", f"{device}: not judged: {why}; {expected}")
    apart = [record for record in rated if record.phase == "sustained"] or rated
    trusted = [record for record in apart if record.trusted]
    best = max(trusted or apart, key=lambda record: record.efficiency or 0.0)
    reached = best.interval("efficiency")
    got = f"{device} {best.case}: got {percent_with_half_width(reached)} of nominal"
    if not trusted or reached is None:
        verdicts = " ".join(best.verdicts)
        return Finding("unknown", f"{got}, which can't be judged ({verdicts}); {expected}")
    if reached.value >= share:
        return Finding("met", f"{got}; {expected}")
    if reached.high >= share:
        return Finding(
            "unknown", f"{got}, whose interval reaches what was expected; {expected}; try a larger --budget"
        )
    return Finding("missed", f"{got}; {expected}")
