"""`make check` goes red where files import one another in a circle, or upwards."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from import_circles import find_circle, imports_of, main, modules_in  # noqa: E402

FOLDERS = ("src", "kernels", "bench", "scripts")


@pytest.fixture
def written(tmp_path):
    """Write files, given as `name: text`, and the folders they lie in."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


CIRCLES = {
    "at the top": {"pkg/a.py": "import pkg.b", "pkg/b.py": "import pkg.a"},
    "in a function": {"pkg/a.py": "from pkg.b import x", "pkg/b.py": "def f():\n    from pkg.a import y"},
    "for type checkers": {
        "pkg/a.py": "from pkg.b import x",
        "pkg/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.a import y",
    },
    "from a package a child": {"pkg/a.py": "from pkg import b", "pkg/b.py": "from pkg import a"},
    "relative": {"pkg/a.py": "from . import b", "pkg/b.py": "from .a import x"},
    "relative, from a deeper folder": {
        "pkg/a.py": "from .in_.b import x",
        "pkg/in_/b.py": "from ..a import y",
    },
    "a package and its child": {"pkg/__init__.py": "from pkg import a", "pkg/a.py": "from pkg import name"},
    "in a folder without __init__": {"pkg/in_/a.py": "import pkg.in_.b", "pkg/in_/b.py": "import pkg.in_.a"},
    "of two packages": {"pkg/a.py": "import other.b", "other/b.py": "import pkg.a"},
    "of three files": {"pkg/a.py": "import pkg.b", "pkg/b.py": "import pkg.c", "pkg/c.py": "import pkg.a"},
}


@pytest.mark.parametrize("files", CIRCLES.values(), ids=CIRCLES)
def test_a_circle_is_refused_with_the_line_of_each_import(files, written, capsys):
    folder = written({"pkg/__init__.py": "", "other/__init__.py": "", **files})
    assert main([str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(files)
    for name, text in files.items():
        importer = next(line for line in lines if f"{folder / name}:" in line)
        assert f"{name}:{len(text.splitlines())} imports " in importer


def test_what_only_looks_like_a_circle_is_none(written):
    """Siblings of one package, a file that names itself, a library with a name that begins alike."""
    files = {
        "pkg/__init__.py": "from pkg import a, b",
        "pkg/a.py": "import json\nimport pkg.a\nfrom pkg import b\nfrom pkg.b import x",
        "pkg/b.py": "import pkgs.a",
    }
    assert find_circle(imports_of(modules_in([written(files)]))) is None


def test_a_folder_without_files_is_no_pass(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_this_projects_files_are_in_no_circle(capsys):
    assert main([str(ROOT / folder) for folder in FOLDERS]) == 0, capsys.readouterr().out


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of what the contracts are about."""
    copy = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            (copy / file.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy / file.relative_to(ROOT))
    return copy


def check(tree):
    """Run what `make check` says of imports on this tree; returns its exit status and what it printed."""
    printed = subprocess.run(
        ["make", "-n", "check", f"VENV={Path(sys.prefix)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    commands = [line for line in printed.splitlines() if "importlinter" in line or "import_circles" in line]
    assert len(commands) == 2
    folders = ":".join(str(tree / folder) for folder in FOLDERS)
    done = subprocess.run(
        ["sh", "-c", " && ".join(commands)],
        cwd=tree,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": folders, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "added", "said"),
    [
        pytest.param(
            "src/nameplate/stats/estimate.py",
            "def f():\n    from nameplate import cli",
            "the harness runs one way BROKEN",
            id="upwards",
        ),
        pytest.param(
            "src/nameplate/base/toml.py",
            "from nameplate import __main__",
            "the harness runs one way BROKEN",
            id="the very top",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "kernels/nameplate_kernels/memory.py",
            "import nameplate_suites",
            "import nothing of ours BROKEN",
            id="from the workloads",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "src/nameplate/fleet/chains.py",
            "from nameplate.fleet import price",
            "allowed in nameplate.fleet",
            id="between siblings",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "src/nameplate/fleet/chains.py",
            "from nameplate.fleet import Cost",
            "fleet/chains.py:",
            id="a package and its child",
        ),
    ],
)
def test_make_check_goes_red(file, added, said, tree):
    path = tree / file
    before = path.read_text()
    path.write_text(f"{before}\n\n{added}\n")
    try:
        status, printed = check(tree)
    finally:
        path.write_text(before)
    assert status != 0
    assert said in printed


def test_make_check_is_green_on_the_tree_as_it_is(tree):
    status, printed = check(tree)
    assert status == 0, printed
