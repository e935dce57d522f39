"""`-h` is `--help` on every command and every group of commands."""

from __future__ import annotations

import pytest
import typer

from nameplate.cli import app


def walk(command, path=()):
    """Every command and group, by the words that lead to it."""
    yield path
    for name, each in getattr(command, "commands", {}).items():
        yield from walk(each, (*path, name))


PATHS = list(walk(typer.main.get_command(app)))


def test_the_walk_finds_commands_within_groups():
    assert {(), ("run",), ("list",), ("fleet",), ("fleet", "cost")} <= set(PATHS)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_h_is_help(bench, path):
    short, long = bench(*path, "-h"), bench(*path, "--help")
    assert (short.status, short.err) == (0, "")
    assert short.out == long.out
    assert short.out.startswith("Usage: ")
    assert "-h, --help" in short.out


def test_the_list_of_commands_says_whole_sentences(bench):
    listed = bench("--help").out.partition("Commands:")[2].strip().splitlines()
    assert len(listed) >= 14
    assert [line for line in listed if line.endswith("...")] == []
