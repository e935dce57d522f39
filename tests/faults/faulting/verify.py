"""What must hold after any fault: nothing finished is lost, nothing lives on, the end is told."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faulting.observed import HUNG, ObservedRun
from nameplate.base.errors import InputError
from nameplate.store.folder import Run, read_run

# What may stay in the temporary folder: tracebacks and saved records, which are told of; torch's cache.
_ALLOWED = ("nameplate-traceback-", "nameplate-rescued-", "torchinductor")

_WRONG = {"line_unreadable", "more_lines_unreadable", "file_unreadable", "torn_line"}
_WRONG |= {"foreign_record", "second_record", "contradictory_record"}


@dataclass
class Try:
    """One fault done to one run, and what came of it. `expected` are the exit statuses that are right.

    `seen` are the cases whose record the command told of; each must be in its folder, or in the one that it
    names as the place where it saved them.
    """

    kind: str
    fault: str = ""
    expected: frozenset[int] = frozenset({0})
    told: tuple[str, ...] = ()  # one of these texts must be said, on the screen or in the manifest
    torn: bool = False  # whether a last line may be torn
    whole: bool = False  # whether every case must have its record
    leaves: bool = False  # whether temporary files may stay behind
    status: int = 0
    after: int = 0  # records that were on disk when it was done
    seen: int = 0
    kept: int = 0
    faults: list[str] = field(default_factory=list)


def find_folders(run: ObservedRun) -> list[Path]:
    """The run's folder, and those that it saved records in."""
    saved = [path.parent for path in run.temporary.glob("nameplate-rescued-*/*/manifest.json")]
    return [*([run.folder] if run.folder else []), *saved]


def verify(run: ObservedRun, found: Try) -> Try:
    """Wait for the end of a run and note what is wrong."""
    found.status = run.end()
    found.faults += [f"an orphan: {each}" for each in run.find_orphans()]
    runs = list(_read(find_folders(run), found))
    cases = {each.case for one in runs for each in one.manifest.expected}
    seen = {case for case in cases for line in run.lines if line.startswith(f"{case}: ")}
    kept = {record.case for one in runs for record in one.records}
    found.seen, found.kept = len(seen), len(kept)
    found.faults += [f"a lost record: {case}" for case in sorted(seen - kept)]
    if len(kept) < found.after:  # a log is told of few records; these were on disk
        found.faults.append(f"a lost record: {found.after - len(kept)} of {found.after}")
    if found.whole and cases and cases - kept:
        found.faults.append(f"not measured: {len(cases - kept)} of {len(cases)} cases")
    if found.whole:
        failed = [each for one in runs for each in one.records if each.status == "failed"]
        found.faults += [f"failed: {each.case}: {each.reason}" for each in failed]
    found.faults += _find_wrong_end(run, runs, found)
    if not found.leaves:
        left = sorted(path.name for path in run.temporary.iterdir() if not path.name.startswith(_ALLOWED))
        found.faults += [f"left behind: {name}" for name in left]
    return found


def _read(folders: Sequence[Path], found: Try) -> Iterator[Run]:
    for folder in folders:
        try:
            run = read_run(folder)
        except InputError as error:
            found.faults.append(f"an unreadable run: {error}")
            continue
        wrong = (
            each for each in run.problems if each.code in _WRONG - ({"torn_line"} if found.torn else set())
        )
        found.faults += [f"a wrong file: {each}" for each in wrong]
        yield run


def _find_wrong_end(run: ObservedRun, runs: Sequence[Run], found: Try) -> Iterator[str]:
    said = "\n".join(run.lines)
    if found.status == HUNG:
        yield "a hang"
    elif found.status not in found.expected:
        expected = " or ".join(map(str, sorted(found.expected)))
        yield f"exit status {found.status}, not {expected}: {run.lines[-1][:200] if run.lines else ''}"
    if "Traceback (most recent call last)" in said:
        yield f"a traceback: {run.lines[-1][:100]}"
    traces = sorted(run.temporary.glob("nameplate-traceback-*"))
    if traces and 70 not in found.expected:
        yield f"a traceback kept: {traces[0].read_text().rstrip().splitlines()[-1][:100]}"
    texts = said + "".join(str(each) for one in runs for each in (*one.manifest.incidents, *one.problems))
    texts += "".join(str(each) for one in runs for record in one.records for each in record.warnings)
    texts += "".join(str(record.reason) for one in runs for record in one.records)
    if found.told and not any(each in texts for each in found.told):
        yield f"untold: {' or '.join(map(repr, found.told))}"


def remove(run: ObservedRun) -> None:
    """Remove what a run wrote, as somebody may while it measures."""
    shutil.rmtree(run.results, ignore_errors=True)
