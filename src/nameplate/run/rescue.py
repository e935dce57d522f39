"""Saves what a run has measured where its folder was removed, or takes no more, while it was measured."""

from __future__ import annotations

import shlex
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from nameplate.base.errors import InputError, NameplateError, RunIncomplete
from nameplate.record import Record
from nameplate.store import folder as store
from nameplate.store.manifest import Manifest


def rescue_records(
    folder: Path, manifest: Manifest, held: Sequence[Record], error: NameplateError | None = None
) -> None:
    """Write a run into the system's temporary folder where its own lacks a record that this process holds.

    `held` are all its records, `error` is what ended the measuring. Raises RunIncomplete, which says where
    they are and how to go on; nothing is done where no record is lost, or where they can't be written there
    either.
    """
    try:
        on_disk = {(record.device, record.case) for record in store.read_run(folder).records}
        why = error or "records are lacking in it"
    except InputError as unreadable:
        on_disk, why = set(), error or unreadable
    if all((record.device, record.case) in on_disk for record in held):
        return
    try:
        place = Path(tempfile.mkdtemp(prefix="nameplate-rescued-"))
    except OSError:
        return  # no temporary folder takes anything either
    try:
        found = store.create(place, manifest)
        with store.RecordWriter(found, "rescued") as writer:
            for record in {(record.device, record.case): record for record in held}.values():
                writer.append(record)
        if not store.read_run(found).missing:
            store.mark_done(found)
    except (NameplateError, OSError):
        shutil.rmtree(place, ignore_errors=True)
        return  # a full disk there too: `error` says enough
    raise RunIncomplete(
        f"{why}; all {len(held)} records were written to another folder: bench run --resume "
        f"{shlex.quote(str(found))}"
    ) from error
