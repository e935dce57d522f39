"""How a command ends where a file can't be written: a full disk, a folder that isn't there, a device."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from nameplate.report.media import write as report_writing

PUBLISHED = Path(__file__).parents[2] / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"


@pytest.fixture(autouse=True)
def temporary(tmp_path_factory, monkeypatch):
    """Tracebacks are kept where they go with the test."""
    folder = str(tmp_path_factory.mktemp("temporary"))
    monkeypatch.setenv("TMPDIR", folder)
    monkeypatch.setattr(tempfile, "tempdir", folder)


def failing_fsync(number):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    return fsync


FILES = {
    "export": ["export", PUBLISHED, "-o", "{folder}/out.csv"],
    "merge": ["merge", PUBLISHED, "-o", "{folder}/out.jsonl"],
    "report": ["report", PUBLISHED, "-o", "{folder}/out.md"],
    "leaderboard": ["leaderboard", "{folder}"],
    "publish": ["publish", "{run}", "--to", "{folder}"],
}


@pytest.fixture
def arguments(tmp_path, make_record, make_manifest, monkeypatch):
    """A command's arguments, with a folder to write into that holds a published run, and a run to publish."""
    from nameplate.store.folder import RecordWriter, create, mark_done

    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "data" / "nameplate").mkdir(parents=True)
    (tmp_path / "data" / "nameplate" / "publish.key").write_text("ab" * 32)
    shutil.copytree(PUBLISHED, tmp_path / "folder" / PUBLISHED.parent.name / PUBLISHED.name)
    record = make_record()
    run = create(tmp_path / "runs", make_manifest([record.case]))
    with RecordWriter(run, "cpu") as writer:
        writer.append(record)
    mark_done(run)
    monkeypatch.setattr(report_writing, "_render_markdown", lambda _views, output: {output: "# a report"})

    def fill(words, folder=tmp_path / "folder"):
        return [str(word).format(folder=folder, run=run) for word in words]

    return fill


@pytest.mark.parametrize("words", FILES.values(), ids=FILES)
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_takes_no_more_is_70(bench, arguments, monkeypatch, tmp_path, words, number):
    monkeypatch.setattr(os, "fsync", failing_fsync(number))
    result = bench(*arguments(words))
    assert (result.status, result.out) == (70, "")
    (sentence,) = result.err.splitlines()
    assert os.strerror(number) in sentence
    assert "; its traceback is in /" in sentence
    assert not list((tmp_path / "folder").glob("out*"))
    assert not list((tmp_path / "folder").rglob(".*"))


@pytest.mark.parametrize("words", [FILES["export"], FILES["merge"], FILES["report"]], ids=list(FILES)[:3])
def test_a_folder_that_isnt_there_is_bad_input(bench, arguments, tmp_path, words):
    result = bench(*arguments(words, tmp_path / "nowhere"))
    assert (result.status, result.out) == (2, "")
    assert "No such file or directory" in result.err


LONG = "n" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["show", LONG],
        ["report", PUBLISHED, "-o", f"{LONG}/r.html"],
        ["report", PUBLISHED, "-o", f"{LONG}.html"],
        ["compare", LONG, LONG],
        ["compare", "--interleave", LONG, "."],
        ["compare", "--interleave", ".", ".", "--results", LONG],
        ["export", LONG, "--format", "csv"],
        ["export", PUBLISHED, "-o", f"{LONG}.csv"],
        ["merge", LONG, "-o", "out.csv"],
        ["publish", LONG],
        ["leaderboard", LONG],
        ["fleet", "cost", "nio", "--run", LONG],
        ["fleet", "cost", "nio", "--fleets", LONG],
        ["run", "--resume", LONG],
    ],
)
def test_a_name_that_no_file_can_have_is_bad_input(bench, monkeypatch, tmp_path, words):
    monkeypatch.chdir(tmp_path)
    result = bench(*words)
    assert (result.status, result.out) == (2, "")
    assert LONG in result.err.splitlines()[-1]


def test_a_device_is_written_to_and_may_be_full(bench, tmp_path):
    result = bench("export", PUBLISHED, "--format", "csv", "-o", "/dev/full")
    assert result.status == 70
    assert result.err.startswith(
        "bench: --output: can't write there: No space left on device (/dev/full); its"
    )
    assert Path("/dev/full").is_char_device()
    (tmp_path / "link.md").symlink_to("/dev/null")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report_writing, "_render_markdown", lambda _views, output: {output: "# a report"})
        assert bench("report", PUBLISHED, "-o", tmp_path / "link.md").status == 0
    assert (tmp_path / "link.md").is_symlink()
    assert Path("/dev/null").is_char_device()
