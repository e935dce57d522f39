"""The reports' languages: every message is translated, and Chinese reports hold no English prose."""

from __future__ import annotations

import gettext
import io
import re
import sys
import tomllib
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from html.parser import HTMLParser
from itertools import chain, product
from pathlib import Path
from typing import get_args

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from rich.cells import cell_len
from rich.console import Console

import nameplate
from nameplate.base import language
from nameplate.base.language import _, join_sentences, use_language
from nameplate.base.messages import message
from nameplate.chain.link import Provenance
from nameplate.chain.published import find_best_gemm
from nameplate.compare import compare
from nameplate.compare.comparison import compare_sides
from nameplate.compare.estimate import find_restart_spread
from nameplate.compare.read import read_side
from nameplate.compare.results import PYTEST_BENCHMARK, Metric, Side, results_of_run
from nameplate.compare.rows import OUTCOMES
from nameplate.compare.validate import CompareOptions
from nameplate.device.cpu import rate as rate_cpu
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.fleet.catalogues import load_shipped
from nameplate.fleet.mfu_runs import Stack
from nameplate.fleet.price import cost
from nameplate.health.verdict import VERDICTS
from nameplate.record import DTYPES, GRAVITY, Derate, Moment, Status
from nameplate.report.compare import compare_view
from nameplate.report.devices import _FACTS
from nameplate.report.fleet import priced
from nameplate.report.media import markdown, terminal
from nameplate.report.media.write import write_report
from nameplate.report.run import make_report, run_view
from nameplate.report.view import Column, Table, View, text_table
from nameplate.run.job import read_software_versions
from nameplate.run.pool import WorkerResult
from nameplate.specs.physics import describe_flags
from nameplate.specs.rating import rate_part
from nameplate.specs.registry import load_registry
from nameplate.specs.registry import load_shipped as shipped_parts
from nameplate.store.folder import Run
from nameplate.store.manifest import DeviceEntry, Expected
from nameplate.suite import find_suite

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from compile_locale import compile_catalogue

HARNESS = Path(nameplate.__file__).parent
COMPARED = Path(__file__).parents[1] / "data" / "compare"
PUBLISHED = Path(__file__).parents[2] / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"
PLACE = re.compile(r"\{(\w+)[^}]*\}")
A800 = "nvidia-a800-sxm4-80gb"
FACTS = {name for names in _FACTS.values() for name in names}

# ---- the catalogues ----


@cache
def catalogue():
    """The messages of the catalogue with their translations."""
    with (HARNESS / "locale" / "zh" / "LC_MESSAGES" / "nameplate.po").open("rb") as file:
        return {each.id: each.string for each in read_po(file) if each.id}


@cache
def extracted():
    """Every message that the sources mark."""
    methods = [("**.py", "python"), ("**.j2", "jinja2.ext:babel_extract")]
    keywords = {"_": None, "N_": None, "say": None}
    with redirect_stderr(io.StringIO()):  # babel tells of each f-string that is a value beside a message
        return {message for _f, _l, message, *_r in extract_from_dir(HARNESS, methods, keywords=keywords)}


@cache
def named():
    """Words that are looked up by their value, whatever a run happens to show of them."""
    sides = [COMPARED / name for name in ("base", "other-kind", "pytest-benchmark/base.json")]
    return {
        *GRAVITY,
        *VERDICTS,
        *(*get_args(Status), *get_args(Provenance), *get_args(Metric), *get_args(Stack), *OUTCOMES),
        *(fleet.name for fleet in load_shipped().fleet),
        *chain.from_iterable(read_side(side, COMPARED).facts() for side in sides),
        *read_software_versions(),
        *of_data_files(),
        *(find_suite(name).description for name in ("smoke", "quick", "standard", "soak", "sensitivity")),
        *(fact.removesuffix("_w").removesuffix("_mhz").replace("_", " ") for fact in FACTS),
        *("power", "thermal"),  # of throttling
    }


def of_data_files():
    """Sentences of our own data files, which are looked up as they stand."""
    for part in shipped_parts().parts.values():
        yield from (flag.values["why"].values["text"] for flag in describe_flags(part))
        if part.confidence and part.confidence.startswith("low"):
            yield part.confidence
    for kind, basis in product(("cpu", "cuda", PYTEST_BENCHMARK), ("achieved", "normalized")):
        yield find_restart_spread(kind, basis).source


def test_a_translation_has_the_places_of_its_message():
    for english, told in catalogue().items():
        assert told, english
        assert sorted(PLACE.findall(told)) == sorted(PLACE.findall(english)), english


def test_every_message_that_the_sources_mark_is_translated():
    assert len(extracted()) > 250
    assert extracted() - catalogue().keys() == set()


def test_every_word_that_is_looked_up_by_its_value_is_translated():
    assert named() - catalogue().keys() == set()


def test_no_message_is_stale(shown):
    assert catalogue().keys() - extracted() - named() - shown.asked == set()


def test_punctuation_beside_chinese_is_chinese():
    han = "\u3400-\u9fff"
    wrong = re.compile(rf"[{han}] ?[,;:!?()]|[,;:!?()] ?[{han}]|[{han}] [{han}]|[，。；：、] ")
    told = (PLACE.sub("{}", each) for each in catalogue().values())  # what is in a place is its form
    assert [each for each in told if wrong.search(each)] == []


def test_a_word_has_one_name_in_chinese():
    """As the head of the catalogue has it: a token, a part and a fleet have no second name."""
    assert [each for each in catalogue().values() if re.search("词元|部件|机群", each)] == []


# ---- what is shown ----


def figures(tflops, nominal=320.0, datasheet=312.0):
    """The columns of a product's throughput and what follows from it."""
    share = tflops / nominal
    return {
        "tflops": tflops,
        "tflops_low": 0.99 * tflops,
        "tflops_high": 1.01 * tflops,
        "nominal_tflops": nominal,
        "nominal_source": "320",
        "efficiency": share,
        "efficiency_low": 0.99 * share,
        "efficiency_high": 1.01 * share,
        "datasheet_tflops": datasheet,
        "datasheet_source": "312",
        "datasheet_efficiency": tflops / datasheet,
        "ceiling_tflops": 1.1 * tflops,
        "normalized_efficiency": 1 / 1.1,
        "normalized_efficiency_low": 0.9,
        "normalized_efficiency_high": 0.92,
        "loss": message("losses", each=[message("lost_to_power_limit", share=0.09)]),
    }


RATINGS = [name for name in figures(1.0) if not name.startswith("tflops")]
UNRATED = dict.fromkeys(RATINGS)
NO_PRODUCT = UNRATED | dict.fromkeys(("tflops", "tflops_low", "tflops_high", "tflops_median", "flops"))
SUSTAINED = "normal/warm/sustained/torch"


@pytest.fixture
def records_of(make_record):
    """Records of a GPU with something for every section of a report."""

    def case(device, name, **changes):
        columns = ("workload", "dtype", "shape", "fill", "cache", "phase", "backend")
        fields = dict(zip(columns, name.replace("/-/", "//").split("/"), strict=True))
        fields |= {"case": name, "phase": fields["phase"] or None, "device": device, "part": A800}
        return make_record(**(fields | changes))

    def products(device, scale):
        held = {"conditions": {"gpu_sm_clock_mhz": 1400.0}, "group": "g"}
        for dtype in ("bf16", "fp16"):
            for n, shape in enumerate(("1024x1024x1024", "2048x2048x2048")):
                yield case(device, f"matmul/{dtype}/{shape}/{SUSTAINED}", **held, **figures(240 * scale + n))
        yield case(device, "matmul/bf16/1024x1024x1024/zeros/warm/sustained/torch", **held, **figures(300.0))
        model = {"dimensions": {"m": 4096, "n": 4096, "k": 4096, "times": 1}, "represents": "Llama-3-8B"}
        yield case(device, f"matmul/bf16/4096x4096x4096-nt/{SUSTAINED}", **model, **figures(220 * scale))

    def doubted(device):
        loaded = {"conditions": {"foreign_cpu_share": 0.2, "steal_share": 0.1}, "cpu_time_tflops": 99.0}
        for verdict in ("unverified", "above_peak", "launch_bound", "contended", "throttled", "power_capped"):
            name = f"matmul/tf32/{len(verdict)}x8x8/{SUSTAINED}"
            told = {"verdict": verdict, "verdicts": (verdict,), "graph_tflops": 120.0}
            yield case(device, name, **figures(100.0, 160.0, 156.0), **told, **loaded)

    def from_idle(device, scale):
        told = {"sm_clock_mhz": 1400, "power_w": 390, "temperature_c": 60}
        course = [Moment(at_s=at_s, tflops=290 - at_s, **told) for at_s in (0.1, 1, 5, 20)]
        left = Derate(at_s=1.0, tflops=270.0, efficiency=0.84, of_burst=0.96)
        begun = {"course": course, "derates": (left,), "settled_s": 12.0, "group": "g"}
        name = "matmul/bf16/1024x1024x1024/normal/warm/burst/torch"
        yield case(device, name, **begun, **figures(280 * scale))

    def others(device, scale):
        block = {"dimensions": {"batch": 1, "tokens": 4096, "heads": 32, "head_dim": 128, "pass": "forward"}}
        name = f"transformer_block/bf16/1x4096x4096-forward/{SUSTAINED}"
        yield case(device, name, **(block | {"convention": "Megatron"} | figures(200 * scale)))
        moved = {"bandwidth_gb_s": 1650.0, "bandwidth_low_gb_s": 1640.0, "bandwidth_high_gb_s": 1660.0}
        yield case(device, f"memory/fp32/copy-4096MiB/{SUSTAINED}", **(NO_PRODUCT | moved))
        reasons = {"skipped": message("budget_spent", budget_s=30.0), "failed": LOST}
        for n, (status, reason) in enumerate(reasons.items()):
            yield case(device, f"matmul/fp64/{n}x8x8/normal/warm/-/torch", status=status, reason=reason)

    def make(device="cuda:0", scale=1.0):
        parts = from_idle(device, scale), products(device, scale), doubted(device), others(device, scale)
        return list(chain.from_iterable(parts))

    return make


LOST = message("process_died", how=WorkerResult(-11).how)
CPU = CpuIdentity(
    name="Xeon",
    architecture="x86_64",
    logical_cpus=4,
    usable_cores=2.0,
    parallel_speed=0.6,
    threads=4,
    quota_cpus=1.0,
    affinity_cpus=(0, 1, 2, 3),
    reported_mhz=2300.0,
    measured_mhz=2900.0,
    memory_bytes=1 << 30,
    blas="MKL",
    onednn="oneDNN",
    instruction_set="AVX2",
    thread_settings={"OMP_NUM_THREADS": "4"},
)


def gpu(name="cuda:0"):
    notes = rate_part(load_registry().parts[A800], "").notes
    identity = CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=0)
    return DeviceEntry(name=name, part=A800, evidence="PCI 20f3", notes=notes, identity=identity)


@pytest.fixture
def make_runs(records_of, make_record, make_manifest, every_message):
    """A run of one GPU that prices fleets, one of two that doesn't, one of a CPU without a rating."""

    def run(records, devices, missing=(), problems=(), name="run-1"):
        cases = [Expected(case=each.case, device=each.device) for each in records]
        manifest = make_manifest([*cases, *missing], devices=devices, run=name)
        return Run(Path("runs") / name, manifest, tuple(records), tuple(problems), not missing)

    def make():
        first = records_of()
        first[1] = first[1].model_copy(update={"warnings": tuple(every_message.values())})
        missing = [Expected(case="matmul/int8/8x8x8/normal/warm/-/torch", device="cuda:0")]
        both = [*records_of(), *records_of("cuda:1", 0.9)]
        doubt = {"verdict": "contended", "verdicts": ("contended",)}
        both = [each.model_copy(update=doubt) if each.status == "ok" else each for each in both]
        rated = rate_cpu(CPU)
        alone = make_record(part=None, **(UNRATED | {"nominal_source": rated.missing}))
        cpu = DeviceEntry(name="cpu", part=None, evidence=rated.evidence, notes=rated.notes, identity=CPU)
        return [
            run(first, (gpu(),), missing, [message("torn_line", file="records-x-0.jsonl", count=12)]),
            run(both, (gpu(), gpu("cuda:1")), name="run-2"),
            run([alone], (cpu,), name="run-3"),
        ]

    return make


@dataclass(frozen=True)
class Noting:
    """A catalogue that notes what it is asked for, and what of that it doesn't know."""

    known: gettext.GNUTranslations
    asked: set = field(default_factory=set)
    missed: set = field(default_factory=set)

    def gettext(self, message):
        self.asked.add(message)
        if message not in catalogue():
            self.missed.add(message)
        return self.known.gettext(message)


@dataclass(frozen=True)
class Shown:
    """What reports say: a page as a reader sees it, Markdown, terminals by width; and what was asked for."""

    page: str
    markdown: str
    terminals: dict
    asked: set
    missed: set


_SHOWN = []


@pytest.fixture
def shown(make_runs, screens, tmp_path, monkeypatch):
    """The report in Chinese of three runs, comparisons, and every other screen; made once."""
    if not _SHOWN:
        noting = Noting(language._catalogue("zh"))
        monkeypatch.setattr(language, "_catalogue", lambda _language: noting)
        monkeypatch.setattr(priced, "cost", partial(cost, draws=1_000))
        _SHOWN.append(show(make_runs(), screens, tmp_path, noting))
    return _SHOWN[0]


def show(runs, screens, folder, noting):
    write_report(runs, folder / "report.html", "zh")
    with use_language("zh"):
        same = Side("run-1", (results_of_run(runs[0]),))
        compared = [compare_sides(same, same, CompareOptions(by="normalized")), *comparisons()]
        views = [*make_report(runs).views, *(compare_view(each) for each in compared)]
        texts = "".join(map(markdown.render, views))
        terminals = {width: "".join(printed(each, width) for each in views) for width in (60, 80)}
        # tests/report/test_screens.py has the others at each width.
        views += [view for _name, view in (*screens.fleet_views(), *screens.other_views())]
        terminals[9_999] = "".join(printed(each, 9_999) for each in views)
    page = visible((folder / "report.html").read_text())
    return Shown(page, texts, terminals, noting.asked, noting.missed)


def comparisons():
    pairs = [("base", "slower"), ("base", "faster"), ("base", "broken"), ("base", "wrong")]
    pairs += [
        ("wrong", "base"),
        ("noisy-base", "noisy-new"),
        ("quiet-base", "quiet-new"),
        ("quiet-base", "other-torch"),
    ]
    pairs += [("pytest-benchmark/base.json", "pytest-benchmark/slower.json")]
    normalized = compare(COMPARED / "base", COMPARED / "slower", by="normalized")
    return [normalized, *(compare(COMPARED / base, COMPARED / new) for base, new in pairs)]


def printed(of, width):
    out = io.StringIO()
    terminal.show(of, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


class Text(HTMLParser):
    """What a reader sees of a page, and hears of its pictures."""

    def __init__(self):
        super().__init__()
        self.said, self.inside = [], []

    def handle_starttag(self, tag, attributes):
        if not self.inside:  # what stands in a picture that has a label is hidden from who hears it
            self.said += [value for name, value in attributes if name == "aria-label"]
        if tag in ("script", "style", "svg"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not {"script", "style"} & {*self.inside}:
            self.said.append(data)


def visible(html):
    reader = Text()
    reader.feed(html)
    return "\n".join(reader.said)


def test_what_finds_no_translation_is_an_identifier(shown):
    """One word with a digit, a hyphen or an underscore in it (a dtype, a run, a part), or told already."""
    identifier = re.compile(r"[\w.-]*[\d_-][\w.-]*|.*全按.*计")
    assert len(shown.asked) > 300
    assert [each for each in shown.missed if not identifier.fullmatch(each)] == []
    assert shown.missed & DTYPES


def test_no_place_is_left_unfilled(shown):
    for text in (shown.page, shown.markdown, *shown.terminals.values()):
        assert not re.search(r"[{}]", text)


@cache
def quotations():
    """What data files say of their figures: sources, notes and reasons are quoted as they stand."""
    texts = set()
    for path in HARNESS.rglob("*.toml"):
        texts |= {*strings(tomllib.loads(path.read_text(encoding="utf-8")))}
    # A longer text first, for a shorter one may be a part of it.
    return sorted(filter(str.strip, texts), key=len, reverse=True)


def strings(data):
    """Every string of a document, in lines of their own as a screen has them."""
    if isinstance(data, str):
        yield " ".join(data.split())
    elif isinstance(data, dict | list):
        for each in data.values() if isinstance(data, dict) else data:
            yield from strings(each)


def test_what_is_shown_holds_no_english_prose(shown):
    """Beside commands and what is cited."""
    cited = [figure for part in (A800, "nvidia-h100-sxm-80gb") if (figure := find_best_gemm(part, "bf16"))]
    quoted = [*(each.scope for each in cited), *(each.source for each in cited), "RuntimeError: no memory"]
    quoted += [text for text in quotations() if " " in text]
    words = re.compile(r"\b(a|an|the|of|is|are|was|were|its?|by|and|or|to|in|on|for|not|with|this|than|no)\b")
    inputs = r"FLOPs counted by nanoGPT \(6N \+ 12LdT, N with embeddings\)"  # an input's name
    parts = [r"`[^`]*`", r"bench \w+ .*", "--by achieved", inputs, *map(re.escape, quoted), r"\w+(?:-\w+)+"]
    left_out = re.compile("|".join(parts))
    for text in (shown.page, shown.terminals[9_999]):
        lines = left_out.sub("", text).splitlines()
        assert [line for line in lines if words.search(line)] == []


def test_a_terminal_keeps_to_its_width(shown):
    for width, text in shown.terminals.items():
        too_long = [line for line in text.splitlines() if cell_len(line) > width]
        assert [line for line in too_long if len(line.split()) > 1] == []  # a path overflows whole
        assert not re.search(r"(?m)^ *[，。；：、）”]", text)
        assert not re.search(r"(?m)[（“]$", text)


LONG = f"--budget {'没有空格的中文也要写满每一行' * 3}，bench 这样的词不拆开：它要能复制，而标点不在行首。"


@pytest.mark.parametrize("where", ["lead", "meaning", "advice", "problems", "facts", "cell"])
def test_chinese_fills_its_lines_and_leaves_words_whole(where):
    table = text_table("", ("case", "warning"), (("x" * 20, LONG),) if where == "cell" else ())
    table = replace(table, lead=LONG if where == "lead" else "")
    more = {"advice": (LONG,), "problems": (LONG,), "facts": (("x" * 10, LONG),)}
    said = {name: value for name, value in more.items() if name == where}
    view = View(title="", tables=(table,), meaning=LONG if where == "meaning" else "", **said)
    text = printed(view, 72)
    lines = text[text.index("--budget") :].rstrip().splitlines()
    lines[0] = text[: text.index("--budget")].rpartition("\n")[2] + lines[0]
    assert len(lines) > 1
    assert all(cell_len(line.rstrip()) > 72 - 10 for line in lines[:-1])
    assert all(word in text for word in ("bench", "--budget"))


def test_a_narrow_column_breaks_no_short_word():
    row = ("x" * 20, "公开数据", "contended unstable", " ".join(["y" * 15] * 9))
    table = text_table("", ("link", "how", "verdict", "from"), (row,))
    with use_language("zh"):
        text = printed(View(title="", tables=(table,)), 72)
    words = ("环节", "方式", "公开数据", "判定", "受干扰", "不稳定", "来源")
    assert [word for word in words if word not in text] == []


def test_a_short_word_that_does_not_fit_goes_before_a_long_one_breaks():
    row = ("x" * 40, "公开数据", "y" * 22)
    columns = Column("link"), Column("how", drop_priority=0), Column("from")
    table = Table("", columns, (row,))
    text = printed(View(title="", tables=(table,)), 72)
    assert "公" not in text
    assert row[2] in text


# ---- the language that is spoken ----


def test_sentences_stand_in_a_row_as_the_language_sets_them():
    assert join_sentences(["One.", "Two.", "Three."]) == "One. Two. Three."
    with use_language("zh"):
        assert join_sentences(["一。", "二。", "三。"]) == "一。二。三。"


def test_the_language_is_what_it_was_after_an_error():
    with suppress(ZeroDivisionError), use_language("zh"):
        assert _("clean") == "可信"
        raise ZeroDivisionError
    assert _("clean") == "clean"
    assert language.current_language() == "en"


def test_languages_nest():
    with use_language("zh"):
        with use_language("en"):
            assert _("clean") == "clean"
        assert _("clean") == "可信"


def test_english_is_the_same_after_chinese(make_runs):
    def said():
        whole = run_view(run)
        return printed(whole, 120), markdown.render(whole)

    run = make_runs()[0]
    before = said()
    with use_language("zh"):
        chinese = said()
    assert said() == before
    assert "matrix product" in before[0]
    assert "matrix product" not in chinese[0]


@pytest.mark.parametrize("command", [("show",), ("report", "-o", "x.html")])
def test_an_unknown_language_is_refused_in_one_sentence(bench, monkeypatch, tmp_path, command):
    monkeypatch.chdir(tmp_path)
    status, _, said = bench(*command, PUBLISHED, "--lang", "tlh")
    assert (status, said) == (2, "bench: --lang: no such language; got 'tlh'; expected en or zh\n")
    assert list(tmp_path.iterdir()) == []


def test_the_compiled_catalogue_is_that_of_the_source():
    source = HARNESS / "locale" / "zh" / "LC_MESSAGES" / "nameplate.po"
    assert source.with_suffix(".mo").read_bytes() == compile_catalogue(source), "run `make locale`, commit it"


def test_another_language_needs_nothing_that_is_optional(bench, monkeypatch):
    language._catalogue.cache_clear()
    monkeypatch.setitem(sys.modules, "babel", None)
    status, out, _ = bench("show", PUBLISHED, "--lang", "zh")
    assert status == 0
    assert "标称" in out
