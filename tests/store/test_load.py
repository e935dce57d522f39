"""`nameplate.load`: runs as a DataFrame with the promised columns, and what was passed over beside it."""

import json

import pandas as pd
import pytest

import nameplate
from nameplate.base.errors import InputError
from nameplate.base.messages import text
from nameplate.device.identity import SimulatedIdentity
from nameplate.record import Record
from nameplate.store.folder import RecordWriter, create
from nameplate.store.manifest import DeviceEntry, Manifest

pytestmark = pytest.mark.usefixtures("made_up_figures")

# The contract with whoever reads the data; a column may be added, none may go or change its name.
PROMISED = [
    "case",
    "workload",
    "dtype",
    "device",
    "part",
    "phase",
    "backend",
    "tflops",
    "tflops_low",
    "tflops_high",
    "nominal_tflops",
    "efficiency",
    "datasheet_tflops",
    "datasheet_efficiency",
    "ceiling_tflops",
    "normalized_efficiency",
    "tflops_median",
    "bandwidth_gb_s",
    "convention",
    "time_s",
    "launches",
    "power_w",
    "energy_j",
    "tflops_per_w",
    "verdict",
    "verdicts",
    "status",
    "reason",
]


def recorded(case, **changes):
    workload, dtype, shape, fill, cache, _, backend = case.split("/")
    fields = {
        "case": case,
        "workload": workload,
        "dtype": dtype,
        "shape": shape,
        "dimensions": {},
        "fill": fill,
        "cache": cache,
        "phase": None,
        "backend": backend,
        "represents": None,
        "device": "simulated",
        "part": None,
        "status": "ok",
        "verdict": "unknown",
        "verdicts": ("unknown",),
    }
    return Record.model_validate(fields | changes)


PRODUCT = recorded(
    "matmul/fp32/8x8x8/normal/warm/-/torch",
    verdict="contended",
    verdicts=("contended", "unstable"),
    tflops=1.5,
    tflops_low=1.25,
    tflops_high=1.75,
    nominal_tflops=3.0,
    efficiency=0.5,
    efficiency_low=0.4,
    efficiency_high=0.6,
    time_s=1e-3,
    launches=100,
)
COPY = recorded("memory/fp32/copy-1MiB/normal/warm/-/torch", time_s=1e-3, launches=5)
SKIPPED = recorded("matmul/fp64/8x8x8/normal/warm/-/torch", status="skipped", reason=text("no time"))
RECORDS = (PRODUCT, COPY, SKIPPED)


def make_run(results, name, records=RECORDS):
    entry = DeviceEntry(name="simulated", part=None, evidence="made", identity=SimulatedIdentity(name="s"))
    manifest = Manifest(
        run=name,
        suite="fake",
        created="2026-01-01T00:00:00+00:00",
        hostname="node17",
        devices=(entry,),
        software={},
        seed=1,
        cases=tuple(record.case for record in RECORDS),
    )
    folder = create(results, manifest)
    with RecordWriter(folder, "simulated") as writer:
        for record in records:
            writer.append(record)
    return folder


def test_one_run_is_a_row_a_record_with_the_promised_columns(tmp_path):
    frame = nameplate.load(make_run(tmp_path, "one"))
    assert [name for name in PROMISED if name not in frame.columns] == []
    assert list(frame["case"]) == [record.case for record in RECORDS]
    assert set(frame["run"]) == {"one"}
    product = frame.iloc[0]
    assert (product["tflops"], product["efficiency"], product["launches"]) == (1.5, 0.5, 100)
    assert product["verdicts"] == ["contended", "unstable"]
    assert frame.attrs["problems"] == []


def test_the_columns_are_those_of_json(tmp_path):
    frame = nameplate.load(make_run(tmp_path, "one"))
    assert list(frame.columns) == ["run", *PRODUCT.flatten()]


def test_what_is_not_known_is_missing_and_never_zero(tmp_path):
    frame = nameplate.load(make_run(tmp_path, "one"))
    for column in ("tflops", "efficiency", "nominal_tflops"):
        assert frame[column].isna().tolist() == [False, True, True]
    for column in ("ceiling_tflops", "power_w", "energy_j", "part", "phase"):
        assert frame[column].isna().all(), column
    assert frame["reason"].isna().tolist() == [True, True, False]


def test_figures_can_be_computed_with(tmp_path):
    frame = nameplate.load(make_run(tmp_path, "one"))
    assert pd.api.types.is_float_dtype(frame["tflops"])
    assert frame["tflops"].mean() == 1.5
    assert frame.query("status == 'ok'")["time_s"].sum() == pytest.approx(2e-3)


def test_a_folder_of_runs_and_several_paths_are_put_together(tmp_path):
    make_run(tmp_path / "runs", "one")
    make_run(tmp_path / "runs", "two")
    third = make_run(tmp_path / "results" / "a-part", "three")
    both = nameplate.load(tmp_path / "runs")
    assert both["run"].value_counts().to_dict() == {"one": 3, "two": 3}
    everything = nameplate.load(str(tmp_path / "runs"), third)
    assert everything["run"].value_counts().to_dict() == {"one": 3, "two": 3, "three": 3}


def test_a_run_without_records_is_an_empty_frame_with_the_same_columns(tmp_path):
    frame = nameplate.load(make_run(tmp_path, "one", records=()))
    assert len(frame) == 0
    assert list(frame.columns) == ["run", *PRODUCT.flatten()]


def test_what_was_passed_over_is_named_with_its_run(tmp_path):
    torn = make_run(tmp_path, "torn")
    (path,) = torn.glob("records-*.jsonl")
    path.write_bytes(path.read_bytes()[:-10])
    newer = make_run(tmp_path, "newer")
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 99}))
    make_run(tmp_path, "whole")
    frame = nameplate.load(tmp_path)
    assert frame["run"].value_counts().to_dict() == {"whole": 3, "torn": 2}
    first, second = frame.attrs["problems"]
    assert "written by a newer Nameplate: schema_version 99" in first
    assert second.startswith("torn/records-simulated-0.jsonl: skipped a torn last line")


def test_the_one_run_that_was_asked_for_must_be_readable(tmp_path):
    folder = make_run(tmp_path, "one")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        nameplate.load(folder)


@pytest.mark.parametrize(
    ("name", "what"), [("empty", "a folder, but not a run's"), ("absent", "no such run")]
)
def test_a_path_without_a_run_is_refused(tmp_path, name, what):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        InputError, match=rf"^{what}; got '.*{name}'; expected a run .* or a folder of runs; "
    ):
        nameplate.load(tmp_path / name)
