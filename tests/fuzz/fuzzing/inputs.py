"""An input of a fuzzer: files, and a command line. It holds all that it needs, so a file of it is a test."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

CALLS = 4  # of what is drawn once: making files odd takes longer than most commands
Kind = Literal["file", "folder", "pipe", "link"]
Variables = tuple[tuple[str, str | None], ...]


@dataclass(frozen=True)
class Entry:
    """What is at a path below the working directory; a link's content is where it leads."""

    path: str
    kind: Kind = "file"
    content: bytes = b""

    def make(self, folder: Path) -> None:
        """Make it in a folder. What a name or a content can't be (a null character) is left out."""
        path = folder / self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.kind == "file":
                path.write_bytes(self.content)
            elif self.kind == "folder":
                path.mkdir()
            elif self.kind == "pipe":
                os.mkfifo(path)
            else:
                path.symlink_to(os.fsdecode(self.content))
        except (OSError, ValueError):
            return

    def as_json(self) -> dict[str, str]:
        """As it stands in a corpus: text where it is text."""
        try:
            return {"path": self.path, "kind": self.kind, "text": self.content.decode("utf-8")}
        except UnicodeDecodeError:
            coded = base64.b64encode(self.content).decode("ascii")
            return {"path": self.path, "kind": self.kind, "base64": coded}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Entry:
        """From a corpus."""
        coded = found.get("base64")
        content = found["text"].encode("utf-8") if coded is None else base64.b64decode(coded)
        return cls(found["path"], found["kind"], content)


@dataclass(frozen=True)
class Input:
    """Files in a working directory, and the words after `bench` of a command that is called there.

    `variables` are those of its environment that are set, or not set where the value is None.
    """

    fuzzer: str
    words: tuple[str, ...]
    entries: tuple[Entry, ...] = field(default=(), repr=False)
    variables: Variables = ()

    def as_json(self) -> dict[str, Any]:
        """As it stands in a corpus. Half characters of a word are escaped, as everywhere in JSON."""
        return {
            "fuzzer": self.fuzzer,
            "words": list(self.words),
            "variables": dict(self.variables),
            "entries": [entry.as_json() for entry in self.entries],
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Input:
        """From a corpus."""
        entries = tuple(map(Entry.from_json, found["entries"]))
        variables = tuple(found.get("variables", {}).items())
        return cls(found["fuzzer"], tuple(found["words"]), entries, variables)


def call_each(
    fuzzer: str, commands: Iterable[Sequence[str]], entries: Sequence[Entry], variables: Variables = ()
) -> list[Input]:
    """The same files and environment variables, an input for each command line."""
    return [Input(fuzzer, tuple(words), tuple(entries), variables) for words in commands]


class Corpus:
    """A folder of inputs that failed once, a file each; what is mended stays, so that it stays mended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def list(self) -> list[tuple[str, Input]]:
        """Every input with the name of its file."""
        return [
            (path.stem, Input.from_json(json.loads(path.read_text(encoding="utf-8"))))
            for path in sorted(self.folder.glob("*.json"))
        ]

    def keep(self, found: Input, faults: Iterable[str]) -> Path:
        """Write an input down, with what was wrong."""
        document = {"faults": sorted(faults), **found.as_json()}
        text = json.dumps(document, indent=1)
        name = f"{found.fuzzer}-{hashlib.sha256(text.encode()).hexdigest()[:10]}.json"
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / name
        path.write_text(text + "\n", encoding="utf-8")
        return path
