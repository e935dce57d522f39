"""Run folders that anybody may have made or damaged, for every command that reads one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fuzzing.foreign import changed, damaged, to_json
from fuzzing.inputs import CALLS, Entry, Input, call_each
from fuzzing.sandbox import CHARTED

ROOT = Path(__file__).parents[3]
SEEDS = (
    "results/intel-emerald-rapids/20261122T165536-standard-1901",
    "tests/data/runs/20261129T010000-golden-0002",
    "tests/data/compare/base/20261122T120000-base-0000",
    "tests/data/compare/slower/20261122T120000-slower-0000",
    "tests/fuzz/seeds/twin",
    "tests/fuzz/seeds/step",
    "tests/fuzz/seeds/job",
)
_MOST_LINES = 4  # of a file: a command's time is that of its records
NAME = "20261122T120000-fuzz-0000"

# What a process of a job leaves beside the runs where its check couldn't begin.
_LAUNCH = {"launcher": "slurm", "rank": 3, "world_size": 4, "local_rank": 1, "local_world_size": 2}
_LAUNCH |= {"job": "7", "node": "node18", "hosts": ["node17", "node18"]}
REFUSAL = {"host": "node18", "at": "2026-11-29T12:00:00+00:00", "why": "no GPU", "launch": _LAUNCH}
Files = dict[str, bytes]
# Where links lead: devices, beside the working directory, another run.
_OUTSIDE = "../../../outside"
_LED_TO = ("/dev/zero", "/dev/tty", f"{_OUTSIDE}/kept.txt", f"{_OUTSIDE}/new.txt", f"../../good/{NAME}")


@cache
def load_seed(place: str) -> Mapping[str, bytes]:
    """The files of a recorded run, with few records, and a manifest that expects no more."""
    folder = ROOT / place
    files: Files = {}
    cases: set[str] = set()
    for path in sorted(folder.glob("records-*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)[:_MOST_LINES]
        files[path.name] = b"".join(lines)
        cases |= {json.loads(line)["case"] for line in lines}
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["cases"] = [
        each for each in manifest["cases"] if (each if isinstance(each, str) else each["case"]) in cases
    ]
    files["manifest.json"] = json.dumps(manifest).encode()
    files["DONE"] = b""
    return files


def entries(folder: str, files: Mapping[str, bytes]) -> list[Entry]:
    """The files of a run, in a folder."""
    return [Entry(f"{folder}/{name}", content=content) for name, content in files.items()]


# With weights: reports and prices take many times as long as the others.
# BAD is the run that was changed, GOOD the one that it was made of; OUT is a file to write.
COMMANDS: Sequence[tuple[int, str]] = (
    (24, "show BAD"),
    (8, "show BAD --json"),
    (4, "show BAD --lang zh"),
    (8, "show BAD health advice chain losses throughput shapes warnings unmeasured"),
    (8, "show BAD best effects memory roofline collectives block in-place step idle records"),
    (4, "show BAD machine method reproduce devices graphs parts conventions --lang zh"),
    (2, "show BAD --details"),
    (4, "show BAD GOOD"),
    (4, "show BAD --expect bf16=0.1 --fail-under 0.1"),
    (8, "notebook BAD"),
    (4, "notebook GOOD BAD"),
    (4, "show runs"),
    (4, "list --results runs"),
    (4, "list --results runs --json"),
    (2, "report BAD -o out.md"),
    (1, f"report BAD -o {CHARTED}.md"),
    (1, f"report BAD -o {CHARTED}.html"),
    (1, "report BAD -o out.html"),
    (1, "report BAD GOOD -o out.md"),
    (8, "check BAD"),
    (4, "check runs --json --expect-hosts 3"),
    (12, "compare BAD BAD"),
    (12, "compare GOOD BAD"),
    (4, "compare BAD GOOD --json"),
    (4, "compare GOOD BAD --markdown"),
    (4, "compare good runs"),
    (4, "compare GOOD BAD --across-parts"),
    (4, "export BAD --format csv"),
    (4, "export BAD --format jsonl"),
    (4, "export BAD --format prometheus"),
    (4, "export BAD --format github-action-benchmark"),
    (4, "export BAD --format pytest-benchmark"),
    (4, "export BAD GOOD -o out.csv"),
    (4, "export BAD -o out.parquet"),
    (4, "merge BAD GOOD -o out.jsonl"),
    (4, "merge BAD -o out.csv"),
    (4, "merge runs good -o out.jsonl --json --mixed"),
    (8, "publish BAD --to published"),
    (4, "publish BAD --to published --force --json"),
    (8, "leaderboard runs"),
    (4, "leaderboard runs --check --json"),
    (3, "fleet cost --run BAD --draws 1000"),
    (2, "fleet cost --run BAD --draws 1000 --json"),
    (1, "fleet plan --eflops 1 --run BAD --draws 1000"),
    (8, "run --resume BAD"),
    (8, "check runs"),
    (4, "check runs --json --expect-hosts node[16-18]"),
    (4, "check BAD --expect-gpus 2 --lang zh"),
)
_WORDS = [words for weight, words in COMMANDS for _ in range(weight)]


@st.composite
def _changed_lines(draw: Callable[..., Any], data: bytes) -> bytes:
    """Change one line of a file of records."""
    lines = data.splitlines(keepends=True)
    number = draw(st.integers(0, len(lines) - 1))
    lines[number] = to_json(draw(changed(json.loads(lines[number])))) + b"\n"
    return b"".join(lines)


@st.composite
def inputs(draw: Callable[..., Any]) -> list[Input]:
    """A run folder in which something is odd, and commands that read it."""
    good = dict(load_seed(draw(st.sampled_from(SEEDS))))
    bad = dict(good)
    manifest = json.loads(bad["manifest.json"]) | {"run": NAME, "published": False}
    bad["manifest.json"] = to_json(manifest)
    odd: list[Entry] = []
    folder = f"runs/{NAME}"
    name = draw(st.sampled_from([each for each in bad if each != "DONE"]))
    what = draw(st.sampled_from(("record", "record", "manifest", "manifest", "damage", "file", "published")))
    if what == "record":
        name = draw(st.sampled_from([each for each in bad if each.startswith("records")]))
        bad[name] = draw(_changed_lines(bad[name]))
    elif what in ("manifest", "published"):
        manifest["published"] = what == "published"  # the leaderboard reads no others
        bad["manifest.json"] = to_json(draw(changed(manifest)))
    elif what == "damage":
        bad[name] = draw(damaged(bad[name]))
    else:
        name = draw(st.sampled_from([*bad, "records-zzz-0.jsonl", "notes.txt", "records-cpu-1.jsonl"]))
        bad.pop(name, None)
        kind = draw(st.sampled_from(("pipe", "folder", "link", "gone", "empty")))
        if kind == "link":
            target = draw(st.sampled_from((name, *_LED_TO)))
            odd = [Entry(f"{folder}/{name}", "link", target.encode())]
        elif kind in ("pipe", "folder"):
            odd = [Entry(f"{folder}/{name}", kind)]
        elif kind == "empty":
            bad[name] = b""
    if draw(st.integers(0, 9)) == 0:
        odd.append(Entry("runs/check.refused.json", content=to_json(draw(changed(REFUSAL)))))
    made = [*entries(f"good/{NAME}", good), *entries(folder, bad), *odd]
    names = {"BAD": folder, "GOOD": f"good/{NAME}"}
    lines = draw(st.lists(st.sampled_from(_WORDS), min_size=CALLS, max_size=CALLS, unique=True))
    called = [[names.get(word, word) for word in line.split()] for line in lines]
    return call_each("run-folders", called, made)
