"""Our own figure of the product that the peers time, each from a fresh process.

    python -m nameplate.selftest.ours DTYPE SECONDS [CALIBRATION]

prints one line of JSON: `raw` and `normalized` in TFLOPS and as a fraction, and the calibration it went by.
Given one (as JSON) it uses that: a process that calibrated itself would call its own conditions normal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from fnmatch import fnmatchcase
from statistics import median
from typing import Any

from nameplate.base.errors import InputError, NameplateError
from nameplate.base.text import plain
from nameplate.device.survey import open_device
from nameplate.engine.ceiling import Calibration, Ceilings
from nameplate.engine.group import Allowance
from nameplate.engine.measure import measure_group
from nameplate.engine.pilot import Pilots
from nameplate.run.job import target_of
from nameplate.run.measure import SEED
from nameplate.selftest.peers import EDGE, NoFigure, ask
from nameplate.selftest.repeat import Figures
from nameplate.stats.interval import Interval
from nameplate.suite import find_suite

SECONDS = 5.0  # about what a peer's process takes with its start
_MODULE = "nameplate.selftest.ours"
_CALIBRATING_SHARE_S = 60.0  # of a run's time that calibrates as well as a run of a minute does
_CALIBRATIONS = 5  # processes whose median calibrates those that are then compared


def ours(
    dtype: str, *, env: Mapping[str, str] | None = None, seconds: float = SECONDS
) -> Callable[[int], Figures]:
    """Calibrate in a few processes of their own, and return what measures in a fresh one each time.

    Raises NoFigure where a process fails.
    """
    given = json.dumps(_calibrated(dtype, env, seconds))

    def measure(_number: int) -> Figures:
        said = ask(_command(dtype, seconds, given), env=env)
        return Figures(said["raw"], said["normalized"])

    return measure


def _calibrated(dtype: str, env: Mapping[str, str] | None, seconds: float) -> dict[str, Any]:
    """The calibration of the middle one of a few processes, by its ratio."""
    found = [ask(_command(dtype, seconds), env=env)["calibration"] for _ in range(_CALIBRATIONS)]
    usual = median(each["ratio"]["value"] for each in found)
    return next(each for each in found if each["ratio"]["value"] == usual)


def _command(dtype: str, seconds: float, *calibration: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", _MODULE, dtype, repr(seconds), *calibration)


def _measure(dtype: str, seconds: float, calibration: str | None) -> dict[str, Any]:
    device = open_device("cpu")
    case = next(
        case
        for case in find_suite("smoke").cases(target_of(device))
        if fnmatchcase(case.id, f"matmul/{dtype}/{EDGE}x{EDGE}x{EDGE}/*")
    )
    ceilings = Ceilings(device, SEED, {} if calibration is None else {dtype: _parsed(calibration)})
    used = ceilings.calibration(dtype, _CALIBRATING_SHARE_S)
    allowance = Allowance(seconds, 5 * seconds)
    (record,) = measure_group([case], device, Pilots(device, SEED), allowance, ceilings)
    if record.tflops is None or record.normalized_efficiency is None:
        raise NoFigure(str(record.reason or f"{dtype} has no probe on this CPU"))
    assert used is not None  # or there would be no normalized efficiency
    return {"raw": record.tflops, "normalized": record.normalized_efficiency, "calibration": asdict(used)}


def _parsed(text: str) -> Calibration:
    fields = json.loads(text)
    return Calibration(fields["product"], Interval(**fields["ratio"]), fields["probe_tflops"])


def main() -> None:
    """Print the figures; ends with 0, or says why not."""
    try:
        dtype, seconds, *calibration = sys.argv[1:]
        print(json.dumps(_measure(dtype, float(seconds), calibration[0] if calibration else None)))
    except (NameplateError, InputError) as error:
        print(plain(error), file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
