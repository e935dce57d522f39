"""Verdicts on a record, from the gravest, and what became of its case."""

from __future__ import annotations

from typing import Literal, get_args

# Gravest first: a wrong result is worse than a noisy one, and a figure that can't be judged is never clean.
# `throttled` is a fault (heat, power brake); `power_capped` is what a large load settles at on a healthy GPU.
Verdict = Literal[
    "contradictory",
    "unverified",
    "above_peak",
    "launch_bound",
    "contended",
    "throttled",
    "unstable",
    "unknown",
    "power_capped",
    "clean",
]
GRAVITY: tuple[Verdict, ...] = get_args(Verdict)
# The figures themselves are wrong. Other verdicts say that true figures were taken in the wrong conditions.
WRONG: frozenset[Verdict] = frozenset({"contradictory", "unverified"})
Status = Literal["ok", "skipped", "failed"]


def sort_by_gravity(verdicts: set[Verdict]) -> tuple[Verdict, ...]:
    """Sort verdicts gravest first. No verdict means `clean`, and `clean` is dropped beside others."""
    found = tuple(verdict for verdict in GRAVITY if verdict in verdicts and verdict != "clean")
    return found or ("clean",)
