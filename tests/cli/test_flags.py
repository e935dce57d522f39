"""A flag means the same wherever it stands: one declaration, with one help text and one placeholder."""

import ast
from collections import Counter, defaultdict
from pathlib import Path

import typer

import nameplate.cli
from nameplate.cli import app

CLI = Path(nameplate.cli.__file__).parent
# Flags that mean something else from command to command, with the reason.
DIFFERENT = {
    "--dtype": "of `run` the formats to measure, by commas, elsewhere the one whose rating is priced",
    "--results": "of `run` the folder that the run is written to, elsewhere the only one to look in",
    "--suite": "of `compare` the suite that is measured in turn, of `selftest` the one that is repeated",
    "--budget": "of `check` the time of all devices together, with a default of its own",
    "--check": "of `leaderboard` whether its table is current, of `selftest` how nodes are judged",
    "--fleets": "of `report` whether fleets are priced, elsewhere a file with fleets of one's own",
    "--model": "of `run` the model to measure a layer of, of `specs` the one whose FLOPs are counted",
    "--shapes": "of `run` the set of products to measure, of `specs` whether a model's are listed",
    "--tokens": "the same, with another default: that of the model's training",
    "--part": "of `derate` one part, elsewhere as many as are wanted",
    "--eflops": "of `cost` nominal EFLOPS that are priced, of `plan` delivered ones that are wanted",
}


def commands(command=None, path="bench"):
    """Every command with what it is called, groups included."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, each in getattr(command, "commands", {}).items():
        yield from commands(each, f"{path} {name}")


def flags():
    """By flag: its help text and placeholder, with the commands that have it so."""
    found = defaultdict(lambda: defaultdict(list))
    for path, command in commands():
        for parameter in command.params:
            for name in parameter.opts:
                if name.startswith("-"):
                    found[name][parameter.help, parameter.metavar].append(path)
    return found


def test_there_are_commands_and_flags():
    paths = {path for path, _command in commands()}
    assert {"bench run", "bench fleet plan", "bench selftest"} <= paths
    assert len(flags()["--json"]) == 1
    assert len(next(iter(flags()["--json"].values()))) > 15


def test_a_flag_has_one_help_text_and_one_placeholder():
    several = {name: dict(told) for name, told in flags().items() if len(told) > 1}
    assert several.keys() == DIFFERENT.keys(), several


def test_every_flag_has_a_help_text():
    assert {name: told for name, told in flags().items() if any(not text for text, _place in told)} == {}


def is_help(keyword):
    return keyword.arg == "help" and isinstance(keyword.value, ast.Constant)


def test_each_help_text_is_written_once():
    """A text that stands twice is a flag that is declared twice."""
    texts = Counter()
    for path in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option":
                texts.update(each.value.value for each in node.keywords if is_help(each))
    assert len(texts) > 50
    assert [text for text, count in texts.items() if count > 1] == []


def test_flags_that_repeat_say_so_alike():
    for name, told in flags().items():
        for text, _place in told:
            assert "; repeatable" not in text, name
