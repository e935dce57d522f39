"""What anybody may write: texts, numbers, documents and bytes, and small changes to those that are good."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

ESCAPES = "\x1b[31m\x1b]0;t\x07\x9b2J"
TEXTS = (
    f"{ESCAPES}\r\n\u2028\u202e",
    "</td><script>alert(1)</script><img src=x onerror=alert(1)>",
    "[bold]m[/] [link=file:///etc]x[/link] [/]",
    "|`[a](javascript:b)\t;=2+2 ${x} {0} %s %n {{ 7*7 }}",
    "=1+1",
    "\ud800",
    "a\x00b",
    "",
    " ",
    "n" * 300,
    "w" * 5000,
    "../../outside/x",
    "latest",
    "-1",
    "--json",
    "NaN",
    "1e999",
    "1e-320",
    "9" * 400,
    "١٢",
    "0x10",
    "𝟜",
    "é" * 100,
    "\U0001f600\u200d\u0301",
    "a/b/c",
    "*",
    "[",
    "a..b",
    "1..2..3",
    "2..1",
    "fp16=320",
    "x=y=z",
    "=",
    "/dev/full",
    "/dev/zero",
    "/proc/self/mem",
    "/nowhere/x",
)
NUMBERS = (
    *(0, 1, -1, 2, 7, 0.0, -0.0, 0.5, 1.5, -1.5, 1e-3, 1e3, 1e6, 1e9, 1e-9),
    *(1e18, 1e30, 1e31, -1e31, 1e-30, 1e-31, 1e-320, 1e308, -1e308, 5e-324),
    *(2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64, 10**40, 10**400),
    *(math.nan, math.inf, -math.inf),
)
Document = Any

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=12))
numbers = st.one_of(
    st.sampled_from(NUMBERS), st.floats(), st.integers(-(10**20), 10**20), st.floats(1e-6, 1e6)
)
scalars = st.one_of(numbers, texts, st.booleans(), st.none())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


_Draw = Callable[..., Any]


def _draw_place(draw: _Draw, document: Document) -> tuple[Any, Any] | None:
    """Draw a container in a document, and a key in it; a list of 100 is as likely as a number beside it."""
    found = None
    while isinstance(document, dict | list) and document:
        key = draw(st.sampled_from(list(document) if isinstance(document, dict) else range(len(document))))
        found, document = (document, key), document[key]
        if isinstance(document, dict | list) and draw(st.integers(0, 4)) == 0:
            break
    return found


def _draw_alike(draw: _Draw, value: Any) -> Any:
    """Another value of the same type, which most readers accept."""
    if isinstance(value, bool) or value is None:
        return draw(st.one_of(st.booleans(), texts, numbers)) if value is None else not value
    if isinstance(value, str):
        return draw(st.one_of(texts, st.just(value + draw(texts))))
    if isinstance(value, int | float):
        factor = draw(st.sampled_from((0, -1, 0.5, 0.99, 1.01, 2, 1000, 1e-12, 1e12)))
        scaled = value * factor if abs(value) < 1e18 else value
        whole = isinstance(value, int) and abs(scaled) < 1e15
        return draw(st.one_of(st.just(round(scaled) if whole else scaled), numbers))
    if isinstance(value, list):
        return draw(st.sampled_from(([], value + value, value[:1], value[::-1])))
    return dict(list(value.items())[1:])


@st.composite
def changed(draw: _Draw, document: Document, most: int = 3) -> Document:
    """Return a copy of a document with one to `most` small changes, of which most keep the type."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        place = _draw_place(draw, found)
        if place is None:
            return draw(values)
        container, key = place
        what = draw(st.sampled_from(("alike", "alike", "alike", "value", "remove", "add", "repeat", "copy")))
        if what == "alike":
            container[key] = _draw_alike(draw, container[key])
        elif what == "value":
            container[key] = draw(values)
        elif what == "remove":
            del container[key]
        elif what == "copy":  # what stands elsewhere
            other = _draw_place(draw, found)
            container[key] = copy.deepcopy(other[0][other[1]]) if other else None
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(container[key]) if what == "repeat" else draw(values))
        elif what == "repeat":
            container[f"{key}{draw(texts)}"] = copy.deepcopy(container[key])
        else:
            container[draw(texts)] = draw(values)
    return found


_DAMAGE = ("cut", "gap", "flip", "twice", "insert", "head", "wide", "nothing", "lines", "deep")
_HEADS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b\x08", b"\x00" * 9, b"PK\x03\x04", b"[" * 3000, b"{" * 3000)


@st.composite
def damaged(draw: _Draw, data: bytes) -> bytes:
    """Return bytes with one piece of damage, as disks, editors and other programs make it."""
    at = draw(st.integers(0, len(data)))
    length = draw(st.integers(1, 40))
    what = draw(st.sampled_from(_DAMAGE))
    if what == "cut":
        return data[:at]
    if what == "gap":
        return data[:at] + data[at + length :]
    if what == "flip":
        return data[:at] + bytes(255 - byte for byte in data[at : at + length]) + data[at + length :]
    if what == "twice":
        return data + data
    if what == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    if what == "head":
        return draw(st.sampled_from(_HEADS)) + data
    if what == "wide":
        return data.decode("utf-8", "replace").encode("utf-16")
    if what == "deep":  # tables in TOML, of which a parser keeps no stack
        return data + b"\n[" + b"a." * 3000 + b"a]\nb = 1\n"
    if what == "lines":
        return data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"", b"\n\n\n"))))
    return b""


def to_json(document: Document) -> bytes:
    """As another program may write it: NaN and numbers of 400 digits included."""
    return json.dumps(document).encode("ascii")


def to_toml(document: Document) -> bytes:
    """A document as TOML; what TOML can't say (None, half characters) is said as a text."""
    return "".join(f"{_toml_key(key)} = {_toml(value)}\n" for key, value in document.items()).encode(
        "utf-8", "surrogatepass"
    )


def _toml_key(key: str) -> str:
    return json.dumps(str(key))


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)  # nan and inf are TOML too
    return str(value) if isinstance(value, int) else json.dumps(str(value))
