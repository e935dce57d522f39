"""What must hold of every call, whatever the input (docs/reliability.md); each breach is a fault with a name.

The name of an unforeseen error has its kind and its place, so that a campaign tells faults apart.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import replace

from fuzzing.inputs import Input
from fuzzing.sandbox import NOTEBOOK, Outcome

SLOW_S = 10.0  # of CPU time: on a busy machine the clock says little
FORESEEN = {0, 1, 2, 3}
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
_CHECKS = re.compile(r"^(compare|leaderboard|fleet audit|fleet validate|fleet goodput|selftest|run|check)\b")
_FULL = "No space left on device"
_FRAME = re.compile(r'File "[^"]*?/(nameplate(?:_suites|_kernels)?/[^"]+)", line \d+, in (\S+)')
# The library that draws the charts of a page is others' code, in one line.
_SCRIPTS = re.compile(r"<script.*?</script>|<style.*?</style>", re.DOTALL)
_FORCES_COLOUR = {"FORCE_COLOR", "TTY_COMPATIBLE"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b]*\x1b\\")  # and links, which a terminal has too
_MARKUP = re.compile(r"(?<!\\)<(script>alert|img src=x)")


def find_faults(given: Input, found: Outcome) -> Iterator[str]:
    """Yield the names of what is wrong with a call."""
    if _FORCES_COLOUR & dict(given.variables).keys():
        found = replace(found, out=_COLOUR.sub("", found.out), err=_COLOUR.sub("", found.err))
    if found.hung or found.cpu_s > SLOW_S:
        yield f"hang over {SLOW_S:g} s: {command_of(given)}"
        return
    if found.traceback or "Traceback (most recent call last)" in found.err + found.out:
        if not ("/dev/full" in given.words and _FULL in found.err):
            yield f"traceback: {_place(found)}"
        return
    if found.status not in FORESEEN:
        yield f"exit {found.status}: {command_of(given)}"
    if found.status == 1 and not _is_failed_check(given, found):
        yield f"exit 1 without a failed check: {command_of(given)}"
    if found.status in (2, 3) and not _ends_with_a_sentence(found.err):
        yield f"exit {found.status} without a sentence: {command_of(given)}"
    if found.status == 2 and found.out:
        yield f"exit 2 after output: {command_of(given)}"
    for wrote in found.wrote:
        yield f"a write outside: {wrote.split()[0]}: {command_of(given)}"
    yield from _find_raw_text(given, found)
    yield from _find_bad_json(given, found)


def command_of(given: Input) -> str:
    """The command that an input calls, with its subcommand."""
    return " ".join(word for word in given.words[:2] if re.fullmatch("[a-z]+", word))[:40] or "bench"


def _place(found: Outcome) -> str:
    text = found.traceback or found.err + found.out
    frames = _FRAME.findall(text)
    where = f"{frames[-1][0]}:{frames[-1][1]}" if frames else "?"
    return f"{text.rstrip().rpartition(chr(10))[2].partition(':')[0]} in {where}"


def _is_failed_check(given: Input, found: Outcome) -> bool:
    words = given.words
    if not _CHECKS.match(" ".join(words)):
        return False
    if words[0] == "compare":  # nothing is slower than itself
        sides = words[1:3]
        return len(set(sides)) == 2 and "slower by more than" in found.err
    return found.err.startswith("bench: ") or "FAIL" in found.out


def _ends_with_a_sentence(err: str) -> bool:
    lines = err.rstrip("\n").split("\n")
    return lines[-1].startswith("bench: ") and len(lines[-1]) > len("bench: ")


def _find_raw_text(given: Input, found: Outcome) -> Iterator[str]:
    said = {"standard output": found.out, "standard error": found.err}
    for name, text in {**said, **found.files}.items():
        medium = name if name in said else f"a file {name.rpartition('.')[2]}"
        shown = _SCRIPTS.sub("", text) if name.endswith(".html") else text
        raw = {char for char in set(shown) - {"\n"} if unicodedata.category(char) in _UNPRINTABLE}
        if raw:
            codes = " ".join(f"U+{ord(char):04X}" for char in sorted(raw)[:3])
            yield f"raw {codes} in {medium}: {command_of(given)}"
        is_page = given.words[:1] == (NOTEBOOK,) and name == "standard output"
        if (is_page or name.endswith((".html", ".md", ".svg"))) and _MARKUP.search(shown):
            yield f"raw mark-up in {medium}: {command_of(given)}"


def _find_bad_json(given: Input, found: Outcome) -> Iterator[str]:
    if "--json" not in given.words or found.status not in (0, 1) or "--help" in given.words:
        return
    try:
        json.loads(found.out, parse_constant=_refuse)
    except ValueError:
        yield f"no JSON document: {command_of(given)}"


def _refuse(name: str) -> None:
    raise ValueError(f"JSON has no {name}")
