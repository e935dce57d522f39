"""What is measured in turn: environments, commits, the working tree; what is made ready is removed again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.compare.contenders import find_source_roots, prepare_contender

pytestmark = pytest.mark.process
WHO = "import nameplate, sys; print(nameplate.__file__); print(nameplate.WHO)"


def git(folder, *arguments):
    identity = ("-c", "user.name=x", "-c", "user.email=x@y")
    done = subprocess.run(
        ["git", "-C", folder, *identity, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository of someone's nameplate: two commits, and a change that isn't committed."""
    top = tmp_path / "repository"
    package = top / "src" / "nameplate"
    package.mkdir(parents=True)
    git(tmp_path, "init", "--quiet", "--initial-branch=main", top)
    for who in ("first", "second"):
        (package / "__init__.py").write_text(f"WHO = {who!r}\n")
        git(top, "add", "-A")
        git(top, "commit", "--quiet", "-m", who)
    (package / "__init__.py").write_text("WHO = 'tree'\n")
    return top


def said_by(side):
    return side.run("-c", WHO).stdout.split()


@pytest.mark.parametrize(("name", "who"), [("HEAD~1", "first"), ("main", "second"), (".", "tree")])
def test_a_commit_and_the_tree_are_run_by_this_python_with_their_own_code(repository, name, who):
    with prepare_contender(name, repository) as side:
        file, said = said_by(side)
        assert said == who
        assert side.python == sys.executable
        assert Path(file).is_relative_to(repository) == (name == ".")
    assert Path(file).exists() == (name == ".")


def test_a_commit_is_whole_from_a_subfolder_and_registers_nothing(repository):
    """Where a sparse checkout leaves files out, and the user's index holds another state."""
    (repository / "data").mkdir()
    (repository / "data" / "figures.csv").write_text("1,2\n")
    git(repository, "add", "data")
    git(repository, "commit", "--quiet", "-m", "third")
    git(repository, "sparse-checkout", "set", "src")
    before = git(repository, "status", "--porcelain")
    with prepare_contender("main", repository / "src") as side:
        tree = Path(said_by(side)[0]).parents[2]
        assert (tree / "data" / "figures.csv").read_text() == "1,2\n"
        assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "status", "--porcelain") == before


def test_a_commit_is_named_with_its_hash(repository):
    with prepare_contender("main", repository) as side:
        assert side.name == f"main ({git(repository, 'rev-parse', 'main')[:10]})"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_checkout_is_removed_whatever_happens_and_the_repository_is_as_before(repository, error):
    before = git(repository, "status", "--porcelain"), git(repository, "branch", "--list")
    files = []

    def measured():
        with prepare_contender("HEAD~1", repository) as side:
            files.extend(said_by(side)[:1])
            raise error

    with pytest.raises(error):
        measured()
    assert not Path(files[0]).exists()
    assert not Path(files[0]).parents[3].exists()
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert (git(repository, "status", "--porcelain"), git(repository, "branch", "--list")) == before


def test_the_same_commit_may_stand_on_both_sides(repository):
    with prepare_contender("main", repository) as one, prepare_contender("main", repository) as other:
        assert said_by(one)[1] == said_by(other)[1] == "second"
        assert said_by(one)[0] != said_by(other)[0]


def environment(folder):
    """A folder like a venv's, whose Python is this one, told where to find nameplate."""
    (folder / "bin").mkdir(parents=True)
    for name in ("python", "bench"):
        (folder / "bin" / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / "bin" / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("path", ["", "bin/python", "bin/bench"])
def test_an_environment_is_its_folder_or_a_program_in_it(tmp_path, path):
    folder = environment(tmp_path / "venv")
    with prepare_contender(str(folder / path), tmp_path) as side:
        assert side.python == str(folder / "bin" / "python")
        assert not side.environment


def test_a_link_stays_one_for_it_tells_a_python_its_environment(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python3").symlink_to(sys.executable)
    os.environ["PYTHONPATH"], before = os.pathsep.join(sys.path), os.environ.get("PYTHONPATH")
    try:
        with prepare_contender("venv", tmp_path) as side:
            assert side.python == str(tmp_path / "venv" / "bin" / "python3")
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.update(PYTHONPATH=before)


def test_an_environment_without_nameplate_is_refused(tmp_path):
    folder = environment(tmp_path / "venv")
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -I "$@"\n')
    with pytest.raises(InputError) as refused, prepare_contender(str(folder), tmp_path):
        pass
    assert str(refused.value).startswith("--interleave: there is no nameplate in it; got '")
    assert str(refused.value).endswith("venv'; expected an environment that has it")


@pytest.mark.parametrize("name", ["nowhere", "--version", "HEAD~99", "missing/folder"])
def test_what_is_neither_is_refused_with_what_would_do(repository, name):
    with pytest.raises(InputError) as refused, prepare_contender(name, repository):
        pass
    sentence = str(refused.value)
    assert sentence.startswith("--interleave: neither an environment nor a commit; got ")
    assert sentence.endswith("its python or bench, a commit, or . for the working tree")


def test_outside_a_repository_there_are_no_commits(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    with (
        pytest.raises(InputError, match="neither an environment nor a commit"),
        prepare_contender("HEAD", tmp_path),
    ):
        pass


def test_code_that_python_would_take_from_elsewhere_is_refused(repository, monkeypatch):
    """Both sides would then be the same code, and always the same in speed."""
    elsewhere = repository.parent / "elsewhere"
    (elsewhere / "nameplate").mkdir(parents=True)
    (elsewhere / "nameplate" / "__init__.py").write_text("")
    hook = f"import sys; sys.path.insert(0, {str(elsewhere)!r})\n"
    site = repository.parent / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(hook)
    monkeypatch.setenv("PYTHONPATH", str(site))
    with pytest.raises(InputError) as refused, prepare_contender("main", repository):
        pass
    assert "Python imports nameplate from elsewhere, not from main (" in str(refused.value)
    assert f"got '{elsewhere}" in str(refused.value)


def test_source_roots_are_what_the_project_says(tmp_path):
    assert find_source_roots(tmp_path) == [tmp_path]
    (tmp_path / "src").mkdir()
    assert find_source_roots(tmp_path) == [tmp_path / "src"]
    (tmp_path / "pyproject.toml").write_text('[tool.hatch.build]\ndev-mode-dirs = ["src", "kernels"]\n')
    assert find_source_roots(tmp_path) == [tmp_path / "src", tmp_path / "kernels"]
    (tmp_path / "pyproject.toml").write_text("not TOML")
    assert find_source_roots(tmp_path) == [tmp_path / "src"]


def test_this_repository_s_own_roots_are_its_three():
    top = Path(__file__).parents[2]
    assert find_source_roots(top) == [top / "src", top / "kernels", top / "bench"]
