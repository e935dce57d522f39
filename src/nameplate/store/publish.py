"""Publish a run: copy its figures unchanged, with hashes in place of what identifies the machine."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from nameplate.base.errors import InputError, write_error
from nameplate.base.files import MIB, read_text
from nameplate.base.messages import Message, edit_texts, message
from nameplate.record import Record
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest

_KEY_EXPECTED = "a readable file, or a folder to make it in"
_KEY_BYTES = 32
_TRIAL = "smoke"  # shows that everything runs; its cases have too little time for a figure to rank by
_SECRET_FIELDS = ("uuid", "serial", "pci_bus_id")


def publish_run(run: Run, results: Path, *, force: bool = False) -> Path:
    """Write `run` under `results/<part>/<run id>/` and return that folder.

    Host name, serial, UUID and PCI address become keyed hashes: equal ones stay equal among the results of
    one publisher, and others can't guess them, because the key stays in the publisher's data folder. Raises
    InputError for a run that isn't finished, has no `ok` record, a contradictory one or no part, and for one
    that is already published or is itself a published copy. Also for a run of the suite smoke and for figures
    above a peak, unless `force` is given; the published manifest then says why it had to be (`forced`).
    """
    _check_publishable(run)
    unfit = explain_unfit(run)
    if unfit is not None and not force:
        raise InputError(
            str(unfit),
            where=run.id,
            expected="a run that others can be compared with, or --force, which the published run then says",
        )
    key = _read_or_make_key()
    hidden = {secret: _hash(secret, key) for secret in _find_secrets(run.manifest)}
    target = results / str(run.manifest.devices[0].part) / run.id
    if os.path.exists(target):
        raise InputError(
            "already published", where="bench publish", got=run.id, expected=f"a run not in {results}"
        )
    manifest = _anonymize(run.manifest, hidden).model_copy(update={"forced": unfit})
    with _unfinished_folder(target) as unfinished:
        store.create(unfinished, manifest)
        with store.RecordWriter(unfinished / run.id, manifest.devices[0].name.replace(":", "")) as writer:
            for record in run.records:
                writer.write(_anonymize_record(record, hidden))
        store.mark_done(unfinished / run.id)
        (unfinished / run.id).rename(target)
    return target


def explain_unfit(run: Run) -> Message | None:
    """Return why a run shouldn't stand for its part although it was measured; None for one that may."""
    if run.manifest.suite == _TRIAL:
        return message("only_a_trial", suite=_TRIAL)
    above = [record.case for record in run.records if "above_peak" in record.verdicts]
    return message("figures_above_peak", count=len(above), case=above[0]) if above else None


def describe_untrusted(run: Run) -> str | None:
    """Say how many measured records of a run don't count, and why; None where all do.

    They are published too, for records are never picked by their figures; but nothing is ranked by them.
    """
    measured = [record for record in run.records if record.status == "ok"]
    doubted = Counter(record.verdict for record in measured if not record.trusted)
    if not doubted:
        return None
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in doubted.most_common())
    return (
        f"{doubted.total()} of its {len(measured)} measured records aren't trusted ({verdicts}): they are "
        "published with their verdicts, and nothing is ranked by them"
    )


@contextmanager
def _unfinished_folder(target: Path) -> Iterator[Path]:
    """Make a temporary folder to build `target` in, so that `target` appears complete or not at all."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".unfinished-", dir=target.parent) as folder:
            yield Path(folder)
    except OSError as error:
        raise write_error("can't write there", error, where="--to", got=str(target.parent)) from error


def _check_publishable(run: Run) -> None:
    if run.manifest.published:
        raise InputError("the run is a published copy", where=run.id, expected="the run it was made from")
    if not run.measured:
        raise InputError(
            "the run is simulated, and only measurements are published",
            where=run.id,
            got=", ".join(entry.name for entry in run.manifest.devices),
            expected="a run of real devices",
        )
    if run.missing:
        raise InputError(
            "the run isn't finished",
            where=run.id,
            got=f"{len(run.missing)} cases without a record",
            expected=f"bench run --resume {run.id} first",
        )
    if not any(record.status == "ok" for record in run.records):
        raise InputError("the run measured nothing", where=run.id, expected="at least one ok record")
    contradictory = [record.case for record in run.records if "contradictory" in record.verdicts]
    if contradictory:
        raise InputError(
            "a record contradicts itself",
            where=run.id,
            got=contradictory[0],
            expected=f"records as they were measured; bench show {run.id} says what contradicts what",
        )
    parts = {entry.part for entry in run.manifest.devices}
    if len(parts) > 1:
        raise InputError(
            "the run is of several parts, but a published result is of one",
            where=run.id,
            got=sorted(map(str, parts)),
            expected="a run of one part: bench run --device",
        )
    if run.manifest.devices[0].part is None:
        raise InputError(
            "the device was not recognised as a known part, so there is no folder for it",
            where=run.id,
            got=str(run.manifest.devices[0].evidence),
            expected="a part of the registry",
        )


def _find_secrets(manifest: Manifest) -> set[str]:
    """Return what identifies the machine: its host name, its boot, its devices' `_SECRET_FIELDS`."""
    values = {getattr(entry.identity, name, None) for entry in manifest.devices for name in _SECRET_FIELDS}
    return {str(value) for value in values | {manifest.hostname, manifest.boot} if value}


def _anonymize(manifest: Manifest, hidden: Mapping[str, str]) -> Manifest:
    hide = partial(_hide, hidden=hidden)
    return manifest.model_copy(
        update={
            "hostname": hidden.get(manifest.hostname, ""),
            "devices": tuple(_anonymize_device(entry, hidden) for entry in manifest.devices),
            "nvml": None if manifest.nvml is None else edit_texts(manifest.nvml, hide),
            "incidents": tuple(edit_texts(each, hide) for each in manifest.incidents),
            "launch": None,
            "boot": None if manifest.boot is None else hidden.get(manifest.boot),
            "published": True,
        }
    )


def _anonymize_device(entry: DeviceEntry, hidden: Mapping[str, str]) -> DeviceEntry:
    fields = {
        name: hidden[str(value)]
        for name in _SECRET_FIELDS
        if (value := getattr(entry.identity, name, None)) is not None
    }
    return entry.model_copy(update={"identity": entry.identity.model_copy(update=fields)})


def _anonymize_record(record: Record, hidden: Mapping[str, str]) -> Record:
    """Replace secrets in the reason and the warnings, the only texts of a record that quote the system."""
    hide = partial(_hide, hidden=hidden)
    reason = None if record.reason is None else edit_texts(record.reason, hide)
    warnings = tuple(edit_texts(warning, hide) for warning in record.warnings)
    # A trace stays where it was taken: it is large, and quotes the system.
    profile = None if record.profile is None else record.profile.model_copy(update={"trace": None})
    return record.model_copy(update={"reason": reason, "warnings": warnings, "profile": profile})


def _hide(text: str, hidden: Mapping[str, str]) -> str:
    # Longest first, because one secret may contain another. Whole words only: a host may be called `a`.
    for secret in sorted(hidden, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", hidden[secret], text)
    return text


def hash_secret(value: str) -> str:
    """Return what stands for a host name or serial in this publisher's results. Raises InputError as they do
    where the key can't be read or made.
    """
    return _hash(value, _read_or_make_key())


def _hash(value: str, key: bytes) -> str:
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]


def _read_or_make_key() -> bytes:
    """Read the publisher's key, and make it at the first use.

    Without a key, anyone could find a host name by trying: names are short and follow patterns.
    """
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    path = Path(base, "nameplate", "publish.key")
    if not path.is_absolute():
        raise InputError(
            "no home folder to keep a key in",
            where="bench publish",
            expected="HOME or XDG_DATA_HOME to be set",
        )
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            store.write_durably(path, secrets.token_hex(_KEY_BYTES), mode=0o600)
        key = bytes.fromhex(read_text(path, MIB))
        if len(key) < _KEY_BYTES:
            raise ValueError(f"it holds {len(key)} bytes, not {_KEY_BYTES}; remove it, and a new one is made")
    except OSError as error:
        raise write_error("no key to hash by", error, where=str(path), expected=_KEY_EXPECTED) from error
    except ValueError as error:
        raise InputError(f"no key to hash by: {error}", where=str(path), expected=_KEY_EXPECTED) from error
    return key
