"""What README and docs tell a reader to type works: every `bench` line runs, every link leads somewhere.

`bench run` measures a simulated device here; what takes minutes is parsed by its command, but not done.
"""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

import nameplate.suite
from nameplate.cli import app
from nameplate.device.simulated import SimulatedDevice, SimulatedWork
from nameplate.device.simulated_law import make_steady
from nameplate.models.load import load_model
from nameplate.record import METHOD, METHOD_CHANGES
from nameplate.suite import Case, Suite

pytestmark = pytest.mark.usefixtures("few_draws")
ROOT = Path(__file__).parent.parent
DOCS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
# Fleets have a file of their own, with prices and parts that a command needs (test_fleet_docs).
ELSEWHERE = {"fleet.md"}
# Minutes of measuring, or what this machine may not have: read by the command, up to its help.
LONG = {"selftest", "devices", "check"}
COLLECTOR = "/var/lib/node_exporter/textfile_collector"


def lines(path):
    """Every line of a block that begins with `bench`, without its comment."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^ {4,}(bench .*)$", outside, re.MULTILINE)
    found += [line for block in fenced for line in block.splitlines() if line.startswith("bench ")]
    return [shlex.join(shlex.split(line, comments=True)) for line in found]


COMMANDS = [
    pytest.param(line, id=f"{path.name}: {line}")
    for path in DOCS
    if path.name not in ELSEWHERE
    for line in dict.fromkeys(lines(path))
]


@pytest.fixture(scope="module")
def furnished(tmp_path_factory, make_record, store_run):
    """A folder in which the documents' runs and files lie."""
    folder = tmp_path_factory.mktemp("desk")
    sizes = ("1024x1024x1024/normal/warm/sustained", "8x8x8/normal/warm/-")
    products = [make_record(case=f"matmul/bf16/{size}/torch") for size in sizes]
    for name in ("RUN", "BASE", "NEW"):
        store_run(folder, *products, run=name)
    for results in ("runs", "baseline", "new"):
        for number in range(3):
            store_run(folder / results, *products, run=f"{results}-{number}")
    shutil.copytree(ROOT / "results", folder / "results")
    (folder / "textfile_collector").mkdir()
    (folder / "mine.toml").write_text(toml_of("extending.md", "[[part]]"), encoding="utf-8")
    model = load_model("llama3-8b").model_dump(exclude_none=True)
    written = (f"{name} = {json.dumps(value)}\n" for name, value in model.items())
    (folder / "model.toml").write_text("".join(written), encoding="utf-8")
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 100}
    config |= {"num_attention_heads": 4, "intermediate_size": 128}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name in ("base.json", "new.json"):
        shutil.copy(ROOT / "tests/data/compare/pytest-benchmark/base.json", folder / name)
    return folder


@pytest.fixture
def desk(furnished, tmp_path, monkeypatch, simulate, one_library):
    """A copy of that folder as the current one, and a machine that is measured in no time."""
    shutil.copytree(furnished, tmp_path, dirs_exist_ok=True)
    device = SimulatedDevice(make_steady(1e-3, 0.01), nominal_tflops=4.0)
    product = SimulatedWork(device, name="matmul", dtype="bf16", shape="1024x1024x1024")
    suite = Suite("smoke", "a test's own", 20.0, lambda target: [Case(product)])
    monkeypatch.setattr(nameplate.suite, "find_suite", lambda name: suite)
    simulate(device)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def toml_of(name, having):
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    blocks = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return next(block for block in blocks if having in block)


def short(line):
    """A line as it is tried: by few draws, and what takes minutes is only read by its command."""
    words = shlex.split(line)
    if words[1] in LONG or "--interleave" in words:
        return f"{line} --help"
    is_drawn = words[1] == "fleet" and words[2] in {"cost", "own", "plan"} and "--draws" not in words
    return f"{line} --draws 1000" if is_drawn else line


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_works(line, desk, bench):
    _, *arguments = shlex.split(short(line.replace(COLLECTOR, str(desk / "textfile_collector"))))
    status, out, err = bench(*arguments)
    if status == 3 and {"--expect", "--fail-under"} & set(arguments):
        assert "not judged" in err  # the simulated device has no share of nominal to hold to a floor
    else:
        assert status == 0, err
    assert out or err


def test_a_command_that_is_wrong_would_be_found(desk, bench):
    for wrong in ("show GONE", "report RUN --pdf", "selftest --twice 2 --help", "frob"):
        assert bench(*wrong.split()).status == 2


def steps(path):
    """Every `bench` command of a workflow, its variables filled in, without what the shell does with it."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        text = "\n".join(re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    joined = text.replace("\\\n", " ")
    for line in re.findall(
        r"^\s*(?:- run: |run: )?(?:part=\$\()?(?:\.venv/bin/)?(bench .*)$", joined, re.MULTILINE
    ):
        words = re.split(r" >>| \|", re.sub(r"\$\([^)]*\)|\$\w+", "X", line))[0]
        yield shlex.join(shlex.split(words, comments=True))


WORKFLOWS = [
    pytest.param(step, id=f"{path.name}: {step}")
    for path in (ROOT / ".github/workflows/ci.yml", ROOT / "docs/ci.md", ROOT / "docs/export.md")
    for step in dict.fromkeys(steps(path))
]


@pytest.mark.parametrize("step", WORKFLOWS)
def test_every_step_of_a_workflow_is_understood_by_its_command(step, bench):
    _, *arguments = shlex.split(step)
    status, _, err = bench(*arguments, "--help")
    assert status == 0, err


def test_the_workflow_measures_compares_and_reports():
    found = {shlex.split(step.values[0])[1] for step in WORKFLOWS}
    assert {"run", "devices", "compare", "report"} <= found


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in app.registered_commands:
        assert f"`bench {command.name}" in text or f" · `{command.name}`" in text, command.name


def test_what_each_method_changed_is_said_as_a_comparison_says_it():
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+) \| (.*) \|$", text.partition("## What each method changed")[2], re.MULTILINE
    )
    assert {int(number): what for number, what in rows} == METHOD_CHANGES
    assert max(METHOD_CHANGES) == METHOD


@pytest.mark.parametrize("path", DOCS[1:], ids=lambda path: path.name)
def test_every_page_opens_with_the_question_it_answers(path):
    title, *opening = path.read_text(encoding="utf-8").split("\n\n")[:2]
    assert "?" in title + opening[0]


def linked(path):
    """Every link of a document that leads to a file of ours, with the heading it names."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            name, _, heading = target.partition("#")
            yield (path.parent / name if name else path), heading


def anchors(path):
    """The anchors that a code host makes of headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for target, heading in linked(path):
        assert target.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in anchors(target), f"{path.name} links to #{heading} of {target.name}"


def test_every_document_can_be_reached_from_the_readme():
    seen, todo = set(), [ROOT / "README.md"]
    while todo:
        path = todo.pop()
        if path in seen or path.suffix != ".md":
            continue
        seen.add(path)
        todo += [target.resolve() for target, _ in linked(path)]
    assert {path.resolve() for path in DOCS} <= {path.resolve() for path in seen}
