"""Settings from environment variables."""

from __future__ import annotations

import os

from nameplate.base.errors import InputError
from nameplate.base.formatting import count

# Seconds that a process has to load its libraries and open its device.
READY_VARIABLE = "NAMEPLATE_READY_DEADLINE_S"
_LONGEST_S = 1e6  # eleven days; poll(2) waits for 24 at most


def read_seconds(name: str, default: float) -> float:
    """Return the seconds in an environment variable, `default` where it is unset or empty.

    Raises InputError for anything but a number above 0, and for more than eleven days.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _LONGEST_S:
        expected = f"seconds above 0, at most {count(_LONGEST_S)}"
        raise InputError("no time to wait", where=name, got=given, expected=expected)
    return seconds
