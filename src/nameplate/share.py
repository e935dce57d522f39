"""The process that measures one device's share of a run beside its siblings; `together` starts it.

    python -m nameplate.share FOLDER DEVICE [BUDGET]

It says `ready` on standard output, waits for `go` on standard input, and prints each record as a line once it
is on the disk. It ends within a second of its parent.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

from nameplate.errors import NameplateError
from nameplate.record import Record
from nameplate.run import measure_share
from nameplate.store.manifest import Manifest
from nameplate.text import plain
from nameplate.together import GO, READY

_WATCH_S = 0.2


class _Reporter:
    """An `Observer` that passes each record to the parent."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def run_started(self, folder: Path, manifest: Manifest, budget_s: float, todo: int) -> None: ...

    def case_started(self, case: str) -> None: ...

    def case_finished(self, record: Record) -> None:
        print(record.model_dump_json(), file=self._output, flush=True)


def main() -> None:
    """Measure the share that the command line names; ends with 0, or the status of what went wrong."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    folder, device, *rest = sys.argv[1:]
    # A library may print; standard output is for the parent alone.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def ready() -> None:
        print(READY, file=output, flush=True)
        if sys.stdin.readline().strip() != GO:
            sys.exit(130)

    try:
        measure_share(Path(folder), device, float(rest[0]) if rest else None, _Reporter(output), ready)
    except NameplateError as error:
        print(f"bench: {device}: {plain(error)}", file=sys.stderr)
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(130)


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: what it would measure on is nobody's run any more."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)


if __name__ == "__main__":
    main()
