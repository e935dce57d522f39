"""The figure that is stated lies in its interval: on every screen about fleets, in their JSON and CSV."""

import csv
import io
import json
import re

import pytest

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
FEW = ("--draws", 1000)
TRAIN = ("plan", "--parameters", "8e9", "--hours", 10000, "--every-days", 14)
COMMANDS = [
    ("cost", *FEW),
    ("cost", "nio", "--goodput", "--stack", "off-the-shelf", *FEW),
    ("cost", "nio", "--derate", "ampere-scaled-175b-x12288", *FEW),
    ("own", "--part", "A800", *FEW),
    ("plan", "--eflops", 10, *FEW),
    ("plan", "--budget-rmb", "1e9", *FEW),
    (*TRAIN, "--fleet", "li-auto", "--fleet", "huawei", *FEW),
    ("derate", "--part", "A800", "--devices", 1024),
    ("goodput",),
    ("cards", "A800", "H20", "B200"),
]
_RANGE = re.compile(r" \(nine draws in ten: ([^()]+?) to ([^()]+?)\)")
_NUMBER = re.compile(r"(?<![\w.,-])(\d[\d,]*(?:\.\d+)?)(?: (M|s|min|h|days)\b)?")
_UNITS = {"M": 1e6, "s": 1.0, "min": 60.0, "h": 3600.0, "days": 86_400.0}


def intervals(found, path=""):
    """Every figure with both ends, wherever it is in the document: path, low, figure, high."""
    if isinstance(found, list):
        for index, each in enumerate(found):
            yield from intervals(each, f"{path}[{index}]")
    if not isinstance(found, dict):
        return
    for name, each in found.items():
        yield from intervals(each, f"{path}.{name}")
        if name.endswith("_p5"):
            stem = name.removesuffix("_p5")
            named = [found.get(each) for each in (stem, f"{stem}_p50", f"{stem}_value")]
            middle = next((each for each in named if isinstance(each, float | int)), None)
            yield f"{path}.{stem}", each, middle, found[f"{stem}_p95"]
    for low, middle, high in (("low", "value", "high"), ("p5", "p50", "p95")):
        if {low, middle, high} <= found.keys():
            yield path, found[low], found[middle], found[high]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(map(str, command[:3])))
def test_every_figure_of_json_and_csv_lies_between_its_ends(command, bench):
    status, out, _err = bench("fleet", *command, "--json")
    assert status == 0
    found = list(intervals(json.loads(out)))
    assert found
    for path, low, middle, high in found:
        if middle is not None and low is not None:
            assert low <= middle <= high, path
    rows = csv.DictReader(io.StringIO(bench("fleet", *command, "--csv")[1]))
    for row in rows:
        for name in [each for each in row if f"{each}_p5" in row and row[each][:1].isdigit()]:
            assert float(row[f"{name}_p5"]) <= float(row[name]) <= float(row[f"{name}_p95"]), name


def number(written):
    """A printed number, with the unit of size or time that stands behind it."""
    digits, unit = _NUMBER.findall(written)[-1]
    return float(digits.replace(",", "")) * _UNITS.get(unit, 1.0)


def test_every_sentence_states_a_figure_between_the_ends_that_it_names(screens):
    seen = 0
    for name, view in screens.fleet_views():
        said = " ".join(" ".join((view.title, view.meaning, *view.advice)).split())
        for found in _RANGE.finditer(said):
            stated, (low, high) = said[max(found.start() - 60, 0) : found.start()], found.groups()
            assert number(low) <= number(stated) <= number(high), (name, stated, low, high)
            seen += 1
    assert seen > 10
