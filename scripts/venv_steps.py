"""Carry out the set-up: look at the machine, make .venv, run pip, and stamp it when all of it is done.

The stamp is written last and taken away first, so that it never stands on half an environment.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import venv_plan
from venv_plan import Folder, Machine, Plan, SetupError, Step

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
READY = ".nameplate-ready"
BEGUN = ".nameplate-begun"
LOCK = ".nameplate-lock"
PARENT = "nameplate_parent.pth"  # in the packages of a .venv that is made over another environment
GPU_TIMEOUT_S = 120

# The current folder is left out, so that no folder named torch beside the user is taken for the package.
_LIST_PACKAGES = """
import importlib.metadata, json, sys
sys.path = [entry for entry in sys.path if entry]
found = [(d.metadata["Name"], d.version) for d in importlib.metadata.distributions()]
print(json.dumps([pair for pair in reversed(found) if all(pair)]))
"""
_LIST_FOLDERS = """
import json, sysconfig
print(json.dumps(list(dict.fromkeys(sysconfig.get_paths()[name] for name in ("purelib", "platlib")))))
"""
_TRY_GPU = """
import sys
sys.path = [entry for entry in sys.path if entry]
import torch
if not torch.cuda.is_available():
    sys.exit("torch.cuda.is_available() is False")
ones = torch.ones(8, 8, device="cuda")
if float((ones @ ones).sum()) != 512.0:
    sys.exit("a product on the GPU came out wrong")
print(torch.cuda.get_device_name())
"""


def say(sentence: str) -> None:
    """Tell the user, on standard error."""
    print(sentence, file=sys.stderr, flush=True)


def set_up(folder: str) -> int:
    """Bring the environment in `folder` up to date; returns the exit status."""
    target = Path(folder).absolute()
    try:
        _set_up(target, os.environ.get("TORCH_INDEX_URL", "").strip())
    except SetupError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say(f"{target.name}: interrupted; the next call starts it again")
        return 130
    return 0


def _set_up(target: Path, index_url: str) -> None:
    wanted = wanted_stamp(index_url)
    # Decided twice: without the lock, to be quick where all is done; then with it, as another may have ended.
    if _decide(target, wanted) is Step.NOTHING:
        os.utime(target / READY)  # newer than its inputs again, so that make needn't ask
        return
    target.mkdir(parents=True, exist_ok=True)
    with _only_one(target):
        step = _decide(target, wanted)
        if step is not Step.NOTHING:
            (target / BEGUN).touch()
            (target / READY).unlink(missing_ok=True)
            _fill(target, step, index_url)
            (target / BEGUN).unlink()
            _write_whole(target / READY, wanted)


def wanted_stamp(index_url: str) -> str:
    """Return the stamp that a finished set-up of this tree has."""
    inputs = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return venv_plan.stamp(inputs, index_url, PYTHON)


def _decide(target: Path, wanted: str) -> Step:
    step = venv_plan.next_step(look_at(target), wanted, PYTHON)
    if step is Step.REFUSE:
        raise SetupError(
            f"{target}: expected a folder for the environment, got one that holds something else, or a venv "
            f"made by hand with another Python than {PYTHON}; remove it, or name another: "
            "python3 scripts/make_venv.py FOLDER"
        )
    return step


def look_at(target: Path) -> Folder:
    """See what the folder holds."""
    if target.exists() and not target.is_dir():
        return Folder(empty=False, python=None, begun=False, stamp=None)
    names = {entry.name for entry in target.iterdir()} if target.is_dir() else set()
    stamp = (target / READY).read_text() if READY in names else None
    return Folder(not names - {LOCK}, _python_of(target), BEGUN in names, stamp)


def _python_of(target: Path) -> str | None:
    """Read which Python a venv holds, as "3.11"; None where it has none, or its link leads nowhere."""
    if not (target / "bin" / "python").exists():
        return None
    found = re.search(r"^version(?:_info)? *= *(\d+\.\d+)", _configuration(target), re.MULTILINE)
    return found[1] if found else None


def _configuration(target: Path) -> str:
    try:
        return (target / "pyvenv.cfg").read_text()
    except OSError:
        return ""


def _sees_site(target: Path) -> bool:
    return bool(re.search(r"^include-system-site-packages *= *true", _configuration(target), re.MULTILINE))


@contextmanager
def _only_one(target: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two calls at once don't write into one environment.

    Children inherit the lock: where a call was killed, the next one waits for the pip it left behind.
    """
    with (target / LOCK).open("a") as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{target.name}: another call is setting it up; waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            pass  # a network file system without locks: go on, as one would have before there were any
        yield


def _fill(target: Path, step: Step, index_url: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = venv_plan.read_pins((ROOT / "constraints.txt").read_text())
    plan = _plan(target, step, project, pins, index_url)
    say(f"{target.name}: {plan.why if step is not Step.UPDATE else 'its inputs have changed; updating it'}")
    if step in (Step.CREATE, Step.REMAKE):
        _empty(target)
        _make(target, plan)
    _install(target, plan, project["build-system"]["requires"], index_url)


def _plan(
    target: Path, step: Step, project: Mapping[str, Any], pins: Mapping[str, str], index_url: str
) -> Plan:
    """Plan for this machine; an update doesn't change whose packages .venv sees."""
    pythons: list[str] = []
    if not index_url:
        pythons = _python_beneath(target) if step is Step.UPDATE else pythons_with_packages(target)
    refused = []
    for python in pythons:
        packages = installed_packages(python)
        if "torch" not in packages:
            continue
        requirements = venv_plan.direct_requirements(project["project"])
        worth_a_try = "torch" in venv_plan.satisfying(requirements, packages)
        gpu = gpu_of(python) if worth_a_try else None
        plan = venv_plan.plan(requirements, pins, Machine(packages, gpu), index_url)
        if plan.over_site:
            return replace(plan, python=python)
        refused.append(plan)
    return refused[0] if refused else venv_plan.plan({}, pins, Machine({}, None), index_url)


def base_python() -> str:
    """Return the machine's own Python, also where this one runs in a venv."""
    return getattr(sys, "_base_executable", "") or sys.executable


def pythons_with_packages(target: Path) -> list[str]:
    """Return the Pythons whose torch may be kept: the running one, then the machine's own if it is another.

    On many images python3 lives in a venv that holds the site's torch. An activated .venv isn't made over
    itself.
    """
    in_venv = sys.prefix != sys.base_prefix and Path(sys.prefix).resolve() != target.resolve()
    return [*([sys.executable] if in_venv else []), base_python()]


def _python_beneath(target: Path) -> list[str]:
    """Return the Python whose packages a finished .venv sees; none where it sees its own alone."""
    for link in target.glob(f"lib/python*/site-packages/{PARENT}"):
        return [link.read_text().splitlines()[0].removeprefix("# ")]
    return [base_python()] if _sees_site(target) else []


def installed_packages(python: str) -> dict[str, str]:
    """List what a Python has installed, nearest first on its path: normalised name to version."""
    found = subprocess.run([python, "-c", _LIST_PACKAGES], capture_output=True, text=True, check=False)
    if found.returncode != 0:
        return {}
    return {venv_plan.normalise(name): version for name, version in json.loads(found.stdout)}


def gpu_of(python: str, timeout_s: float = GPU_TIMEOUT_S) -> str | None:
    """Compute something on the GPU with a Python's torch; returns the GPU's name, None where that fails."""
    try:
        tried = subprocess.run(
            [python, "-c", _TRY_GPU], capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        say(f"torch: {python} did not get an answer from a GPU within {timeout_s:g} s")
        return None
    lines = (tried.stdout if tried.returncode == 0 else tried.stderr).strip().splitlines()
    if tried.returncode == 0 and lines:
        return lines[-1]
    say(f"torch: {python} has one, but it can't use a GPU: {lines[-1] if lines else tried.returncode}")
    return None


def _empty(target: Path) -> None:
    for entry in target.iterdir():
        if entry.name in (LOCK, BEGUN):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _make(target: Path, plan: Plan) -> None:
    # A venv on a venv's Python sees only the machine's packages: those of the other environment are linked.
    parent = plan.python if plan.over_site and plan.python != base_python() else None
    sees_site = plan.over_site if parent is None else _sees_site(Path(parent).parent.parent)
    options = ["--system-site-packages"] if sees_site else []
    command = [base_python(), "-m", "venv", *options, str(target)]
    status = subprocess.run(command, check=False, close_fds=False).returncode
    if status != 0:
        raise SetupError(
            f"{target}: python -m venv ended with status {status}, its own words are above; on Debian and "
            "Ubuntu try: apt install python3-venv"
        )
    if parent is not None:
        link_packages(target, parent)


def link_packages(target: Path, python: str) -> None:
    """Have an environment also see what another one's Python has installed, after its own packages."""
    listed = subprocess.run([python, "-c", _LIST_FOLDERS], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        raise SetupError(f"{python}: it could not say where its packages are: {listed.stderr.strip()[-200:]}")
    # addsitedir, not the bare path: packages there may have such files of their own.
    lines = [f"import site; site.addsitedir({folder!r})" for folder in json.loads(listed.stdout)]
    (own,) = target.glob("lib/python*/site-packages")
    (own / PARENT).write_text("\n".join([f"# {python}", *lines]) + "\n")


def _install(target: Path, plan: Plan, build_requires: list[str], index_url: str) -> None:
    """Run pip under each set of versions in turn, until one holds."""
    for number, versions in enumerate(plan.attempts, start=1):
        constraints = target / f".nameplate-constraints-{number}.txt"
        constraints.write_text(venv_plan.constraint_lines(versions))
        failed = _first_failure(target, venv_plan.pip_installs(str(constraints), build_requires, index_url))
        if failed is None:
            return
        if number < len(plan.attempts):
            say(f"{target.name}: pip found no way; trying again with only what is already here held fixed")
    raise SetupError(
        f"{target.name}: {failed}, its own words are above; see to the cause (the network, TORCH_INDEX_URL, "
        "constraints.txt) and give the same command again"
    )


def _first_failure(target: Path, calls: tuple[tuple[str, ...], ...]) -> str | None:
    """Run pip with each call's arguments; returns what failed, None where nothing did."""
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    for arguments in calls:
        command = [str(target / "bin" / "python"), "-m", "pip", *arguments]
        done = subprocess.run(command, check=False, cwd=ROOT, env=environment, close_fds=False)
        if done.returncode != 0:
            return f"pip {arguments[0]} {' '.join(arguments[3:])} ended with status {done.returncode}"
    return None


def _write_whole(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    beside.replace(path)
