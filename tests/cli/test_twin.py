"""What is made of a twin's run says so first; it is not published, ranked, priced or mixed with others."""

import json
from dataclasses import replace

import pytest

from nameplate.device.identity import CudaIdentity
from nameplate.report.media import markdown, page
from nameplate.report.run import run_view
from nameplate.store.folder import read_run
from nameplate.store.manifest import DeviceEntry
from nameplate.twin.card import read_card

NOTICE = "simulated: a twin of NVIDIA H200, not a measurement"
PART = "nvidia-h200-sxm-141gb"
pytestmark = pytest.mark.usefixtures("few_draws", "made_up_figures")


def entry(twin=None, name="twin:h200"):
    identity = CudaIdentity(name="NVIDIA H200", index=0, uuid="GPU-1", twin=twin)
    return DeviceEntry(name=name, part=PART, evidence="its name", identity=identity)


@pytest.fixture
def simulated(tmp_path, make_record, store_run):
    """The folder of a twin's run."""
    card = read_card("h200").model_dump(mode="json", by_alias=True)
    record = make_record(device="twin:h200", part=PART, measured=False)
    return store_run(tmp_path / "runs", record, devices=(entry(card),), measured=False)


@pytest.fixture
def measured(tmp_path, make_record, store_run):
    """The folder of a run of a real card of the same part."""
    record = make_record(device="cuda:0", part=PART)
    return store_run(tmp_path / "real", record, devices=(entry(name="cuda:0"),), run="20261101T000000-x-1234")


def test_every_screen_and_page_says_so_in_its_first_line(bench, simulated):
    for command in (["show", simulated], ["compare", simulated, simulated]):
        assert bench(*map(str, command)).out.splitlines()[0] == NOTICE
    view = replace(run_view(read_run(simulated)), tables=())  # whose charts take seconds
    assert NOTICE in markdown.render(view).splitlines()[0]
    whole = page.render([view])
    assert whole.index(NOTICE) < whole.index("<h1>")
    assert "模拟" in bench("show", str(simulated), "--lang", "zh").out.splitlines()[0]


def test_the_list_of_runs_says_so(bench, simulated):
    listed = bench("list", "--results", str(simulated.parent))
    assert f"Simulated, and no measurements: {simulated.name}." in " ".join(listed.out.split())
    (row,) = json.loads(bench("list", "--results", str(simulated.parent), "--json").out)
    assert row["measured"] is False


def test_the_document_and_every_record_say_so(bench, simulated):
    document = json.loads(bench("show", str(simulated), "--json").out)
    assert document["run"]["measured"] is False
    assert [record["measured"] for record in document["records"]] == [False]
    assert "nameplate_record_measured" in bench("export", str(simulated), "--format", "prometheus").out
    for form in ("csv", "jsonl"):
        assert "measured" in bench("export", str(simulated), "--format", form).out


def test_it_is_not_published(bench, simulated, tmp_path):
    ended = bench("publish", str(simulated), "--to", str(tmp_path / "results"))
    assert ended.status == 2
    assert "the run is simulated, and only measurements are published" in ended.err
    assert not (tmp_path / "results").exists()


def test_it_is_not_ranked(bench, simulated, tmp_path):
    manifest = simulated / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(fields | {"published": True}), encoding="utf-8")
    ended = bench("leaderboard", str(simulated.parent))
    assert ended.status == 2
    assert PART not in ended.out


def test_it_prices_no_fleet_when_asked_to(bench, simulated):
    ended = bench("fleet", "cost", "--run", str(simulated), "--json")
    assert "a simulated device is no evidence" in ended.out + ended.err
    links = [link for fleet in json.loads(ended.out) for link in fleet["chain"]]
    assert links
    assert not [link for link in links if link.get("run")]


def test_it_is_compared_with_twins_alone(bench, simulated, measured):
    ended = bench("compare", str(measured), str(simulated))
    assert ended.status == 2
    assert "a twin's figures are no measurement" in ended.err
    assert bench("compare", str(simulated), str(simulated)).status == 0


def test_a_manifest_that_calls_a_twin_measured_is_refused(bench, simulated):
    manifest = simulated / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(fields | {"measured": True}), encoding="utf-8")
    ended = bench("show", str(simulated))
    assert ended.status == 2
    assert "a twin is no measured device" in ended.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"twin": {"schema": 1, "name": "h200"}}, "the value of identity can't be used; got 'nothing'"),
        ({"nvml_index": 9}, "the value of nvml_index can't be used; got 9; expected one of its 1 GPUs"),
    ],
)
def test_a_run_whose_twin_cant_be_used_is_not_resumed(bench, simulated, change, said):
    (simulated / "DONE").unlink()
    manifest = simulated / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    fields["devices"][0]["identity"] |= change
    fields["cases"].append("matmul/bf16/8x8x8/normal/warm/-/torch")
    manifest.write_text(json.dumps(fields), encoding="utf-8")
    ended = bench("run", "--resume", str(simulated))
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert f"the twin of twin:h200 in the run's manifest: {said}" in ended.err


def test_records_of_a_twin_count_as_one_whatever_the_manifest_says(simulated):
    manifest = simulated / "manifest.json"
    fields = json.loads(manifest.read_text(encoding="utf-8"))
    fields["devices"][0]["identity"]["twin"] = None
    manifest.write_text(json.dumps(fields | {"measured": True}), encoding="utf-8")
    assert not read_run(simulated).measured


def test_a_twins_node_is_listed_whole(bench):
    found = json.loads(bench("devices", "--device", "twin:8xa800", "--json").out)["devices"]
    assert [each["device"] for each in found] == [f"twin:8xa800:{gpu}" for gpu in range(8)]
    assert "twin of 8 × NVIDIA A800" in bench("devices", "--device", "twin:8xa800").out
    (one,) = json.loads(bench("devices", "--device", "twin:8xa800:3", "--json").out)["devices"]
    assert one["device"] == "twin:8xa800:3"
