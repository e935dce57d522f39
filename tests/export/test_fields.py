"""A record as a row: its columns, what they hold, and what becomes of hostile text."""

import math
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.base.text import plain
from nameplate.device.identity import CudaIdentity
from nameplate.export.fields import IDENTITY, clean, list_fields, make_entries
from nameplate.models.conventions import SHOWN
from nameplate.record import Ends, columns
from nameplate.store.manifest import DeviceEntry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def row_of(make_record, make_run):
    """The row of one record in a run with these changes to its manifest."""

    def row(*, device="cpu", **changes):
        (entry,) = make_entries([make_run(make_record(device=device), **changes)])
        return entry.row

    return row


def gpu(**changes):
    fields = {"name": "NVIDIA A800", "index": 0, "uuid": "GPU-12", "driver": "550.54", "power_limit_w": 400.0}
    return DeviceEntry(name="cuda:0", part=None, evidence="", identity=CudaIdentity(**fields | changes))


def test_a_row_has_the_runs_identity_and_then_every_column_of_a_record():
    names = [field.name for field in list_fields()]
    assert len(set(names)) == len(names)
    of_one_column = f"_(low|high)_of_figure$|(?<=_by_convention)_({'|'.join(SHOWN)})$"
    single = dict.fromkeys(re.sub(of_one_column, "", name) for name in names)
    assert list(single) == [field.name for field in IDENTITY] + list(columns())


def test_ends_are_fractions_of_their_figure_whatever_its_unit(make_record, make_run):
    following = Ends(figure="tflops", low=0.38, high=0.5)
    (entry,) = make_entries([make_run(make_record(interval_next=following))])
    row = entry.row
    assert (row["interval_next_low_of_figure"], row["interval_next_high_of_figure"]) == (0.95, 1.25)
    assert row["interval_within_low_of_figure"] is None


def test_a_row_is_in_the_order_of_the_fields(row_of):
    assert list(row_of()) == [field.name for field in list_fields()]


def test_what_a_column_holds_follows_from_the_record():
    kinds = {field.name: field.kind for field in list_fields()}
    expected = {
        "tflops": "real",
        "launches": "whole",
        "verdict": "text",
        "phase": "text",
        "verdicts": "texts",
    }
    assert expected.items() <= kinds.items()
    assert {"run": "text", "published": "flag", "power_limit_w": "real"}.items() <= kinds.items()


def test_the_identity_is_read_from_manifest_and_device(row_of):
    row = row_of(device="cuda:0", devices=(gpu(),), software={"torch": "2.11.0+cu126", "nameplate": "0.1.0"})
    assert {name.name: row[name.name] for name in IDENTITY} == {
        "run": "20261122T120000-fake-0001",
        "suite": "fake",
        "created": "2026-11-22T12:00:00+00:00",
        "hostname": "node17",
        "boot": None,
        "published": False,
        "device_name": "NVIDIA A800",
        "device_uuid": "GPU-12",
        "power_limit_w": 400.0,
        "driver_version": "550.54",
        "torch_version": "2.11.0+cu126",
        "nameplate_version": "0.1.0",
    }


def test_what_the_manifest_does_not_tell_is_none(row_of):
    assert row_of(software={})["torch_version"] is None
    assert row_of()["device_uuid"] is None, "a simulated device has none"
    assert row_of(device="cuda:9")["device_name"] is None, "the manifest has no such device"


@pytest.mark.parametrize("limit", [math.nan, math.inf])
def test_a_number_that_is_none_is_not_known(row_of, limit):
    assert row_of(device="cuda:0", devices=(gpu(power_limit_w=limit),))["power_limit_w"] is None


@settings(max_examples=40)
@given(st.text())
def test_cleaned_text_is_plain_text(text):
    assert clean(text) == plain(text)


def test_text_is_cleaned_wherever_it_stands():
    assert clean({"a\x1b": ("b\n", {"c": "\u202ed"})}) == {"a": ["b ", {"c": "d"}]}


def test_the_documentation_has_every_column_of_the_identity():
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    table = text.partition("| column | unit | meaning |")[2].partition("\n\n")[0].splitlines()[2:]
    units = {field.name: f"{field.column.unit} " if field.column.unit else "" for field in IDENTITY}
    assert table == [f"| `{each.name}` | {units[each.name]}| {each.column.text} |" for each in IDENTITY]
