"""Odd environments: what launchers of jobs, shells and users may have set, for commands that are good."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from fuzzing.command_lines import good_files
from fuzzing.foreign import NUMBERS, TEXTS
from fuzzing.inputs import CALLS, Input, call_each
from fuzzing.run_folders import NAME

_COUNTS = ("0", "1", "2", "3", "-1", "+1", " 1", "1.0", "1e9", "200000", "200001", str(2**63), "٣", "0x2", "")
_HOSTS = (
    "node[01-04]",
    "a,b",
    "a,a",
    "n[1-2]x[1-2]",
    "n[9-1]",
    "n[1-",
    "n[1-999999999]",
    "[1-2]",
    ",",
    "a b",
    "a," * 20_000,
    ",".join(["n[1-2]"] * 10_000),
)
_NODES = ("node01", "-", "a" * 300, "a/b", "127.0.0.1")
_SECONDS = ("1", "0", "-1", "nan", "inf", "1e7", "1e-320", "soon")
_LANGUAGES = ("C", "POSIX", "zh_CN.GBK", "en_US.UTF-8", "xx", "tr_TR", "C.UTF-8@x")
_TEXTS = [text for text in TEXTS if not set(text) & {"\0", "\ud800"}]  # others can't be set
# None: the variable is not set.
VARIABLES: dict[str, tuple[str | None, ...]] = {
    **dict.fromkeys(("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"), (*_COUNTS, None)),
    **dict.fromkeys(("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"), _COUNTS),
    **dict.fromkeys(("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID"), _COUNTS),
    **dict.fromkeys(("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"), _COUNTS),
    "SLURM_STEP_TASKS_PER_NODE": ("2(x3),1", "1(x999999999)", "1(x99999)," * 9_000, "(x", "0", "2(x0)"),
    "SLURM_STEP_NODELIST": _HOSTS,
    "SLURM_JOB_NODELIST": _HOSTS,
    "SLURMD_NODENAME": _NODES,
    "SLURM_JOB_ID": ("7", "a/b", "../7"),
    "TORCHELASTIC_RUN_ID": ("none", ""),
    "MASTER_ADDR": ("127.0.0.1", "nowhere.invalid", "", "::1"),
    "MASTER_PORT": ("0", "-1", "65536", "http"),
    "NAMEPLATE_READY_DEADLINE_S": _SECONDS,
    "NAMEPLATE_STEP_DEADLINE_S": _SECONDS,
    "NAMEPLATE_NVML_DEADLINE_S": _SECONDS,
    "NAMEPLATE_PARTS": ("parts.toml", "nowhere.toml", "parts.toml:parts.toml", ".", ":", "fleets.toml"),
    "COLUMNS": ("0", "1", "-1", "20", "999999999", "1e3", "x", "²", "٣", None),
    "LINES": ("0", "-1", "x", "²", "9" * 5_000, None),
    "XDG_DATA_HOME": ("here", "/dev/null", "/nowhere", "", None),
    "LANG": _LANGUAGES,
    "LC_ALL": _LANGUAGES,
    "LANGUAGE": ("zh:en", "xx"),
    "TERM": ("dumb", "unknown", "", None),
    "NO_COLOR": ("1", ""),
    "FORCE_COLOR": ("1",),
    "TTY_COMPATIBLE": ("1", "0"),
    "TTY_INTERACTIVE": ("1", "0"),
    "HOME": ("/nowhere", "", "/dev/null", None),
    "PATH": ("", "/nowhere", None),
    "TZ": ("nowhere", "UTC+99", ""),
    "CUDA_VISIBLE_DEVICES": ("", "-1", "7", "x", "0,0"),
    "OMP_NUM_THREADS": ("0", "-1", "x", "1e9"),
}
COMMANDS = (
    "check --device cpu",
    "check --json",
    "check --expect-gpus 2",
    "check good --expect-hosts node[01-02]",
    "run smoke --device cpu",
    "run smoke --device twin:h200 --json",
    "run collectives",
    "run collectives --device cpu --json",
    f"show good/{NAME}",
    f"show good/{NAME} --json",
    f"show good/{NAME} chain losses --lang zh",
    f"publish good/{NAME} --to published --force",
    f"merge good other/{NAME} -o out.csv --json",
    f"notebook good/{NAME}",
    "list --results good",
    f"compare good/{NAME} other/{NAME}",
    "devices --device twin:h200",
    "devices --json --device cpu",
    "specs A800",
    "specs my-part",
    "fleet derate --part h100 --devices 8",
    "suites",
    "fleet cost --help",
)


@st.composite
def _draw_variables(draw: Callable[..., Any]) -> dict[str, str | None]:
    names = draw(st.lists(st.sampled_from(list(VARIABLES)), min_size=1, max_size=3, unique=True))
    if draw(st.booleans()):  # a launcher sets several
        names += ["RANK", "WORLD_SIZE"] if draw(st.booleans()) else ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS"]
    found = {}
    for name in names:
        kind = draw(st.integers(0, 5))
        if kind == 0:
            found[name] = draw(st.sampled_from(_TEXTS))
        elif kind == 1:
            found[name] = str(draw(st.sampled_from(NUMBERS)))
        else:
            found[name] = draw(st.sampled_from(VARIABLES[name]))
    return found


@st.composite
def inputs(draw: Callable[..., Any]) -> list[Input]:
    """Commands that are good, with one to five variables that may be odd."""
    lines = draw(st.lists(st.sampled_from(COMMANDS), min_size=CALLS, max_size=CALLS, unique=True))
    variables = tuple(draw(_draw_variables()).items())
    return call_each("environments", map(str.split, lines), good_files(), variables)
