"""The published results as a leaderboard: one row a run, between two marks in the README of their folder.

Only comparable runs are ranked together: of one part, one dtype and one measuring method. A run with a figure
in doubt is never above one without. The text depends on neither the day nor the version that makes it, so the
same results always give the same file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from os.path import isfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nameplate.base.errors import InputError, write_error
from nameplate.base.files import MIB, read_text
from nameplate.base.formatting import UNKNOWN, figure, percent, percent_with_half_width, with_half_width
from nameplate.base.text import plain
from nameplate.chain.from_run import REAL_FILL, find_chains, find_furthest, find_slowest
from nameplate.chain.published import Published, find_best_gemm
from nameplate.chain.stage import Stage
from nameplate.device.identity import CpuIdentity
from nameplate.export.entries import read_runs
from nameplate.export.fields import clean
from nameplate.record import GRAVITY, Record, Verdict
from nameplate.report.labels import describe_slowest, name_stage
from nameplate.report.media.markdown import escape, table_lines
from nameplate.report.view import Field, Item
from nameplate.specs.cpu import load_microarchitectures
from nameplate.specs.cpu_evidence import find_certain_name, normalize_brand
from nameplate.specs.registry import load_shipped
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run, find_runs, write_durably

README = "README.md"
BEGIN = "<!-- leaderboard: made by `bench leaderboard`; don't edit -->"
_MOST_README_BYTES = 16 * MIB
END = "<!-- end of leaderboard -->"
_NEW_README = "# Published results\n"
_REPORTS = ("report.md", "report.html")

_LEAD = """\
One row a run, by part. A figure is achieved ÷ nominal, ± half its 95 % interval: run-to-run from method 5 on,
within one process before. A run of several devices shows its slowest. Runs are ordered by how far along the
chain they come, then by the share that is left at the last stage; where intervals overlap, neither run is
better. ? marks a figure in doubt. A run with such a figure, with a nominal given by hand, or published by
--force, is below all others of its table.

Only comparable runs are ranked together: each dtype and each measuring method has a table of its own. A
change of the method moves figures by itself."""
_BEST_LEAD = """\
For each part and dtype, the trusted matrix product with the largest share of nominal, by the newest method
that has one. Burst figures don't count, for a device can't hold them. Products are ranked by share and not by
TFLOPS, for machines with the same kind of CPU differ in their number of cores."""


@dataclass(frozen=True)
class StageResult:
    """A measured stage of a run's chain; `believed` (the JSON key): every record behind it is trusted."""

    stage: Stage
    tflops: float
    share: Interval  # of nominal
    verdict: Verdict
    believed: bool


@dataclass(frozen=True)
class PublishedRun:
    """One row: a published run. The paths of folder and report are relative to the README.

    The chain (`dtype`, nominal, datasheet, `reached`) is that of the slowest of the `reaching` devices whose
    chain reaches furthest; without a rated product there is none.
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
    reached: tuple[StageResult, ...]
    devices: int
    reaching: int
    torch: str | None
    hides_model: bool  # a CPU whose name doesn't tell its model
    nominal_given: bool  # by the user, in the chain's dtype
    forced: bool  # published although it shouldn't be ranked

    @property
    def verdict(self) -> Verdict | None:
        """The gravest verdict of the chain's stages; None without a chain."""
        return min((result.verdict for result in self.reached), key=GRAVITY.index, default=None)

    @property
    def believed(self) -> bool:
        """Whether nothing in its row is in doubt."""
        reservations = self.nominal_given or self.forced
        return bool(self.reached) and all(each.believed for each in self.reached) and not reservations

    def as_json(self) -> dict[str, Any]:
        """Return the row of `--json`."""
        more = {"part_name": part_name(self.part), "verdict": self.verdict, "believed": self.believed}
        row: dict[str, Any] = clean({**asdict(self), **more})
        return row


@dataclass(frozen=True)
class BestProduct:
    """The best trusted product of a part and dtype: its run and record; None where no product is trusted."""

    part: str
    dtype: str
    run: PublishedRun | None = None
    record: Record | None = None

    @property
    def published(self) -> Published | None:
        """The best product that others published for this part and dtype."""
        return find_best_gemm(self.part, self.dtype)


@dataclass(frozen=True)
class Leaderboard:
    """The rows in their order, the README's path and its new text, and what was left out."""

    path: Path
    text: str
    results: tuple[PublishedRun, ...]
    problems: tuple[str, ...]
    current: bool  # the README has this text already

    def write(self) -> None:
        """Write the README. Raises InputError where it can't be written, OutputError for a full disk."""
        try:
            write_durably(self.path, self.text)
        except OSError as error:
            raise write_error("can't write the leaderboard", error, where=str(self.path)) from error


def make_leaderboard(folder: Path) -> Leaderboard:
    """Read every published run in `folder` and below, and the README in it.

    Raises InputError where no published run can be read, and for a README that can't be read or doesn't have
    each mark once, in order.
    """
    problems: list[str] = []
    read: list[tuple[PublishedRun, Run]] = []
    for run in read_runs(_find_folders(folder), problems):
        why_not = _explain_unranked(run)
        if why_not is None:
            read.append((_published_run(run, folder), run))
        else:
            problems.append(f"skipped {run.folder}: {why_not}")
    if not read:
        expected = "a folder that bench publish has written to"
        raise InputError(
            "no published run here", where="bench leaderboard", got=str(folder), expected=expected
        )
    read.sort(key=lambda each: _sort_key(each[0]))
    rows = tuple(row for row, _run in read)
    path = folder / README
    before = _read_text(path)
    text = _replace_board(before, _render(rows, _find_best_products(read)), str(path))
    return Leaderboard(path, text, rows, tuple(problems), current=text == before)


def _find_folders(folder: Path) -> list[Path]:
    """Return every run folder but those in hidden folders, which an interrupted `bench publish` leaves."""
    found = ((run, run.relative_to(folder).parts) for run in find_runs(folder))
    return [run for run, parts in found if not any(part.startswith(".") for part in parts)]


def _explain_unranked(run: Run) -> str | None:
    if not run.manifest.published:
        return "not a published copy, and may name its machine; bench publish makes one"
    if not run.measured:
        return "simulated: figures of a twin are no measurement"
    if run.missing:
        return f"cases without a record that can be read: {len(run.missing)}"
    parts = {entry.part for entry in run.manifest.devices}
    return "its devices aren't all of one known part" if None in parts or len(parts) > 1 else None


def _published_run(run: Run, root: Path) -> PublishedRun:
    manifest, chains = run.manifest, find_chains(run.records)
    chain = find_slowest(chains)
    stages = chain.stages if chain else ()
    ratings = {each.stage: each.throughput.tflops.value for each in stages if not each.records}
    folder = run.folder.relative_to(root).as_posix()
    report = next((name for name in _REPORTS if isfile(run.folder / name)), None)
    return PublishedRun(
        part=str(manifest.devices[0].part),
        run=run.id,
        begun=manifest.created,
        folder=folder,
        report=None if report is None else f"{folder}/{report}",
        method=manifest.method,
        dtype=chain.dtype if chain else None,
        nominal_tflops=ratings.get(Stage.NOMINAL),
        datasheet_tflops=ratings.get(Stage.DATASHEET),
        reached=tuple(
            StageResult(
                each.stage,
                each.throughput.tflops.value,
                chain.share_of_nominal(each),
                each.verdict,
                believed=all(record.trusted for record in each.records),
            )
            for each in stages
            if chain and each.records
        ),
        devices=len(manifest.devices),
        reaching=len(find_furthest(chains)),
        torch=manifest.software.get("torch"),
        hides_model=any(_hides_model(entry.identity) for entry in manifest.devices),
        nominal_given=chain is not None and chain.dtype in manifest.options.nominal,
        forced=manifest.forced is not None,
    )


def _hides_model(identity: object) -> bool:
    """Whether a CPU's name has no number: hypervisors print `Intel Xeon Processor`."""
    return isinstance(identity, CpuIdentity) and not re.search(r"\d", normalize_brand(identity.name))


def _sort_key(row: PublishedRun) -> tuple[object, ...]:
    """By part, dtype and method, the newest first; then without doubts, the furthest, the largest share."""
    table = (row.part, row.dtype is None, row.dtype or "", -row.method)
    furthest = -row.reached[-1].stage.position if row.reached else 1
    shares = tuple(-result.share.value for result in reversed(row.reached))
    return (*table, not row.believed, furthest, shares, row.folder)


def _find_best_products(read: Sequence[tuple[PublishedRun, Run]]) -> list[BestProduct]:
    """Return the best product of every part in every dtype in which a product was measured."""
    best: dict[tuple[str, str], BestProduct] = {}
    for row, run in read:
        for record in run.records:
            if record.status == "ok" and record.workload == "matmul" and record.tflops is not None:
                key = row.part, record.dtype
                leading = best.setdefault(key, BestProduct(*key))
                product = BestProduct(*key, row, record)
                # Of equals the first stays: they come in the order of the tables.
                if _may_lead(record, run) and _merit(product) > _merit(leading):
                    best[key] = product
    return [best[key] for key in sorted(best)]


def _may_lead(record: Record, run: Run) -> bool:
    nominal_given = record.dtype in run.manifest.options.nominal
    unfit = nominal_given or run.manifest.forced is not None
    return record.trusted and record.fill == REAL_FILL and record.phase != "burst" and not unfit


def _merit(product: BestProduct) -> tuple[float, ...]:
    """Return what ranks products: the method, the share of nominal, TFLOPS; nothing without a product."""
    if product.run is None or product.record is None:
        return ()
    return product.run.method, product.record.efficiency or 0.0, product.record.tflops or 0.0


def _quote(path: str) -> str:
    """Return a path as it stands in a link; its name may be bytes that are no text."""
    return quote(os.fsencode(path))


def part_name(part: str) -> str:
    """Return a part's name as the shipped registry or the CPU tables have it; its id where they don't."""
    if part in load_shipped().parts:
        return load_shipped().parts[part].name
    certain = find_certain_name(part)
    unknown = part if certain is None else certain.name
    return next((each.name for each in load_microarchitectures() if each.id == part), unknown)


def _read_text(path: Path) -> str:
    """Return the README with its own line ends; an empty text where there is none."""
    try:
        return read_text(path, _MOST_README_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(
            f"can't be read: {error.strerror}", where=str(path), expected="text in UTF-8"
        ) from error


def _replace_board(text: str, board: str, where: str) -> str:
    """Return `text` with `board` between its marks; a text without marks gets them at its end.

    Raises InputError unless each mark is there once, in order.
    """
    marked = f"{BEGIN}\n\n{board}\n\n{END}"
    counts = text.count(BEGIN), text.count(END)
    if counts == (0, 0):
        before = text or _NEW_README
        line_ends = len(before) - len(before.rstrip("\n"))
        gap = "\n" * max(0, 2 - line_ends)
        return f"{before}{gap}{marked}\n"
    before, _begin, rest = text.partition(BEGIN)
    _old, end, after = rest.partition(END)
    if counts != (1, 1) or not end:
        got = f"{counts[0]} of the first, {counts[1]} of the second"
        raise InputError(
            "the two marks aren't there once each, in order",
            where=where,
            got=got,
            expected=f"{BEGIN} … {END}",
        )
    return f"{before}{marked}{after}"


class _Markdown(str):
    """A cell that is Markdown already; all others are escaped."""

    __slots__ = ()


def _render(rows: Sequence[PublishedRun], best: Sequence[BestProduct]) -> str:
    blocks = ["## Leaderboard", _LEAD, "### Best products", _BEST_LEAD, _best_table(best)]
    for part, of_part in groupby(rows, key=lambda row: row.part):
        blocks += [f"### {_escape(part_name(part))}", f"Part `{part}`."]
        for (dtype, method), alike in groupby(of_part, key=lambda row: (row.dtype, row.method)):
            blocks += [
                f"#### {_escape(dtype or 'no rated product')}, method {method}",
                _run_table(list(alike)),
            ]
    return "\n\n".join(blocks)


def _best_table(best: Sequence[BestProduct]) -> str:
    any_published = any(each.published for each in best)
    any_datasheet = any_published or any(
        each.record.datasheet_tflops != each.record.nominal_tflops for each in best if each.record
    )
    fields = [
        Field[BestProduct]("part", lambda each: part_name(each.part)),
        Field[BestProduct]("dtype", lambda each: each.dtype),
        _record_field("of nominal", lambda record: percent_with_half_width(record.interval("efficiency"))),
        _record_field("TFLOPS", lambda record: with_half_width(record.interval("tflops"))),
    ]
    if any_datasheet:
        fields.append(_record_field("of datasheet", lambda record: percent(record.datasheet_efficiency)))
    if any_published:
        fields.append(Field[BestProduct]("best published, of datasheet", _published_text))
    fields += [
        _record_field("product", _product_text, is_number=False),
        Field[BestProduct]("run", lambda each: _link(each.run) if each.run else UNKNOWN),
        Field[BestProduct](
            "method", lambda each: str(each.run.method) if each.run else UNKNOWN, is_number=True
        ),
    ]
    return _table(fields, best)


def _record_field(name: str, text: Callable[[Record], str], *, is_number: bool = True) -> Field[BestProduct]:
    return Field(name, lambda each: text(each.record) if each.record else UNKNOWN, is_number=is_number)


def _product_text(record: Record) -> str:
    return " ".join(filter(None, (record.shape, record.phase)))


def _published_text(best: BestProduct) -> str:
    """Return the share, the device that reached it, and its source."""
    found = best.published
    return f"{percent(found.value)} ({found.device}, {found.source}, {found.date})" if found else UNKNOWN


def _run_table(rows: Sequence[PublishedRun]) -> str:
    """Return the table of comparable runs, without the stages that none of them reached."""
    reached = {result.stage for row in rows for result in row.reached}
    fields = [
        Field[PublishedRun]("run", _links),
        Field[PublishedRun]("begun", lambda row: row.begun[:10]),
        *(_stage_field(stage) for stage in Stage if stage in reached),
        Field[PublishedRun]("nominal, TFLOPS", _nominal_text, is_number=True),
        Field[PublishedRun]("verdict", lambda row: row.verdict or UNKNOWN),
        Field[PublishedRun]("torch", lambda row: row.torch or UNKNOWN),
        Field[PublishedRun]("worth knowing", lambda row: "; ".join(_remarks(row)) or UNKNOWN),
    ]
    return _table(fields, rows)


def _stage_field(stage: Stage) -> Field[PublishedRun]:
    def text(row: PublishedRun) -> str:
        result = next((each for each in row.reached if each.stage is stage), None)
        if result is None:
            return UNKNOWN
        share = percent_with_half_width(result.share)
        return share if result.believed else f"{share} ?"

    return Field(name_stage(stage), text, is_number=True)


def _nominal_text(row: PublishedRun) -> str:
    nominal, datasheet = row.nominal_tflops, row.datasheet_tflops
    same = datasheet in (nominal, None)
    return figure(nominal) if same else f"{figure(nominal)} (datasheet {figure(datasheet)})"


def _remarks(row: PublishedRun) -> Iterator[str]:
    if row.devices > 1 and row.reached:
        yield describe_slowest(row.reaching, row.devices)
    if row.hides_model:
        yield "hides its model"
    if row.nominal_given:
        yield "nominal given by hand"
    if row.forced:
        yield "published by force"


def _links(row: PublishedRun) -> str:
    report = "" if row.report is None else f" ([report]({_quote(row.report)}))"
    return _Markdown(f"{_link(row)}{report}")


def _link(row: PublishedRun) -> str:
    return _Markdown(f"[{_escape(row.run)}]({_quote(row.folder)}/)")


def _escape(text: str) -> str:
    return text if isinstance(text, _Markdown) else escape(plain(text))


def _table(fields: Sequence[Field[Item]], items: Sequence[Item]) -> str:
    names = [_escape(field.name) for field in fields]
    rows = [[_escape(field.text(item)) for field in fields] for item in items]
    return "\n".join(table_lines(names, [field.is_number for field in fields], rows))
