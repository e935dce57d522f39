"""The reports' languages: every message is translated, and Chinese reports hold no English prose."""

from __future__ import annotations

import ast
import io
import re
import sys
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from html.parser import HTMLParser
from itertools import chain
from pathlib import Path
from typing import get_args

import pytest
import torch
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from rich.cells import cell_len
from rich.console import Console

import nameplate
import nameplate_kernels
from nameplate import language
from nameplate.compare import compare
from nameplate.compare.comparison import compare_sides
from nameplate.compare.looks import Basis, Look, Side
from nameplate.compare.rows import WORDS, match
from nameplate.compare.runs import taken
from nameplate.compare.sides import read_side
from nameplate.compare.terms import Terms
from nameplate.derate.published import best_gemm
from nameplate.device.cpu import rate as rate_cpu
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.device.interface import Counters
from nameplate.engine.ceiling import _holder, _losses, _parts
from nameplate.engine.conditions import between
from nameplate.engine.gpu_warnings import gpu_warnings
from nameplate.errors import InputError
from nameplate.fleet.fleets import shipped
from nameplate.fleet.links import Provenance
from nameplate.fleet.measured import evidence
from nameplate.fleet.pricing import cost
from nameplate.language import _, in_a_row, retold, speaking
from nameplate.record import DTYPES, GRAVITY, Derate, Moment, Status
from nameplate.report import markdown, priced, terminal
from nameplate.report.compare import compare_view
from nameplate.report.priced import price
from nameplate.report.table import Table
from nameplate.report.view import View, view
from nameplate.report.write import report_views, write_report
from nameplate.run import _with_reasons, software
from nameplate.specs.parts import registry
from nameplate.specs.recognition import rating
from nameplate.store.folder import Run, read_run
from nameplate.store.manifest import DeviceEntry, Expected
from nameplate.telemetry.gpu import POLICIES, GpuProcess, GpuReading
from nameplate.together import Outcome
from nameplate_kernels.matmul import Matmul
from nameplate_kernels.memory import Memory
from nameplate_kernels.transformer_block import TransformerBlock

HARNESS = Path(nameplate.__file__).parent
KERNELS = Path(nameplate_kernels.__file__).parent
COMPARED = Path(__file__).parent / "data" / "compare"
PUBLISHED = Path(__file__).parents[1] / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"
PLACE = re.compile(r"\{(\w+)[^}]*\}")
A800 = "nvidia-a800-sxm4-80gb"

# ---- the catalogues ----


@cache
def catalogue(name):
    """The messages of a catalogue with their translations."""
    with (HARNESS / "locale" / "zh" / f"{name}.po").open("rb") as file:
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
        *(*get_args(Status), *get_args(Provenance), *get_args(Basis), *WORDS),
        *(fleet.name for fleet in shipped().fleet),
        *chain.from_iterable(read_side(side, COMPARED).facts() for side in sides),
        *software(),
    }


@pytest.mark.parametrize("name", ["messages", "recorded"])
def test_a_translation_has_the_places_of_its_message(name):
    for message, told in catalogue(name).items():
        assert told, message
        assert sorted(PLACE.findall(told)) == sorted(PLACE.findall(message)), message


def test_every_message_that_the_sources_mark_is_translated():
    assert len(extracted()) > 250
    assert extracted() - catalogue("messages").keys() == set()


def test_every_word_that_is_looked_up_by_its_value_is_translated():
    assert named() - catalogue("messages").keys() == set()


def test_no_message_is_stale(shown):
    assert catalogue("messages").keys() - extracted() - named() - shown.asked == set()


def test_punctuation_beside_chinese_is_chinese():
    han = "\u3400-\u9fff"
    wrong = re.compile(rf"[{han}] ?[,;:!?()]|[,;:!?()] ?[{han}]|[{han}] [{han}]|[，。；：、] ")
    told = chain(catalogue("messages").values(), catalogue("recorded").values())
    assert [each for each in told if wrong.search(each)] == []


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
        "loss": "power limit 9%",
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
        for verdict in ("unverified", "above_peak", "launch_bound", "contended", "throttled", "unknown"):
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
        reasons = {"skipped": "the budget of 30 s was spent before it", "failed": LOST}
        for n, (status, reason) in enumerate(reasons.items()):
            yield case(device, f"matmul/fp64/{n}x8x8/normal/warm/-/torch", status=status, reason=reason)

    def make(device="cuda:0", scale=1.0):
        parts = from_idle(device, scale), products(device, scale), doubted(device), others(device, scale)
        return list(chain.from_iterable(parts))

    return make


LOST = f"its process ended while it was measured: {Outcome(-11).words}"
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
    notes = rating(registry().parts[A800], "").notes
    identity = CudaIdentity(name="NVIDIA A800-SXM4-80GB", index=0)
    return DeviceEntry(name=name, part=A800, evidence="PCI 20f3", notes=notes, identity=identity)


@pytest.fixture
def make_runs(records_of, make_record, make_manifest):
    """A run of one GPU that prices fleets, one of two that doesn't, one of a CPU without a rating."""

    def run(records, devices, missing=(), problems=(), name="run-1"):
        cases = [Expected(case=each.case, device=each.device) for each in records]
        manifest = make_manifest([*cases, *missing], devices=devices, run=name)
        return Run(Path("runs") / name, manifest, tuple(records), tuple(problems), not missing)

    def make():
        first = records_of()
        first[1] = first[1].model_copy(update={"warnings": tuple(sentence for sentence, _told in PAIRS)})
        missing = [Expected(case="matmul/int8/8x8x8/normal/warm/-/torch", device="cuda:0")]
        both = [*records_of(), *records_of("cuda:1", 0.9)]
        doubt = {"verdict": "contended", "verdicts": ("contended",)}
        both = [each.model_copy(update=doubt) if each.status == "ok" else each for each in both]
        rated = rate_cpu(CPU)
        alone = make_record(part=None, **(UNRATED | {"nominal_source": rated.missing}))
        cpu = DeviceEntry(name="cpu", part=None, evidence=rated.evidence, notes=rated.notes, identity=CPU)
        return [
            run(first, (gpu(),), missing, ["records-x-0.jsonl: skipped a torn last line of 12 bytes"]),
            run(both, (gpu(), gpu("cuda:1")), name="run-2"),
            run([alone], (cpu,), name="run-3"),
        ]

    return make


@dataclass(frozen=True)
class Noting(language._Catalogue):
    """A catalogue that notes what it is asked for, and what of that it doesn't know."""

    asked: set = field(default_factory=set)
    missed: set = field(default_factory=set)

    def said(self, message):
        self.asked.add(message)
        if message not in self.messages:
            self.missed.add(message)
        return super().said(message)


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
def shown(make_runs, tmp_path, monkeypatch):
    """The report in Chinese of three runs, and comparisons; made once."""
    if not _SHOWN:
        known = language._catalogue("zh")
        noting = Noting(known.messages, known.recorded)
        monkeypatch.setattr(language, "_catalogue", lambda _language: noting)
        monkeypatch.setattr(priced, "cost", partial(cost, draws=1_000))
        _SHOWN.append(show(make_runs(), tmp_path, noting))
    return _SHOWN[0]


def show(runs, folder, noting):
    write_report(runs, folder / "report.html", "zh")
    with speaking("zh"):
        same = Side("run-1", (taken(runs[0]),))
        compared = [compare_sides(same, same, Terms(by="normalized")), *comparisons()]
        views = report_views(runs, [price(each) for each in runs]) + [compare_view(each) for each in compared]
        texts = "".join(map(markdown.render, views))
        terminals = {width: "".join(printed(each, width) for each in views) for width in (60, 80, 999)}
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


def test_what_is_shown_holds_no_english_prose(shown):
    """Beside commands and what is cited."""
    cited = [figure for part in (A800, "nvidia-h100-sxm-80gb") if (figure := best_gemm(part, "bf16"))]
    quoted = [*(each.scope for each in cited), *(each.source for each in cited), "RuntimeError: no memory"]
    words = re.compile(r"\b(a|an|the|of|is|are|was|were|its?|by|and|or|to|in|on|for|not|with|this|than|no)\b")
    left_out = re.compile("|".join([r"`[^`]*`", r"bench \w+ .*", "--by achieved", *map(re.escape, quoted)]))
    for text in (shown.page, shown.terminals[999]):
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
    table = Table("", ("case", "warning"), (("x" * 20, LONG),) if where == "cell" else (), frozenset())
    table = replace(table, lead=LONG if where == "lead" else "")
    more = {"advice": (LONG,), "problems": (LONG,), "facts": (("x" * 10, LONG),)}
    said = {name: value for name, value in more.items() if name == where}
    blank = {"title": "", "facts": (), "tables": (table,), "meaning": LONG if where == "meaning" else ""}
    text = printed(View(**({"advice": (), "problems": ()} | blank | said)), 72)
    lines = text[text.index("--budget") :].rstrip().splitlines()
    lines[0] = text[: text.index("--budget")].rpartition("\n")[2] + lines[0]
    assert len(lines) > 1
    assert all(cell_len(line.rstrip()) > 72 - 10 for line in lines[:-1])
    assert all(word in text for word in ("bench", "--budget"))


def test_a_narrow_column_breaks_no_short_word():
    row = ("x" * 20, "公开数据", "contended unstable", " ".join(["y" * 15] * 9))
    table = Table("", ("link", "how", "verdict", "from"), (row,), frozenset())
    with speaking("zh"):
        text = printed(View("", (), (table,), "", (), ()), 72)
    words = ("环节", "方式", "公开数据", "判定", "受干扰", "不稳定", "来源")
    assert [word for word in words if word not in text] == []


def test_a_short_word_that_does_not_fit_goes_before_a_long_one_breaks():
    row = ("x" * 40, "公开数据", "y" * 22)
    table = Table("", ("link", "how", "from"), (row,), frozenset(), (1,))
    text = printed(View("", (), (table,), "", (), ()), 72)
    assert "公" not in text
    assert row[2] in text


# ---- what files hold ----


def conditions(**after):
    """A GPU's window of 8 s at whose end its driver tells this; all quiet otherwise."""
    quiet = {f"{policy}_throttle_s": 100.0 for policy in POLICIES}
    quiet |= {"ecc_uncorrected": 0, "processes": (), "pids_match": True}
    first, second = (
        GpuReading(uuid="GPU-1", at_s=10.0, **quiet),
        GpuReading(uuid="GPU-1", at_s=18.0, **(quiet | after)),
    )
    return between(Counters(10.0, gpu=first), Counters(18.0, gpu=second), 1.0).gpu


def warned(**after):
    (warning,) = gpu_warnings(conditions(**after))
    return warning


def held(policy):
    return {f"{policy}_throttle_s": 104.0}


def lost_to(policy):
    return _losses({_holder(conditions(**(held(policy) if policy else {}))): 0.91})


CPU_ONLY = torch.device("cpu")
OF_A800 = (
    "nominal_tflops.fp16 与 nominal_tflops.bf16 = 320 需要 1447 MHz，高于该型号的 1410 MHz"
    "（只能达到 311.9）：予以保留，因为各集群按此计数；所查各登记表均未列出，出处未找到"
)
# What the engine says, by its own functions where that is cheap, and what is made of it.
PAIRS = [
    (LOST, "测量它时进程终止：信号 SIGSEGV"),
    (warned(**held("power")), "窗口中有 50% 的时间频率被压低（功耗）：该数值是功耗上限下的稳态值"),
    (warned(**held("thermal")), "窗口中有 50% 的时间频率被压低（温度）：请检查其风道以及相邻设备的散热"),
    (
        warned(**held("software_thermal")),
        "窗口中有 50% 的时间频率被压低（软件温控）：请检查其风道以及相邻设备的散热",
    ),
    (
        warned(**held("hardware_thermal")),
        "窗口中有 50% 的时间频率被压低（硬件温控）：请检查散热器：这是关机前的最后一道保护",
    ),
    (
        warned(**held("power_brake")),
        "窗口中有 50% 的时间频率被压低（供电制动）：请检查服务器的电源与功率上限",
    ),
    (
        warned(ecc_uncorrected=2),
        "窗口内出现 2 个不可纠正的显存错误：结果不可信；请查看 nvidia-smi -q -d ECC，并重置 GPU",
    ),
    (
        warned(processes=(GpuProcess(pid=1, used_bytes=0),)),
        "测量期间 GPU 上有 1 个其他进程：请结束它，或稍后再测",
    ),
    (
        warned(processes=tuple(GpuProcess(pid=pid, used_bytes=0) for pid in (1, 2))),
        "测量期间 GPU 上有 2 个其他进程：请结束它们，或稍后再测",
    ),
    (
        warned(pids_match=False, processes=(GpuProcess(pid=1, used_bytes=0),)),
        "无法得知 GPU 上是否有其他进程：此处的进程号与驱动所见不同；在容器中请共享主机的进程号（--pid=host）",
    ),
    (
        warned(power_throttle_s=None, absent={"power_throttle_s": "counted since driver 575: this is 535.1"}),
        "未能统计降频（功耗）：自驱动 575 起才有统计：当前为 535.1",
    ),
    (_losses(_parts(40.0, 50.0, 60.0, quiet=True)), "计算库 17%、干扰 20%"),
    (_losses(_parts(40.0, 40.0, 50.0, quiet=True)), "计算库 20%"),
    (_losses(_parts(40.0, 50.0, 50.0, quiet=True)), "干扰 20%"),
    (_losses(_parts(40.0, 50.0, 80.0, quiet=False)), "计算库或干扰 50%"),
    (lost_to("power"), "功耗上限 9%"),
    (lost_to("thermal"), "温度 9%"),
    (lost_to(None), "频率 9%"),
    (
        Matmul(8, 8, 8, "tf32").unsupported(CPU_ONLY),
        "tf32 是 NVIDIA 张量核心的一种模式，Ampere 及以后才有；此处是 cpu 设备",
    ),
    (Memory("copy", "tf32", 1).unsupported(CPU_ONLY), "tf32 是矩阵乘的一种模式；在显存/内存中按 fp32 存放"),
    (
        TransformerBlock.llama3_8b(8, "fp64", "forward").unsupported(CPU_ONLY),
        "fp64 的 Transformer 块没有更高精度可供校验",
    ),
    (
        "16 batches, fewer than 20: the interval is Student's; the interval is ±6.0% of the figure",
        "仅 16 个批次，少于 20 个：置信区间按学生 t 分布计算；置信区间为数值的 ±6.0%",
    ),
    (
        "needs about 5.1 s (0.02 s a launch); 0.3 s of the budget are left; try a larger --budget",
        "约需 5.1 s（每次启动 0.02 s）；时间预算只剩 0.3 s；请增大 --budget",
    ),
    ("needs about 91.0 GB; this device has 85.0 GB", "约需 91.0 GB；本设备只有 85.0 GB"),
    (
        "its 64 MiB may stay in a last-level cache of 96 MiB: not the memory's bandwidth alone",
        "其 64 MiB 数据可能留在 96 MiB 的末级缓存中：测得的不只是内存带宽",
    ),
    (rating(registry().parts[A800], "").notes[0], OF_A800),
]


@pytest.mark.parametrize(("sentence", "told"), PAIRS)
def test_what_the_engine_says_is_told_in_chinese(sentence, told):
    assert retold(sentence) == sentence
    with speaking("zh"):
        assert retold(sentence) == told


@pytest.mark.parametrize(
    "sentence",
    [
        "RuntimeError: mat1 and mat2 shapes cannot be multiplied; a, b",
        "power and heat 9%",
        "try a larger --budget, please",
        "no such thing here",
        "",
    ],
)
def test_what_fits_no_message_stays_english(sentence):
    with speaking("zh"):
        assert retold(sentence) == sentence


def test_of_several_messages_that_fit_the_one_with_most_text_of_its_own_tells():
    catalogue = language._catalogue("zh")
    fitting = [
        pattern for pattern, _told in catalogue.recorded if pattern.fullmatch("library or contention 9%")
    ]
    assert len(fitting) == 2
    with speaking("zh"):
        assert retold("library or contention 9%") == "计算库或干扰 9%"


class Noted:
    """A pattern that notes when it fits."""

    def __init__(self, pattern):
        self.pattern, self.fits = pattern, False

    def fullmatch(self, text):
        found = self.pattern.fullmatch(text)
        self.fits |= found is not None
        return found


@pytest.fixture
def fitting(monkeypatch):
    """Ask by which messages of recorded.po sentences are told."""
    recorded = tuple((Noted(pattern), told) for pattern, told in language._catalogue("zh").recorded)
    monkeypatch.setattr(language, "_catalogue", lambda _language: language._Catalogue({}, recorded))

    def ask(sentences):
        for sentence in sentences:
            retold(sentence)
        patterns = {noted.pattern.pattern for noted, _told in recorded if noted.fits}
        return {
            message for message in catalogue("recorded") if language._pattern(message).pattern in patterns
        }

    return ask


PACKAGES = ("engine", "device", "specs", "telemetry", "store", "compare", "fleet")


def sources():
    yield from (path for package in PACKAGES for path in (HARNESS / package).rglob("*.py"))
    yield from (HARNESS / "run.py", HARNESS / "together.py", *KERNELS.glob("*.py"))


def templates():
    """Every clause that a string of the code makes, as a pattern of the messages that can be of it."""
    for path in sources():
        tree = ast.parse(path.read_text())
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) not in docstrings and isinstance(node, ast.Constant | ast.JoinedStr):
                yield from template(node).split("; ")
    for path in HARNESS.rglob("*.toml"):
        yield from chain.from_iterable(
            text.split("; ") for text in re.findall(r'"([^"\n]*)"', path.read_text())
        )


def template(node):
    values = node.values if isinstance(node, ast.JoinedStr) else [node]
    known = (str(each.value) if isinstance(each, ast.Constant) else "\0" for each in values)
    return "".join(known)


def patterns():
    for text in set(templates()):
        if len(re.sub(r"[^a-z]", "", text)) >= 3:
            yield re.compile(".*".join(map(re.escape, text.split("\0"))))


def made(folder, records_of, make_manifest):
    """Sentences that are put together of several strings, by the code that does it."""
    yield from (sentence for sentence, _told in PAIRS)
    yield from (warning for record in read_run(PUBLISHED).records for warning in record.warnings)
    for each in comparisons():
        yield from (row.reason or "" for row in each.rows)
        yield from (spread.source for spread in each.spreads)
    for state in ("missing", "failed", "skipped"):
        looks = [{(0, "cpu"): Look("x", "cpu", "cpu", "p", each, "y", figures={})} for each in ("ok", state)]
        yield match("x", "cpu", *looks, Terms(), in_pairs=False).reason
    records = records_of()
    entry = gpu().model_copy(update={"part": None})
    cases = [*(each.case for each in records), "matmul/int8/8x8x8/normal/warm/-/torch"]
    part = registry().parts[A800]
    for changes in ({"verdict": "unstable", "verdicts": ("unstable",)}, {"datasheet_tflops": 1.0}):
        changed = [each.model_copy(update=changes) for each in records if each.status == "ok"]
        run = Run(folder, make_manifest(cases, devices=(gpu(),)), tuple(changed), (), True)
        with pytest.raises(InputError) as refusal:
            evidence(run, part)
        yield refusal.value.what
    unknown = Run(folder, make_manifest(cases, devices=(entry,)), tuple(records), (), True)
    yield price(unknown).why
    died = _with_reasons(unknown, {"cuda:0": Outcome(-11)}, got_further=True)
    yield from died.problems


def test_each_recorded_message_is_of_a_sentence_that_the_code_makes(
    fitting, tmp_path, records_of, make_manifest
):
    known = list(patterns())
    told = fitting(list(made(tmp_path, records_of, make_manifest)))
    untold = catalogue("recorded").keys() - told
    stale = [message for message in untold if not any(each.fullmatch(message) for each in known)]
    assert stale == []


# ---- the language that is spoken ----


def test_sentences_stand_in_a_row_as_the_language_sets_them():
    assert in_a_row(["One.", "Two.", "Three."]) == "One. Two. Three."
    with speaking("zh"):
        assert in_a_row(["一。", "二。", "三。"]) == "一。二。三。"


def test_the_language_is_what_it_was_after_an_error():
    with suppress(ZeroDivisionError), speaking("zh"):
        assert _("clean") == "可信"
        raise ZeroDivisionError
    assert _("clean") == "clean"
    assert language.current() == "en"


def test_languages_nest():
    with speaking("zh"):
        with speaking("en"):
            assert _("clean") == "clean"
        assert _("clean") == "可信"


def test_english_is_the_same_after_chinese(make_runs):
    def said():
        whole = view(run, whole=True)
        return printed(whole, 120), markdown.render(whole)

    run = make_runs()[0]
    before = said()
    with speaking("zh"):
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


def test_without_babel_another_language_is_refused_in_one_sentence(bench, monkeypatch):
    language._catalogue.cache_clear()
    monkeypatch.setitem(sys.modules, "babel.messages.pofile", None)
    status, _, said = bench("show", PUBLISHED, "--lang", "zh")
    expected = "bench: --lang: another language needs babel; expected pip install 'nameplate[report]'\n"
    assert (status, said) == (2, expected)
