"""What a golden file holds of a document: its figures, without what differs from run to run."""

from __future__ import annotations

import csv
import io
import json
from contextlib import suppress
from html.parser import HTMLParser

# What differs from run to run or machine to machine: masked where something is measured now, nowhere else.
VOLATILE = {
    "created": "when the run began",
    "started": "when the case began",
    "hostname": "this machine's name",
    "boot": "which boot of this machine it is",
    "software": "versions on this machine, nameplate's own among them",
    "run": "an id holds the moment and random digits; it is masked in paths and sentences too",
}
# What the what-if panel says; what it computes by is held.
WORDS = {"words", "label", "text", "headline", "hint", "source", "unit", "rated"}


def parse_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def parse_csv(text):
    """The columns in order, and the rows, with numbers as numbers: their last digits may differ."""
    header, *rows = csv.reader(io.StringIO(text))
    return {
        "header": header,
        "rows": [dict(zip(header, map(parse_cell, row), strict=True)) for row in rows],
    }


def parse_cell(text):
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def kinds(table):
    """Each column of a DataFrame with i, f, b or O for the kind of its values, the same in every pandas."""
    return [[name, kind.kind] for name, kind in table.dtypes.items()]


def stable(value, run=None):
    """A document of what was measured now, with the volatile values masked; null stays null, but of software.

    Of a course, hundreds of moments long, every 50th is held.
    """
    run = run or value["run"]["run"]

    def masked(value, key=""):
        if isinstance(value, dict):
            under = key if key == "software" else ""
            return {name: masked(each, under or name) for name, each in value.items()}
        if isinstance(value, list):
            step = 50 if key == "course" else 1
            return [masked(each, key) for each in value[::step]]
        if key == "software":  # a CPU's torch has no cuBLAS, so here null is a matter of the machine too
            return f"({key})"
        if isinstance(value, str):
            return f"({key})" if key in VOLATILE and key != "run" else value.replace(run, "(run)")
        return value

    return masked(value)


class Page(HTMLParser):
    """The rows of each table of a page, and its scripts of JSON by id."""

    def __init__(self):
        super().__init__()
        self.tables, self.scripts, self._script, self._in_row = [], {}, None, False

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append("")
            self._in_row = True
        elif tag == "script" and ("type", "application/json") in attrs:
            self._script = dict(attrs)["id"]

    def handle_endtag(self, tag):
        if tag == "tr":
            self._in_row = False
        elif tag == "script":
            self._script = None

    def handle_data(self, data):
        if self._script:
            self.scripts[self._script] = data
        elif self._in_row:
            self.tables[-1][-1] += f"{data} "


def without_words(value):
    """What the panel computes by."""
    if isinstance(value, dict):
        return {name: without_words(each) for name, each in value.items() if name not in WORDS}
    return [without_words(each) for each in value] if isinstance(value, list) else value
