"""Makes the transcripts and pictures of README and docs anew, from runs that were recorded.

    python scripts/make_examples.py            # write them
    python scripts/make_examples.py --check    # exit with 1 where one isn't current
    python scripts/make_examples.py --record   # measure the example's runs again first (half a minute)

A transcript is a block of Markdown below a comment that holds its command:

    <!-- example: bench show tests/data/examples/runs/RUN (15 lines) -->
    ```
    $ bench show RUN
    ...
    ```

The lines that begin with `$` stay, so that a reader sees the command that he would type. What follows is what
the command prints on 100 columns, cut after so many lines. A picture of a screen is drawn by rich, one of a
page by a browser. Beside the pictures lies `inputs.json`, with a digest of the text that each was made from:
it tells without a browser, and whatever the fonts, whether they are current.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
COLUMNS = 100
PICTURES = ROOT / "docs" / "pictures"
INPUTS = PICTURES / "inputs.json"
EXAMPLES = Path("tests/data/examples")
NODE = EXAMPLES / "node"
# What is drawn: a screen by its command, or the page of a run.
SCREENS = {
    "node.svg": f"bench show {NODE}",
    "plan.svg": "bench fleet plan --eflops 10 --part A800",
}
PAGES = {"page-light.png": ("light", 1280), "page-phone.png": ("dark", 390)}
PAGE_HEIGHT = 900
BLOCK = re.compile(
    r"(?P<mark><!-- example: (?P<command>bench [^\n]*?)(?: \((?P<lines>\d+) lines\))? -->\n)"
    r"```\n(?P<typed>(?:\$ [^\n]*\n)*).*?^```$",
    re.MULTILINE | re.DOTALL,
)


def list_documents() -> list[Path]:
    """Return every document that may hold an example."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@functools.cache
def run_command(command: str, *, in_colour: bool = False) -> str:
    """Return what a command prints on standard output, run in the root of the repository.

    Raises RuntimeError where it fails.
    """
    from nameplate.cli import main

    printed, told, before, arguments = io.StringIO(), io.StringIO(), Path.cwd(), sys.argv
    environment = {"COLUMNS": str(COLUMNS), "FORCE_COLOR" if in_colour else "NO_COLOR": "1"}
    kept = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    sys.argv = shlex.split(command)
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(told):
            main()
    except SystemExit as end:
        if end.code not in (None, 0, 1):  # a comparison that finds a regression ends with 1
            raise RuntimeError(f"{command}: {told.getvalue()}") from end
    finally:
        os.chdir(before)
        sys.argv = arguments
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return printed.getvalue()


def make_transcript(command: str, most: int | None) -> str:
    """Return the command's lines without trailing spaces, at most `most` of them."""
    lines = [line.rstrip() for line in run_command(command).splitlines()]
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], "…"]
    return "\n".join(lines) + "\n"


def renew(text: str) -> str:
    """Return a document with every transcript made anew."""

    def replace(block: re.Match[str]) -> str:
        most = int(block["lines"]) - block["typed"].count("\n") if block["lines"] else None
        transcript = make_transcript(block["command"], most)
        return f"{block['mark']}```\n{block['typed']}{transcript}```"

    return BLOCK.sub(replace, text)


def digest(text: str) -> str:
    """Return what stands for a picture's text in `inputs.json`."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def make_inputs() -> dict[str, str]:
    """Return a digest of each picture's text: of a screen what it prints, of a page the report as text."""
    screens = {name: digest(run_command(command)) for name, command in SCREENS.items()}
    page = digest(run_command(f"bench show {NODE}"))
    return screens | dict.fromkeys(PAGES, page)


def find_outdated() -> Iterator[str]:
    """Name every document with an old transcript, and every picture of an older text."""
    for path in list_documents():
        text = path.read_text(encoding="utf-8")
        if renew(text) != text:
            yield str(path.relative_to(ROOT))
    drawn = json.loads(INPUTS.read_text(encoding="utf-8"))
    for name, made_from in make_inputs().items():
        if drawn.get(name) != made_from or not (PICTURES / name).is_file():
            yield str((PICTURES / name).relative_to(ROOT))


def write() -> None:
    """Write every document and picture anew; pictures of a page only where a browser is."""
    for path in list_documents():
        text = path.read_text(encoding="utf-8")
        path.write_text(renew(text), encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    inputs = make_inputs()
    for name, command in SCREENS.items():
        (PICTURES / name).write_text(draw_screen(command), encoding="utf-8")
    if not draw_pages():
        print("no browser: the pictures of the page stay as they are", file=sys.stderr)
        drawn = json.loads(INPUTS.read_text(encoding="utf-8")) if INPUTS.exists() else {}
        inputs |= {name: drawn.get(name, "") for name in PAGES}
    INPUTS.write_text(json.dumps(inputs, indent=1) + "\n", encoding="utf-8")


def draw_screen(command: str) -> str:
    """Return a picture of what a command prints, as SVG."""
    from rich.console import Console
    from rich.text import Text

    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ {command}", style="bold"))
    console.print(Text.from_ansi(run_command(command, in_colour=True)), soft_wrap=True)
    return console.export_svg(title="Nameplate", unique_id="nameplate")


def draw_pages() -> bool:
    """Draw the example's page in both schemes and on a phone; False where there is no browser."""
    browsers = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    path = next(browsers, None)
    if path is None:
        return False
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        report = Path(folder, "report.html")
        run_command(f"bench report {NODE} -o {report}")
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        for name, (scheme, width) in PAGES.items():
            page = browser.new_page(
                viewport={"width": width, "height": PAGE_HEIGHT},
                color_scheme="dark" if scheme == "dark" else "light",
            )
            page.goto(report.as_uri())
            page.wait_for_timeout(1_000)  # the charts are drawn after the page has loaded
            page.screenshot(path=PICTURES / name)
        browser.close()
    return True


def record() -> None:
    """Measure the example's node again: a twin of two cards, one with a failing cooler."""
    from nameplate.run.measure import measure
    from nameplate.store.folder import MANIFEST

    with tempfile.TemporaryDirectory() as folder:
        twin = ROOT / EXAMPLES / "sick-node.toml"
        run = measure(
            "quick", device=f"twin:{twin}", only="*/bf16/*", budget=30.0, results=folder, history=False
        )
        manifest = run.manifest.model_copy(update={"hostname": "node-7"})
        (run.folder / MANIFEST).write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(ROOT / NODE, ignore_errors=True)
        shutil.copytree(run.folder, ROOT / NODE)


def main() -> None:
    """Write the examples, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 for an old example")
    parser.add_argument("--record", action="store_true", help="measure the example's runs again first")
    options = parser.parse_args()
    if options.check:
        outdated = list(find_outdated())
        for name in outdated:
            print(f"{name} isn't current: make examples")
        sys.exit(bool(outdated))
    if options.record:
        record()
    write()


if __name__ == "__main__":
    main()
