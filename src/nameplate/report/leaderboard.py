"""The published results as a leaderboard: a row a run, in the part of their README between two marks.

What can't be believed never stands above what can, and only what compares is ranked together: shares of one
part, one dtype and one measuring method. The text holds nothing of the day or the version it is made with, so
that the same results always give the same file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nameplate.base.errors import InputError, write_error
from nameplate.base.formatting import figure, percent, percent_with_half_width, with_half_width
from nameplate.base.text import plain
from nameplate.chain.from_run import (
    REAL_FILL,
    DeviceChain,
    find_chains,
    find_furthest,
    find_slowest,
    is_trusted,
)
from nameplate.chain.published import Published, find_best_gemm
from nameplate.chain.stage import Stage
from nameplate.device.identity import CpuIdentity
from nameplate.export.entries import read_runs
from nameplate.export.fields import clean
from nameplate.record import GRAVITY, Record, Verdict
from nameplate.report.labels import slowest_words, stage_words
from nameplate.report.media.markdown import escape
from nameplate.report.view import Field, Item
from nameplate.specs.cpu import load_microarchitectures, normalize_brand
from nameplate.specs.registry import load_shipped
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run, find_runs, write_durably

README = "README.md"
BEGIN = "<!-- leaderboard: made by `bench leaderboard`; don't edit -->"
END = "<!-- end of leaderboard -->"
_NEW = "# Published results\n"
_REPORTS = ("report.md", "report.html")

_LEAD = """\
A row a run, by part. A figure is achieved ÷ nominal, ± half its 95 % interval; of several devices the slowest
stands here. First is who comes farthest along the chain, then who has most left at the last stage; where
intervals overlap, neither is better. A mark ? stands beside a figure in doubt: a run with one stands below
those without, whatever it reached, and so does one that divides by a nominal given by hand.

Only what compares is ranked together, so every dtype and every measuring method has a table of its own. A
method is another way of taking time, which by itself moves a figure: a rank across two would be of methods,
not of machines."""
_BEST_LEAD = """\
By part and dtype: the largest share of nominal of a product that may be believed, by the newest method that
has one. It is of a product once settled, or of one whose phases weren't measured apart: what a device does
from cool doesn't last. Shares rank, not TFLOPS, for two machines with one kind of CPU differ in cores."""


@dataclass(frozen=True)
class Reached:
    """What a run reached at one stage: TFLOPS, its share of nominal, and whether that may be believed."""

    stage: Stage
    tflops: float
    share: Interval
    verdict: Verdict
    believed: bool


@dataclass(frozen=True)
class Result:
    """A published run as its row shows it. Folder and report are relative to the README.

    `dtype`, nominal and datasheet (TFLOPS) are the chain's; without a rated product there is no chain.
    `reached` is the slowest's of the devices that reach furthest, which are `reaching` of all `devices`.
    `nominal_given` says that the user gave that nominal, `hides_model` that a CPU is known by its kind alone.
    """

    part: str
    run: str
    begun: str
    folder: str
    report: str | None
    method: int
    dtype: str | None
    nominal_tflops: float | None
    datasheet_tflops: float | None
    reached: tuple[Reached, ...]
    devices: int
    reaching: int
    torch: str | None
    hides_model: bool
    nominal_given: bool

    @property
    def verdict(self) -> Verdict | None:
        """The gravest of the chain's stages; None without a chain."""
        return min((each.verdict for each in self.reached), key=GRAVITY.index, default=None)

    @property
    def believed(self) -> bool:
        """Whether it may be ranked among those that compare and may be believed."""
        return bool(self.reached) and all(each.believed for each in self.reached) and not self.nominal_given

    def as_json(self) -> dict[str, Any]:
        """The row for `--json`, its part's name, verdict and place among the believed included."""
        more = {"part_name": part_name(self.part), "verdict": self.verdict, "believed": self.believed}
        cleaned: dict[str, Any] = clean({**asdict(self), **more})
        return cleaned


@dataclass(frozen=True)
class Best:
    """The best product of a part and dtype that may be believed, with its row; None where there is none."""

    part: str
    dtype: str
    found: tuple[Result, Record] | None

    @property
    def published(self) -> Published | None:
        """The best product that others published for this part, which calls both kinds of 8 bits fp8."""
        return find_best_gemm(self.part, self.dtype)


@dataclass(frozen=True)
class Leaderboard:
    """The README as it stands and as it should, the rows in their order, and what was passed over."""

    path: Path
    text: str
    results: tuple[Result, ...]
    problems: tuple[str, ...]
    current: bool

    def write(self) -> None:
        """Write the README. Raises InputError where it can't be, OutputError where the disk takes no more."""
        try:
            write_durably(self.path, self.text)
        except OSError as error:
            raise write_error("can't write the leaderboard", error, where=str(self.path)) from error


def leaderboard(folder: Path) -> Leaderboard:
    """Read every published run at or below `folder`, and the README there.

    Raises InputError where no published run can be read, and for a README that can't be read or whose marks
    aren't one of each.
    """
    problems: list[str] = []
    runs = [run for run in read_runs(_folders(folder), problems) if _fits(run, problems)]
    if not runs:
        expected = "a folder that bench publish has written to"
        raise InputError(
            "no published run here", where="bench leaderboard", got=str(folder), expected=expected
        )
    pairs = sorted(((_result(run, folder), run) for run in runs), key=lambda pair: _place(pair[0]))
    results = tuple(result for result, _run in pairs)
    path = folder / README
    before = _text_of(path)
    text = _rewritten(before, _markdown(results, _bests(pairs)), str(path))
    return Leaderboard(path, text, results, tuple(problems), current=text == before)


def _folders(folder: Path) -> list[Path]:
    """Every run folder, without what an interrupted `bench publish` left in a hidden one."""
    found = ((each, each.relative_to(folder).parts) for each in find_runs(folder))
    return [each for each, parts in found if not any(part.startswith(".") for part in parts)]


def _fits(run: Run, problems: list[str]) -> bool:
    """Whether a run is a result; adds a sentence to `problems` where it isn't one."""
    why = _why_not(run)
    if why is not None:
        problems.append(f"skipped {run.folder}: {why}")
    return why is None


def _why_not(run: Run) -> str | None:
    if not run.manifest.published:
        return "not a published copy, and may name its machine; bench publish makes one"
    if run.missing:
        return f"{len(run.missing)} cases have no record that can be read"
    parts = {entry.part for entry in run.manifest.devices}
    return "its devices are of no one part" if None in parts or len(parts) > 1 else None


def _result(run: Run, root: Path) -> Result:
    manifest, chains = run.manifest, find_chains(run.records)
    found = find_slowest(chains)
    ratings = {each.stage: each.throughput.tflops.value for each in found.stages} if found else {}
    folder = run.folder.relative_to(root).as_posix()
    report = next((name for name in _REPORTS if (run.folder / name).is_file()), None)
    return Result(
        part=str(manifest.devices[0].part),
        run=run.id,
        begun=manifest.created,
        folder=folder,
        report=None if report is None else f"{folder}/{report}",
        method=manifest.method,
        dtype=found.dtype if found else None,
        nominal_tflops=ratings.get(Stage.NOMINAL),
        datasheet_tflops=ratings.get(Stage.DATASHEET),
        reached=tuple(_reached(found)) if found else (),
        devices=len(manifest.devices),
        reaching=len(find_furthest(chains)),
        torch=manifest.software.get("torch"),
        hides_model=any(map(_hides_model, (entry.identity for entry in manifest.devices))),
        nominal_given=found is not None and found.dtype in manifest.options.nominal,
    )


def _reached(chain: DeviceChain) -> Iterator[Reached]:
    for stage in chain.stages:
        if stage.provenance == "measured":
            tflops, share = stage.throughput.tflops.value, chain.share_of_nominal(stage)
            believed = all(map(is_trusted, stage.records))
            yield Reached(stage.stage, tflops, share, stage.verdict, believed)


def _hides_model(identity: object) -> bool:
    """Whether a CPU's name holds no number: `Intel Xeon Processor`, as a hypervisor prints it."""
    return isinstance(identity, CpuIdentity) and not re.search(r"\d", normalize_brand(identity.name))


def _place(result: Result) -> tuple[object, ...]:
    """By part, dtype and method, the newest first; then the believed, the farthest, the largest share."""
    table = (result.part, result.dtype is None, result.dtype or "", -result.method)
    far = -result.reached[-1].stage.position if result.reached else 1
    shares = tuple(-each.share.value for each in reversed(result.reached))
    return (*table, not result.believed, far, shares, result.folder)


def _bests(pairs: Sequence[tuple[Result, Run]]) -> list[Best]:
    """The best product of every part in every dtype that a product was measured in."""
    found: dict[tuple[str, str], list[tuple[Result, Record]]] = {}
    for result, run in pairs:
        for record in run.records:
            if record.status == "ok" and record.workload == "matmul" and record.tflops is not None:
                mine = found.setdefault((result.part, record.dtype), [])
                mine += [(result, record)] if _competes(record, run) else []
    # The first of equals, which are in the order of the tables.
    return [Best(*key, max(found[key], key=_merit, default=None)) for key in sorted(found)]


def _competes(record: Record, run: Run) -> bool:
    given = record.dtype in run.manifest.options.nominal
    return is_trusted(record) and record.fill == REAL_FILL and record.phase != "burst" and not given


def _merit(found: tuple[Result, Record]) -> tuple[int, float, float]:
    result, record = found
    return result.method, record.efficiency or 0.0, record.tflops or 0.0


def part_name(part: str) -> str:
    """The part's whole name by the shipped registry, or the CPU tables; its id where neither knows it."""
    if part in load_shipped().parts:
        return load_shipped().parts[part].name
    return next((each.name for each in load_microarchitectures() if each.id == part), part)


def _text_of(path: Path) -> str:
    """The README as it stands, its line ends kept; an empty one where there is none."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"can't be read: {error}", where=str(path), expected="text in UTF-8") from error


def _rewritten(text: str, board: str, where: str) -> str:
    """`text` with `board` between its marks and nothing else changed; without marks, it gets them at its end.

    Raises InputError for marks that don't enclose one part.
    """
    part = f"{BEGIN}\n\n{board}\n\n{END}"
    counts = text.count(BEGIN), text.count(END)
    if counts == (0, 0):
        before = text or _NEW
        gap = "\n" * (2 - min(2, len(before) - len(before.rstrip("\n"))))
        return f"{before}{gap}{part}\n"
    before, _mark, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if counts != (1, 1) or not end:
        got = f"{counts[0]} of the first, {counts[1]} of the second"
        raise InputError(
            "its marks don't enclose one part", where=where, got=got, expected=f"{BEGIN} … {END}"
        )
    return f"{before}{part}{after}"


def _markdown(results: Sequence[Result], bests: Sequence[Best]) -> str:
    blocks = ["## Leaderboard", _LEAD, "### Best products", _BEST_LEAD, _best_table(bests)]
    for part, mine in groupby(results, key=lambda result: result.part):
        blocks += [f"### {_cell(part_name(part))}", f"Part `{part}`."]
        for (dtype, method), rows in groupby(mine, key=lambda result: (result.dtype, result.method)):
            blocks += [f"#### {_cell(dtype or 'no rated product')}, method {method}", _table(list(rows))]
    return "\n\n".join(blocks)


def _best_table(bests: Sequence[Best]) -> str:
    fields = [
        Field[Best]("part", lambda best: _cell(part_name(best.part))),
        Field[Best]("dtype", lambda best: _cell(best.dtype)),
        Field[Best]("of nominal", lambda best: _of_nominal(_record(best)), is_number=True),
        Field[Best]("TFLOPS", lambda best: _tflops(_record(best)), is_number=True),
    ]
    beside = any(best.published for best in bests)
    if beside or any(
        record and record.datasheet_tflops != record.nominal_tflops for record in map(_record, bests)
    ):
        fields.append(Field[Best]("of datasheet", lambda best: _of_datasheet(_record(best)), is_number=True))
    if beside:
        fields.append(Field[Best]("best published, of datasheet", lambda best: _published(best.published)))
    fields += [
        Field[Best]("product", lambda best: _product(_record(best))),
        Field[Best]("run", lambda best: _link(best.found[0]) if best.found else "–"),
        Field[Best]("method", lambda best: str(best.found[0].method) if best.found else "–", is_number=True),
    ]
    return _lines(fields, bests)


def _record(best: Best) -> Record | None:
    return best.found[1] if best.found else None


def _of_nominal(record: Record | None) -> str:
    if record is None:
        return "–"
    return _cell(percent_with_half_width(record.interval("efficiency")))


def _of_datasheet(record: Record | None) -> str:
    return "–" if record is None else _cell(percent(record.datasheet_efficiency))


def _tflops(record: Record | None) -> str:
    if record is None:
        return "–"
    return _cell(with_half_width(record.interval("tflops")))


def _product(record: Record | None) -> str:
    return "–" if record is None else _cell(" ".join(filter(None, (record.shape, record.phase))))


def _published(best: Published | None) -> str:
    """The figure, whose device it is, and where it was read."""
    if best is None:
        return "–"
    return _cell(f"{percent(best.value)} ({best.device}, {best.source}, {best.date})")


def _table(results: Sequence[Result]) -> str:
    """Rows that compare; a stage that none of them reached is left out."""
    reached = {each.stage for result in results for each in result.reached}
    fields = [
        Field[Result]("run", _links),
        Field[Result]("begun", lambda result: _cell(result.begun[:10])),
        *(_stage(stage) for stage in Stage if stage in reached),
        Field[Result]("nominal, TFLOPS", _nominal, is_number=True),
        Field[Result]("verdict", lambda result: _cell(result.verdict or "–")),
        Field[Result]("torch", lambda result: _cell(result.torch or "–")),
        Field[Result]("worth knowing", lambda result: _cell("; ".join(_remarks(result)) or "–")),
    ]
    return _lines(fields, results)


def _stage(stage: Stage) -> Field[Result]:
    return Field[Result](stage_words(stage), lambda result: _share(result, stage), is_number=True)


def _share(result: Result, stage: Stage) -> str:
    found = next((each for each in result.reached if each.stage is stage), None)
    if found is None:
        return "–"
    share = percent_with_half_width(found.share)
    return _cell(share if found.believed else f"{share} ?")


def _nominal(result: Result) -> str:
    nominal, datasheet = result.nominal_tflops, result.datasheet_tflops
    said = "" if datasheet in (nominal, None) else f" (datasheet {figure(datasheet)})"
    return _cell(f"{figure(nominal)}{said}")


def _remarks(result: Result) -> Iterator[str]:
    if result.devices > 1 and result.reached:
        yield slowest_words(result.reaching, result.devices)
    if result.hides_model:
        yield "hides its model"
    if result.nominal_given:
        yield "nominal given by hand"


def _links(result: Result) -> str:
    report = "" if result.report is None else f" ([report]({quote(result.report)}))"
    return f"{_link(result)}{report}"


def _link(result: Result) -> str:
    return f"[{_cell(result.run)}]({quote(result.folder)}/)"


def _cell(value: object) -> str:
    return escape(plain(value))


def _lines(fields: Sequence[Field[Item]], rows: Sequence[Item]) -> str:
    """A Markdown table whose cells are Markdown already, as links are."""
    head = [escape(field.name) for field in fields]
    rule = ["---:" if field.is_number else "---" for field in fields]
    cells = ([field.text(row) for field in fields] for row in rows)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rule, *cells))
