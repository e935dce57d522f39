"""Every file and function that CONTRIBUTING.md names is there, so that a newcomer can follow it."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# Folders that a path in the document may begin in.
STARTS = (ROOT, ROOT / "src/nameplate", ROOT / "kernels/nameplate_kernels", ROOT / "tests")
FILES = sorted(set(re.findall(r"`([\w/]+\.(?:py|toml|po|js|md))(?=[`:])", TEXT)))
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+\.py)`: `(\w+)`", TEXT)))
NAMES = sorted(set(re.findall(r"`(_?[A-Za-z]\w+)` of `([\w/]+\.py)`", TEXT)))


@cache
def list_sources():
    """The files of the harness and its tests, by name."""
    found = {}
    for start in ("src", "kernels", "bench", "tests", "scripts"):
        for path in (ROOT / start).rglob("*.*"):
            found.setdefault(path.name, set()).add(path)
    return found


def find(name):
    """The files of that name: by its path, or a bare name that files of the harness have."""
    found = {path for start in STARTS if (path := start / name).is_file()}
    return found or ({} if "/" in name else list_sources().get(name, set()))


@cache
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


def test_every_file_is_there():
    assert [name for name in FILES if not find(name)] == []


def test_every_function_is_there():
    missing = []
    for file, name in [*FUNCTIONS, *((file, name) for name, file in NAMES)]:
        (path,) = find(file)
        missing += [] if name in names_in(path) else [f"{name} of {file}"]
    assert missing == []
