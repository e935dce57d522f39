"""Settings from environment variables."""

from __future__ import annotations

import os

from nameplate.base.errors import InputError

# Seconds that a process has to load its libraries and open its device.
READY_VARIABLE = "NAMEPLATE_READY_DEADLINE_S"


def read_seconds(name: str, default: float) -> float:
    """Return the seconds in an environment variable, `default` where it is unset or empty.

    Raises InputError for anything but a finite number above 0.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise InputError("no time to wait", where=name, got=given, expected="seconds above 0")
    return seconds
