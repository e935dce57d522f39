"""The decisions behind .venv: what is installed, from where, and whether a folder has to be made again."""

import ast
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import make_venv  # noqa: E402
import venv_plan  # noqa: E402
from venv_plan import Folder, Machine, SetupError, Step  # noqa: E402

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = venv_plan.read_pins((ROOT / "constraints.txt").read_text())
REQUIREMENTS = venv_plan.direct_requirements(PROJECT)


def has_all(name):
    return True


# The Python that runs the script.


def test_a_python_new_enough_passes():
    assert make_venv.python_fault((3, 11, 0), "python3", has_all) is None


@pytest.mark.parametrize("version", [(2, 7), (3, 6), (3, 10)])
def test_an_old_python_is_told_what_it_is_what_is_needed_and_what_to_do(version):
    sentence = make_venv.python_fault(version, "/opt/old/python3", has_all)
    assert "/opt/old/python3" in sentence
    assert f"is Python {version[0]}.{version[1]}" in sentence
    assert "needs 3.11 or newer" in sentence
    assert "make PYTHON=" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("lacking", ["venv", "ensurepip"])
def test_a_python_without_venv_is_told_the_module_and_the_remedy(lacking):
    sentence = make_venv.python_fault((3, 11), "/usr/bin/python3", lambda name: name != lacking)
    assert "/usr/bin/python3" in sentence
    assert f"lacks its module {lacking}" in sentence
    assert "needs" in sentence or "need" in sentence
    assert "apt install python3-venv" in sentence
    assert "\n" not in sentence


def test_the_entry_script_parses_as_python_3_6():
    source = (ROOT / "scripts" / "make_venv.py").read_text()
    ast.parse(source, feature_version=(3, 6))
    with pytest.raises(SyntaxError):
        ast.parse("while (n := next(it)): pass", feature_version=(3, 6))


def test_the_entry_script_imports_nothing_newer_before_it_has_checked():
    tree = ast.parse((ROOT / "scripts" / "make_venv.py").read_text())
    imported = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    assert imported == ["importlib.util", "os", "sys"]
    assert not [node for node in tree.body if isinstance(node, ast.ImportFrom)]


def test_too_many_arguments_end_with_status_2(capsys):
    assert make_venv.main(["one", "two"]) == 2
    assert "got 2 arguments, expected at most one" in capsys.readouterr().err


# What pyproject.toml and constraints.txt say.


def test_requirements_hold_the_runtime_and_every_extra_but_not_nameplate_itself():
    assert {"torch", "pandas", "altair", "pytest-benchmark", "mypy"} <= set(REQUIREMENTS)
    assert "nameplate" not in REQUIREMENTS


def test_a_name_asked_for_twice_gets_both_bounds_and_a_false_marker_drops_its_line():
    project = {
        "name": "nameplate",
        "dependencies": ["some_tool>=2", "elsewhere; sys_platform == 'nowhere'"],
        "optional-dependencies": {"dev": ["nameplate[more]"], "more": ["Some.Tool<3"]},
    }
    found = venv_plan.direct_requirements(project)
    assert set(found) == {"some-tool"}
    assert found["some-tool"].contains("2.5")
    assert not found["some-tool"].contains("3.0")
    assert not found["some-tool"].contains("1.0")


def test_every_requirement_has_a_pin_that_satisfies_it():
    assert set(venv_plan.satisfying(REQUIREMENTS, PINS)) == set(REQUIREMENTS)


def test_the_build_backend_has_a_pin():
    requires = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    asked = {venv_plan.normalise(venv_plan.requirement_class()(line).name) for line in requires}
    assert asked <= set(PINS)


def test_torch_is_pinned_without_a_build():
    assert PINS["torch"] == "2.13.0"
    assert not [line for line in PINS.values() if "+" in line or "@" in line]


# The plan.


def plan(packages=None, gpu=None, index_url=""):
    return venv_plan.plan(REQUIREMENTS, PINS, Machine(packages or {}, gpu), index_url)


def test_without_a_torch_of_its_own_everything_comes_from_the_pins():
    made = plan({"numpy": "1.26.4"})
    assert not made.over_site
    assert made.attempts == (PINS,)
    assert "no torch" in made.why


def test_a_good_torch_is_kept_with_what_else_satisfies():
    made = plan({"torch": "2.12.1+cu130", "numpy": "1.26.4", "pandas": "1.5.3"}, gpu="Some GPU")
    assert made.over_site
    first, second = made.attempts
    assert first["torch"] == "2.12.1+cu130"
    assert first["numpy"] == "1.26.4"
    assert first["pandas"] == PINS["pandas"]  # 1.5.3 is too old
    assert first["scipy"] == PINS["scipy"]  # absent
    # Where the pins of the absent contradict what is here (this pandas wants a newer numpy), they give way.
    assert second == {"torch": "2.12.1+cu130", "numpy": "1.26.4"}
    for part in ("2.12.1+cu130", "Some GPU", "keeping"):
        assert part in made.why


def test_a_site_package_that_only_others_ask_for_is_left_to_pip():
    made = plan({"torch": "2.12.1", "click": "8.0.0", "typing-extensions": "4.1.0"}, gpu="Some GPU")
    assert not {"click", "typing-extensions"} & set(made.attempts[0])
    assert made.attempts[0]["markdown-it-py"] == PINS["markdown-it-py"]


def test_a_sites_own_prerelease_build_counts():
    assert plan({"torch": "2.12.0a0+site25.9"}, gpu="Some GPU").over_site


@pytest.mark.parametrize("version", ["2.10.0", "1.13.1+cu117", "not a version"])
def test_an_old_torch_is_not_kept_and_the_bound_is_named(version):
    made = plan({"torch": version}, gpu="Some GPU")
    assert not made.over_site
    assert made.attempts == (PINS,)
    assert version in made.why
    assert ">=2.11" in made.why


def test_a_torch_without_a_working_gpu_is_not_kept():
    made = plan({"torch": "2.13.0+cpu"})
    assert not made.over_site
    assert "no working GPU" in made.why


def test_a_wheel_index_asked_for_wins_over_the_sites_torch():
    made = plan({"torch": "2.13.0+cu130"}, gpu="Some GPU", index_url="https://wheels.example/cpu")
    assert not made.over_site
    assert made.attempts == (PINS,)
    assert "https://wheels.example/cpu" in made.why


# pip's calls.


def test_pip_builds_with_the_pinned_backend():
    backend, everything = venv_plan.pip_installs("c.txt", ["hatchling>=1.27"], "")
    assert backend == ("install", "-c", "c.txt", "hatchling>=1.27")
    assert everything == ("install", "-c", "c.txt", "--no-build-isolation", "-e", ".[dev]")


def test_torch_comes_first_and_alone_from_its_index():
    url = "https://wheels.example/cpu"
    _, torch, everything = venv_plan.pip_installs("c.txt", ["hatchling"], url)
    assert torch == ("install", "-c", "c.txt", "--no-deps", "--index-url", url, "torch")
    assert everything[3:5] == ("--extra-index-url", url)
    assert everything[-2:] == ("-e", ".[dev]")


# The stamp.

WANTED = venv_plan.stamp([b"project", b"constraints"], "", "3.11")


def folder(empty=False, python="3.11", begun=False, stamp=None):
    return Folder(empty, python, begun, stamp)


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (folder(empty=True, python=None), Step.CREATE),
        (folder(stamp=WANTED), Step.NOTHING),
        (folder(stamp="of other inputs"), Step.UPDATE),
        (folder(stamp=WANTED, python=None), Step.REMAKE),  # its Python has been removed
        (folder(stamp="python=3.12", python="3.12"), Step.REMAKE),
        (folder(begun=True), Step.REMAKE),  # killed in pip
        (folder(begun=True, python=None), Step.REMAKE),  # killed in python -m venv
        (folder(begun=True, stamp=WANTED), Step.REMAKE),
        (folder(), Step.UPDATE),  # made by hand
        (folder(python="3.12"), Step.REFUSE),
        (folder(python=None), Step.REFUSE),  # somebody's files
    ],
)
def test_next_step(found, step):
    assert venv_plan.next_step(found, WANTED, "3.11") is step


@pytest.mark.parametrize(
    "other",
    [
        venv_plan.stamp([b"project!", b"constraints"], "", "3.11"),
        venv_plan.stamp([b"project", b"constraints!"], "", "3.11"),
        venv_plan.stamp([b"project", b"constraints"], "https://wheels.example/cpu", "3.11"),
        venv_plan.stamp([b"project", b"constraints"], "", "3.12"),
        venv_plan.stamp([b"projectc", b"onstraints"], "", "3.11"),
    ],
)
def test_the_stamp_changes_with_each_of_its_inputs(other):
    assert other != WANTED


def test_a_python_without_packaging_and_pip_is_told_so(monkeypatch):
    for name in ("packaging.requirements", "pip._vendor.packaging.requirements"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SetupError, match=r"neither packaging nor pip.*python3 -m ensurepip"):
        venv_plan.requirement_class()


# The Makefile and CI.


@pytest.mark.process
def test_make_without_python_is_one_sentence(tmp_path):
    done = subprocess.run(
        ["make", "-C", str(ROOT), "test", f"VENV={tmp_path / 'venv'}", "PYTHON=no-such-python"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        check=False,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode == 2
    assert len(said) == 1
    for part in (
        "there is no no-such-python on PATH",
        "needs Python 3.11 or newer",
        "apt install",
        "PYTHON=",
    ):
        assert part in said[0]
    assert not (tmp_path / "venv").exists()


@pytest.mark.process
def test_ci_run_parses_and_can_be_executed():
    script = ROOT / ".ci" / "run"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    assert os.access(script, os.X_OK)
    text = script.read_text()
    assert text.index("make test") < text.index("make check")
    assert "set -euo pipefail" in text
