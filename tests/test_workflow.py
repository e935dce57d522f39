"""The steps of our own workflow and of the documented one, run as the runner would: by bash, with each `if:`.

`make` and the measuring commands are replaced by ones that copy recorded runs, and reports are one line;
`bench compare` of two folders is the real one.
"""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.process, pytest.mark.long]
ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests/data/compare"


def gate_of(workflow):
    return yaml.safe_load(workflow)["jobs"]["gate"]["steps"]


STEPS = gate_of((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
(DOCUMENTED,) = re.findall(
    r"^```yaml\n(.*?)^```", (ROOT / "docs/ci.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)
# What stands for `make run` and `bench`: measuring copies a recorded run, the rest is the real command.
BENCH = """#!/bin/bash
echo "$*" >> {home}/commands
case "$*" in
  run*) case "$*" in *"--results new"*) to=new ;; *) to=runs ;; esac
        n=$(ls "$to" 2>/dev/null | wc -l); mkdir -p "$to"
        cp -r "$(ls -d {new}/*/ | cat - <(ls -d {new}/*/) <(ls -d {new}/*/) | sed -n "$((n + 1))p")" "$to/" ;;
  report*) for last; do :; done; {{ [ "$2" = latest ] || [ -d "$2" ]; }} && echo "# a report" > "$last" ;;
  devices*) echo '{{"devices": [{{"part": "amd-zen4"}}]}}' ;;
  *--interleave*) echo "### in turn"; exit {in_turn} ;;
  *) exec {python} -P -m nameplate "$@" ;;
esac
"""

MAKE = """#!/bin/bash
.venv/bin/bench run ${2#ARGS=}
"""


def write_program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


class Job:
    """A job of one event on a runner: its steps are run in order, and it knows how each ended."""

    def __init__(self, home, event, new, baseline, in_turn=0, steps=STEPS):
        self.home, self.event, self.outcomes, self.failed = home, event, {}, False
        self.steps = steps
        self.said = {}
        self.summary, self.output = home / "summary", home / "output"
        for file in (self.summary, self.output, home / "commands"):
            file.touch()
        bench = BENCH.format(home=home, new=RECORDED / new, in_turn=in_turn, python=sys.executable)
        write_program(home / ".venv/bin/bench", bench)
        write_program(home / "bin/make", MAKE)
        write_program(home / "bin/bench", bench)
        write_program(home / "bin/pip", "#!/bin/bash\n")
        if baseline is not None:
            shutil.copytree(RECORDED / baseline, home / "baseline")

    def holds(self, condition):
        """Whether the `if:` of a step holds: the few expressions that this workflow uses."""
        text = re.sub(
            r"hashFiles\('([^']*)'\)", lambda found: repr("x" * any(self.home.glob(found[1]))), condition
        )
        text = re.sub(r"steps\.(\w+)\.outcome", lambda found: repr(self.outcomes.get(found[1], "")), text)
        text = text.replace("github.event_name", repr(self.event)).replace("always()", "True")
        if not re.fullmatch(r"(?:'[a-z_]*'|True|==|!=|&&|\s)+", text):
            raise AssertionError(f"an expression that this test can't read: {condition}")
        return bool(eval(text.replace("&&", "and")))  # only quoted words and comparisons are left

    def run(self):
        for step in self.steps:
            wanted = step.get("if", "True")
            if "run" not in step or (self.failed and "always()" not in wanted) or not self.holds(wanted):
                self.outcomes[step.get("id")] = "skipped"
                continue
            done = subprocess.run(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.home,
                env={
                    "PATH": f"{self.home}/bin:/usr/bin:/bin",
                    "HOME": str(self.home),
                    "GITHUB_STEP_SUMMARY": str(self.summary),
                    "GITHUB_OUTPUT": str(self.output),
                    "GITHUB_BASE_REF": "main",
                    "LANG": "C.UTF-8",
                },
                capture_output=True,
                text=True,
                check=False,
            )
            if "unbound" in done.stderr or "command not found" in done.stderr:
                raise AssertionError(f"{step['run']}: {done.stderr}")
            self.said[step.get("name")] = done.stdout + done.stderr
            self.outcomes[step.get("id")] = "success" if done.returncode == 0 else "failure"
            self.failed |= done.returncode != 0 and not step.get("continue-on-error", False)
        return self

    @property
    def commands(self):
        return (self.home / "commands").read_text(encoding="utf-8").splitlines()

    @property
    def measured_in_turn(self):
        return any("--interleave" in line for line in self.commands)


@pytest.mark.parametrize(
    ("event", "new", "baseline", "in_turn", "turns", "fails"),
    [
        ("pull_request", "same", "base", 0, False, False),  # a clear pass
        ("pull_request", "slower", "base", 1, True, True),  # a regression in turn too
        ("pull_request", "slower", "base", 0, True, False),  # the other hour's fault
        ("pull_request", "noisy-new", "noisy-base", 0, True, False),  # no evidence is no pass
        ("pull_request", "same", None, 0, True, False),  # no baseline yet
        ("push", "slower", "base", 1, False, False),  # nothing to compare with in turn
    ],
)
def test_the_gate_decides_by_evidence(tmp_path, event, new, baseline, in_turn, turns, fails):
    job = Job(tmp_path, event, new, baseline, in_turn).run()
    assert job.measured_in_turn is turns
    assert job.failed is fails, job.said
    assert (tmp_path / "report.html").is_file()
    answer, folded, _ = job.summary.read_text(encoding="utf-8").partition("<details>")
    assert folded
    compared = bool(turns or baseline)
    assert answer.startswith("### ") is compared
    assert len(answer.splitlines()) <= 22  # ten lines a comparison, each followed by a blank one
    assert "part=amd-zen4" in job.output.read_text(encoding="utf-8")


@pytest.mark.parametrize(("in_turn", "fails"), [(0, False), (1, True)])
def test_the_documented_workflow_measures_both_commits_and_reports_also_after_a_regression(
    tmp_path, in_turn, fails
):
    job = Job(tmp_path, "pull_request", "slower", None, in_turn, gate_of(DOCUMENTED)).run()
    assert job.failed is fails, job.said
    assert job.commands[0] == "compare --interleave origin/main . --suite mine --summary"
    assert job.summary.read_text(encoding="utf-8").startswith("### ")
    assert (tmp_path / "report.html").is_file()


def test_main_keeps_a_baseline_of_nine_runs_at_most(tmp_path):
    job = Job(tmp_path, "push", "base", None).run()
    assert not job.failed
    kept = [each for each in (tmp_path / "baseline").iterdir() if each.is_dir()]
    assert 0 < len(kept) <= 9
