"""Odd command lines of every command, made from what typer knows of its flags."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from fuzzing.foreign import NUMBERS, TEXTS
from fuzzing.inputs import CALLS, Entry, Input, call_each
from fuzzing.run_folders import NAME, SEEDS, entries, load_seed
from fuzzing.user_files import CLAIMS, CONFIG, FLEETS, MODEL, PARTS, TWIN

A800 = "nvidia-a800-sxm4-80gb"
# Values that are good for a flag or an argument of this name, whatever the command.
GOOD: Mapping[str, Sequence[str]] = {
    "runs": (f"good/{NAME}", f"other/{NAME}", "latest", NAME, "2026"),
    "named": (f"good/{NAME}", "latest", "chain", "losses", "memory", "records", "best"),
    "base": (f"good/{NAME}", "good", "base.json", "."),
    "new": (f"other/{NAME}", "other", f"good/{NAME}"),
    "results": ("good", "runs", "."),
    "resume": (f"good/{NAME}", "latest"),
    "output": ("out.md", "out.csv", "out.jsonl", "out.parquet", "sub/out.md", "out", "/dev/full"),
    "to": ("published",),
    "folder": ("good", "published"),
    "suite": ("smoke", "quick", "standard", "soak", "step", "memory", "ceiling", "collectives", "scaled"),
    "device": ("cpu", "auto", "all", "cuda", "cuda:7", "tpu", "twin:h200", "twin:mine.toml"),
    "only": ("*", "matmul/*", "[", "x"),
    "nominal": ("fp16=320", "bf16=1", "fp16=1e308", "=1", "fp16="),
    "parts": ("parts.toml", "fleets.toml", "nowhere.toml"),
    "fleets": ("nio", "tesla-2024-q3", "mine", "fleets.toml"),
    "fleet": ("nio", "mine", "tesla"),
    "files": ("fleets.toml", "parts.toml"),
    "claims": ("claims.toml", "parts.toml"),
    "name": ("A800", A800, "Intel(R) Xeon(R) Platinum 8480+", "h100 pcie"),
    "part": (A800, "h100", "my-part"),
    "format": ("csv", "jsonl", "prometheus", "github-action-benchmark", "pytest-benchmark", "parquet"),
    "derate": ("gemm:scaled=0.5", "nominal:datasheet=0.9", "datasheet:step=2"),
    "price": (f"{A800}=1500000", "h100=1..2..3"),
    "assume": ("pue=1.3", "pue=1.1..1.2..1.4", "x=1"),
    "by": ("achieved", "normalized", "efficiency"),
    "lang": ("en", "zh", "tlh"),
    "dtype": ("bf16", "fp32", "fp64"),
    "scenario": ("slow drift", "nothing"),
    "on": ("cpu", "cuda"),
    # Many draws are many seconds, which a user asked for.
    "draws": ("1000", "999", "1", "0", "-1", "10000001", "1e3", "nan", ""),
    "command": ("run", "show"),
    "budget": ("1", "60", "inf", "nan"),
    "shape": ("64x64x64", "1x1x1", "8x8x8,16×16×16", "x", f"{'9' * 18}x1x{'9' * 18}"),
    "model": ("llama3-8b", "model.toml", "config.json", "nowhere.toml"),
    "tokens": ("16", "1,2", "9" * 18),
    "layout": ("nn", "nt,tn", "xx"),
    "expect_gpus": ("8", "0", "1025"),
    "expect_hosts": ("node[01-16]", "4", "a,b", "parts.toml", "r[1-2]n[1-2][3-4]"),
    "again": ("3", "2", "1000", "1001"),
    "repeat": ("5", "1"),
    "twin": ("out.toml", "/dev/full"),
    "years": ("3", "0.5", "30"),
    "rent": ("5", "4..6..9"),
    "eflops": ("1", "2.5"),
    "devices": ("1024", "1"),
    "params": ("7e9", "1e12"),
    "active_params": ("1e9", "7e9"),
    "context": ("4096", "1"),
    "precision": ("bf16", "fp8"),
    "stack": ("tuned", "off-the-shelf"),
    "year": ("2024", "2040"),
    "convention": ("megatron", "6n", "nanogpt", "llm_foundry_hfu"),
    "bound": ("0.5", "9"),
    "cards": ("1024", "8"),
    "parameters": ("8e9", "7e9..8e9"),
    "hours": ("10", "1e5"),
    "every_days": ("14", "0.1"),
    "site_mw": ("10", "0.5", "1e6"),
    "power_limit": ("300", "400", "401", "0"),
    "budget_rmb": ("1e9", "1"),
    "shapes": ("taf-deepseek-v3", "llama3-8b", "model.toml", "config.json", "nowhere.toml"),
    "expect": ("bf16=0.8", "fp32=0", "bf16=2", "=1", "bf16="),
    "fail_under": ("0.5", "0", "2", "nan"),
    "fail_on": ("ambiguous", "slower"),
    "threshold": ("0.02", "1"),
    "restart_spread": ("0.01", "0"),
}
_FEW = frozenset({"draws"})  # only good values
_READ = frozenset({"runs", "run", "base", "new", "parts", "files", "claims", "resume", "name"})
_NUMBERS = (*map(str, NUMBERS), "1..2", "1..2..3", "2..1", "5")
_SLOW = (("fleet", "validate"), ("report",))  # a tenth of a second and more
_SAFE = ("/dev/full",)


@dataclass(frozen=True)
class Flag:
    """A flag or an argument of a command; an argument has no names."""

    names: tuple[str, ...]
    key: str
    takes_value: bool


@cache
def load_commands() -> Mapping[tuple[str, ...], tuple[Flag, ...]]:
    """Every command with its flags and arguments."""
    from typer.main import get_command

    from nameplate.cli import app

    return dict(_walk(get_command(app), ()))


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[Flag, ...]]]:
    for name, each in getattr(command, "commands", {}).items():
        yield from _walk(each, (*path, name))
    flags = []
    for parameter in command.params:
        is_flag = parameter.param_type_name == "option"
        names = (*parameter.opts, *parameter.secondary_opts) if is_flag else ()
        flags.append(Flag(names, parameter.name, not getattr(parameter, "is_flag", False)))
    yield path, tuple(flags)


def _tame(word: str, key: str = "") -> str:
    """Keep what a command writes inside its folder: a word that may name a place to write is relative."""
    if key in _READ or word in _SAFE:
        return word
    return word.replace("..", "__").lstrip("/") if word.startswith("/") or "../" in word else word


@st.composite
def _value(draw: Callable[..., Any], key: str) -> str:
    good = GOOD.get(key, ())
    kind = draw(st.sampled_from(("good", "good", "number", "text", "other")))
    if key in _FEW or (kind == "good" and good):
        return draw(st.sampled_from(good))
    if kind == "other":
        return _tame(draw(st.sampled_from([each for values in GOOD.values() for each in values])), key)
    if kind == "text":
        return _tame(draw(st.sampled_from(TEXTS)), key)
    return draw(st.sampled_from(_NUMBERS))


@st.composite
def _words(draw: Callable[..., Any]) -> list[str]:
    commands = load_commands()
    path = draw(
        st.sampled_from([each for each in sorted(commands) for _ in range(1 if each in _SLOW else 5)])
    )
    flags = commands[path]
    words = list(path)
    for flag in flags:
        if not flag.names and draw(st.integers(0, 7)):
            words += [draw(_value(flag.key)) for _ in range(draw(st.sampled_from((1, 1, 1, 2))))]
    chosen = draw(st.lists(st.sampled_from(flags), max_size=4)) if flags else []
    for flag in chosen:
        if not flag.names or flag.key == "help":
            continue
        name = draw(st.sampled_from(flag.names))
        if not flag.takes_value:
            words.append(name)
        elif draw(st.booleans()) and name.startswith("--"):
            words.append(f"{name}={draw(_value(flag.key))}")
        else:
            words += [name, draw(_value(flag.key))]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), _tame(draw(st.sampled_from(TEXTS))))
    if draw(st.integers(0, 19)) == 0:
        words.append("--help")
    return words


@cache
def good_files() -> tuple[Entry, ...]:
    """Good files of every kind."""
    texts = {
        "parts.toml": PARTS,
        "claims.toml": CLAIMS,
        "fleets.toml": FLEETS,
        "mine.toml": TWIN,
        "model.toml": MODEL,
        "config.json": CONFIG,
        "base.json": "{}",
    }
    return (
        *entries(f"good/{NAME}", load_seed(SEEDS[0])),
        *entries(f"other/{NAME}", load_seed(SEEDS[1])),
        *(Entry(name, content=text.encode()) for name, text in texts.items()),
    )


@st.composite
def inputs(draw: Callable[..., Any]) -> list[Input]:
    """Command lines, beside good files of every kind."""
    return call_each(
        "command-lines", draw(st.lists(_quick_words(), min_size=CALLS, max_size=CALLS)), good_files()
    )


@st.composite
def _quick_words(draw: Callable[..., Any]) -> list[str]:
    words = draw(_words())
    if words[:1] == ["fleet"] and "cost" in words[:2] and not any("--draws" in word for word in words):
        words += ["--draws", "1000"]
    if words[:2] == ["fleet", "plan"] and not any("--draws" in word for word in words):
        words += ["--draws", "1000"]
    return words
