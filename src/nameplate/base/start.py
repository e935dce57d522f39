"""Starts a module that takes long to load, in a process that ends with its parent from the beginning.

    python -P -m nameplate.base.start MODULE ARGUMENT… PARENT DEATH_SIGNAL

A module asks for its end with its parent (`processes.connect_to_parent`) once it has loaded what it needs,
which may take seconds. Where the parent is killed meanwhile, nobody would end it so long.
"""

from __future__ import annotations

import runpy
import sys

from nameplate.base.processes import end_with_parent


def main() -> None:
    """Run the module that the command line names, with the rest of the arguments."""
    module = sys.argv.pop(1)
    parent, death_signal = (int(argument) for argument in sys.argv[-2:])
    end_with_parent(parent, death_signal, threads=False)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
