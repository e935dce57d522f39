"""What is shipped: the wheel's files, its entry points, and that it works where only the wheel is."""

import configparser
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.process
ROOT = Path(__file__).parent.parent
PACKAGES = {  # import name: the folder that goes into the wheel under that name
    "nameplate": "src/nameplate",
    "nameplate_kernels": "kernels/nameplate_kernels",
    "nameplate_suites": "bench/nameplate_suites",
}
DIST_INFO = {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}
ENTRY_POINTS = {
    "console_scripts": {"bench": "nameplate.__main__:main", "nameplate": "nameplate.__main__:main"},
    "nameplate.checks": {
        "check": "nameplate_suites.check:SUITE",
        "collectives": "nameplate_suites.collectives:SUITE",
        "scaled": "nameplate_suites.scaled:SUITE",
    },
    "nameplate.suites": {
        "smoke": "nameplate_suites.smoke:SUITE",
        "quick": "nameplate_suites.quick:SUITE",
        "standard": "nameplate_suites.standard:SUITE",
        "soak": "nameplate_suites.soak:SUITE",
        "sensitivity": "nameplate_suites.sensitivity:SUITE",
        "attention": "nameplate_suites.attention:SUITE",
        "block": "nameplate_suites.block:SUITE",
        "custom": "nameplate_suites.custom:SUITE",
        "ceiling": "nameplate_suites.ceiling:CEILING",
        "step": "nameplate_suites.step:SUITE",
        "ceiling-grid": "nameplate_suites.ceiling:GRID",
        "memory": "nameplate_suites.memory:SUITE",
    },
}


def output(*command, cwd=ROOT):
    """Run a command that has to succeed, with nothing in its environment that leads to this tree."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the tree without the network."""
    folder = tmp_path_factory.mktemp("dist")
    output(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def files(wheel):
    """The names of the files in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def tracked():
    """Every file of the three packages that git tracks, under its name in the wheel."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout, so nothing says which files belong to the packages")
    names = set()
    for package, folder in PACKAGES.items():
        listed = output("git", "ls-files", "-z", "--", folder).split("\0")
        names |= {package + name.removeprefix(folder) for name in listed if name}
    return names


def test_the_wheel_holds_every_tracked_file_of_the_packages_and_nothing_else(files):
    shipped = {name for name in files if ".dist-info/" not in name}
    expected = tracked()
    assert sorted(expected - shipped) == [], "tracked, but not in the wheel"
    assert sorted(shipped - expected) == [], "in the wheel, but git does not track it: add it, or ignore it"


def test_the_wheels_metadata_is_this_list(files, wheel):
    dist_info = "-".join(wheel.name.split("-")[:2]) + ".dist-info/"
    assert {name.removeprefix(dist_info) for name in files if ".dist-info/" in name} == DIST_INFO


def test_nothing_of_the_workshop_is_shipped(files):
    tops = {name.split("/")[0] for name in files if ".dist-info/" not in name}
    assert tops == set(PACKAGES)
    assert not [name for name in files if Path(name).name.startswith(("bench_", "test_", "conftest"))]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_marked_as_typed(files, package):
    assert f"{package}/py.typed" in files


def test_the_entry_points_are_these(wheel, files):
    (name,) = [name for name in files if name.endswith(".dist-info/entry_points.txt")]
    parser = configparser.ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read(name).decode())
    assert {section: dict(parser[section]) for section in parser.sections()} == ENTRY_POINTS


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """A venv with the wheel alone, which borrows its dependencies from this environment.

    A line of a .pth file adds a folder to the path without reading that folder's own .pth files, so the
    editable install of the tree doesn't come along.
    """
    venv = tmp_path_factory.mktemp("bare") / "venv"
    output(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin" / "python"
    output(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel)
    (own,) = venv.glob("lib/python*/site-packages")
    borrowed = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (own / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return venv


@pytest.mark.long
@pytest.mark.parametrize("package", PACKAGES)
def test_the_bare_venv_imports_the_wheel_and_not_the_tree(bare, package, tmp_path):
    where = f"import {package}; print({package}.__file__)"
    found = Path(output(bare / "bin" / "python", "-c", where, cwd=tmp_path).strip())
    assert found.is_relative_to(bare)


@pytest.mark.long
@pytest.mark.parametrize("command", ["bench", "nameplate"])
def test_help_works_from_the_wheel(bare, command, tmp_path):
    assert "Usage" in output(bare / "bin" / command, "--help", cwd=tmp_path)


@pytest.mark.long
def test_the_wheel_finds_its_suites(bare, tmp_path):
    document = json.loads(output(bare / "bin" / "bench", "suites", "--json", cwd=tmp_path))
    printed = json.dumps(document)
    for suite in ENTRY_POINTS["nameplate.suites"]:
        assert f'"{suite}"' in printed


@pytest.mark.parametrize(("package", "folder"), PACKAGES.items())
def test_the_editable_install_resolves_to_the_tree(package, folder, tmp_path):
    find = (
        f"import importlib.util as u; print(*u.find_spec('{package}').submodule_search_locations, sep='\\n')"
    )
    found = output(sys.executable, "-c", find, cwd=tmp_path).splitlines()
    assert [Path(entry).resolve() for entry in found] == [(ROOT / folder).resolve()]
