"""Refuse files that import one another in a circle: `python scripts/import_circles.py src kernels bench`.

An import counts wherever it stands: at the top, inside a function, under TYPE_CHECKING. `from package import
child` is an import of the child's file where the child is a module, else of the package's `__init__.py`.

import-linter's contract `acyclic_siblings` isn't enough: it compares the children of one package with each
other, so it misses a circle of a package's `__init__.py` and a child, one across root packages, and every
file in a folder without an `__init__.py`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

Imports = Mapping[str, Mapping[str, int]]  # module → each module that it imports, with the line


def modules_in(folders: Sequence[Path]) -> dict[str, Path]:
    """Every Python file under the folders by the name that it's imported under."""
    return {
        ".".join(file.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): file
        for folder in folders
        for file in sorted(folder.rglob("*.py"))
    }


def imports_of(modules: Mapping[str, Path]) -> Imports:
    """What each module imports of the others."""
    return {
        module: {
            target: line
            for line, written in reversed(list(_written(module, file)))
            if (target := _nearest(written, modules)) not in (None, module)
        }
        for module, file in modules.items()
    }


def find_circle(imports: Imports) -> list[str] | None:
    """Modules of which each imports the next, the first of them again at the end; None where no circle is."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        found: list[str] = error.args[1]
        return found[::-1]  # graphlib leads from what is imported to what imports it
    return None


def circles_in(imports: Imports) -> list[set[str]]:
    """Group the modules that import one another in a circle, directly or through others."""

    @cache
    def reached_from(module: str) -> frozenset[str]:
        found: set[str] = set()
        waiting = [module]
        while waiting:
            new = imports[waiting.pop()].keys() - found
            found |= new
            waiting += new
        return frozenset(found)

    groups: list[set[str]] = []
    for module in imports:
        if module in reached_from(module) and not any(module in group for group in groups):
            groups.append({other for other in reached_from(module) if module in reached_from(other)})
    return groups


def _written(module: str, file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that the file imports."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = [*above, *([node.module] if node.module else [])]
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def _nearest(name: str, modules: Mapping[str, Path]) -> str | None:
    """The module of that name, else the nearest package that holds it; None for a library's."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def main(arguments: Sequence[str]) -> int:
    """Look for a circle and say where its imports stand; returns the exit status."""
    modules = modules_in([Path(folder) for folder in arguments])
    if not modules:
        print(f"import_circles.py: no Python file in {', '.join(arguments) or 'no folder'}", file=sys.stderr)
        return 2
    imports = imports_of(modules)
    circle = find_circle(imports)
    if circle is None:
        print(f"no import circle between {len(modules)} files")
        return 0
    print("files import one another in a circle; move what they share into a file that imports neither:")
    for importer, imported in pairwise(circle):
        print(f"  {modules[importer]}:{imports[importer][imported]} imports {imported}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
