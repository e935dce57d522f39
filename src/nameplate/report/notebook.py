"""What a notebook shows of a run, a comparison or priced fleets: the view of the command's screen."""

from __future__ import annotations

from nameplate.base.notebook import ShownInNotebooks
from nameplate.compare.comparison import Comparison
from nameplate.fleet.price import Cost, Costs
from nameplate.report.compare import compare_view
from nameplate.report.fleet.costs import cost_view
from nameplate.report.media.notebook import render
from nameplate.report.media.terminal import summary_text
from nameplate.report.run import run_view, summary_view
from nameplate.report.view import View
from nameplate.store.folder import Run


def html_of(shown: ShownInNotebooks) -> str:
    """Return the HTML of a run, a comparison or priced fleets."""
    return render(_view_of(shown))


def summary_of(shown: ShownInNotebooks) -> str:
    """Return the answer of a run, a comparison or priced fleets: at most twelve lines of 80 columns."""
    return summary_text(summary_view(shown) if isinstance(shown, Run) else _view_of(shown))


def _view_of(shown: ShownInNotebooks) -> View:
    match shown:
        case Run():
            return run_view(shown)
        case Comparison():
            return compare_view(shown)
        case Costs():
            return cost_view(shown)
        case Cost():
            return cost_view((shown,))
    raise TypeError(f"no view of {type(shown).__name__}")
