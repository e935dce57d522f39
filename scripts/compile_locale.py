"""Compile the translations: `python scripts/compile_locale.py` writes a .mo file beside each .po file.

`pybabel compile` refuses messages such as "3 % of", which it takes for printf style. The dates in the header
of a catalogue are fixed: without them babel writes the time of compiling, and the file differs each time.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

LOCALE = Path(__file__).resolve().parent.parent / "src" / "nameplate" / "locale"


def compile_catalogue(source: Path) -> bytes:
    """Return the bytes of the .mo file of one .po file."""
    compiled = BytesIO()
    with source.open("rb") as file:
        write_mo(compiled, read_po(file))
    return compiled.getvalue()


def main() -> None:
    """Compile every catalogue."""
    for source in sorted(LOCALE.rglob("*.po")):
        source.with_suffix(".mo").write_bytes(compile_catalogue(source))


if __name__ == "__main__":
    main()
