"""`make fuzz`: a long campaign. Exits with 1 if anything was wrong."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from fuzzing.campaign import FUZZERS, as_table, count_cores, list_faults, run

CORPUS = Path(__file__).parents[1] / "corpus"


def main() -> int:
    """Run the campaign that the command line asks for."""
    parser = argparse.ArgumentParser(prog="make fuzz ARGS=…", description=__doc__)
    parser.add_argument("-n", type=int, default=100_000, help="inputs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other inputs")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="where failing inputs are kept")
    parser.add_argument("--only", nargs="*", choices=list(FUZZERS), default=[], help="these fuzzers")
    parser.add_argument("-p", type=int, default=count_cores(), help="processes (default: one a core)")
    flags = parser.parse_args()
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # it too ends a campaign with what is counted

    def tell(line: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {line}", file=sys.stderr, flush=True)

    tallies = run(flags.n, flags.seed, flags.corpus, flags.only, flags.p, tell)
    print("\n".join(as_table(tallies)))
    faults = list_faults(tallies)
    inputs = sum(each.inputs for each in tallies)
    print(f"{inputs} inputs in {time.monotonic() - began_s:.0f} s, seed {flags.seed}")
    print(f"{len(faults)} kinds of fault, each with an input in {flags.corpus}:" if faults else "no fault")
    print("\n".join(faults))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
