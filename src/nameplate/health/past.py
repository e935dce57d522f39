"""What earlier runs of a run's devices found, read from the folder that the run is in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from nameplate.store.folder import Run
from nameplate.store.history import read_earlier

# Records of these verdicts don't say how fast the device is when nothing disturbs it. A throttled one isn't
# left out: it is what the device did.
_DISTURBED = frozenset({"contended", "launch_bound"})
_TIME = "time_s"


def find_past(run: Run) -> Mapping[str, Mapping[str, Sequence[float]]]:
    """Return, by device and case, the logarithms of launches a second in the runs of the manifest's history.

    Those are the latest finished runs of the same suite, method and torch on the same device, in the same
    folder; what can't be read is left out. Launches are of the work of this run's record: `read_earlier` has
    times by work, since a case that stands for the fastest of many may be of other work in each run.
    """
    names, results = run.manifest.history, run.folder.parent
    work = {(each.device, each.case): each.flops or each.bytes or 1 for each in run.records}
    found: dict[str, dict[str, Sequence[float]]] = {}
    for entry in run.manifest.devices if names else ():
        earlier = read_earlier(results, names, entry, without=_DISTURBED)
        found[entry.name] = {
            case: [-each.log_mean - math.log(work[entry.name, case]) for each in runs]
            for (case, figure), runs in earlier.items()
            if figure == _TIME and (entry.name, case) in work
        }
    return found
