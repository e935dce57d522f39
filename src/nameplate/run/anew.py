"""Does one task of a worker that can't fork, in a new Python.

    python -m nameplate.run.anew JOB DESCRIPTOR STARTED_S PARENT DEATH_SIGNAL

DESCRIPTOR is its end of the connection to the worker, process PARENT, which started it at STARTED_S on
time.perf_counter. What it sends is of classes that its worker has too, so none is defined here.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from nameplate.base.processes import end_with_parent
from nameplate.run.child import end_after, end_after_stop, serve
from nameplate.run.job import WorkerJob
from nameplate.store.folder import read_run


def main() -> None:
    """Do the task of the worker that the command line names."""
    text, descriptor, started_s, parent, death_signal = sys.argv[1:]
    end_with_parent(int(parent), int(death_signal))
    signal.signal(signal.SIGCONT, end_after_stop)
    job = WorkerJob.model_validate_json(text)
    connection = Connection(int(descriptor))
    end_after(lambda: serve(connection, job, read_run(job.folder), float(started_s)))


if __name__ == "__main__":
    main()
