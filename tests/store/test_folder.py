"""The run folder: what is written comes back; what can't be read is counted and named, never a traceback."""

import json
import resource
from contextlib import contextmanager

import pytest

from nameplate.base.errors import InputError, OutputError, RunIncomplete
from nameplate.compare.results import results_of_run
from nameplate.device.identity import SimulatedIdentity
from nameplate.record import SCHEMA, Batch, Record, Verification
from nameplate.report.run import run_view
from nameplate.store.folder import (
    RecordWriter,
    claim,
    create,
    discard,
    find_runs,
    mark_done,
    read_run,
    write_durably,
)
from nameplate.store.manifest import DeviceEntry, Manifest, Options

CASES = tuple(f"matmul/fp32/{edge}x{edge}x{edge}/normal/warm/-/torch" for edge in (8, 16, 32))


def recorded(case=CASES[0], **changes):
    workload, dtype, shape, fill, cache, phase, backend = case.split("/")
    fields = {
        "case": case,
        "workload": workload,
        "dtype": dtype,
        "shape": shape,
        "dimensions": {"m": 8, "layout": "nn"},
        "fill": fill,
        "cache": cache,
        "phase": None if phase == "-" else phase,
        "backend": backend,
        "represents": None,
        "device": "simulated",
        "part": "simulated",
        "status": "ok",
        "verdict": "clean",
        "verdicts": ("clean",),
        "flops": 1024,
        "bytes": 768,
        "tflops": 1024 / 0.005 / 1e12,
        "tflops_low": 1000 / 0.005 / 1e12,
        "tflops_high": 1050 / 0.005 / 1e12,
        "time_s": 0.005,
        "launches": 40,
        "verification": Verification(reference="fp64", error=0.25, rule="rounding", passed=True),
        "conditions": {"elapsed_s": 0.5, "own_cpu_share": None},
        "batches": (
            Batch(start_s=0.0, elapsed_s=0.1, launches=20),
            Batch(start_s=0.1, elapsed_s=0.1, launches=20),
        ),
    }
    return Record.model_validate(fields | changes)


def make_manifest(run="20260101T000000-fake-0001", cases=CASES, **changes):
    entry = DeviceEntry(
        name="simulated", part="simulated", evidence="made", identity=SimulatedIdentity(name="simulated")
    )
    fields = {
        "run": run,
        "suite": "fake",
        "created": "2026-01-01T00:00:00+00:00",
        "hostname": "node17",
        "devices": (entry,),
        "software": {"torch": "2.13.0", "numpy": None},
        "options": Options(only="matmul*", budget_s=3.5, nominal={"fp32": 2.0}),
        "seed": 7,
        "cases": cases,
    }
    return Manifest.model_validate(fields | changes)


@pytest.fixture
def folder(tmp_path):
    """A run of three cases with the first two recorded and the third still to come."""
    where = create(tmp_path, make_manifest())
    with RecordWriter(where, "simulated") as writer:
        writer.append(recorded(CASES[0]))
        writer.append(recorded(CASES[1]))
    return where


def lines_of(folder):
    (path,) = folder.glob("records-*.jsonl")
    return path, path.read_bytes()


def test_manifest_and_records_come_back_as_they_were(folder):
    run = read_run(folder)
    assert run.manifest == make_manifest()
    assert run.records == (recorded(CASES[0]), recorded(CASES[1]))
    assert (run.id, run.problems, run.finished) == ("20260101T000000-fake-0001", (), False)
    assert [(each.device, each.case) for each in run.missing] == [("simulated", CASES[2])]


def test_each_record_is_one_json_line_with_its_case_on_top(folder):
    _, data = lines_of(folder)
    rows = [json.loads(line) for line in data.splitlines()]
    assert [row["case"] for row in rows] == list(CASES[:2])
    assert {row["schema_version"] for row in rows} == {SCHEMA}


def test_done_is_empty_and_says_finished(folder):
    mark_done(folder)
    assert (folder / "DONE").read_bytes() == b""
    assert read_run(folder).finished


def test_marking_a_finished_run_again_touches_nothing(folder):
    mark_done(folder)
    before = (folder / "DONE").stat().st_mtime_ns
    mark_done(folder)
    assert (folder / "DONE").stat().st_mtime_ns == before


def test_records_come_in_the_manifests_order_whatever_file_they_are_in(tmp_path):
    where = create(tmp_path, make_manifest())
    for case in reversed(CASES):
        with RecordWriter(where, "simulated") as writer:
            writer.append(recorded(case))
    assert len(list(where.glob("records-*.jsonl"))) == 3
    assert [record.case for record in read_run(where).records] == list(CASES)


def test_a_writer_never_continues_another_processes_file(folder):
    path, before = lines_of(folder)
    path.write_bytes(before + b'{"case": "torn')
    with RecordWriter(folder, "simulated") as writer:
        writer.append(recorded(CASES[2]))
    assert path.read_bytes() == before + b'{"case": "torn'
    run = read_run(folder)
    assert run.missing == ()
    assert len(run.problems) == 1


def test_a_writer_that_wrote_nothing_leaves_no_file(tmp_path):
    where = create(tmp_path, make_manifest())
    with RecordWriter(where, "simulated"):
        pass
    assert list(where.glob("records-*")) == []


@pytest.mark.parametrize("keep", [1, 20, 400])
def test_a_torn_last_line_costs_that_record_alone(folder, keep):
    path, data = lines_of(folder)
    first, second = data.splitlines(keepends=True)
    path.write_bytes(first + second[:keep])
    run = read_run(folder)
    assert [record.case for record in run.records] == [CASES[0]]
    assert list(map(str, run.problems)) == [f"{path.name}: skipped a torn last line of {keep} bytes"]


FOREIGN = {
    "another program's JSON": (b'{"time": 3, "msg": "hello"}', "case: Field required"),
    "a JSON array": (b"[1, 2]", "line 3: skipped"),
    "no JSON": (b"Traceback (most recent call last):", "not JSON"),
    "not UTF-8": (b"\xff\xfe\x00\x80", "line 3: skipped"),
    "nested past reason": (b"[" * 100_000, "line 3: skipped"),
    "a record that contradicts itself": (
        recorded(CASES[2]).model_dump_json().replace('"time_s":0.005', '"time_s":null').encode(),
        "an ok record needs a time above 0",
    ),
    "NaN for a figure": (
        recorded(CASES[2]).model_dump_json().replace('"tflops_high":2.1e-7', '"tflops_high":NaN').encode(),
        "tflops_high",
    ),
    "a case that isn't in the manifest": (
        recorded("memory/fp32/copy-1MiB/normal/warm/-/torch").model_dump_json().encode(),
        "skipped a record of 'memory/fp32/copy-1MiB/normal/warm/-/torch', which the manifest doesn't list",
    ),
    "a case for the second time": (
        recorded(CASES[0]).model_dump_json().encode(),
        f"skipped a second record of {CASES[0]!r}",
    ),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_line_that_is_none_of_ours_is_skipped_and_named(folder, kind):
    line, words = FOREIGN[kind]
    path, data = lines_of(folder)
    path.write_bytes(data + line + b"\n")
    run = read_run(folder)
    assert run.records == (recorded(CASES[0]), recorded(CASES[1]))
    (problem,) = map(str, run.problems)
    assert problem.startswith(path.name)
    assert words in problem


def test_several_bad_lines_are_each_named_and_the_good_ones_between_them_kept(folder):
    path, data = lines_of(folder)
    first, second = data.splitlines(keepends=True)
    path.write_bytes(b"junk\n" + first + b"\n{}\n" + second + b"torn")
    run = read_run(folder)
    assert len(run.records) == 2
    assert [str(problem).split(":")[0] for problem in run.problems] == [
        f"{path.name} line 1",
        f"{path.name} line 4",
        path.name,
    ]


def test_a_folder_in_a_files_place_is_named(folder):
    (folder / "records-zz-0.jsonl").mkdir()
    run = read_run(folder)
    assert len(run.records) == 2
    (problem,) = map(str, run.problems)
    assert "records-zz-0.jsonl: skipped, can't be read" in problem


def rewritten(**changes):
    return json.dumps(make_manifest().model_dump(mode="json") | changes).encode()


BAD_MANIFESTS = {
    "newer": (
        rewritten(schema_version=SCHEMA + 1),
        "newer Nameplate",
        f"schema_version {SCHEMA + 1}, where this one has {SCHEMA}",
    ),
    "not JSON": (b"suite: smoke\n", "not JSON", "expected a run's manifest"),
    "empty": (b"", "not JSON", "expected a run's manifest"),
    "binary": (b"\x80\x81\xff", "not JSON", "expected a run's manifest"),
    "another program's": (
        b'{"manifest_version": 3, "name": "an extension"}',
        "run",
        "expected a run's manifest",
    ),
    "an array": (b"[]", "", "expected a run's manifest"),
    "a field of another type": (rewritten(cases="all"), "cases", "expected a run's manifest"),
    "a device of an unknown kind": (
        rewritten(devices=[{"name": "x", "part": None, "evidence": "", "identity": {"kind": "abacus"}}]),
        "devices",
        "expected a run's manifest",
    ),
    "of no device": (rewritten(devices=[]), "devices", "expected a run's manifest"),
    "nested past reason": (b"[" * 100_000, "", "expected a run's manifest"),
}


@pytest.mark.parametrize("kind", BAD_MANIFESTS)
def test_a_manifest_that_cannot_be_used_is_one_sentence(folder, kind):
    data, what, expected = BAD_MANIFESTS[kind]
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(InputError) as caught:
        read_run(folder)
    sentence = str(caught.value)
    assert sentence.startswith(f"{folder / 'manifest.json'}: ")
    assert what in sentence
    assert expected in sentence
    assert "\n" not in sentence


def test_no_manifest_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no manifest can be read: .*expected a run folder"):
        read_run(tmp_path)


def test_runs_are_found_at_any_depth(tmp_path):
    made = [create(tmp_path / part, make_manifest(run=run)) for part, run in (("b", "2"), ("a", "1"))]
    assert find_runs(tmp_path) == sorted(made)
    assert find_runs(made[0]) == [made[0]]


def test_two_runs_never_share_a_folder(folder, tmp_path):
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(InputError, match=r"--results: can't write a run here: .*got .*; expected a folder"):
        create(tmp_path, make_manifest(seed=8))
    assert (folder / "manifest.json").read_bytes() == before


def test_a_file_where_the_results_folder_should_be_is_one_sentence(tmp_path):
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(InputError, match=r"--results: can't write a run here: .*runs'; expected a folder"):
        create(tmp_path / "runs", make_manifest())


@contextmanager
def files_no_longer_than(size):
    """No file of this process may grow past `size` bytes, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_sentence_and_what_was_written_stays(tmp_path):
    where = create(tmp_path, make_manifest())
    with RecordWriter(where, "simulated") as writer:
        writer.append(recorded(CASES[0]))
        (path,) = where.glob("records-*")
        with (
            files_no_longer_than(path.stat().st_size + 100),
            pytest.raises(RunIncomplete, match="can't write the record of matmul/fp32/16x16x16"),
        ):
            writer.append(recorded(CASES[1]))
    assert read_run(where).records == (recorded(CASES[0]),)
    assert read_run(where).problems == ()  # no torn line


def test_a_disk_that_is_full_at_the_start_leaves_no_run(tmp_path):
    with files_no_longer_than(100), pytest.raises(OutputError, match="can't write a run here"):
        create(tmp_path / "new" / "runs", make_manifest())
    assert list(tmp_path.iterdir()) == []


def test_only_a_run_without_a_record_is_discarded(tmp_path):
    empty, begun = create(tmp_path / "a", make_manifest()), create(tmp_path / "b", make_manifest())
    with RecordWriter(begun, "simulated") as writer:
        writer.append(recorded(CASES[0]))
    discard(empty)
    discard(begun)
    assert not empty.exists()
    assert read_run(begun).records == (recorded(CASES[0]),)


def test_a_disk_that_stays_full_is_still_one_sentence(tmp_path):
    """Closing the file writes what is left in its buffer, and fails once more."""
    where = create(tmp_path, make_manifest())
    with (
        files_no_longer_than(100),
        pytest.raises(RunIncomplete, match="can't write the record of matmul/fp32/8x8x8"),
        RecordWriter(where, "simulated") as writer,
    ):
        writer.append(recorded(CASES[0]))


def test_a_run_is_measured_by_one_process_at_a_time(tmp_path):
    (tmp_path / "manifest.json").touch()
    again = claim(tmp_path)
    with claim(tmp_path), pytest.raises(InputError, match="is being measured by another process"):
        again.__enter__()
    with claim(tmp_path):  # given back
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_file_that_could_not_be_written_leaves_nothing_behind(tmp_path):
    (tmp_path / "report.md").mkdir()
    with pytest.raises(OSError, match="irectory"):
        write_durably(tmp_path / "report.md", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


@pytest.mark.parametrize(
    ("done", "first", "why"),
    [
        (True, b"?\n", "its record can't be read"),
        (True, b"", "its record was there when the run ended, and is gone"),
        (False, b"?\n", "the run ended before it, or its record can't be read"),
        (False, b"", "the run ended before it"),
    ],
)
def test_a_case_without_a_record_has_the_reason_on_every_screen(folder, done, first, why):
    path, data = lines_of(folder)
    path.write_bytes(first + data.split(b"\n", 1)[1])
    if done:
        mark_done(folder)
    run = read_run(folder)
    assert str(run.why_missing) == why
    told = [row for table in run_view(run).tables for row in table.rows if "missing" in row]
    assert {row[-1] for row in told} == {why}
    compared = [case for case in results_of_run(run).cases if case.state == "missing"]
    assert {str(case.reason) for case in compared} == {why}
