"""Files of users in which something is odd (parts, fleets, claims, models), and who reads them."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from hypothesis import strategies as st

from fuzzing.foreign import changed, damaged, to_json, to_toml
from fuzzing.inputs import CALLS, Entry, Input, call_each
from fuzzing.run_folders import ROOT

# Each has every key that a file may have, and is accepted as it is.
PARTS = """
schema = 1
[sources.sheet]
text = "a sheet of the vendor"
date = "2026-11"
[architecture.mine]
source = "sheet"
flop_per_clock = { fp16 = 2048, bf16 = 2048 }
sparse = ["fp16"]
[[part]]
id = "my-part"
name = "My part"
vendor = "Me"
architecture = "mine"
form = "SXM"
confidence = "low: one sheet"
driver_names = ["MY PART"]
shared_names = ["PART"]
pci_ids = ["10de:ffff"]
sources = ["sheet"]
dense_tflops = { fp16 = { value = 290, note = "a note", sources = ["sheet"] }, bf16 = 290 }
nominal_tflops = { fp16 = { value = 410, note = "counted so" } }
memory = [
  { gb = { value = 80, note = "as sold" }, type = "HBM3", bandwidth_gb_s = 2000, driver_names = ["MY 80GB"] },
]
multiprocessors = 100
maximum_mhz = 1500
rated_mhz = { fp16 = 1416, other = 1416 }
tdp_w = { value = 700, note = "at most" }
link_gb_s = 900
rate_limited = "it is sold at a lower rate"
notes = ["a note on the part"]
blank = { fp64 = "no source has it" }
[[part.conflict]]
of = "tdp_w"
values = [{ value = 600, source = "sheet" }, { value = 700, source = "sheet" }]
used = 700
why = "the newer of the two"
[[part.flag]]
figures = ["nominal_tflops.fp16"]
why = "kept because it is counted so"
[[bare_name]]
names = ["mypart"]
parts = ["my-part"]
why = "there is no other form"
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
source = "its second page"
note = "a note"
formula = 'part("nvidia-a800-sxm4-80gb").fp16.nominal'
why = "the registry"
[[claim.reading]]
id = "silicon"
formula = 'part("nvidia-a800-sxm4-80gb").fp16.nominal'
why = "what it is counted by"
[[claim.reading]]
id = "implied"
formula = 'part("nvidia-a800-sxm4-80gb").fp16.nominal'
implies = "320"
unit = "TFLOPS"
why = "what it is counted by"
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
[[fleet]]
id = "mixed"
name = "Mixed"
as_of = "2024"
mix = ["nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"]
mix_source = "assumed"
eflops = 1.0
source = "counted"
[[fleet]]
id = "more"
name = "More"
kind = "addition"
as_of = "2024"
part = "nvidia-a800-sxm4-80gb"
cards = 10
adds_to = "mine"
source = "counted"
[[unpriced]]
part = "nvidia-h100-sxm5-80gb"
as_of = "2024"
why = "a reason"
[[price]]
part = "nvidia-a800-sxm4-80gb"
cards_per_server = 8
server_rmb = 1.5e6
as_of = "2024"
source = "an offer"
note = "a note"
replaces = true
[[assumption]]
name = "pue"
value = 1.3
low = 1.1
high = 1.5
law = "triangular"
parts = ["nvidia-a800-sxm4-80gb"]
as_of = "2024"
source = "guessed"
note = "a note"
[[derate]]
id = "mine"
parts = ["nvidia-a800-sxm4-80gb"]
from = "datasheet"
to = "scaled"
value = 0.5
dtype = "bf16"
as_of = "2024"
source = "a paper"
note = "a note"
"""
MODEL = """
name = "my-model"
layers = 2
width = 64
heads = 4
kv_heads = 2
ffn = 128
vocabulary = 1000
head_dim = 16
gated = true
source = "a paper"
"""
CONFIG = """{
 "model_type": "llama", "_name_or_path": "me/my-model", "num_hidden_layers": 2, "hidden_size": 64,
 "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000
}"""
_MEASURES_A_MODEL = (
    "run --model FILE --tokens 16 --device cpu",
    "run --model FILE --dtype fp32 --device cpu",
    "run --model FILE --tokens 1,2 --device cpu --json",
    "specs --model FILE",
    "specs --model FILE --shapes",
    "specs --model FILE --json",
    "run --shapes FILE --tokens 16 --device cpu",
)
TWIN = (ROOT / "src" / "nameplate" / "twin" / "data" / "h200.toml").read_text(encoding="utf-8")
KINDS = {
    "twins": (
        TWIN,
        (
            "devices --device twin:FILE",
            "devices --device twin:FILE --json",
            "run smoke --device twin:FILE",
            "run --shape 64x64x64 --device twin:FILE --json",
        ),
    ),
    "models": (MODEL, _MEASURES_A_MODEL),
    "configs": (CONFIG, _MEASURES_A_MODEL),
    "parts": (
        PARTS,
        (
            "specs --parts FILE",
            "specs my-part --parts FILE",
            "specs my-part --parts FILE --json",
            "fleet list --parts FILE",
            "fleet cards my-part --parts FILE",
            "fleet derate --part my-part --devices 8 --parts FILE",
            "fleet own --part my-part --parts FILE --draws 1000 --json",
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
            "fleet cards --fleets FILE",
            "fleet own mine --fleets FILE --draws 1000",
            "fleet plan --eflops 1 --fleets FILE --draws 1000",
            "fleet plan --budget-rmb 1e9 --fleets FILE --draws 1000 --json",
            "fleet plan --site-mw 10 --fleets FILE --draws 1000",
            "fleet cost mine --power-limit 300 --fleets FILE --draws 1000",
            "fleet plan --parameters 8e9 --hours 10 --every-days 14 --fleet mine --fleets FILE --draws 1000",
        ),
    ),
}


@st.composite
def inputs(draw: Callable[..., Any]) -> list[Input]:
    """A file in which something is odd, and commands that read it."""
    kind = draw(st.sampled_from(list(KINDS)))
    text, commands = KINDS[kind]
    content = text.encode()
    if draw(st.integers(0, 3)):
        is_json = kind == "configs"
        content = (to_json if is_json else to_toml)(draw(changed(_parse(kind))))
    if draw(st.integers(0, 3)) == 0:
        content = draw(damaged(content))
    lines = draw(st.lists(st.sampled_from(commands), min_size=CALLS, max_size=CALLS, unique=True))
    called = [line.replace("FILE", name_of(kind)).split() for line in lines]
    return call_each("user-files", called, (Entry(name_of(kind), content=content),))


@cache
def _parse(kind: str) -> Mapping[str, Any]:
    text, _ = KINDS[kind]
    return json.loads(text) if kind == "configs" else tomllib.loads(text)


def name_of(kind: str) -> str:
    """The name of a file of a kind; its suffix says how it is read."""
    return "config.json" if kind == "configs" else "mine.toml"
