"""The process that measures one device's share of a run beside its siblings; `together` starts it.

    python -m nameplate.run.worker FOLDER DEVICE BUDGET CALLED [CASE …]

It says `ready` on standard output, waits for `go` on standard input, and prints a line for each group it
starts, each record once it is on the disk, and the sentence by which it refuses. A group with one of the
CASEs is measured case by case. It ends within a second of its parent.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Sequence
from typing import TextIO

from nameplate.base.errors import NameplateError
from nameplate.base.exit_status import ExitStatus, tell_unforeseen
from nameplate.record import Record
from nameplate.run.measure import measure_share
from nameplate.run.pool import GO, GROUP, READY, REFUSAL, Share

_WATCH_S = 0.2


class _Parent:
    """Who is told of each group and record: a `Watch` at the other end of a pipe."""

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def say(self, line: str) -> None:
        """Print one line; where nobody is left to read it, end."""
        try:
            print(line, file=self._output, flush=True)
        except BrokenPipeError:
            os._exit(ExitStatus.CLOSED_PIPE)

    def group_started(self, cases: Sequence[str]) -> None:
        self.say(json.dumps({GROUP: list(cases)}))

    def case_finished(self, record: Record) -> None:
        self.say(record.model_dump_json())


def main() -> None:
    """Measure the share that the command line names; ends with an `ExitStatus`, as the command line does."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # A library may print; standard output is for the parent alone.
    parent = _Parent(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)

    def ready() -> None:
        parent.say(READY)
        if sys.stdin.readline().strip() != GO:
            sys.exit(ExitStatus.INTERRUPTED)

    try:
        measure_share(Share.parse(sys.argv[1:]), parent, ready)
    except NameplateError as error:
        parent.say(json.dumps({REFUSAL: str(error)}))
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    except Exception as error:
        sys.exit(tell_unforeseen(error))


def _end_with(parent: int) -> None:
    """End this process when its parent is gone: what it would measure on is nobody's run any more."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(ExitStatus.HANGUP)


if __name__ == "__main__":
    main()
