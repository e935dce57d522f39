"""docs/fleet.md is true: its commands run, its file is read, its example works, its tables are the data's."""

import re
import shlex
from pathlib import Path

import pytest

from nameplate.fleet import catalogue
from nameplate.fleet.catalogues import INPUTS, KINDS
from nameplate.fleet.outputs import OUTPUTS
from nameplate.fleet.ownership import OWN_INPUTS

TEXT = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
COMMANDS = [line.partition("#")[0].strip() for line in re.findall(r"^    (bench .*)$", TEXT, re.MULTILINE)]


def block(language):
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(block("toml"), encoding="utf-8")
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(command, mine, bench):
    words = shlex.split(command)[1:]
    if words[1] in {"cost", "own", "plan"} and "--draws" not in words:
        words += ["--draws", "1000"]  # no figure is looked at
    result = bench(*words)
    assert result.status == 0, result.err
    assert result.out


def test_there_are_commands():
    names = {command.split()[2] for command in COMMANDS}
    assert names == {"list", "cards", "cost", "own", "plan", "derate", "validate", "audit"}


def test_the_file_is_read_whole(mine):
    listed = catalogue([mine])
    assert listed.find("ours").cards == 1024
    assert listed.default_derate("nvidia-h100-sxm5-80gb").id == "ours-scaled-30b-x1024"


@pytest.mark.long
def test_the_python_example_works(capsys):
    exec(compile(block("python"), "docs/fleet.md", "exec"), {})
    out = capsys.readouterr().out
    assert "datasheet → scaled 0.54" in out
    assert " modelled the model of MFU: 497 published runs" in out


def test_every_column_input_and_kind_is_there():
    for name in (*OUTPUTS, *INPUTS, *KINDS, *OWN_INPUTS):
        assert f"`{name}`" in TEXT, name


def test_the_inputs_are_those_of_the_data():
    rows = dict(re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", TEXT, re.MULTILINE))
    shipped = catalogue().assumptions_for(None)
    assert {name: float(value) for name, value in rows.items()} == {
        name: each.value for name, each in shipped.items() if name in rows
    }
    assert len(rows) == len(INPUTS) - 1
    ends = re.findall(r"^\| `(\w+)` \| [\d.]+ \| ([\d.]+) … ([\d.]+) \|", TEXT, re.MULTILINE)
    assert {name: (float(low), float(high)) for name, low, high in ends} == {
        name: (each.low, each.high) for name, each in shipped.items() if name in {row[0] for row in ends}
    }
