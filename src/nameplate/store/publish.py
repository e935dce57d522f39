"""Turns a run into a published result: the same figures, without saying whose machine it was."""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from nameplate.errors import InputError
from nameplate.record import Record
from nameplate.store import folder as store
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Manifest

_SECRET_FIELDS = ("uuid", "serial", "pci_bus_id")


def publish_run(run: Run, results: Path) -> Path:
    """Write `run` under `results/<part>/<run id>/` and return that folder.

    Host name, serial, UUID and PCI address become keyed hashes: equal ones stay equal among the results of
    one publisher and can't be guessed by others (the key stays in the publisher's own data folder). Figures
    are copied unedited. Raises InputError for a run that isn't finished, has no `ok` record or no part, and
    for one that is published already.
    """
    _refuse_unfit(run)
    key = _own_key()
    manifest = _anonymous(run.manifest, key)
    part = manifest.devices[0].part
    target = results / str(part) / run.id
    if target.exists():
        raise InputError(
            "published already", where="bench publish", got=run.id, expected="a run not in " + str(results)
        )
    store.create(target.parent, manifest)
    with store.RecordWriter(target, manifest.devices[0].name.replace(":", "")) as writer:
        for record in run.records:
            writer.append(_without_host(record, run.manifest.hostname, manifest.hostname))
    store.mark_done(target)
    return target


def _refuse_unfit(run: Run) -> None:
    if run.missing:
        raise InputError(
            "the run isn't finished",
            where=run.id,
            got=f"{len(run.missing)} cases without a record",
            expected=f"bench run --resume {run.id} first",
        )
    if not any(record.status == "ok" for record in run.records):
        raise InputError("the run measured nothing", where=run.id, expected="at least one ok record")
    if run.manifest.devices[0].part is None:
        raise InputError(
            "the device was taken for no known part, so there is no folder for it",
            where=run.id,
            got=run.manifest.devices[0].evidence,
            expected="a part of the registry",
        )


def _anonymous(manifest: Manifest, key: bytes) -> Manifest:
    return manifest.model_copy(
        update={
            "hostname": _hash(manifest.hostname, key),
            "devices": tuple(_anonymous_device(entry, key) for entry in manifest.devices),
            "published": True,
        }
    )


def _anonymous_device(entry: DeviceEntry, key: bytes) -> DeviceEntry:
    hidden = {
        name: _hash(value, key)
        for name in _SECRET_FIELDS
        if (value := getattr(entry.identity, name, None)) is not None
    }
    return entry.model_copy(update={"identity": entry.identity.model_copy(update=hidden)})


def _without_host(record: Record, hostname: str, hashed: str) -> Record:
    """A reason or warning may quote an error that names the host."""
    if len(hostname) < 4 or hostname not in record.model_dump_json():
        return record
    return Record.model_validate_json(record.model_dump_json().replace(hostname, hashed))


def _hash(value: str, key: bytes) -> str:
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()[:16]


def _own_key() -> bytes:
    """Read, or make at first use, the publisher's key.

    A plain hash of a host name is no secret: names are short and follow patterns, so anyone can try them.
    """
    base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    path = base / "nameplate" / "publish.key"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(secrets.token_hex(32), encoding="ascii")
        return bytes.fromhex(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"no key to hash by: {error}",
            where=str(path),
            expected="a readable file, or a folder to make it in",
        ) from error
