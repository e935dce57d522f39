"""Every file and function that CONTRIBUTING.md names is there, so that a newcomer can follow it."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Folders that a path in the document may begin in.
STARTS = (ROOT, ROOT / "src/nameplate", ROOT / "kernels/nameplate_kernels", ROOT / "tests")
FILES = sorted(set(re.findall(r"`([\w/]+\.(?:py|toml|po|js|md))(?=[`:])", TEXT)))
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+\.py)`: `(\w+)`", TEXT)))
NAMES = sorted(set(re.findall(r"`(_?[A-Za-z]\w+)` of `([\w/]+\.py)`", TEXT)))


def find(name):
    """The file of that name: by its path, or a bare name that one file of the harness has."""
    found = {path for start in STARTS if (path := start / name).is_file()}
    if not found and "/" not in name:
        found = {path for path in ROOT.rglob(name) if ".venv" not in path.parts}
    return found


def names_in(path):
    """Every name that a module defines: functions, methods, classes, constants."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def test_the_document_names_files_and_functions():
    assert len(FILES) > 40
    assert len(FUNCTIONS) > 10


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_there(name):
    assert find(name), f"CONTRIBUTING.md names {name}, which doesn't exist"


@pytest.mark.parametrize(("file", "name"), [*FUNCTIONS, *((file, name) for name, file in NAMES)])
def test_a_function_is_there(file, name):
    (path,) = find(file)
    assert name in names_in(path), f"CONTRIBUTING.md names {name} of {file}, which doesn't exist"
