"""Find the run folder that a user names: by a path, an id, the beginning of an id, or `latest`.

Without `--results`, runs are looked for in the folders `runs/` and `results/` of the working directory and of
each directory above it, up to the top of the project. A run folder is named by the run's id. Manifests are
only read to find the latest run, and to find runs whose folder was renamed.
"""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nameplate.base.errors import InputError
from nameplate.base.files import DEEPEST
from nameplate.base.text import join_or
from nameplate.store.folder import DONE, MANIFEST, find_runs, read_manifest
from nameplate.store.manifest import Manifest

LATEST = "latest"
MEASURED, PUBLISHED = "runs", "results"
_PROJECT_TOPS = (".git", "pyproject.toml")
_MOST_LISTED = 5

Results = str | os.PathLike[str] | None


@dataclass(frozen=True)
class Contents:
    """The runs of a library, each once and the newest first, and the folders without a readable run."""

    runs: tuple[tuple[Path, Manifest], ...]
    unreadable: tuple[Path, ...]


@dataclass(frozen=True)
class Library:
    """The folders to look for runs in, in order: of a run that is in two of them, the first counts."""

    folders: tuple[Path, ...]
    given: bool = False  # by --results

    @property
    def places(self) -> str:
        """The existing folders as text, such as `runs or results`; all folders where none exists."""
        existing = [folder for folder in self.folders if os.path.isdir(folder)] or self.folders
        return join_or(map(str, existing))

    @property
    def list_command(self) -> str:
        """The command that lists the runs of this library."""
        return f"`bench list{self._flag}`"

    @property
    def run_command(self) -> str:
        """The command that measures a run into this library."""
        return f"`bench run{self._flag}`"

    @property
    def _flag(self) -> str:
        return f" --results {shlex.quote(str(self.folders[0]))}" if self.given else ""

    def find(self, name: str, or_else: str = "") -> Path:
        """Return the folder of the run with this id, or of the only run whose id begins with it.

        Raises InputError where there is none or more than one. The sentence names the closest ids, and
        `or_else`, which says what else the user could name.
        """
        exact = next((each / name for each in self.folders if name and _is_run(each / name)), None)
        if exact is not None:
            return exact
        folders = self._map_by_name()
        found = _match(name, folders) or _match(name, self._map_by_id())
        found = _drop_copies(found) if len(found) > 1 else found
        if len(found) > 1:
            raise InputError(
                "more than one run's id begins like that",
                got=name,
                expected=f"one of {_list_some(sorted(found, reverse=True))}",
            )
        if not found:
            raise self._explain_unknown(name, folders, or_else)
        return next(iter(found.values()))

    def latest(self, *, unfinished: bool = False) -> Path:
        """Return the folder of the newest run, or of the newest run that can be resumed.

        Raises InputError where there is none.
        """
        contents = self.read()
        for folder, manifest in contents.runs:
            if not unfinished or not (manifest.published or os.path.exists(folder / DONE)):
                return folder
        what = "no run is unfinished" if contents.runs else "there is no run"
        if contents.unreadable:
            what += f" (passed over {describe_unreadable(contents.unreadable)})"
        expected = "an unfinished run" if unfinished else f"a run ({self.run_command} makes one)"
        raise InputError(what, where=self.places, got=LATEST, expected=expected)

    def read(self) -> Contents:
        """Read the manifest of every run. Raises nothing: what can't be read is in `unreadable`."""
        runs: dict[str, tuple[Path, Manifest]] = {}
        unreadable: list[Path] = []
        for each in self.folders:
            folders, others = _find_run_folders(each)
            unreadable += others
            for folder in folders:
                try:
                    manifest = read_manifest(folder)
                except InputError:
                    unreadable.append(folder)
                    continue
                # A copy or a link may have another name. Prefer the folder that is named by the run's id.
                known = runs.get(manifest.run)
                if known is None or folder.name == manifest.run != known[0].name:
                    runs[manifest.run] = folder, manifest
        ordered = sorted(runs.values(), key=lambda run: (run[1].began, run[1].run), reverse=True)
        return Contents(tuple(ordered), tuple(unreadable))

    def _map_by_name(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        for each in self.folders:
            for folder in _find_run_folders(each)[0]:
                found.setdefault(folder.name, folder)
        return found

    def _map_by_id(self) -> dict[str, Path]:
        return {manifest.run: folder for folder, manifest in self.read().runs}

    def _explain_unknown(self, name: str, known: Iterable[str], or_else: str) -> InputError:
        expected = f"a run folder, or the id of one in {self.places}, its beginning, or {LATEST}"
        expected += f", or {or_else}" if or_else else ""
        close = difflib.get_close_matches(Path(name).name, known, n=3, cutoff=0.6)
        if close:
            expected += f"; the closest {'is' if len(close) == 1 else 'are'} {', '.join(close)}"
        what = "a folder, but not a run's" if name and os.path.isdir(name) else "no such run"
        return InputError(what, got=name, expected=f"{expected}; {self.list_command} lists all")


def find_run(name: str | os.PathLike[str], results: Results = None) -> Path:
    """Return the folder of the run that a user names: its folder, its id, the beginning of it, or `latest`.

    `results` is the only folder to look in; without it the project's folders are. Raises InputError where
    there is no such run, and where several ids begin so.
    """
    return _find(os.fspath(name), results, unfinished=False)


def find_unfinished(name: str | os.PathLike[str], results: Results = None) -> Path:
    """Return the folder of a run to resume, as `find_run` does, but never that of a published copy.

    `latest` is the newest unfinished run.
    """
    return _find(os.fspath(name), results, unfinished=True)


def find_all(name: str | os.PathLike[str], results: Results = None, *, or_else: str = "") -> list[Path]:
    """Return every run folder in a folder of runs, or the one that `find_run` finds.

    `or_else` says what else the user could name, for the InputError where there is no run.
    """
    below = find_runs(Path(name)) if os.path.isdir(name) else []
    return below or [_find(os.fspath(name), results, unfinished=False, or_else=or_else)]


def open_library(results: Results = None) -> Library:
    """Return where to look for runs: in `results`, or in the project's `runs/`, then its `results/`.

    Raises InputError where `results` isn't a folder, and where the working directory doesn't exist any more.
    """
    return _open_library(results, (MEASURED, PUBLISHED))


def describe_unreadable(folders: Sequence[Path]) -> str:
    """`3 folders that hold no run that can be read: runs/a, runs/b, runs/c`."""
    many = "a folder that holds" if len(folders) == 1 else f"{len(folders)} folders that hold"
    return f"{many} no run that can be read: {_list_some(list(map(str, folders)))}"


def _find(name: str, results: Results, *, unfinished: bool, or_else: str = "") -> Path:
    if name and _is_run(Path(name)):
        return Path(name)
    # A published copy can't be resumed.
    library = _open_library(results, (MEASURED,) if unfinished else (MEASURED, PUBLISHED))
    return library.latest(unfinished=unfinished) if name == LATEST else library.find(name, or_else)


def _open_library(results: Results, names: Sequence[str]) -> Library:
    if results is None:
        folders = _find_project_folders()
        return Library(tuple(folder / name for name in names for folder in folders))
    given = Path(results)
    if not os.path.isdir(given):
        what = "not a folder" if os.path.exists(given) else "no such folder"
        raise InputError(what, where="--results", got=str(given), expected="a folder of runs")
    return Library((given,), given=True)


def _find_project_folders() -> list[Path]:
    """Return the working directory and those above it up to the project's top, as relative paths.

    Outside of a project: the working directory alone.
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


def _find_run_folders(folder: Path, depth: int = DEEPEST) -> tuple[list[Path], list[Path]]:
    """Return the run folders at or below a folder, and the folders below it without a run.

    Hidden folders are skipped, and those below that depth.
    """
    if _is_run(folder):
        return [folder], []
    if not depth:
        return [], []
    runs: list[Path] = []
    others: list[Path] = []
    for child in _list_subfolders(folder):
        # A link to a run counts as a run. Other links aren't followed: they may form a circle.
        followed = not child.is_symlink() or _is_run(child)
        inside, beside = _find_run_folders(child, depth - 1) if followed else ([], [])
        runs += inside
        others += beside if inside else [child]
    return runs, others


def _list_subfolders(folder: Path) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    # Unlike Path.is_dir, this is False for a link that leads where nothing can be: others stay.
    found = (folder / name for name in names if not name.startswith("."))
    return [each for each in found if os.path.isdir(each)]


def _match(name: str, known: Mapping[str, Path]) -> dict[str, Path]:
    """Return the folder of exactly this id, else those whose id begins with it."""
    if name in known:
        return {name: known[name]}
    return {each: folder for each, folder in known.items() if name and each.startswith(name)}


def _drop_copies(found: Mapping[str, Path]) -> dict[str, Path]:
    """Drop renamed copies of, and links to, a run whose own folder is among the folders too."""
    ids = {name: _read_id(folder, name) for name, folder in found.items()}
    return {name: folder for name, folder in found.items() if ids[name] == name or ids[name] not in found}


def _read_id(folder: Path, default: str) -> str:
    try:
        return read_manifest(folder).run
    except InputError:
        return default


def _list_some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    if len(names) > _MOST_LISTED:
        return f"{', '.join(names[:_MOST_LISTED])} and {len(names) - _MOST_LISTED} more"
    return ", ".join(names)
