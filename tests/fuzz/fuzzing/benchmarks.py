"""Files of pytest-benchmark that anybody may have made or damaged, as one or both sides of a comparison."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import strategies as st

from fuzzing.foreign import changed, damaged, to_json
from fuzzing.inputs import CALLS, Entry, Input, call_each
from fuzzing.run_folders import ROOT

_COMMANDS = (
    "compare base.json bad.json",
    "compare base.json bad.json",
    "compare bad.json base.json --json",
    "compare bad.json bad.json",
    "compare slower.json bad.json --markdown",
    "compare base.json bad.json --threshold 0.5",
    "compare base.json bad.json --only *product* --lang zh",
    "show bad.json",
)


@cache
def _load(name: str) -> bytes:
    return (ROOT / "tests" / "data" / "compare" / "pytest-benchmark" / name).read_bytes()


@st.composite
def inputs(draw: Callable[..., Any]) -> list[Input]:
    """A file in which something is odd, and comparisons with it."""
    name = draw(st.sampled_from(("base.json", "slower.json")))
    if draw(st.integers(0, 3)):
        bad = to_json(draw(changed(json.loads(_load(name)))))
    else:
        bad = draw(damaged(_load(name)))
    made = (
        Entry("base.json", content=_load("base.json")),
        Entry("slower.json", content=_load("slower.json")),
        Entry("bad.json", content=bad),
    )
    lines = draw(st.lists(st.sampled_from(_COMMANDS), min_size=CALLS, max_size=CALLS, unique=True))
    return call_each("pytest-benchmark", map(str.split, lines), made)
