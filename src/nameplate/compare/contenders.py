"""What is measured in turn: the Python of an environment, or a commit checked out for as long as it takes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError

WHERE = "--interleave"
_EXPECTED = "an environment's folder, its python or bench, a commit, or . for the working tree"
_PYTHONS = ("python", "python3")
_NOWHERE = "nowhere"
# Where a Python finds the packages it is asked for, none of them imported.
_ORIGINS = f"""
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    found = find_spec(name)
    print(found.origin if found else {_NOWHERE!r})
"""


@dataclass(frozen=True)
class Contender:
    """How `bench run` is started for one side: a Python, and what its environment has beside ours."""

    name: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run its Python to the end; what it prints is kept."""
        # -P: a torch.py in the working directory is nobody's torch.
        return subprocess.run(
            [self.python, "-P", *arguments],
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )


@contextmanager
def contender(name: str, folder: Path) -> Iterator[Contender]:
    """Get a side ready: an environment as it is, `.` or a commit of the repository that `folder` is in.

    A commit is checked out beside the repository's own tree, which stays as it is, and removed at the end,
    however that comes. It is run by this Python. Raises InputError for what is neither, and where that Python
    would import other code than the commit's.
    """
    python = _python_of(folder / name)
    if name == ".":
        yield _of_tree("the working tree", _top(folder) or folder)
    elif python is not None:
        yield _checked(Contender(name, str(python)), ())
    else:
        commit = _commit(name, folder)
        with _worktree(commit, folder) as tree:
            yield _of_tree(f"{name} ({commit[:10]})", tree)


def _python_of(path: Path) -> Path | None:
    """The Python of an environment, by its folder or by a program in it; None for anything else.

    A link stays one: it's by its own place that a Python knows its environment.
    """
    if os.path.isfile(path) and path.name.startswith("python"):
        return path.absolute()
    programs = path.parent if os.path.isfile(path) and os.access(path, os.X_OK) else path / "bin"
    return next((each.absolute() for name in _PYTHONS if os.path.isfile(each := programs / name)), None)


def _of_tree(name: str, tree: Path) -> Contender:
    roots = source_roots(tree)
    path = os.pathsep.join([*map(str, roots), *filter(None, [os.environ.get("PYTHONPATH")])])
    return _checked(Contender(name, sys.executable, {"PYTHONPATH": path}), roots)


def source_roots(tree: Path) -> list[Path]:
    """The folders that hold a tree's packages: as hatch has them, else `src`, else the tree itself."""
    roots = [tree / name for name in _hatch_roots(tree / "pyproject.toml")]
    return roots or [tree / "src" if (tree / "src").is_dir() else tree]


def _hatch_roots(pyproject: Path) -> list[str]:
    try:
        found: Any = tomllib.loads(pyproject.read_text(encoding="utf-8"))
        for key in ("tool", "hatch", "build", "dev-mode-dirs"):
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [str(name) for name in found] if isinstance(found, list) else []


def _checked(side: Contender, roots: Sequence[Path]) -> Contender:
    """Refuse a side whose Python lacks nameplate, and one that would import other code than its tree's."""
    mine = {name: root for root in roots for name in _packages(root)}
    found = _origins(side, ["nameplate", *mine])
    if found.get("nameplate", _NOWHERE) == _NOWHERE:
        expected = "an environment that has it"
        raise InputError("there is no nameplate in it", where=WHERE, got=side.name, expected=expected)
    for name, root in mine.items():
        if not Path(found[name]).is_relative_to(root):
            what = f"Python takes {name} from elsewhere, not from {side.name}"
            raise InputError(what, where=WHERE, got=found[name], expected=str(root))
    return side


def _origins(side: Contender, names: Sequence[str]) -> dict[str, str]:
    """The file that each package would be imported from; empty where its Python breaks."""
    try:
        done = side.run("-c", _ORIGINS, *names)
    except OSError as error:
        raise InputError(f"can't be run: {error.strerror}", where=WHERE, got=side.python) from error
    return {} if done.returncode else dict(zip(names, done.stdout.splitlines(), strict=False))


def _packages(root: Path) -> list[str]:
    return sorted(each.parent.name for each in root.glob("*/__init__.py"))


def _commit(name: str, folder: Path) -> str:
    done = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise InputError("neither an environment nor a commit", where=WHERE, got=name, expected=_EXPECTED)
    return done.stdout.strip()


def _top(folder: Path) -> Path | None:
    """The top of the repository that a folder is in; None where it's in none."""
    done = _git(folder, "rev-parse", "--show-toplevel")
    return None if done.returncode else Path(done.stdout.strip())


@contextmanager
def _worktree(commit: str, folder: Path) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="nameplate-"))
    tree = place / commit[:10]
    try:
        done = _git(folder, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            raise InputError("can't be checked out", where=WHERE, got=commit, expected=" ".join(said) or None)
        yield tree
    finally:
        _git(folder, "worktree", "remove", "--force", str(tree))
        shutil.rmtree(place, ignore_errors=True)
        _git(folder, "worktree", "prune")


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git; one that isn't installed says so by its status."""
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
