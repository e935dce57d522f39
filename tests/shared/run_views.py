"""Records without a rating, and what tests look at of the view of a run."""

import io

from rich.console import Console

from nameplate.report.media import terminal
from nameplate.report.run import run_view

BLOCK = "transformer_block/bf16/1x128x512-forward_backward/normal/warm/-/torch"

COPY = "memory/fp32/copy-64MiB/normal/warm/-/torch"


def unrated(make_record, **changes):
    nothing = ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops")
    fields = dict.fromkeys((*nothing, "datasheet_efficiency"))
    return make_record(**(fields | {"nominal_source": "the model isn't shown to this guest"} | changes))


def memory(make_record, **changes):
    record = unrated(make_record, case=COPY, workload="memory", dtype="fp32", **changes)
    return record.model_copy(update={"tflops": None, "tflops_low": None, "tflops_high": None})


def printed(run, width=200):
    """What rich prints where the output is no terminal: no control sequence of its own is in it."""
    out = io.StringIO()
    terminal.show(run_view(run), Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def facts_of(run):
    """What is said of the machine, by name."""
    return dict(run_view(run).facts)


def cells(run, heading):
    (table,) = [table for table in run_view(run).tables if table.heading.startswith(heading)]
    return [dict(zip(table.column_names, row, strict=True)) for row in table.rows]


NORMALIZED = {
    "ceiling_tflops": 0.42,
    "normalized_efficiency": 0.4 / 0.42,
    "normalized_efficiency_low": 0.93,
    "normalized_efficiency_high": 0.97,
}
