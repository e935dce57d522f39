"""TOML files of users (parts, fleets, claims) in which something is odd, for the commands that read them."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fuzzing.foreign import changed, damaged, to_toml
from fuzzing.inputs import Entry, Input

PARTS = """
schema = 1
[sources.sheet]
text = "a sheet of the vendor"
date = "2026-11"
[[part]]
id = "my-part"
name = "My part"
vendor = "Me"
form = "SXM"
driver_names = ["MY PART"]
sources = ["sheet"]
dense_tflops = { fp16 = { value = 400, note = "a note" }, bf16 = 400 }
nominal_tflops = { fp16 = 410 }
memory = [{ gb = 80, bandwidth_gb_s = 2000 }]
tdp_w = 700
"""
CLAIMS = """
schema = 1
source = "an article"
[[claim]]
id = "rating"
words = "320 TFLOPS a card"
figure = "320"
unit = "TFLOPS"
as_of = "2024-10"
formula = 'part("nvidia-a800-sxm4-80gb").fp16.nominal'
why = "the registry"
[[claim]]
id = "two"
words = "two cards"
figure = "640"
unit = "TFLOPS"
as_of = "2024-10"
formula = "2 * rating"
why = "twice"
[[claim]]
id = "other"
words = "nobody knows"
figure = "7"
unit = "cards"
cannot_check = "no source"
"""
FLEETS = """
schema = 1
[[fleet]]
id = "mine"
name = "Mine"
as_of = "2024"
part = "nvidia-a800-sxm4-80gb"
eflops = 1.0
source = "counted"
note = "a note"
[[price]]
part = "nvidia-a800-sxm4-80gb"
cards_per_server = 8
server_rmb = 1.5e6
as_of = "2024"
source = "an offer"
replaces = true
[[assumption]]
name = "pue"
value = 1.3
low = 1.1
high = 1.5
law = "triangular"
as_of = "2024"
source = "guessed"
[[derate]]
id = "mine"
parts = ["nvidia-a800-sxm4-80gb"]
from = "datasheet"
to = "scaled"
value = 0.5
as_of = "2024"
source = "a paper"
"""
KINDS = {
    "parts": (
        PARTS,
        (
            "specs --parts FILE",
            "specs my-part --parts FILE",
            "specs my-part --parts FILE --json",
            "fleet list --parts FILE",
            "fleet cost --part my-part --eflops 2 --parts FILE --draws 1000",
            "fleet audit --parts FILE",
            "run smoke --device cpu --parts FILE",
        ),
    ),
    "claims": (
        CLAIMS,
        (
            "fleet audit --claims FILE",
            "fleet audit --claims FILE --strict",
            "fleet audit --claims FILE --json",
            "fleet audit --claims FILE --csv --lang zh",
        ),
    ),
    "fleets": (
        FLEETS,
        (
            "fleet list --fleets FILE",
            "fleet cost mine --fleets FILE --draws 1000",
            "fleet cost mine --fleets FILE --draws 1000 --json",
            "fleet cost mine --fleets FILE --draws 1000 --derate mine --goodput",
            "fleet cost --fleets FILE --draws 1000 --csv",
            "fleet plan --eflops 1 --fleets FILE --draws 1000",
            "fleet plan --budget-rmb 1e9 --fleets FILE --draws 1000 --json",
            "fleet plan --parameters 8e9 --hours 10 --every-days 14 --fleet mine --fleets FILE --draws 1000",
        ),
    ),
}


@st.composite
def inputs(draw: Callable[..., Any]) -> Input:
    """A file in which something is odd, and a command that reads it."""
    text, commands = KINDS[draw(st.sampled_from(list(KINDS)))]
    content = text.encode()
    if draw(st.integers(0, 3)):
        content = to_toml(draw(changed(tomllib.loads(text))))
    if draw(st.integers(0, 3)) == 0:
        content = draw(damaged(content))
    words = draw(st.sampled_from(commands)).replace("FILE", "mine.toml").split()
    return Input("toml", tuple(words), (Entry("mine.toml", content=content),))
