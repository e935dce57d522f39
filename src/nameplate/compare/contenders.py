"""Who is measured in turn: an environment, a commit or the working tree, made ready and removed again."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nameplate.base.errors import InputError
from nameplate.base.files import temporary_folder
from nameplate.base.formatting import duration
from nameplate.base.processes import ChildSilent, run_to_end

WHERE = "--interleave"
# For git, and for a Python that looks for modules: some seconds, more on a cold network file system.
_SHORT_S = 300.0
_EXPECTED = "an environment's folder, its python or bench, a commit, or . for the working tree"
_PYTHONS = ("python", "python3")
_NOWHERE = "nowhere"
# Prints the file that each package would be imported from, without importing it.
_PRINT_ORIGINS = f"""
import sys
from importlib.util import find_spec
for name in sys.argv[1:]:
    found = find_spec(name)
    print(found.origin if found else {_NOWHERE!r})
"""


@dataclass(frozen=True)
class Contender:
    """How `bench run` is started for one side: a Python, and the environment variables added to ours."""

    name: str
    python: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(
        self, *arguments: str, deadline_s: float = _SHORT_S, ends_with_parent: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run its Python to the end, and capture what it prints; see `run_to_end`, also for the errors."""
        # -P: don't import from the working directory, where a torch.py may lie.
        command = [self.python, "-P", *arguments]
        environment = {**os.environ, **self.environment}
        return run_to_end(command, env=environment, deadline_s=deadline_s, ends_with_parent=ends_with_parent)


@contextmanager
def prepare_contender(name: str, folder: Path) -> Iterator[Contender]:
    """Prepare a side: an environment, `.`, or a commit of the repository that `folder` is in.

    A commit is checked out into a temporary folder, which is removed at the end, also after an error. This
    process's Python runs it. Raises InputError for any other name, and where that Python would import other
    code than the commit's.
    """
    python = _find_python(folder / name)
    if name == ".":
        top = _git(folder, "rev-parse", "--show-toplevel")
        tree = folder if top.returncode else Path(top.stdout.strip())
        yield _contender_of_tree("the working tree", tree)
    elif python is not None:
        contender = Contender(name, str(python))
        _check_imports(contender, ())
        yield contender
    else:
        commit = _find_commit(name, folder)
        with _checkout(commit, folder) as tree:
            yield _contender_of_tree(f"{name} ({commit[:10]})", tree)


def _find_python(path: Path) -> Path | None:
    """Return the Python of an environment, given its folder or a program in it; None for anything else.

    Symbolic links aren't followed: a Python finds its environment by the path that it is started by.
    """
    if os.path.isfile(path) and path.name.startswith("python"):
        return path.absolute()
    programs = path.parent if os.path.isfile(path) and os.access(path, os.X_OK) else path / "bin"
    return next((each.absolute() for name in _PYTHONS if os.path.isfile(each := programs / name)), None)


def _contender_of_tree(name: str, tree: Path) -> Contender:
    roots = find_source_roots(tree)
    path = os.pathsep.join([*map(str, roots), *filter(None, [os.environ.get("PYTHONPATH")])])
    contender = Contender(name, sys.executable, {"PYTHONPATH": path})
    _check_imports(contender, roots)
    return contender


def find_source_roots(tree: Path) -> list[Path]:
    """Return the folders that hold a tree's packages: hatch's `dev-mode-dirs`, else `src`, else the tree."""
    try:
        found: Any = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
        for key in ("tool", "hatch", "build", "dev-mode-dirs"):
            found = found[key]
    except (OSError, ValueError, KeyError, TypeError):
        found = []
    roots = [tree / str(name) for name in found] if isinstance(found, list) else []
    return roots or [tree / "src" if (tree / "src").is_dir() else tree]


def _check_imports(side: Contender, roots: Sequence[Path]) -> None:
    """Raise InputError where a side's Python lacks nameplate, or would import other code than its tree's."""
    packages = {each.parent.name: root for root in roots for each in sorted(root.glob("*/__init__.py"))}
    names = ["nameplate", *packages]
    try:
        done = side.run("-c", _PRINT_ORIGINS, *names)
    except OSError as error:
        raise InputError(f"can't be run: {error.strerror}", where=WHERE, got=side.python) from error
    except ChildSilent as silent:
        said = f"gave no answer within {duration(silent.deadline_s)}"
        raise InputError(said, where=WHERE, got=side.python) from None
    # A Python that fails finds nothing.
    origins = {} if done.returncode else dict(zip(names, done.stdout.splitlines(), strict=False))
    if origins.get("nameplate", _NOWHERE) == _NOWHERE:
        expected = "an environment that has it"
        raise InputError("there is no nameplate in it", where=WHERE, got=side.name, expected=expected)
    for name, root in packages.items():
        if not Path(origins[name]).is_relative_to(root):
            what = f"Python imports {name} from elsewhere, not from {side.name}"
            raise InputError(what, where=WHERE, got=origins[name], expected=str(root))


def _find_commit(name: str, folder: Path) -> str:
    done = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if done.returncode:
        raise InputError("neither an environment nor a commit", where=WHERE, got=name, expected=_EXPECTED)
    return done.stdout.strip()


@contextmanager
def _checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a temporary folder, and remove that at the end.

    It is no worktree of git's: nothing is registered in the user's repository, so nothing can be left there.
    """
    with temporary_folder() as place:
        tree = place / commit[:10]
        tree.mkdir()
        index = {"GIT_INDEX_FILE": str(place / "index")}
        everything = ("-c", "core.sparseCheckout=false")
        for arguments in (("read-tree", commit), (f"--work-tree={tree}", "checkout-index", "--all")):
            done = _git(folder, *everything, *arguments, env=index)
            if done.returncode:
                last_line = done.stderr.strip().splitlines()[-1:]
                raise InputError(
                    "can't be checked out", where=WHERE, got=commit, expected=" ".join(last_line) or None
                )
        yield tree


def _git(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run git; where it isn't installed the status is 127, where it gives no answer 128.

    `env` is added to this process's environment.
    """
    command: Sequence[str] = ("git", "-C", str(folder), *arguments)
    try:
        return run_to_end(command, env={**os.environ, **(env or {})}, deadline_s=_SHORT_S)
    except OSError as error:
        return subprocess.CompletedProcess(command, 127, "", str(error))
    except ChildSilent as silent:
        said = f"no answer within {duration(silent.deadline_s)}"
        return subprocess.CompletedProcess(command, 128, "", said)
