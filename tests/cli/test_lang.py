"""`--lang`: every screen is in the language that is asked for; what programs read and errors are English."""

import json
import re

import pytest
import typer

from nameplate.cli import app
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.suite import Case, Suite

HAN = re.compile(r"[\u3400-\u9fff]")
# Commands that print no screen: what they print is another tool's format, or the name of a file.
WITHOUT = {"bench export", "bench merge"}
A800 = "nvidia-a800-sxm4-80gb"
FEW = ("--draws", 1_000)
PLAN = ("--parameters", "7e9", "--hours", 10_000, "--every-days", 7)
SCREENS = [
    ("devices", "--device", "cpu"),
    ("specs",),
    ("specs", A800),
    ("suites",),
    ("selftest", "--runs", 1, "--scenario", "steady"),
    ("fleet", "list"),
    ("fleet", "cost", "nio", *FEW),
    ("fleet", "cost", "nio", "--goodput", *FEW),
    ("fleet", "plan", "--eflops", 10, "--part", A800, *FEW),
    ("fleet", "plan", "--budget-rmb", 1e9, "--part", A800, *FEW),
    ("fleet", "plan", *PLAN, "--fleet", "nio", *FEW),
    ("fleet", "audit"),
    ("fleet", "goodput"),
    ("fleet", "goodput", "--validate"),
    ("fleet", "validate"),
]


# What takes a second each, while the golden files and tests/report/test_screens.py hold these screens.
SLOW = ("selftest", "fleet validate")


def marked(screens):
    """The screens as parameters, the slow ones marked."""
    slow = [" ".join(map(str, screen)).startswith(SLOW) for screen in screens]
    return [
        pytest.param(screen, marks=pytest.mark.long if is_slow else ())
        for screen, is_slow in zip(screens, slow, strict=True)
    ]


def commands(command=None, path="bench"):
    command = command or typer.main.get_command(app)
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{path} {name}")


def test_every_command_with_a_screen_takes_a_language():
    flags = {
        path: {name for parameter in command.params for name in parameter.opts}
        for path, command in commands()
        if not getattr(command, "commands", None)
    }
    assert {path for path, names in flags.items() if "--lang" not in names} == WITHOUT
    assert all("--json" in names for names in flags.values())


@pytest.mark.parametrize("screen", marked(SCREENS), ids=lambda screen: " ".join(map(str, screen[:3])))
def test_a_screen_is_in_the_language_that_is_asked_for(bench, screen):
    english, chinese = bench(*screen), bench(*screen, "--lang", "zh")
    assert chinese.status == english.status
    assert HAN.search(english.out) is None
    headings = [line for line in chinese.out.splitlines() if line and not line[0].isspace()]
    assert HAN.search(headings[0]) or HAN.search(headings[1])
    assert len(HAN.findall(chinese.out)) > 25


@pytest.mark.parametrize(
    "screen",
    marked([each for each in SCREENS if each[0] != "selftest" and each[:2] != ("devices", "--device")]),
    ids=lambda screen: " ".join(map(str, screen[:3])),
)
def test_what_programs_read_is_english(bench, screen):
    formats = ("--json", "--csv") if screen[0] == "fleet" else ("--json",)
    for format_ in formats:
        plain, asked = bench(*screen, format_), bench(*screen, format_, "--lang", "zh")
        assert asked == plain
        assert HAN.search(plain.out) is None


@pytest.mark.parametrize("screen", [*SCREENS, ("run",), ("publish", "x"), ("leaderboard",)])
@pytest.mark.parametrize("format_", [(), ("--json",)])
def test_an_unknown_language_is_refused(bench, screen, format_, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = bench(*screen, *format_, "--lang", "tlh")
    expected = "bench: --lang: no such language; got 'tlh'; expected en or zh\n"
    assert (result.status, result.out, result.err) == (2, "", expected)
    assert list(tmp_path.iterdir()) == []


def test_errors_are_english_in_any_language(bench):
    english, chinese = (bench("fleet", "cost", "nobody", *lang) for lang in ((), ("--lang", "zh")))
    assert chinese == english
    assert chinese.status == 2


def test_a_run_is_measured_in_english_and_shown_in_the_reader_s_language(
    bench, simulate, monkeypatch, tmp_path
):
    device = SimulatedDevice(make_steady(1e-3, 0.2), nominal_tflops=4.0)
    product = SimulatedWork(device, name="matmul", dtype="bf16", shape="1024x1024x1024")
    monkeypatch.setattr(
        "nameplate.suite.find_suite", lambda name: Suite("fake", "", 2.0, lambda target: [Case(product)])
    )
    simulate(device)
    result = bench("run", "fake", "--results", tmp_path, "--lang", "zh")
    assert result.status == 0
    assert "占标称值的比例未知" in result.out
    (records,) = tmp_path.glob("*/records-*.jsonl")
    stored = [json.loads(line) for line in records.read_text(encoding="utf-8").splitlines()]
    assert stored
    assert HAN.search(json.dumps(stored, ensure_ascii=False)) is None
