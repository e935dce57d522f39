"""Printing on standard output, shared by the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.store.folder import Run


def print_json(data: Any) -> None:
    """Print one JSON document."""
    from nameplate.report.document import to_json

    print(to_json(data))


def print_run(run: Run, *, json: bool) -> None:
    """Print a run as one screen, or as one JSON document."""
    if json:
        from nameplate.report.document import document

        print_json(document(run))
    else:
        from nameplate.report.terminal import show
        from nameplate.report.view import view

        show(view(run))
