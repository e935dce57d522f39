"""Runs of older schemas: read, shown word by word as they were, and written anew in the shape of this one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nameplate.base.messages import message, text
from nameplate.record import GRAVITY, SCHEMA, Record
from nameplate.store.folder import RecordWriter, create, find_runs, read_run
from nameplate.store.load import load
from nameplate.store.publish import publish_run
from nameplate.store.upgrade import is_older, upgrade_manifest, upgrade_record

ROOT = Path(__file__).parents[2]
OLDER = ROOT / "results" / "intel-emerald-rapids"
RUNS = [*find_runs(OLDER), *find_runs(ROOT / "tests" / "data" / "compare")]
SENTENCES = ("reason", "loss", "warnings", "nominal_source", "datasheet_source")


def lines_of(folder):
    """The record lines of a folder as plain objects, by case."""
    found = [json.loads(line) for path in folder.glob("records-*") for line in path.read_text().splitlines()]
    return {each["case"]: each for each in found}


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_an_older_run_says_word_by_word_what_its_files_hold(folder):
    run, lines = read_run(folder), lines_of(folder)
    assert run.problems == ()
    assert run.missing == () or "missing" in folder.name
    for record in run.records:
        line, flat = lines[record.case], record.flatten()
        assert line["schema_version"] < SCHEMA
        kept = SENTENCES[:1] + SENTENCES[2:3] if record.workload == "memory" else SENTENCES
        assert {name: flat[name] for name in kept} == {
            name: line["warnings"] if name == "warnings" else line.get(name) for name in kept
        }
        assert set(record.warning_codes) <= {"text"}
        assert record.schema_version == SCHEMA
        assert {batch.process for batch in record.batches} <= {1}
    stored = json.loads((folder / "manifest.json").read_text())["devices"]
    for entry, shown in zip(stored, run.manifest.as_json()["devices"], strict=True):
        # Newer versions read more of a device; what an older one read stays as it is.
        shown["identity"] = {name: shown["identity"][name] for name in entry["identity"]}
        kept = [name for name in entry if name != "rated_clock_mhz"]  # one clock, now one for each dtype
        assert {name: shown[name] for name in kept} == {name: entry[name] for name in kept}


def test_both_older_schemas_are_among_them():
    versions = {line["schema_version"] for folder in RUNS for line in lines_of(folder).values()}
    assert versions == {1, 2}


def test_sentences_become_messages_and_all_else_stays():
    older = {
        "schema_version": 2,
        "reason": "RuntimeError: no",
        "loss": None,
        "warnings": ["a; b", "c"],
        "x": 1,
    }
    assert is_older(older)
    assert upgrade_record(dict(older)) == {
        "schema_version": SCHEMA,
        "reason": {"code": "text", "values": {"text": "RuntimeError: no"}},
        "loss": None,
        "warnings": [{"code": "text", "values": {"text": each}} for each in ("a; b", "c")],
        "x": 1,
    }


@pytest.mark.parametrize(
    ("older", "now"), [(1830.0, {"fp16": 1830.0, "bf16": 1830.0}), (None, {}), ("fast", "fast")]
)
def test_the_one_rated_clock_of_an_older_device_was_that_of_fp16_and_bf16(older, now):
    entry = {"name": "cuda:0", "rated_clock_mhz": older}
    (upgraded,) = upgrade_manifest({"schema_version": 3, "devices": [entry]})["devices"]
    assert upgraded.get("rated_clock_mhz", {}) == now


def test_a_manifests_devices_are_upgraded_too():
    entry = {"name": "cpu", "evidence": "its name", "missing": "no clock", "notes": ["a guest"]}
    upgraded = upgrade_manifest({"schema_version": 1, "devices": [entry]})
    assert upgraded["schema_version"] == SCHEMA
    assert upgraded["devices"] == [
        {
            "name": "cpu",
            "evidence": "its name",
            "missing": {"code": "text", "values": {"text": "no clock"}},
            "notes": [{"code": "text", "values": {"text": "a guest"}}],
        }
    ]


def test_a_blocks_convention_is_called_by_its_key():
    names = {"Megatron": "megatron", "2MNK": "2MNK", "Megatron, in full": "Megatron, in full", None: None}
    for before, now in names.items():
        assert upgrade_record({"schema_version": 5, "convention": before})["convention"] == now


@pytest.mark.parametrize(
    "fields", [{"schema_version": SCHEMA}, {"schema_version": "2"}, {"schema_version": 99}, [], 3]
)
def test_what_is_of_this_schema_or_of_no_known_one_is_not_touched(fields):
    assert not is_older(fields)


def test_a_line_without_a_schema_counts_as_one_of_the_oldest(make_record):
    line = make_record(status="failed", reason="RuntimeError: no").model_dump(mode="json")
    line["reason"] = "RuntimeError: no"
    del line["schema_version"]
    assert Record.model_validate(upgrade_record(line)).reason == text("RuntimeError: no")


def test_a_run_begun_by_an_older_version_and_finished_by_this_one(make_record, make_manifest, tmp_path):
    """Its manifest and first lines stay as they are; each line is read as what it is."""
    first = make_record(warnings=("as it was",))
    second = make_record(case="matmul/int8/8x8x8/normal/warm/-/torch", warnings=(message("not_settled"),))
    folder = create(tmp_path, make_manifest([first.case, second.case]))
    manifest = json.loads((folder / "manifest.json").read_text()) | {"schema_version": 2}
    for entry in manifest["devices"]:
        entry |= {"missing": "no clock", "notes": ["a guest"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    old = first.model_dump(mode="json") | {"schema_version": 2, "warnings": ["as it was"]}
    (folder / "records-cpu-0.jsonl").write_text(json.dumps(old, indent=None) + "\n")
    with RecordWriter(folder, "cpu") as writer:
        writer.append(second)
    run = read_run(folder)
    assert run.records == (first, second)
    assert run.manifest.devices[0].missing == text("no clock")
    assert run.manifest.devices[0].notes == (text("a guest"),)


def test_a_published_copy_of_an_older_run_is_of_this_schema(
    tmp_path, monkeypatch, make_record, make_manifest
):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    record = make_record()
    folder = create(tmp_path / "runs", make_manifest([record.case], hostname="node17"))
    old = record.model_dump(mode="json") | {"schema_version": 1, "warnings": ["node17 was busy"]}
    (folder / "records-cpu-0.jsonl").write_text(json.dumps(old) + "\n")
    (folder / "DONE").touch()
    copy = publish_run(read_run(folder), tmp_path / "results")
    (line,) = lines_of(copy).values()
    assert line["schema_version"] == SCHEMA
    assert line["warnings"][0]["code"] == "text"
    assert "node17" not in line["warnings"][0]["values"]["text"]
    assert read_run(copy).problems == ()


def test_a_frame_of_older_runs_has_sentences_and_codes():
    frame = load(OLDER)
    warned = frame[frame["warnings"].map(len) > 0].iloc[0]
    assert all(isinstance(each, str) for each in warned["warnings"])
    assert warned["warning_codes"] == ["text"]


@pytest.mark.parametrize("folder", RUNS, ids=lambda folder: folder.name)
def test_older_memory_records_keep_their_bandwidth_and_count_no_flops(folder):
    lines = lines_of(folder)
    for record in read_run(folder).records:
        if record.workload != "memory" or record.status != "ok":
            continue
        assert record.bandwidth_gb_s == lines[record.case]["bandwidth_gb_s"]
        flat = record.flatten()
        counted = [name for name in flat if "tflops" in name or "efficiency" in name or "flops" in name]
        assert {flat[name] for name in (*counted, "convention", "loss", "nominal_source")} == {None}


def test_an_older_triad_lost_its_efficiency():
    lines = [line for folder in RUNS for case, line in lines_of(folder).items() if "/triad-" in case]
    assert any(line["tflops"] for line in lines)  # else the tests above would hold of any code


@pytest.mark.parametrize(
    ("reasons", "warnings", "expected"),
    [
        ("none", ["clock_held_by_power"], ["power_capped"]),
        ("none", ["the clock was held down for 97% of the window (power): sustained"], ["power_capped"]),
        ("sw_power_cap", [], ["power_capped"]),
        ("sw_power_cap", ["clock_held_by_thermal"], ["throttled", "power_capped"]),
        ("sw_power_cap hw_slowdown", [], ["throttled", "power_capped"]),
        ("none", ["clock_held_by_power_brake"], ["throttled"]),
        ("none", ["the clock was held down for 40% of the window (power brake): check"], ["throttled"]),
        ("sw_thermal_slowdown", ["clock_held_by_power"], ["throttled", "power_capped"]),
        (None, [], ["throttled"]),  # it doesn't say what held it
    ],
)
def test_an_older_throttled_record_becomes_power_capped_where_only_the_power_limit_held_it(
    reasons, warnings, expected
):
    older = {
        "schema_version": 3,
        "verdict": "throttled",
        "verdicts": ["throttled", "unstable"],
        "conditions": {"gpu_throttle_reasons": reasons},
        "warnings": [
            {"code": said, "values": {"share": 0.9}}
            if said.startswith("clock_")
            else {"code": "text", "values": {"text": said}}
            for said in warnings
        ],
    }
    upgraded = upgrade_record(older)
    assert upgraded["verdicts"] == sorted([*expected, "unstable"], key=GRAVITY.index)
    assert upgraded["verdict"] == upgraded["verdicts"][0]


@pytest.mark.parametrize(
    "verdicts",
    [None, "throttled", [], [["throttled"]], ["clean"], ["throttled", ["unstable"]], ["throttled", "odd"]],
)
@pytest.mark.parametrize("reasons", ["x", {"gpu_throttle_reasons": "sw_power_cap"}])
def test_verdicts_that_are_none_are_left_to_the_validation(verdicts, reasons):
    older = {"schema_version": 3, "verdicts": verdicts, "conditions": reasons, "warnings": [7, {"values": 1}]}
    assert upgrade_record(dict(older))["verdicts"] == verdicts
