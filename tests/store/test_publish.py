"""A published run says the same figures and nothing of whose machine it was."""

import hashlib
import json
import os
import stat
from dataclasses import replace

import pytest

from nameplate.base.errors import InputError, OutputError
from nameplate.base.messages import text
from nameplate.device.identity import CudaIdentity
from nameplate.record import Record
from nameplate.report.leaderboard import make_leaderboard
from nameplate.store.folder import RecordWriter, claim, create, mark_done, read_run
from nameplate.store.manifest import DeviceEntry, Manifest
from nameplate.store.publish import describe_untrusted, publish_run

pytestmark = pytest.mark.usefixtures("made_up_figures")

HOST = "gpu-node-17"
UUID = "GPU-5d1c9e02-7c1b-4a55-9d0e-3f2a6bb6a1aa"
SERIAL = "1563221098765"
PCI = "0000:65:00.0"
SECRETS = (HOST, UUID, SERIAL, PCI)
CASES = ("matmul/bf16/64x64x64/normal/rotating/-/torch", "matmul/fp16/64x64x64/normal/rotating/-/torch")


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
        "device": "cuda:0",
        "part": "a800-sxm-80gb",
        "status": "ok",
        "verdict": "unknown",
        "verdicts": ("unknown",),
    }
    return Record.model_validate(fields | changes)


def measured(case=CASES[0], **changes):
    figures = {"tflops": 250.1, "tflops_low": 249.3, "tflops_high": 251.7, "time_s": 2e-9, "launches": 9}
    return recorded(case, **(figures | changes))


def failed(reason, case=CASES[1]):
    return recorded(case, status="failed", reason=text(reason))


MIXED = (measured(), failed(f"RuntimeError: no memory on {HOST}"))


@pytest.fixture(autouse=True)
def data_home(tmp_path, monkeypatch):
    """The publisher's own data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    return tmp_path / "share"


@pytest.fixture
def make_run(tmp_path):
    def make(records=MIXED, name="1", part="a800-sxm-80gb", hostname=HOST, done=True, suite="fake"):
        identity = CudaIdentity(
            name="NVIDIA A800-SXM4-80GB", index=0, uuid=UUID, serial=SERIAL, pci_bus_id=PCI, driver="550.54"
        )
        entry = DeviceEntry(name="cuda:0", part=part, evidence="its name", identity=identity)
        manifest = Manifest(
            run=name,
            suite=suite,
            created="2026-01-01T00:00:00+00:00",
            hostname=hostname,
            devices=(entry,),
            software={"torch": "2.13.0"},
            seed=1,
            cases=CASES,
        )
        folder = create(tmp_path / "runs", manifest)
        with RecordWriter(folder, "cuda0") as writer:
            for record in records:
                writer.append(record)
        if done:
            mark_done(folder)
        return read_run(folder)

    return make


def bytes_under(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)


def test_nothing_that_names_the_machine_is_in_the_published_bytes(make_run, tmp_path):
    run = make_run()
    assert all(secret.encode() in bytes_under(run.folder) for secret in SECRETS)
    published = publish_run(run, tmp_path / "results")
    data = bytes_under(tmp_path / "results")
    assert [secret for secret in SECRETS if secret.encode() in data] == []
    assert read_run(published).manifest.published


@pytest.mark.parametrize("secret", [UUID, SERIAL, PCI])
def test_a_reason_that_quotes_the_cards_own_numbers_is_cleaned_too(make_run, tmp_path, secret):
    run = make_run(records=(measured(), failed(f"RuntimeError: GPU {secret} has fallen off the bus")))
    publish_run(run, tmp_path / "results")
    assert secret.encode() not in bytes_under(tmp_path / "results")


def test_an_incident_that_quotes_the_host_name_is_cleaned_too(make_run, tmp_path):
    run = make_run()
    with claim(run.folder) as held:
        held.add_incident(text(f"cuda:0: its process hung on {HOST}"))
    published = publish_run(read_run(run.folder), tmp_path / "results")
    assert len(read_run(published).manifest.incidents) == 1
    assert HOST.encode() not in bytes_under(tmp_path / "results")


def test_a_short_host_name_in_a_reason_is_cleaned_too(make_run, tmp_path):
    run = make_run(hostname="gn7", records=(measured(), failed("OSError: gn7: no such file")))
    publish_run(run, tmp_path / "results")
    assert b"gn7" not in bytes_under(tmp_path / "results")


@pytest.mark.parametrize("hostname", ["torch", "matmul", "normal", "status"])
def test_a_host_that_is_called_like_a_word_of_ours_keeps_its_records(make_run, tmp_path, hostname):
    run = make_run(hostname=hostname)
    published = read_run(publish_run(run, tmp_path / "results"))
    assert [record.case for record in published.records] == list(CASES)
    assert published.problems == ()


def test_the_figures_are_copied_unedited(make_run, tmp_path):
    run = make_run()
    published = publish_run(run, tmp_path / "results")
    assert published == tmp_path / "results" / "a800-sxm-80gb" / run.id
    copy = read_run(published)
    assert copy.finished
    assert (copy.missing, copy.problems) == ((), ())
    assert copy.records[0] == run.records[0]
    assert copy.records[1].model_copy(update={"reason": None}) == run.records[1].model_copy(
        update={"reason": None}
    )
    kept = {"hostname", "devices", "published"}
    assert copy.manifest.model_dump(exclude=kept) == run.manifest.model_dump(exclude=kept)


def test_what_identifies_the_kind_of_device_stays(make_run, tmp_path):
    (entry,) = read_run(publish_run(make_run(), tmp_path / "results")).manifest.devices
    assert (entry.identity.name, entry.identity.driver) == ("NVIDIA A800-SXM4-80GB", "550.54")


def test_the_hash_tells_machines_apart_and_cannot_be_guessed(make_run, tmp_path, data_home, monkeypatch):
    def host_of(run):
        return read_run(publish_run(run, tmp_path / "results")).manifest.hostname

    first, again, other = (
        host_of(make_run(name="1")),
        host_of(make_run(name="2")),
        host_of(make_run(name="3", hostname="gpu-node-18")),
    )
    assert first == again
    assert first != other
    assert not hashlib.sha256(HOST.encode()).hexdigest().startswith(first)
    monkeypatch.setenv("XDG_DATA_HOME", str(data_home.parent / "another publisher's"))
    assert host_of(make_run(name="4")) != first


def test_the_key_is_made_once_and_is_its_owners_alone(make_run, tmp_path, data_home):
    publish_run(make_run(name="1"), tmp_path / "results")
    key = data_home / "nameplate" / "publish.key"
    before = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert len(bytes.fromhex(before.decode())) >= 16
    publish_run(make_run(name="2"), tmp_path / "results")
    assert key.read_bytes() == before
    assert before not in bytes_under(tmp_path / "results")


@pytest.mark.parametrize("content", ["", "not hexadecimal", "00"])
def test_a_key_that_is_none_is_refused(make_run, tmp_path, data_home, content):
    (data_home / "nameplate").mkdir(parents=True)
    (data_home / "nameplate" / "publish.key").write_text(content)
    with pytest.raises(InputError, match=r"publish\.key: no key to hash by"):
        publish_run(make_run(), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_records_that_dont_count_are_published_and_named(make_run, make_record):
    def record(*verdicts, **changes):
        held = {"verdict": verdicts[0], "verdicts": verdicts} if verdicts else {}
        return make_record(**held, **changes)

    run = make_run()
    counted = (record(), record("power_capped", phase="sustained"), record(status="skipped"))
    assert describe_untrusted(replace(run, records=counted)) is None
    doubted = (record("throttled"), record("power_capped", phase="burst"))
    said = describe_untrusted(replace(run, records=counted + doubted))
    assert said.startswith("2 of its 4 measured records aren't trusted (1 throttled, 1 power_capped)")


def test_a_run_is_published_once(make_run, tmp_path):
    run = make_run()
    published = publish_run(run, tmp_path / "results")
    before = bytes_under(published)
    with pytest.raises(InputError, match=f"already published; got '{run.id}'; expected a run not in "):
        publish_run(run, tmp_path / "results")
    assert bytes_under(published) == before


UNFIT = {
    "unfinished": (
        {"records": (measured(),), "done": False},
        "the run isn't finished; got '1 cases without a record'; expected bench run --resume .* first",
    ),
    "without a part": (
        {"part": None},
        "not recognised as a known part.*got 'its name'; expected a part of the registry",
    ),
    "nothing measured": (
        {"records": [failed("no", case) for case in CASES]},
        "the run measured nothing; expected at least one ok record",
    ),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_run_that_shows_nothing_is_not_published(make_run, tmp_path, kind):
    arguments, sentence = UNFIT[kind]
    with pytest.raises(InputError, match=sentence):
        publish_run(make_run(**arguments), tmp_path / "results")
    assert not (tmp_path / "results").exists()


ABOVE = (measured(verdict="above_peak", verdicts=("above_peak",)), failed("no"))


@pytest.mark.parametrize(
    ("run", "why"),
    [
        ({"suite": "smoke"}, "a run of smoke only shows that everything works"),
        ({"records": ABOVE}, f"1 records are above what the device can do, the first of them {CASES[0]}"),
    ],
)
def test_a_run_that_nothing_should_be_ranked_by_is_published_by_force_alone_and_says_so(
    make_run, tmp_path, run, why
):
    run = make_run(**run)
    with pytest.raises(InputError, match=f"1: {why}.*; expected .* or --force"):
        publish_run(run, tmp_path / "results")
    assert not (tmp_path / "results").exists()
    published = read_run(publish_run(run, tmp_path / "results", force=True))
    assert str(published.problems[0]).startswith(f"published by --force: {why}")
    (row,) = make_leaderboard(tmp_path / "results").results
    assert (row.forced, row.believed) == (True, False)
    assert "published by force" in make_leaderboard(tmp_path / "results").text
    # Nothing is said of a run that needed no force.
    fit = read_run(publish_run(make_run(name="2"), tmp_path / "results", force=True))
    assert (fit.problems, fit.manifest.forced) == ((), None)


def test_a_publication_that_broke_off_can_be_made_again(make_run, tmp_path, monkeypatch):
    run = make_run()

    def full(self, record):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(RecordWriter, "write", full)
        with pytest.raises(OutputError):
            publish_run(run, tmp_path / "results")
    assert read_run(publish_run(run, tmp_path / "results")).records[0] == run.records[0]


@pytest.mark.parametrize("name", ["..", "../x", "a/b", "/tmp/x", ".hidden", ""])
def test_a_name_from_a_manifest_is_never_a_way_out_of_the_folder(make_run, tmp_path, name):
    run = make_run()
    for change in ({"run": name}, {"devices": [{**run.manifest.devices[0].model_dump(), "part": name}]}):
        text = json.dumps(run.manifest.model_dump(mode="json") | change)
        (run.folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match=r"manifest\.json"):
            read_run(run.folder)


def test_nothing_unfinished_is_left_when_a_publication_breaks_off(make_run, tmp_path, monkeypatch):
    run = make_run()

    def full(self, record):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, "write", full)
    with pytest.raises(OutputError, match="No space left"):
        publish_run(run, tmp_path / "results")
    assert [path for path in (tmp_path / "results").rglob("*") if path.is_file()] == []


def test_a_published_copy_is_not_published_again(make_run, tmp_path):
    published = read_run(publish_run(make_run(), tmp_path / "results"))
    with pytest.raises(InputError, match="is a published copy"):
        publish_run(published, tmp_path / "elsewhere")


def test_without_a_home_there_is_no_key_and_one_sentence(make_run, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where no home can be found
    with pytest.raises(InputError, match="no home folder to keep a key in"):
        publish_run(make_run(), tmp_path / "results")


def test_a_run_of_several_parts_belongs_in_no_ones_folder(make_run, tmp_path):
    run = make_run()
    (entry,) = run.manifest.devices
    other = entry.model_copy(update={"name": "cuda:9", "part": "another-part"})
    mixed = replace(run, manifest=run.manifest.model_copy(update={"devices": (entry, other)}))
    with pytest.raises(InputError, match=r"several parts.*got \[.*another-part.*expected a run of one part"):
        publish_run(mixed, tmp_path / "results")
