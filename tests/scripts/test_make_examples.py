"""Transcripts and pictures in README and docs are what the commands print now, of recorded runs."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The pages of the three users: an engineer with a node, whoever keeps CI, whoever plans a purchase.
PAGES = ("node.md", "ci.md", "planning.md")


@pytest.fixture(scope="module")
def examples():
    spec = importlib.util.spec_from_file_location("make_examples", ROOT / "scripts" / "make_examples.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_transcript_and_picture_is_current(examples):
    assert list(examples.find_outdated()) == [], "run: make examples"


def test_an_old_transcript_is_found_and_what_the_reader_types_stays(examples, monkeypatch):
    monkeypatch.setattr(examples, "run_command", lambda command: "one\ntwo  \nthree\n")
    mark = "<!-- example: bench show RUN (3 lines) -->\n"
    old = f"{mark}```\n$ bench show latest\nzero\n```\nmore\n"
    assert examples.renew(old) == f"{mark}```\n$ bench show latest\none\n…\n```\nmore\n"
    assert examples.renew(examples.renew(old)) == examples.renew(old)


def test_every_picture_is_shown_somewhere_and_a_command_that_fails_is_no_example(examples):
    shown = set()
    for path in examples.list_documents():
        shown |= set(re.findall(r"\]\((?:docs/)?pictures/([^)]+)\)", path.read_text(encoding="utf-8")))
    assert shown == set(examples.SCREENS) | set(examples.PAGES)
    assert {path.name for path in examples.PICTURES.iterdir()} == shown | {examples.INPUTS.name}
    with pytest.raises(RuntimeError, match="no such run"):
        examples.run_command("bench show gone")


@pytest.mark.parametrize("page", PAGES)
def test_a_page_for_a_user_opens_with_the_question_and_shows_fifteen_lines_at_most(page, examples):
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    assert re.fullmatch(r"# .*: .*\?", title)
    (block,) = examples.BLOCK.finditer(rest)
    lines = block[0].removeprefix(block["mark"]).strip("`").strip().splitlines()
    assert lines[0].startswith("$ bench ")
    assert len(lines) <= 15
    assert all(len(line) <= examples.COLUMNS for line in lines)
