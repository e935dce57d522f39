"""Naming a run: a folder, an id, the beginning of one, or `latest`, from anywhere within a project."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import nameplate
import nameplate.store.find
from nameplate.base.errors import InputError
from nameplate.store.find import Library, find_all, find_run, find_unfinished, open_library
from nameplate.store.folder import create, mark_done

ONE, TWO, THREE = "20261101T090000-smoke-0a01", "20261102T090000-quick-0b02", "20261102T100000-quick-0c03"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose working directory is its top."""
    top = tmp_path / "project"
    (top / ".git").mkdir(parents=True)
    monkeypatch.chdir(top)
    return top


@pytest.fixture
def store(make_manifest):
    """Write the folder of a run into a folder of runs."""

    def write(folder, run, created="2026-11-01T09:00:00+00:00", *, done=True, **changes):
        made = create(Path(folder), make_manifest(["matmul/bf16/8x8x8/normal/warm/-/torch"], run=run,
                                                  created=created, **changes))  # fmt: skip
        if done:
            mark_done(made)
        return made

    return write


def refusal(name, results=None, find=find_run):
    with pytest.raises(InputError) as caught:
        find(name, results)
    assert caught.value.exit_status == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_run_is_named_by_folder_by_id_and_by_its_beginning(project, store):
    folder = store("runs", ONE)
    for name in (folder, str(folder), folder.absolute(), ONE, ONE[:9], "2"):
        assert find_run(name).samefile(folder)
    assert nameplate.find_run(ONE) == Path("runs") / ONE


def test_a_link_that_leads_where_nothing_can_be_hides_no_run(project, store):
    store("runs", ONE)
    (project / "runs" / "long").symlink_to("n" * 300)
    (project / "runs" / "loop").symlink_to("loop")
    assert find_run("latest") == Path("runs") / ONE
    assert [folder.name for folder, _manifest in open_library("runs").read().runs] == [ONE]


def test_published_runs_are_found_by_id_too_and_count_once(project, store):
    published = store("results/a-part", ONE, published=True)
    assert find_run(ONE) == find_run(ONE[:12]) == published
    measured = store("runs", ONE)
    assert find_run(ONE) == find_run(ONE[:12]) == find_run("latest") == measured
    assert [folder for folder, _ in open_library().read().runs] == [measured]


@pytest.mark.parametrize("below", ["src", "a/b/c"])
def test_ids_are_found_from_anywhere_in_the_project(project, store, monkeypatch, below):
    store("runs", ONE)
    store("results/a-part", TWO, "2026-11-02T09:00:00+00:00")
    here = project / below
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    up = Path(*[".."] * len(Path(below).parts))
    assert find_run(ONE) == up / "runs" / ONE
    assert find_run(TWO[:12]) == find_run("latest") == up / "results/a-part" / TWO


def test_every_folder_on_the_way_up_is_searched_the_nearest_first(project, store, monkeypatch):
    for folder, run in (("runs", ONE), ("a/runs", TWO), ("a/b/runs", ONE)):
        store(folder, run)
    monkeypatch.chdir(project / "a" / "b")
    assert find_run(ONE) == Path("runs") / ONE
    assert find_run(TWO) == Path("../runs") / TWO


def test_the_nearest_top_ends_the_search(project, store, monkeypatch):
    store("runs", ONE)
    inner = project / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert find_run(ONE)
    (inner / "pyproject.toml").touch()
    assert "no such run" in refusal(ONE)


def test_outside_of_a_project_the_working_directory_alone_is_searched(tmp_path, store, monkeypatch):
    folder = store(tmp_path / "runs", ONE)
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_run(ONE).samefile(folder)
    monkeypatch.chdir(tmp_path / "below")
    assert "expected a run folder, or the id of one in runs or results" in refusal(ONE)


def test_a_folder_that_is_given_is_the_only_one(project, store):
    store("runs", ONE)
    folder = store("elsewhere/node17", TWO)
    assert find_run(TWO, "elsewhere") == find_run(TWO[:10], Path("elsewhere")) == folder
    assert find_run("latest", "elsewhere") == folder
    said = refusal(ONE, "elsewhere")
    assert "the id of one in elsewhere, its beginning, or latest" in said
    assert "`bench list --results elsewhere` lists all" in said
    assert find_run(Path("runs") / ONE, "elsewhere") == Path("runs") / ONE  # a path is a path


def test_a_whole_id_beats_longer_ones_that_begin_so(project, store):
    short = store("results/a-part", ONE)
    store("runs", f"{ONE}-again")
    assert find_run(ONE) == short
    assert find_run(f"{ONE}-").name == f"{ONE}-again"


def test_a_beginning_that_fits_several_is_refused_with_the_candidates(project, store):
    store("runs", TWO)
    store("results/a-part", THREE)
    assert refusal("20261102") == (
        f"more than one run's id begins like that; got '20261102'; expected one of {THREE}, {TWO}"
    )
    for number in range(6):
        store("runs", f"20261102T11000{number}-quick-0d0{number}")
    said = refusal("20261102")
    assert said.count("20261102T") == 5
    assert said.endswith(" and 3 more")


def test_an_unknown_name_is_told_what_was_searched_and_what_is_close(project, store):
    store("runs", ONE)
    said = refusal(ONE[:-4] + "0a10")
    assert "expected a run folder, or the id of one in runs, its beginning, or latest" in said
    assert f"; the closest is {ONE}; `bench list` lists all" in said
    assert ONE in refusal(f"gone/{ONE[:-1]}")
    assert "closest" not in refusal("nothing like it")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "/", "a\0b", "x" * 300, "runs/../..", "LATEST"])
def test_what_can_be_no_run_is_refused(project, store, name):
    store("runs", ONE)
    for find in (find_run, find_unfinished):
        assert "run" in refusal(name, find=find)


def test_no_name_is_no_run_even_in_a_run_s_folder(project, store, monkeypatch):
    monkeypatch.chdir(store("runs", ONE))
    assert "no such run; got ''" in refusal("")
    assert "no such run; got ''" in refusal("", find=find_all)
    assert find_run(".") == Path(".")


def test_a_folder_that_is_no_run_is_called_so(project, store):
    store("runs", ONE)
    (project / "empty").mkdir()
    for name in ("runs", "empty"):
        assert refusal(name).startswith(
            f"a folder, but not a run's; got '{name}'; expected a run folder, or "
        )
    assert find_all("runs") == [Path("runs") / ONE]
    assert find_all(ONE[:6]) == [Path("runs") / ONE]
    assert refusal("empty", find=find_all).startswith("a folder, but not a run's; got 'empty'; ")


def test_a_file_instead_of_a_folder_of_runs_is_refused(project):
    (project / "file").touch()
    assert refusal("latest", "file") == "--results: not a folder; got 'file'; expected a folder of runs"


def test_latest_is_by_when_a_run_began_whatever_it_is_called(project, store):
    newest = store("runs", "a-first", "2026-11-05T10:00:00+09:00")  # 01:00 UTC
    store("runs", "b-second", "2026-11-05T00:59:00+00:00")
    store("results/a-part", "c-third", "2026-11-05T00:58:00")  # without a zone: UTC
    store("runs", "d-fourth", "some day")
    assert find_run("latest") == newest
    ids = [manifest.run for _, manifest in open_library().read().runs]
    assert ids == ["a-first", "b-second", "c-third", "d-fourth"]


def test_of_runs_that_began_at_once_the_last_id_is_the_latest(project, store):
    for run in (TWO, THREE, ONE):
        store("runs", run)
    assert find_run("latest").name == THREE


def test_where_there_is_no_run_there_is_no_latest(project, store):
    assert refusal("latest") == (
        "runs or results: there is no run; got 'latest'; expected a run (`bench run` makes one)"
    )
    broken = store("runs", ONE)
    (broken / "manifest.json").write_text("{")
    assert "there is no run (passed over a folder that holds no run that can be read: " in refusal("latest")


def test_what_can_not_be_read_is_never_the_latest_and_is_named(project, store):
    good, broken = store("runs", ONE), store("runs", TWO, "2026-11-09T09:00:00+00:00")
    (broken / "manifest.json").write_text("{")
    (project / "runs" / "mine" / "notes").mkdir(parents=True)
    (project / "runs" / ".unfinished-x").mkdir()
    (project / "runs" / "a-file").touch()
    assert find_run("latest") == good
    assert find_run(TWO) == broken  # named, it is found, and whoever reads it says what is wrong
    assert set(open_library().read().unreadable) == {broken, Path("runs/mine")}


def test_a_folder_that_was_renamed_is_found_by_its_name_and_by_its_id(project, store):
    folder = store("runs", ONE).rename("runs/kept")
    assert find_run("kept") == find_run(ONE) == find_run(ONE[:10]) == folder
    copy = Path(shutil.copytree(folder, Path("runs") / ONE))
    assert find_run(ONE) == find_run("latest") == copy
    assert len(open_library().read().runs) == 1


def test_a_link_to_a_run_is_that_run_and_a_circle_of_links_ends(project, store):
    folder = store("runs", ONE)
    os.symlink(folder.absolute(), "runs/best")
    os.symlink(project / "runs", "runs/round")
    assert find_run("best") == Path("runs/best")
    assert find_run("latest") == folder


def test_only_latest_and_names_that_no_folder_has_read_manifests(project, store, monkeypatch):
    folder = store("results/a-part", ONE)
    store("results/a-part", TWO)

    def read(folder):
        pytest.fail(f"the manifest of {folder} was read")

    monkeypatch.setattr(nameplate.store.find, "read_manifest", read)
    for name in (folder, ONE, ONE[:8]):
        assert find_run(name) == folder


def test_a_link_to_a_run_is_not_another_one_that_begins_so(project, store):
    folder = store("results/a-part", ONE)
    Path("runs").mkdir(exist_ok=True)
    Path("runs", f"{ONE[:15]}-link").symlink_to(folder.absolute())
    assert find_run(ONE[:12]) == folder


def test_a_working_directory_that_is_gone_is_one_sentence(tmp_path, store, monkeypatch):
    folder = store(tmp_path / "runs", ONE)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert find_run(folder) == folder
    assert "the working directory can't be read" in refusal(ONE)


def test_only_an_unfinished_run_is_gone_on_with_as_the_latest(project, store):
    store("runs", THREE, "2026-11-09T09:00:00+00:00")
    older = store("runs", ONE, "2026-11-07T09:00:00+00:00", done=False)
    newer = store("runs", TWO, "2026-11-08T09:00:00+00:00", done=False)
    store("results/a-part", "published", "2026-11-10T09:00:00+00:00", done=False, published=True)
    assert find_unfinished("latest") == newer
    mark_done(newer)
    assert find_unfinished("latest") == older
    assert find_unfinished(THREE) == Path("runs") / THREE  # named, a finished one is a run as well
    mark_done(older)
    said = "runs: no run is unfinished; got 'latest'; expected an unfinished run"
    assert refusal("latest", find=find_unfinished) == said
    assert "no such run" in refusal("published", find=find_unfinished)


def test_a_run_of_the_folder_that_is_given_is_gone_on_with(project, store):
    store("runs", ONE, done=False)
    folder = store("mine", TWO, done=False)
    store("mine", THREE, "2026-11-08T09:00:00+00:00", done=False, published=True)
    assert find_unfinished("latest", "mine") == folder
    assert "no such run" in refusal(ONE, "mine", find_unfinished)


def test_a_hundred_runs_are_scanned_without_looking_into_them(tmp_path, store, monkeypatch):
    for number in range(100):
        store(tmp_path, f"20261101T0900{number:02d}-smoke-{number:04x}")
    looked = []
    listed = os.listdir
    monkeypatch.setattr(os, "listdir", lambda path: looked.append(path) or listed(path))
    assert len(Library((tmp_path,)).read().runs) == 100
    assert looked == [tmp_path]


def test_load_takes_names_too(project, store):
    store("runs", ONE)
    store("results/a-part", TWO, "2026-11-02T09:00:00+00:00")
    assert list(nameplate.load("latest").columns) == list(nameplate.load("runs").columns)
    with pytest.raises(InputError, match="no such run"):
        nameplate.load("gone")
