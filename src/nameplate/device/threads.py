"""How the math libraries of a measuring process thread and wait: chosen before they are loaded, then put
back.

A library reads these when it is loaded, so they are set in the environment that a measuring process inherits.
What the user has set stays. Which were in force stands in the run's manifest (`identity.thread_settings`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

# GOMP_SPINCOUNT: a thread that waits for a slower one spins, by default for so long that its CPU time says
# nothing of the work once others use the cores. A bounded spin keeps FLOPs per CPU second within a few per
# cent of the quiet figure and costs a quiet 1024³ product nothing that could be seen; docs/method.md has
# figures. OPENBLAS_NUM_THREADS: numpy brings a second BLAS; its threads would spin beside torch's.
_CHOSEN = {"GOMP_SPINCOUNT": "10000", "OPENBLAS_NUM_THREADS": "1"}
# What the user may have said instead; the library would follow the chosen one all the same.
_SAID_BY = {"GOMP_SPINCOUNT": "OMP_WAIT_POLICY"}


@contextmanager
def chosen_threads() -> Iterator[None]:
    """Have processes started within inherit the settings; the environment is afterwards what it was."""
    added = {
        name: value
        for name, value in _CHOSEN.items()
        if name not in os.environ and _SAID_BY.get(name, name) not in os.environ
    }
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
