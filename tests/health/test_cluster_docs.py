"""docs/cluster.md can be used as it stands: its scripts, its manifest and its Python are what they say."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from nameplate.cli import app

TEXT = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


def options(name="check"):
    command = get_command(app).commands[name]
    return {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}


@pytest.mark.parametrize("script", blocks("sh"))
def test_the_prolog_and_the_epilog_are_scripts_whose_flags_are_there(script, tmp_path):
    path = tmp_path / "script"
    path.write_text(script)
    subprocess.run(["sh", "-n", path], check=True)
    (line,) = [line for line in script.splitlines() if "bench check" in line and "timeout" in line]
    flags = {word for word in shlex.split(line) if word.startswith("--")}
    assert flags
    assert flags <= options()


@pytest.mark.parametrize("script", blocks("sh"))
@pytest.mark.parametrize(("status", "drains"), [(0, False), (1, True), (2, True), (3, False), (124, True)])
def test_a_node_is_drained_where_it_is_unfit_unusable_or_hangs_and_not_where_nothing_is_known(
    script, status, drains, tmp_path
):
    for name, text in (
        ("timeout", f"command -v bench >/dev/null || exit 127; echo unfit; exit {status}"),
        ("bench", "exit 70"),
        ("scontrol", f'echo "$*" >{tmp_path}/drained'),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = tmp_path / "script"
    assert "/opt/nameplate/.venv/bin" in script
    ours = script.replace("/run/", f"{tmp_path}/").replace("/opt/nameplate/.venv/bin", str(tmp_path))
    path.write_text(ours)
    told = {"SLURMD_NODENAME": "n7"}  # Slurm sets no search path
    ended = subprocess.run(["/bin/sh", path], env=told, check=False).returncode
    if "scontrol" in script:
        assert ended == 0
        assert (tmp_path / "drained").exists() == drains
        assert (
            not drains
            or "nodename=n7 state=drain reason=bench check: unfit" in (tmp_path / "drained").read_text()
        )
    else:  # Slurm drains a node whose prolog fails
        assert (ended != 0) == drains


def test_the_kubernetes_job_checks_before_it_starts():
    (text,) = blocks("yaml")
    job = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job")
    pod = job["spec"]["template"]["spec"]
    (init,) = pod["initContainers"]
    assert init["command"][:2] == ["bench", "check"]
    assert {word for word in init["command"] if word.startswith("--")} <= options()
    assert {each["name"] for each in init["volumeMounts"]} == {each["name"] for each in pod["volumes"]}
    assert init["resources"] == pod["containers"][0]["resources"]


def test_ray_runs_one_check_a_node():
    (text,) = blocks("python")
    called = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert any("'bench', 'check'" in each for each in called)


def test_the_launchers_lines_use_flags_that_are_there():
    lines = [
        line.split("#")[0]
        for line in TEXT.splitlines()
        if re.match(r" {4}(srun|torchrun|bench check)\b", line)
    ]
    assert len(lines) == 11
    for line in lines:
        words = shlex.split(line)
        own = words[words.index("bench") + 2 :]
        assert {word for word in own if word.startswith("--")} <= options(words[words.index("bench") + 1])
