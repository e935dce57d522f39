"""What is asked of a comparison: the words of the command's flags."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, get_args

from nameplate.base.errors import InputError

# Half of a change of 3 %, which must be found: as far from no change as from that.
THRESHOLD = 0.015
By = Literal["auto", "achieved", "normalized", "efficiency"]


@dataclass(frozen=True)
class Terms:
    """The margin within which two sides are the same, and what is compared.

    `threshold` and `restart_spread` are fractions. Raises InputError for what can't be used.
    """

    threshold: float = THRESHOLD
    by: By = "auto"
    across_parts: bool = False
    restart_spread: float | None = None
    only: str | None = None

    def __post_init__(self) -> None:
        """Refuse what is no fraction, and what is no basis."""
        for flag, given in (("--threshold", self.threshold), ("--restart-spread", self.restart_spread)):
            if given is not None and not 0 < given < 1:
                raise InputError(
                    "not a fraction", where=flag, got=given, expected="between 0 and 1: 0.02 is 2 %"
                )
        if self.by not in get_args(By):
            raise InputError("no such basis", where="--by", got=self.by, expected=" or ".join(get_args(By)))

    def takes(self, case: str) -> bool:
        """Whether a case is to be compared."""
        return self.only is None or fnmatchcase(case, self.only)
