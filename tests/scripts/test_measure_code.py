"""The command that prints the size and shape of the code."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from import_circles import circles_in  # noqa: E402
from measure_code import Block, find_repeated_blocks, function_lengths, measure  # noqa: E402

SIX = "\n".join(f"    value_{number} = compute({number})" for number in range(6))


def test_a_block_in_two_files_is_found_in_both_with_its_lines():
    one, two = Path("one.py"), Path("two.py")
    texts = {one: f"def f():\n{SIX}\n    return 1\n", two: f"import os\n\n\ndef g():\n{SIX}\n    return 2\n"}
    assert find_repeated_blocks(texts) == [Block(one, 2, 7), Block(two, 5, 10)]


def test_a_block_may_stand_twice_in_one_file_and_be_indented_otherwise():
    deeper = SIX.replace("    ", "        ")
    found = find_repeated_blocks({Path("a.py"): f"def f():\n{SIX}\nif True:\n    def g():\n{deeper}\n"})
    assert found == [Block(Path("a.py"), 2, 7), Block(Path("a.py"), 10, 15)]


def test_five_equal_lines_are_no_block():
    five = SIX.rpartition("\n")[0]
    texts = {Path(name): f"def {name}():\n{five}\n    return {name!r}\n" for name in ("a", "b")}
    assert find_repeated_blocks(texts) == []


def test_imports_comments_and_blank_lines_do_not_count():
    imports = "from x import (\n" + "".join(f"    name_{n},\n" for n in range(8)) + ")\n"
    comments = "# one\n\n# two\n\n# three\n\n# four\n"
    texts = {Path(name): f"{imports}{comments}{name} = 1\n" for name in ("a", "b")}
    assert find_repeated_blocks(texts) == []


def test_the_length_of_a_function_leaves_its_docstring_out():
    assert function_lengths('def f():\n    """Two\n    lines."""\n    a = 1\n    return a\n') == [2]


def test_every_module_of_a_circle_is_counted_and_no_other():
    imports = {"a": {"b": 1}, "b": {"c": 1}, "c": {"a": 1}, "d": {"a": 1}, "e": {}}
    assert circles_in(imports) == [{"a", "b", "c"}]


def test_figures_are_of_the_folders_that_hold_code(tmp_path):
    for name in ("src/p/a.py", "kernels/k.py", "tests/t.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\ny = 2\n")
    found = measure(tmp_path)
    assert (found["files"], found["lines"], found["functions"]) == (2, 4, 0)


@pytest.mark.long
@pytest.mark.process
def test_each_revision_has_a_column_and_an_unknown_one_is_refused():
    script = [sys.executable, str(ROOT / "scripts" / "measure_code.py")]
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("not a git checkout")
    shown = subprocess.run([*script, "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    header, files, *_ = shown.stdout.splitlines()
    assert header.split() == ["HEAD", "working", "tree"]
    assert files.split()[0] == "files"
    refused = subprocess.run([*script, "no-such"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "no-such" in refused.stderr
