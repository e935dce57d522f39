"""A run folder that anybody may have made: what can't be is named and left out, in bounded memory."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from nameplate.base.errors import InputError
from nameplate.base.files import parse_json
from nameplate.chain.from_run import find_links
from nameplate.chain.link import Link
from nameplate.chain.scaling import extend_scaling
from nameplate.chain.stage import Stage
from nameplate.record import METHOD, SCHEMA
from nameplate.report.run import run_document
from nameplate.store import folder as store
from nameplate.store.folder import find_runs, mark_done, read_run, write_durably

HUGE = "1" + "0" * 400


@pytest.fixture
def run(make_record, store_run, tmp_path):
    """A run of two records, and its file of records."""
    folder = store_run(
        tmp_path / "runs", make_record(), make_record(case="matmul/bf16/8x8x8/normal/warm/-/torch")
    )
    (file,) = folder.glob("records-*.jsonl")
    return folder, file


def edit(file, change):
    """Change the fields of the first record line."""
    first, rest = file.read_text(encoding="utf-8").split("\n", 1)
    fields = json.loads(first)
    change(fields)
    file.write_text(f"{json.dumps(fields)}\n{rest}", encoding="utf-8")


NUMBERS = {
    "no launches": lambda fields: fields["batches"][0].update(launches=0),
    "no time": lambda fields: fields["batches"][0].update(elapsed_s=0),
    "a negative time": lambda fields: fields["batches"][0].update(elapsed_s=-1),
    "more launches than can be": lambda fields: fields["batches"][0].update(launches=10**400),
    "more FLOPs than can be": lambda fields: fields.update(flops=10**400),
    "a negative figure": lambda fields: fields.update(energy_j=-1.0),
    "an overflow": lambda fields: fields.update(bandwidth_gb_s=1e308, bandwidth_high_gb_s=1e308),
    "a denormal number": lambda fields: fields.update(time_s=1e-320),
    "NaN": lambda fields: fields.update(time_s=float("nan")),
    "an overflow among the conditions": lambda fields: fields["conditions"].update(gpu_sm_clock_mhz=1e-320),
    "a size that can't be": lambda fields: fields["dimensions"].update(m=10**400),
    "half a character": lambda fields: fields.update(workload="\ud800"),
    "a newer schema": lambda fields: fields.update(schema_version=SCHEMA + 1),
    "a schema of no number": lambda fields: fields.update(schema_version=None),
    "a schema in quotes": lambda fields: fields.update(schema_version=str(SCHEMA)),
    "a method in quotes": lambda fields: fields.update(method=str(METHOD)),
    "a newer method": lambda fields: fields.update(method=99),
    "a figure in quotes": lambda fields: fields.update(tflops=str(fields["tflops"])),
    "a graph that does nothing": lambda fields: fields.update(graph_tflops=0.0),
    "a nominal outside its interval": lambda fields: fields.update(
        nominal_tflops_low=0.1, nominal_tflops_high=0.0
    ),
    "an interval of a figure without one": lambda fields: fields.update(
        interval_within={"figure": "time_s", "low": 0.0, "high": 1.0}
    ),
    "a course that begins before it": lambda fields: fields.update(course=[{"at_s": 0.0, "tflops": 1.0}]),
    "a course that runs backward": lambda fields: fields.update(
        course=[{"at_s": at_s, "tflops": 1.0} for at_s in (2.0, 1.0)]
    ),
    "true for a number": lambda fields: fields["batches"][0].update(launches=True),
}


@pytest.mark.parametrize("change", NUMBERS.values(), ids=NUMBERS)
def test_a_record_that_cant_be_is_left_out_and_named_and_every_command_goes_on(bench, run, tmp_path, change):
    folder, file = run
    edit(file, change)
    read = read_run(folder)
    assert [record.case for record in read.records] == ["matmul/bf16/8x8x8/normal/warm/-/torch"]
    assert [problem.code for problem in read.problems] == ["line_unreadable"]
    for words in (["show", folder], ["show", folder, "--json"], ["export", folder, "--format", "prometheus"]):
        result = bench(*words)
        assert result.status == 0
        assert not {"inf", "nan"} & set(result.out.lower().split())
    assert bench("list", "--results", folder.parent).status == 0


SIZES = (
    *("m", "n", "k", "times", "set_flops", "groups", "batch", "tokens", "d_model", "heads", "kv_heads"),
    *("head_dim", "ffn", "experts", "active_experts", "layers", "vocabulary", "parameters"),
    *("message_bytes", "world_size", "nodes", "link_gb_s"),
)


@pytest.mark.parametrize("value", [0, -1, 0.0, "many", 10**30])
def test_sizes_that_no_work_has_are_passed_over(made_up_figures, make_record, make_run, value):
    """What a suite of others declares, or anybody writes, may be anything; whatever divides by it may not."""
    passes = {
        "transformer_block": ("forward", "forward_backward"),
        "training_step": ("step", "embedding_head", "adamw"),
        **dict.fromkeys(("matmul", "attention", "scaled_block", "collective"), ("forward_backward",)),
    }
    records = [
        make_record(
            case=f"{work}/{pass_}/{backend}",
            workload=work,
            backend=backend,
            dimensions={**dict.fromkeys(SIZES, value), "pass": pass_, "kind": "all_reduce"},
            represents="Llama-3-8B",
            group="1",
            parts=({"name": "qkv", "forward_s": 0.0},) if work == "transformer_block" else (),
        )
        for work, found in passes.items()
        for pass_ in found
        for backend in ("torch", "compiled")
    ]
    run = make_run(*records)
    json.dumps([run_document(run), *(record.flatten() for record in run.records)], allow_nan=False)
    assert "collective" in run._repr_html_()
    for link in find_links(run.records):
        extend_scaling([link], 1024)


def test_a_link_without_a_low_end_is_carried_on_without_one():
    link = Link(
        Stage.BLOCK, Stage.SCALED, 0.9, "bf16", "measured", "a run", low=0.0, high=1.0, n_to=2, nodes=2
    )
    (further,) = extend_scaling([link], 64)
    assert (further.low, further.n_to) == (0.0, 64)
    assert extend_scaling([replace(link, n_to=1)], 64) is None


def test_a_key_that_is_there_twice_costs_its_record(run):
    folder, file = run
    text = file.read_text(encoding="utf-8")
    for place in ('"tflops":0.4,', '"course":[],'):
        file.write_text(text.replace(place, f'{place}"tflops":0.405,', 1), encoding="utf-8")
        for in_full in (True, False):  # a cluster's runs are read without details
            read = read_run(folder, in_full=in_full)
            assert len(read.records) == 1
            assert "the key 'tflops' is there twice" in str(read.problems[0])


def test_a_key_that_is_there_twice_among_many_is_found_at_once():
    """Looked for one by one, it would be an hour's work."""
    keys = ", ".join(f'"{number}": 0' for number in range(200_000))
    with pytest.raises(ValueError, match="the key '199999' is there twice"):
        parse_json(f'{{{keys}, "199999": 0}}'.encode())


def edit_json(text, **fields):
    return json.dumps(json.loads(text) | fields)


MANIFESTS = {
    "a key that is there twice": (lambda text: '{"run": "x",' + text[1:], "the key 'run' is there twice"),
    "a byte order mark": (lambda text: "\ufeff" + text, "byte order mark"),
    "nothing": (lambda _text: "", "it is empty"),
    "nested without end": (lambda _text: "[" * 100_000, "not JSON"),
    "a long number": (lambda text: text.replace('"seed": 7', f'"seed": {"7" * 5000}'), "not JSON"),
    "a huge number": (lambda text: text.replace('"seed": 7', f'"seed": {HUGE}'), "out of range"),
    "an infinite number": (lambda text: text.replace('"seed": 7', '"seed": 1e999'), "out of range"),
    "half a character": (lambda text: text.replace("node17", "\\ud800"), "not JSON"),
    "a newer schema": (lambda text: edit_json(text, schema_version=SCHEMA + 1), "by a newer Nameplate"),
    "a schema in quotes": (
        lambda text: edit_json(text, schema_version=str(SCHEMA)),
        f"schema_version: a whole number from 1 to {SCHEMA}, not '{SCHEMA}'",
    ),
    "a schema of no number": (lambda text: edit_json(text, schema_version=None), "schema_version: a whole"),
    "true for a schema": (lambda text: edit_json(text, schema_version=True), "schema_version: a whole"),
    "a method of no number": (lambda text: edit_json(text, method=None), "method: a whole number"),
    "a seed in quotes": (lambda text: edit_json(text, seed="7"), "seed"),
    "2,000 devices": (
        lambda text: edit_json(text, devices=json.loads(text)["devices"] * 2000),
        "at most 1024 items",
    ),
    "a negative seed": (lambda text: text.replace('"seed": 7', '"seed": -7'), "seed"),
    "a newer method": (lambda text: edit_json(text, method=99), "newer Nameplate: method 99, where this one"),
    "a device of no case": (lambda text: text.replace('"name": "cpu"', '"name": "gpu"'), "matmul"),
    "200,000 cases": (
        lambda text: edit_json(text, cases=[f"case/{n}" for n in range(200_000)]),
        "at most 20000 items",
    ),
}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest_that_cant_be_is_one_sentence_and_exit_2(bench, run, kind):
    folder, _file = run
    change, said = MANIFESTS[kind]
    if kind == "a device of no case":
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["cases"] = [{"case": case, "device": "cuda:0"} for case in manifest["cases"]]
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        said = "'cuda:0', which isn't among cpu"
    else:
        text = (folder / "manifest.json").read_text(encoding="utf-8")
        (folder / "manifest.json").write_text(change(text), encoding="utf-8")
    result = bench("show", folder)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert said in result.err
    assert len(result.err) < 700


def replace_by_pipe(path):
    path.unlink()
    os.mkfifo(path)


def replace_by_device(path):
    path.unlink()
    path.symlink_to("/dev/zero")


def replace_by_link_out(path):
    outside = path.parents[2] / path.name
    path.rename(outside)
    path.symlink_to(outside)


def replace_by_loop(path):
    path.unlink()
    path.symlink_to(path.name)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


KINDS = (replace_by_pipe, replace_by_device, replace_by_link_out, replace_by_loop, replace_by_folder)


@pytest.mark.parametrize("replace", KINDS)
def test_only_regular_files_of_the_folder_are_read(bench, run, replace):
    folder, file = run
    replace(file)
    read = read_run(folder)
    assert (read.records, [problem.code for problem in read.problems]) == ((), ["file_unreadable"])
    replace(folder / "manifest.json")
    result = bench("show", folder)
    assert (result.status, result.err.count("\n")) == (2, 1)


def test_no_mark_and_no_new_file_is_written_through_a_link(run, tmp_path):
    """As in a folder that somebody else made: what the link names would be written, wherever that is."""
    folder, _file = run
    (folder / "DONE").unlink()
    for name in ("DONE", f".manifest.json.{os.getpid()}"):
        (folder / name).symlink_to(tmp_path / f"outside{name}")
    mark_done(folder)
    write_durably(folder / "manifest.json", (folder / "manifest.json").read_text(encoding="utf-8"))
    assert list(tmp_path.glob("outside*")) == []
    assert (folder / "DONE").is_symlink()
    assert not os.path.lexists(folder / f".manifest.json.{os.getpid()}")
    assert len(read_run(folder).records) == 2


def test_a_million_bad_lines_are_counted_and_ten_described(run, monkeypatch):
    folder, file = run
    monkeypatch.setattr(store, "MOST_LINE_BYTES", 1000)
    bad = b"{}\n" * 2000 + b"x" * 3000 + b"\n"
    file.write_bytes(bad + file.read_bytes())
    monkeypatch.undo()
    read = read_run(folder)
    assert len(read.records) == 2
    assert [problem.code for problem in read.problems] == ["line_unreadable"] * 10 + ["more_lines_unreadable"]
    assert read.problems[-1].values["count"] == 1991


def test_a_line_longer_than_any_record_is_never_held_in_memory(run, monkeypatch):
    folder, file = run
    before = file.read_bytes()
    monkeypatch.setattr(store, "MOST_LINE_BYTES", 2 * len(before))
    file.write_bytes(b"x" * 3 * len(before) + b"\n" + before + b"y" * 3 * len(before))
    read = read_run(folder)
    assert len(read.records) == 2
    assert [problem.code for problem in read.problems] == ["line_unreadable", "line_unreadable"]


def test_files_larger_than_a_run_can_be_are_left_out(run, monkeypatch):
    folder, file = run
    monkeypatch.setattr(store, "MOST_RECORDS_BYTES", file.stat().st_size)
    (folder / "records-zzz-0.jsonl").write_text("{}\n", encoding="utf-8")
    read = read_run(folder)
    assert len(read.records) == 2
    assert [problem.code for problem in read.problems] == ["file_unreadable"]


def test_folders_are_searched_to_a_depth_for_some_trees_have_no_end(run, bench):
    folder, _file = run
    deep = folder.parent.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    folder.rename(deep / folder.name)
    assert find_runs(folder.parent) == []
    assert [bench(*words).status for words in (["list", "--results", folder.parent], ["show", deep])] == [
        0,
        2,
    ]
    assert bench("show", deep / folder.name).status == 0
    (deep / folder.name).rename(folder.parent / "d" / folder.name)
    assert find_runs(folder.parent) == [folder.parent / "d" / folder.name]


def test_what_a_folder_may_not_be_asked_is_one_sentence(run):
    folder, _file = run
    with pytest.raises(InputError, match="File name too long"):
        read_run(folder / ("n" * 300))
    with pytest.raises(InputError, match="no file can have this name"):
        read_run(folder / "a\0b")
