"""The set-up as it is carried out, with stand-ins for `python -m venv` and pip."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import venv_steps  # noqa: E402
from venv_plan import Plan, SetupError, Step  # noqa: E402


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project of its own, so that a test can change its files."""
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    monkeypatch.setattr(venv_steps, "ROOT", tmp_path)
    monkeypatch.setattr(venv_steps, "installed_packages", lambda python: {})
    monkeypatch.delenv("TORCH_INDEX_URL", raising=False)
    return tmp_path


@pytest.fixture
def did(monkeypatch):
    """Replace venv and pip by notes of what was asked of them."""
    notes = []

    def make(target, plan):
        notes.append("venv over site" if plan.over_site else "venv")
        (target / "bin").mkdir()
        (target / "bin" / "python").touch()
        flag = "true" if plan.over_site else "false"
        (target / "pyvenv.cfg").write_text(
            f"include-system-site-packages = {flag}\nversion = {venv_steps.PYTHON}.1\n"
        )

    def install(target, plan, build_requires, index_url):
        notes.append("pip")

    monkeypatch.setattr(venv_steps, "_make", make)
    monkeypatch.setattr(venv_steps, "_install", install)
    return notes


def fail(*arguments):
    raise SetupError("pip ended with status 1")


def killed(*arguments):
    raise SystemExit(137)


def test_a_first_call_makes_it_and_a_second_does_nothing(tree, did):
    target = tree / "venv with space"
    assert venv_steps.set_up(str(target)) == 0
    assert did == ["venv", "pip"]
    assert (target / venv_steps.READY).read_text() == venv_steps.wanted_stamp("")
    assert not (target / venv_steps.BEGUN).exists()

    assert venv_steps.set_up(str(target)) == 0
    assert did == ["venv", "pip"]


def test_a_call_killed_in_pip_leaves_no_stamp_and_the_next_starts_from_nothing(tree, did, monkeypatch):
    target = tree / ".venv"
    with monkeypatch.context() as patch:
        patch.setattr(venv_steps, "_install", killed)
        with pytest.raises(SystemExit):
            venv_steps.set_up(str(target))
    (target / "half-a-package").touch()
    assert not (target / venv_steps.READY).exists()

    assert venv_steps.set_up(str(target)) == 0
    assert did == ["venv", "venv", "pip"]
    assert not (target / "half-a-package").exists()


def test_a_call_killed_in_an_update_leaves_no_stamp_either(tree, did, monkeypatch):
    target = tree / ".venv"
    venv_steps.set_up(str(target))
    (tree / "constraints.txt").write_text("numpy==2.0.0\n")
    with monkeypatch.context() as patch:
        patch.setattr(venv_steps, "_install", killed)
        with pytest.raises(SystemExit):
            venv_steps.set_up(str(target))
    assert not (target / venv_steps.READY).exists()
    venv_steps.set_up(str(target))
    assert did == ["venv", "pip", "venv", "pip"]


def test_changed_constraints_run_pip_over_what_is_there(tree, did):
    target = tree / ".venv"
    venv_steps.set_up(str(target))
    (tree / "constraints.txt").write_text("numpy==2.0.0\n")
    assert venv_steps.set_up(str(target)) == 0
    assert did == ["venv", "pip", "pip"]


def test_another_wheel_index_runs_pip_again(tree, did, monkeypatch):
    venv_steps.set_up(str(tree / ".venv"))
    monkeypatch.setenv("TORCH_INDEX_URL", "https://wheels.example/cpu")
    venv_steps.set_up(str(tree / ".venv"))
    assert did == ["venv", "pip", "pip"]
    stamp = (tree / ".venv" / venv_steps.READY).read_text()
    assert "TORCH_INDEX_URL=https://wheels.example/cpu\n" in stamp


def test_a_finished_set_up_touched_by_a_checkout_is_stamped_anew_without_work(tree, did):
    target = tree / ".venv"
    venv_steps.set_up(str(target))
    before = (target / venv_steps.READY).stat().st_mtime_ns
    (tree / "constraints.txt").touch()
    venv_steps.set_up(str(target))
    assert did == ["venv", "pip"]
    assert (target / venv_steps.READY).stat().st_mtime_ns > before


def test_a_failing_pip_ends_with_its_sentence_and_no_stamp(tree, did, monkeypatch, capsys):
    monkeypatch.setattr(venv_steps, "_install", fail)
    assert venv_steps.set_up(str(tree / ".venv")) == 2
    assert not (tree / ".venv" / venv_steps.READY).exists()
    assert "pip ended with status 1" in capsys.readouterr().err


def test_an_environment_made_by_hand_is_completed_and_not_emptied(tree, did):
    target = tree / ".venv"
    (target / "bin").mkdir(parents=True)
    (target / "bin" / "python").touch()
    (target / "pyvenv.cfg").write_text(f"version = {venv_steps.PYTHON}.1\n")
    (target / "mine").touch()
    assert venv_steps.set_up(str(target)) == 0
    assert did == ["pip"]
    assert (target / "mine").exists()


def test_a_folder_of_something_else_is_refused_and_left_alone(tree, did, capsys):
    (tree / "home").mkdir()
    (tree / "home" / "letter.txt").touch()
    assert venv_steps.set_up(str(tree / "home")) == 2
    assert did == []
    assert [entry.name for entry in (tree / "home").iterdir()] == ["letter.txt"]
    said = capsys.readouterr().err
    for part in (
        str(tree / "home"),
        "expected a folder for the environment",
        "something else",
        "make_venv.py",
    ):
        assert part in said


def test_a_file_in_the_folders_place_is_refused(tree, did):
    (tree / ".venv").write_text("")
    assert venv_steps.set_up(str(tree / ".venv")) == 2


def test_a_torch_that_works_is_kept_by_a_venv_over_it(tree, did, monkeypatch):
    monkeypatch.setattr(venv_steps, "installed_packages", lambda python: {"torch": "2.12.1+cu130"})
    monkeypatch.setattr(venv_steps, "gpu_of", lambda python: "Some GPU")
    venv_steps.set_up(str(tree / ".venv"))
    assert did == ["venv over site", "pip"]


def test_the_running_python_is_looked_at_before_the_machines_own(tree, did, monkeypatch):
    monkeypatch.setattr(sys, "prefix", "/opt/image")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    monkeypatch.setattr(sys, "executable", "/opt/image/bin/python3")
    monkeypatch.setattr(venv_steps, "base_python", lambda: "/usr/bin/python3")
    torches = {"/opt/image/bin/python3": "2.12.1+cu130", "/usr/bin/python3": "2.11.0"}
    monkeypatch.setattr(venv_steps, "installed_packages", lambda python: {"torch": torches[python]})
    working = ["/opt/image/bin/python3", "/usr/bin/python3"]
    monkeypatch.setattr(venv_steps, "gpu_of", lambda python: "Some GPU" if python in working else None)
    project = venv_steps.tomllib.loads((tree / "pyproject.toml").read_text())

    def plan():
        return venv_steps._plan(tree / ".venv", Step.CREATE, project, {}, "")

    assert (plan().python, plan().attempts[0]["torch"]) == ("/opt/image/bin/python3", "2.12.1+cu130")
    working.remove("/opt/image/bin/python3")
    assert (plan().python, plan().attempts[0]["torch"]) == ("/usr/bin/python3", "2.11.0")
    working.clear()
    assert (plan().over_site, plan().python) == (False, "")
    assert "2.12.1+cu130 has no working GPU" in plan().why
    # make called from the activated .venv itself: that isn't an environment to build on
    monkeypatch.setattr(sys, "prefix", str(tree / ".venv"))
    assert venv_steps.pythons_with_packages(tree / ".venv") == ["/usr/bin/python3"]


@pytest.mark.process
def test_a_venv_over_a_venv_sees_its_packages_after_its_own(tmp_path):
    image, target = tmp_path / "image's own", tmp_path / ".venv"
    for folder in (image, target):
        venv.create(folder, symlinks=True)  # without pip
    (packages,) = image.glob("lib/python*/site-packages")
    (own,) = target.glob("lib/python*/site-packages")
    for name, version in (("torch", "2.12.1+cu130"), ("pandas", "3.0")):
        (packages / f"{name}.py").write_text(f"where = 'image'; __version__ = {version!r}")
        info = packages / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (packages / "more.pth").write_text("import sys; sys.from_image = True\n")
    (own / "pandas.py").write_text("where = 'target'")
    python = str(image / "bin" / "python")

    venv_steps.link_packages(target, python)

    assert venv_steps.installed_packages(str(target / "bin" / "python"))["torch"] == "2.12.1+cu130"
    program = "import sys, torch, pandas; print(torch.where, pandas.where, sys.from_image)"
    command = [str(target / "bin" / "python"), "-c", program]
    assert subprocess.check_output(command, text=True) == "image target True\n"
    assert venv_steps._python_beneath(target) == [python]
    assert venv_steps._python_beneath(image) == []


def test_an_old_torch_is_not_even_tried(tree, did, monkeypatch):
    monkeypatch.setattr(venv_steps, "installed_packages", lambda python: {"torch": "2.1.0"})
    monkeypatch.setattr(venv_steps, "gpu_of", fail)
    assert venv_steps.set_up(str(tree / ".venv")) == 0
    assert did == ["venv", "pip"]


# Where pip itself would be called.


@pytest.fixture
def pip(monkeypatch):
    """Replace pip by a list of exit statuses to give, and note its arguments."""
    calls, statuses = [], []

    def run(command, **options):
        calls.append(command[3:])
        return subprocess.CompletedProcess(command, statuses.pop(0) if statuses else 0)

    monkeypatch.setattr(venv_steps.subprocess, "run", run)
    return calls, statuses


def test_kept_versions_alone_are_tried_when_the_pins_contradict_them(tmp_path, pip):
    calls, statuses = pip
    statuses += [0, 1]
    plan = Plan(True, ({"torch": "2.12.1", "pandas": "3.1.1"}, {"torch": "2.12.1"}), "")
    venv_steps._install(tmp_path, plan, ["hatchling"], "")
    files = [Path(call[2]) for call in calls]
    assert [file.name[-5:] for file in files] == ["1.txt", "1.txt", "2.txt", "2.txt"]
    assert files[0].read_text() == "pandas==3.1.1\ntorch==2.12.1\n"
    assert files[2].read_text() == "torch==2.12.1\n"


def test_pip_failing_to_the_end_names_its_call_its_status_and_what_to_do(tmp_path, pip):
    _, statuses = pip
    statuses += [0, 1]
    with pytest.raises(SetupError) as caught:
        venv_steps._install(tmp_path, Plan(False, ({},), ""), ["hatchling"], "")
    for part in ("pip install", ".[dev]", "status 1", "the network", "give the same command again"):
        assert part in str(caught.value)


def fake_python(folder, torch):
    """Write a python3 that sees the given module as its torch."""
    (folder / "torch.py").write_text(torch)
    script = folder / "python3"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    script.chmod(0o755)
    return str(script)


WORKING = """
class cuda:
    is_available = staticmethod(lambda: True)
    get_device_name = staticmethod(lambda: "Some GPU")
class Matrix:
    def __matmul__(self, other): return self
    def sum(self): return 512.0
def ones(*shape, device): return Matrix()
"""


@pytest.mark.process
def test_the_gpu_that_computed_is_named(tmp_path):
    assert venv_steps.gpu_of(fake_python(tmp_path, WORKING)) == "Some GPU"


@pytest.mark.process
@pytest.mark.parametrize(
    ("torch", "said"),
    [
        ("class cuda: is_available = staticmethod(lambda: False)", "is_available() is False"),
        (WORKING.replace("512.0", "511.0"), "came out wrong"),
        (WORKING.replace("return Matrix()", "raise RuntimeError('no kernel image')"), "no kernel image"),
        ("raise ImportError('libcudart is missing')", "libcudart is missing"),
    ],
)
def test_a_torch_that_cannot_use_a_gpu_says_why(tmp_path, capsys, torch, said):
    assert venv_steps.gpu_of(fake_python(tmp_path, torch)) is None
    assert said in capsys.readouterr().err


@pytest.mark.process
def test_a_gpu_that_hangs_is_given_up(tmp_path, capsys):
    python = fake_python(tmp_path, "import time; time.sleep(60)")
    assert venv_steps.gpu_of(python, timeout_s=0.2) is None
    assert "within 0.2 s" in capsys.readouterr().err


@pytest.mark.process
def test_the_packages_of_a_python_are_listed():
    assert "pytest" in venv_steps.installed_packages(sys.executable)


@pytest.mark.process
def test_the_lock_makes_a_second_call_wait(tree, did):
    target = tree / ".venv"
    target.mkdir()
    program = "import sys, time, venv_steps\nfrom pathlib import Path\n"
    program += (
        "with venv_steps._only_one(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()\n"
    )
    scripts = str(ROOT / "scripts")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": scripts},
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError), (target / venv_steps.LOCK).open("a") as lock:
            venv_steps.fcntl.flock(lock, venv_steps.fcntl.LOCK_EX | venv_steps.fcntl.LOCK_NB)
        holder.stdin.close()
        assert venv_steps.set_up(str(target)) == 0
    assert did == ["venv", "pip"]


def test_the_step_is_decided_again_under_the_lock(tree, did, monkeypatch):
    """Another call that finished while this one waited leaves nothing to do."""
    venv_steps.set_up(str(tree / ".venv"))
    steps = iter([Step.UPDATE, Step.NOTHING])
    monkeypatch.setattr(venv_steps, "_decide", lambda target, wanted: next(steps))
    assert venv_steps.set_up(str(tree / ".venv")) == 0
    assert did == ["venv", "pip"]
