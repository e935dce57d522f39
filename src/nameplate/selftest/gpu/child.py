"""The process that looks at a card for `bench selftest --on cuda`; `prove.py` starts it.

    python -m nameplate.selftest.gpu.child DEVICE LOOK …

opens the device, computes something there, sends `{"ready": true}` and waits for a message. Then, for each
look, it sends `{"begin": LOOK}`, and `{"look": LOOK, "seen": {…}}` or `{"look": LOOK, "failed": "why"}`. A
look that breaks the card's context ends the process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping

from nameplate.base.errors import NameplateError
from nameplate.base.exit_status import ExitStatus, report_unforeseen
from nameplate.base.model import FrozenModel
from nameplate.base.processes import Parent, connect_to_parent
from nameplate.engine.case_run import describe_error
from nameplate.selftest.gpu.looks import (
    look_at_blocks,
    look_at_costs,
    look_at_digests,
    look_at_load,
    look_at_queue,
)
from nameplate.selftest.gpu.subject import Subject, open_subject
from nameplate.selftest.gpu.turns import look_at_product, look_at_telemetry

READY, GO, BEGIN, LOOK, SEEN, FAILED, REFUSED = "ready", "go", "begin", "look", "seen", "failed", "refused"

# By the field of `Seen` that each fills, in the order in which they matter.
LOOKS: Mapping[str, Callable[[Subject], FrozenModel]] = {
    "load": look_at_load,
    "queue": look_at_queue,
    "product": look_at_product,
    "digests": look_at_digests,
    "telemetry": look_at_telemetry,
    "costs": look_at_costs,
    "blocks": look_at_blocks,  # last: torch's profiler stays attached to the driver, and launches cost more
}


def look(subject: Subject, names: list[str], parent: Parent) -> None:
    """Take each look and send what it saw, or why it saw nothing."""
    for name in names:
        parent.send({BEGIN: name})
        try:
            seen = LOOKS[name](subject)
        except Exception as error:  # a look that fails costs itself alone
            parent.send({LOOK: name, FAILED: describe_error(error)})
            if not subject.device.is_working():
                os._exit(ExitStatus.INCOMPLETE)  # Python's own end would free GPU memory, which may hang now
        else:
            parent.send({LOOK: name, SEEN: seen.model_dump(mode="json")})


def main() -> None:
    """Take the looks that the command line names."""
    parent = connect_to_parent()
    device, *names = sys.argv[1:]
    try:
        subject = open_subject(device)
        parent.send({READY: True})
        if parent.receive() is None:
            sys.exit(ExitStatus.INTERRUPTED)
        look(subject, names, parent)
    except NameplateError as error:
        parent.send({REFUSED: str(error)})
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        sys.exit(ExitStatus.INTERRUPTED)
    except Exception as error:
        sys.exit(report_unforeseen(error))


if __name__ == "__main__":
    main()
