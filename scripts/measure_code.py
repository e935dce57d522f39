"""Measure the size and shape of the code: `python scripts/measure_code.py [--blocks] [REVISION ...]`.

Prints one column for each git revision named, and one for the working tree: files, lines, median sizes,
files in an import circle, and blocks of code that stand in more than one place. `--blocks` lists those
blocks of the working tree. Counted are the Python files under src, kernels, bench and scripts.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from import_circles import circles_in, imports_of, modules_in

ROOTS = ("src", "kernels", "bench", "scripts")
# Shorter repetitions are mostly the shape of the language: decorators, signatures, closing brackets.
SHORTEST_BLOCK = 6


@dataclass(frozen=True)
class Block:
    """Lines of one file, `first` to `last`, that stand in the same order somewhere else too."""

    file: Path
    first: int
    last: int


def measure(tree: Path) -> dict[str, float]:
    """Measure the code below `tree`; returns each figure by the name it is printed with."""
    roots = [tree / root for root in ROOTS if (tree / root).is_dir()]
    modules = modules_in(roots)
    texts = {file: file.read_text(encoding="utf-8") for file in modules.values()}
    lengths = [len(text.splitlines()) for text in texts.values()]
    functions = [length for text in texts.values() for length in function_lengths(text)]
    blocks = find_repeated_blocks(texts)
    return {
        "files": len(lengths),
        "lines": sum(lengths),
        "median lines of a file": median(lengths or [0]),
        "functions": len(functions),
        "median lines of a function": median(functions or [0]),
        "files in an import circle": sum(map(len, circles_in(imports_of(modules)))),
        "repeated blocks": len(blocks),
        "lines in repeated blocks": sum(block.last - block.first + 1 for block in blocks),
    }


def function_lengths(text: str) -> list[int]:
    """Return the number of lines of each function, docstring and decorators left out."""
    lengths = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            last = node.end_lineno or node.lineno
            lengths.append(last - body[0].lineno + 1 if body else 1)
    return lengths


def find_repeated_blocks(texts: Mapping[Path, str]) -> list[Block]:
    """Find runs of at least SHORTEST_BLOCK lines that stand in more than one place, in any file.

    Blank lines, comments, imports and lines without a letter or digit don't count, nor does indentation.
    """
    lines = {file: list(_counted_lines(text)) for file, text in texts.items()}
    places: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    for file, numbered in lines.items():
        for start in range(len(numbered) - SHORTEST_BLOCK + 1):
            window = tuple(line for _, line in numbered[start : start + SHORTEST_BLOCK])
            places[window].append((file, start))
    repeated: dict[Path, set[int]] = defaultdict(set)
    for found in places.values():
        if len(found) > 1:
            for file, start in found:
                repeated[file].update(range(start, start + SHORTEST_BLOCK))
    return [
        Block(file, lines[file][first][0], lines[file][last][0])
        for file, positions in sorted(repeated.items())
        for first, last in _runs(sorted(positions))
    ]


def _counted_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the number and the stripped text of each line that counts."""
    imported = {
        number
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if number not in imported and not stripped.startswith("#") and any(map(str.isalnum, stripped)):
            yield number, stripped


def _runs(positions: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield the first and last of each run of consecutive numbers."""
    first = last = positions[0]
    for position in positions[1:]:
        if position > last + 1:
            yield first, last
            first = position
        last = position
    yield first, last


def check_out(revision: str, folder: Path) -> None:
    """Write the files of a git revision into `folder`; raises CalledProcessError for an unknown revision."""
    archive = subprocess.run(["git", "archive", revision, *ROOTS], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(folder, filter="data")


def main(arguments: Sequence[str]) -> int:
    """Print the table, or with --blocks the repeated blocks; returns the exit status."""
    here = Path(__file__).resolve().parent.parent
    if "--blocks" in arguments:
        modules = modules_in([here / root for root in ROOTS])
        for block in find_repeated_blocks({f: f.read_text(encoding="utf-8") for f in modules.values()}):
            print(f"{block.file.relative_to(here)}:{block.first}-{block.last}")
        return 0
    columns = {}
    for revision in arguments:
        with tempfile.TemporaryDirectory() as folder:
            try:
                check_out(revision, Path(folder))
            except subprocess.CalledProcessError as error:
                print(f"measure_code.py: {revision}: {error.stderr.decode().strip()}", file=sys.stderr)
                return 2
            columns[revision[:12]] = measure(Path(folder))
    columns["working tree"] = measure(here)
    print(" " * 26 + "".join(f"{name:>14}" for name in columns))
    for figure in columns["working tree"]:
        print(f"{figure:26}" + "".join(f"{column[figure]:14,g}" for column in columns.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
