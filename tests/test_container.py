"""The container's recipe, without Docker: what it copies is enough to build from, and its names are ours."""

import re
import shutil
import tomllib
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def instructions():
    """Each instruction of the Dockerfile with its text, lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE))
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def told(name):
    return [text for instruction, text in instructions() if instruction == name]


def copied():
    """The sources of every COPY, with the place each is copied to."""
    for text in told("COPY"):
        *sources, target = text.split()
        for source in sources:
            yield source, target


def test_the_base_has_a_torch_that_is_new_enough_and_keeps_it():
    (base,) = told("ARG")
    found = re.fullmatch(r"BASE=pytorch/pytorch:(\d+)\.(\d+)\.\d+-cuda[\d.]+-cudnn\d+-runtime", base)
    (least,) = (each.removeprefix("torch>=") for each in PROJECT["dependencies"] if "torch>=" in each)
    assert tuple(map(int, found.groups())) >= tuple(map(int, least.split(".")))
    (run,) = told("RUN")
    assert "grep -v '^torch==' constraints.txt > without-torch.txt" in run
    assert "pip install -c without-torch.txt" in run
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert len([pin for pin in pins if pin.startswith("torch==")]) == 1


def test_it_installs_extras_that_exist_and_runs_bench_as_no_root():
    (run,) = told("RUN")
    (extras,) = re.findall(r"'\.\[([\w,]+)\]'", run)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    names = [name for name, _ in instructions()]
    assert told("USER") == ["nameplate"]
    assert "useradd --create-home nameplate" in run
    assert names.index("RUN") < names.index("USER") < names.index("ENTRYPOINT")
    assert told("ENTRYPOINT") == ['["bench"]']
    assert "bench" in PROJECT["scripts"]


def test_what_it_copies_is_there_and_let_through_to_the_builder():
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for source, target in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored
        assert target in ("./", f"./{source}")
    assert ignored[0] == "*"  # nothing else goes to the builder: no .venv, no runs


def test_nameplate_builds_from_these_files_alone(tmp_path):
    for source, _ in copied():
        place = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        place(ROOT / source, tmp_path / source)
    (wheel,) = WheelBuilder(str(tmp_path)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"nameplate/__main__.py", "nameplate_kernels/matmul.py", "nameplate_suites/quick.py"} <= names
