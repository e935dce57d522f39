"""From what a user calls a run to its folder: a path, an id, the beginning of one, or `latest`.

Without a folder to look in (`--results`), runs are looked for in `runs/` and `results/` of the working
directory and of each one above it, up to the top of its project. A run is known by the name of its folder,
which is its id: manifests are read only to tell which run is the latest, and where a folder was renamed.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.store.folder import DONE, MANIFEST, find_runs, read_manifest
from nameplate.store.manifest import Manifest

LATEST = "latest"
MEASURED, PUBLISHED = "runs", "results"
_PROJECT_TOPS = (".git", "pyproject.toml")
_MOST_NAMED = 5

Results = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Contents:
    """What a library holds: each run once, the newest first, and the folders in which no run can be read."""

    runs: tuple[tuple[Path, Manifest], ...]
    unreadable: tuple[Path, ...]


@dataclass(frozen=True)
class Library:
    """The folders in which runs are looked for, in order: of a run found in two of them, the first counts."""

    folders: tuple[Path, ...]
    given: bool = False  # by --results

    @property
    def places(self) -> str:
        """The folders in words: `runs or results`; without those that aren't there, unless none is."""
        there = [folder for folder in self.folders if os.path.isdir(folder)] or self.folders
        return _or([str(folder) for folder in there])

    @property
    def list_command(self) -> str:
        """What lists the runs of this library."""
        return f"`bench list{self._flag}`"

    @property
    def run_command(self) -> str:
        """What measures a run into this library."""
        return f"`bench run{self._flag}`"

    @property
    def _flag(self) -> str:
        return f" --results {shlex.quote(str(self.folders[0]))}" if self.given else ""

    def find(self, name: str, or_else: str = "") -> Path:
        """The folder of the run of this id, or of the one run whose id begins so.

        Raises InputError where there is none, with the closest ids and what else could be named (`or_else`),
        and where there are several.
        """
        whole = next((each / name for each in self.folders if name and _is_run(each / name)), None)
        if whole is not None:
            return whole
        folders = self._by_name()
        found = _matching(name, folders) or _matching(name, self._by_id())
        found = _each_run_once(found) if len(found) > 1 else found
        if len(found) > 1:
            raise InputError(
                "more than one run begins so",
                got=name,
                expected=f"one of {_some(sorted(found, reverse=True))}",
            )
        if not found:
            raise self._unknown(name, folders, or_else)
        return next(iter(found.values()))

    def latest(self, *, unfinished: bool = False) -> Path:
        """The folder of the run that was begun last, or of the last of those that can be resumed.

        Raises InputError where there is none.
        """
        contents = self.contents()
        for folder, manifest in contents.runs:
            if not unfinished or not (manifest.published or (folder / DONE).exists()):
                return folder
        what = "no run is unfinished" if contents.runs else "there is no run"
        if contents.unreadable:
            what += f" (passed over {describe_unreadable(contents.unreadable)})"
        expected = "a run to go on with" if unfinished else f"a run ({self.run_command} makes one)"
        raise InputError(what, where=self.places, got=LATEST, expected=expected)

    def contents(self) -> Contents:
        """Every run with its manifest; a folder of which it can't be read is named in `unreadable`."""
        runs: dict[str, tuple[Path, Manifest]] = {}
        unreadable: list[Path] = []
        for each in self.folders:
            folders, others = _runs_below(each)
            unreadable += others
            for folder in folders:
                try:
                    manifest = read_manifest(folder)
                except InputError:
                    unreadable.append(folder)
                    continue
                # A copy or a link may have another name: the run's is the one that `find` takes for its id.
                known = runs.get(manifest.run)
                if known is None or folder.name == manifest.run != known[0].name:
                    runs[manifest.run] = folder, manifest
        ordered = sorted(runs.values(), key=lambda run: (run[1].moment, run[1].run), reverse=True)
        return Contents(tuple(ordered), tuple(unreadable))

    def _by_name(self) -> dict[str, Path]:
        """Every run folder by its name."""
        found: dict[str, Path] = {}
        for each in self.folders:
            for folder in _runs_below(each)[0]:
                found.setdefault(folder.name, folder)
        return found

    def _by_id(self) -> dict[str, Path]:
        """Every run folder by the id that its manifest has."""
        return {manifest.run: folder for folder, manifest in self.contents().runs}

    def _unknown(self, name: str, known: Iterable[str], or_else: str) -> InputError:
        expected = f"a run folder, or the id of one in {self.places}, its beginning, or {LATEST}"
        expected += f", or {or_else}" if or_else else ""
        close = difflib.get_close_matches(Path(name).name, known, n=3, cutoff=0.6)
        if close:
            expected += f"; the closest {'is' if len(close) == 1 else 'are'} {', '.join(close)}"
        what = "a folder, but not a run's" if name and os.path.isdir(name) else "no such run"
        return InputError(what, got=name, expected=f"{expected}; {self.list_command} lists all")


def _each_run_once(found: Mapping[str, Path]) -> dict[str, Path]:
    """The folders without those that are links to, or copies of, a run that another of them has by its id."""
    ids = {name: _id_of(folder, name) for name, folder in found.items()}
    return {name: folder for name, folder in found.items() if ids[name] == name or ids[name] not in found}


def _id_of(folder: Path, name: str) -> str:
    try:
        return read_manifest(folder).run
    except InputError:
        return name


def find_run(name: str | os.PathLike[str], results: Results = None) -> Path:
    """The folder of the run that a user names: by its folder, its id, the beginning of its id, or `latest`.

    `results` is the only folder to look in; without it the project's are. Raises InputError where there is
    no such run, and where the beginning is that of several.
    """
    return _find(os.fspath(name), results, unfinished=False)


def find_unfinished(name: str | os.PathLike[str], results: Results = None) -> Path:
    """The folder of a run that is to be gone on with, as `find_run`, but among measured runs alone.

    `latest` is the latest that is unfinished.
    """
    return _find(os.fspath(name), results, unfinished=True)


def find_all(name: str | os.PathLike[str], results: Results = None, *, or_else: str = "") -> list[Path]:
    """The folders of the runs that a user names: every run in a folder of runs, or the one of `find_run`.

    `or_else` is what else could be named, for the error where there is none.
    """
    below = find_runs(Path(name)) if os.path.isdir(name) else []
    return below or [_find(os.fspath(name), results, unfinished=False, or_else=or_else)]


def library(results: Results = None) -> Library:
    """Where runs are looked for: `results`, or the project's `runs/` and then its `results/`, nearest first.

    Raises InputError for a file, and where the working directory is gone.
    """
    return _library(results, (MEASURED, PUBLISHED))


def describe_unreadable(folders: Sequence[Path]) -> str:
    """`3 folders that hold no run that can be read: runs/a, runs/b, runs/c`."""
    many = "a folder that holds" if len(folders) == 1 else f"{len(folders)} folders that hold"
    return f"{many} no run that can be read: {_some(list(map(str, folders)), 'and')}"


def _find(name: str, results: Results, *, unfinished: bool, or_else: str = "") -> Path:
    if name and _is_run(Path(name)):
        return Path(name)
    # A published copy is finished, and never gone on with.
    found = _library(results, (MEASURED,) if unfinished else (MEASURED, PUBLISHED))
    return found.latest(unfinished=unfinished) if name == LATEST else found.find(name, or_else)


def _library(results: Results, names: Sequence[str]) -> Library:
    """The folder that is given, or the project's folders of these names."""
    if results is None:
        folders = _project_folders()
        return Library(tuple(folder / name for name in names for folder in folders))
    given = Path(results)
    if not os.path.isdir(given):
        what = "not a folder" if os.path.exists(given) else "no such folder"
        raise InputError(what, where="--results", got=str(given), expected="a folder of runs")
    return Library((given,), given=True)


def _project_folders() -> list[Path]:
    """The working directory and those above it up to the project's top, seen from the first.

    Outside of a project it is alone.
    """
    try:
        here = Path.cwd()
    except OSError as error:
        raise InputError(
            f"the working directory can't be read: {error.strerror}", expected="a folder that is there"
        ) from error
    for up, folder in enumerate((here, *here.parents)):
        if any(os.path.exists(folder / top) for top in _PROJECT_TOPS):
            return [Path(*[os.pardir] * steps) for steps in range(up + 1)]
    return [Path()]


def _is_run(folder: Path) -> bool:
    # Unlike Path.is_file, this is False for a name that no file can have, such as one that is too long.
    return os.path.isfile(folder / MANIFEST)


def _runs_below(folder: Path) -> tuple[list[Path], list[Path]]:
    """The run folders at or below a folder, and those beside them without a run; hidden ones are neither."""
    if _is_run(folder):
        return [folder], []
    runs: list[Path] = []
    others: list[Path] = []
    for child in _subfolders(folder):
        # A link to a run counts as one; others aren't followed, for they may lead round in a circle.
        inside, beside = _runs_below(child) if not child.is_symlink() or _is_run(child) else ([], [])
        runs += inside
        others += beside if inside else [child]
    return runs, others


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError:
        return []


def _matching(name: str, known: Mapping[str, Path]) -> dict[str, Path]:
    """The run of exactly this id, else those whose id begins so."""
    if name in known:
        return {name: known[name]}
    return {each: folder for each, folder in known.items() if name and each.startswith(name)}


def _some(names: Sequence[str], last: str = "or") -> str:
    """The first few names, and how many more there are."""
    if len(names) > _MOST_NAMED:
        return f"{', '.join(names[:_MOST_NAMED])} and {len(names) - _MOST_NAMED} more"
    return ", ".join(names)


def _or(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
