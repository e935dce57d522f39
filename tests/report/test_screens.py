"""Every screen at every width: no id, path or command that can be pasted is broken, cropped or added to."""

import io
import re
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from nameplate.compare import compare
from nameplate.derate.published import published
from nameplate.device.identity import CudaIdentity
from nameplate.device.survey import Seen, Survey
from nameplate.fleet import auditing, fleets, goodput, validation
from nameplate.fleet.budget import afford
from nameplate.fleet.entries import INPUTS
from nameplate.fleet.needs import meet
from nameplate.fleet.plan import assumptions, train
from nameplate.fleet.pricing import cost
from nameplate.language import speaking
from nameplate.record import DTYPES
from nameplate.report import terminal
from nameplate.report.audit import audit_view
from nameplate.report.compare import compare_view
from nameplate.report.devices import devices_view
from nameplate.report.devices import document as devices_document
from nameplate.report.fleet import cost_view, list_rows, list_view, validation_view
from nameplate.report.goodput import goodput_view
from nameplate.report.goodput import validation_view as goodput_validation_view
from nameplate.report.plan import needs_view, purchases_view, training_view
from nameplate.report.priced import price
from nameplate.report.selftest import readings_table, simulated_table
from nameplate.report.specs import document, part_view, parts_view
from nameplate.report.suites import suites_view
from nameplate.report.table import Table
from nameplate.report.view import View
from nameplate.report.write import report_views
from nameplate.selftest.simulate import simulate
from nameplate.specs.parts import registry
from nameplate.specs.recognition import rating
from nameplate.store.folder import read_run
from nameplate.store.manifest import Expected
from nameplate.suite import PHASES

ROOT = Path(__file__).parents[2]
COMPARED = ROOT / "tests" / "data" / "compare"
PUBLISHED = ROOT / "results" / "intel-emerald-rapids" / "20261122T165536-standard-1901"
WIDTHS = (20, 40, 60, 80, 100, 160, 300)
UNBOUNDED = 10_000
A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"
FEW = {"draws": 1_000}
# What a screen adds to the words of a view: the name before a value, bullets, bars, sparklines, blanks.
ADDED = re.compile(r"[█▏▎▍▌▋▊▉▁▂▃▄▅▆▇·]+|[•!]")


# ---- the screens ----


def runs_of(a800_run):
    """A run of one A800, an unfinished one of two with warnings that name things, and a published one."""
    text = " see `bench run --resume 'my runs/20261122T120000-x'`, /data/node-17/trace.json, cuda:1"
    missing = Expected(case="matmul/int8/128x14336x4096-nt/normal/rotating/sustained/torch", device="cuda:1")
    run = a800_run(1.0, 0.9, text=text, run="20261122T120000-standard-b800")
    manifest = run.manifest.model_copy(update={"cases": (*run.manifest.cases, missing)})
    unfinished = replace(run, folder=Path("my runs") / run.id, manifest=manifest, finished=False)
    return [a800_run(), unfinished, read_run(PUBLISHED)]


def shows(a800_run):
    runs = runs_of(a800_run)
    for number, view in enumerate(report_views(runs, [price(each) for each in runs])):
        yield f"show {number}", view


def fleet_views():
    yield "fleet list", list_view(list_rows(fleets.shipped()))
    yield "fleet cost", cost_view(cost(**FEW))
    yield "fleet cost, goodput", cost_view(cost(["nio-2024-10"], goodput=True, **FEW))
    yield "fleet plan --eflops", needs_view(meet(10, (A800, H100), **FEW))
    yield "fleet plan --budget-rmb", purchases_view(afford(1e9, (A800, H100), **FEW))
    asked = {"parameters": "7e9", "hours": "10000", "every_days": 7}
    yield "fleet plan --fleet", training_view(train(fleet=["nio-2024-10", "huawei-2024-10"], **asked, **FEW))
    yield "fleet plan --part", training_view(train(part=[A800], **asked, **FEW))
    yield "fleet goodput", goodput_view([goodput.goodput(size) for size in goodput.facts().sizes])
    yield "fleet goodput --validate", goodput_validation_view(goodput.validate())
    yield "fleet validate", validation_view(validation.validate())
    yield "fleet audit", audit_view(auditing.audit())


def seen(index, **more):
    identity = CudaIdentity(
        name="NVIDIA A800-SXM4-80GB", index=index, uuid=f"GPU-a8000000-0000-4000-{index:04}"
    )
    rated = rating(registry().parts[A800], "PCI id 10de:20f3, 108 SMs, 80.0 GiB of memory")
    return Seen(f"cuda:{index}", identity, rated, **more)


def other_views():
    reasons = {"health": ("persistence mode is off on GPU 1: nvidia-smi -i 1 -pm 1",)}
    survey = Survey((seen(0), seen(1, **reasons)), "2.13.0+cu128", nvml_absent="NVML_ERROR_NOT_SUPPORTED: x")
    yield "devices", devices_view(devices_document(survey))
    known = registry()
    yield "specs", parts_view([document(part) for part in known.parts.values()])
    yield "specs NAME", part_view(document(known.parts["nvidia-a800-pcie-80gb"]))
    names = ("sensitivity", "a-suite-of-someone-else")
    rows = [{"suite": name, "budget_s": 60, "description": "one by one " * 9} for name in names]
    yield "suites", suites_view(rows)
    for base, new in (("base", "slower"), ("base", "broken"), ("quiet-base", "other-torch")):
        yield f"compare {base} {new}", compare_view(compare(COMPARED / base, COMPARED / new))
    files = [COMPARED / "pytest-benchmark" / name for name in ("base.json", "slower.json")]
    yield "compare pytest-benchmark", compare_view(compare(*files))
    rows = simulate(1, ["steady", "heavy right tail"], workers=0)
    tables = (simulated_table(rows), readings_table(rows))
    yield "selftest", View("", (), tables, "", (), ())


_VIEWS = {}


@pytest.fixture
def views(a800_run):
    """Every screen, by the command that prints it, in both languages; made once."""
    for language in () if _VIEWS else ("en", "zh"):
        with speaking(language):
            found = [*shows(a800_run), *fleet_views(), *other_views()]
            _VIEWS[language] = dict(found)
    return _VIEWS


@cache
def printed(view, width, language):
    out = io.StringIO()
    with speaking(language):
        terminal.show(view, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


# ---- what must be whole ----


@cache
def known_ids():
    """Every id that a flag takes and data names, whatever screen it stands on."""
    catalogue = fleets.shipped()
    claims = auditing.audit()
    return {
        *(fleet.id for fleet in catalogue.fleet),
        *registry().parts,
        *(each.id for each in published()),
        *(row.id for row in claims),
        *DTYPES,
        *INPUTS,
        *assumptions(),
        *PHASES,
        *(f"cuda:{n}" for n in range(2)),
        *(path.name for path in COMPARED.iterdir()),
        "heavy right tail",
        "a-suite-of-someone-else",
        "/data/node-17/trace.json",
    }


def whole(found, text):
    """Whether an id stands in a text with neither a letter nor a hyphen of another id beside it."""
    return re.search(rf"(?<![\w-]){re.escape(found)}(?![\w-])", text) is not None


def ids_in(text):
    """The ids of a screen: known ones, commands between backquotes, and words that only an id can be."""
    found = {each for each in known_ids() if whole(each, text)}
    found |= set(re.findall(r"`[^`\n]+`", text))
    found |= set(re.findall(r"bench (?:run|show|compare|export) [^`\n]*?(?=`|\n)", text)) - {""}
    words = (word for word in re.findall(r"[\w./:+=-]+\w", text) if re.search(r"\w[-_/:]\w", word))
    found |= {word for word in words if not re.search(r"/s$|\dT\d\d:", word)}  # no unit, no moment
    return {each.strip() for each in found}


SCREENS = [
    *(f"show {number}" for number in range(4)),
    *("fleet list", "fleet cost", "fleet cost, goodput"),
    *("fleet plan --eflops", "fleet plan --budget-rmb", "fleet plan --fleet", "fleet plan --part"),
    *("fleet goodput", "fleet goodput --validate", "fleet validate", "fleet audit"),
    *("devices", "specs", "specs NAME", "suites", "compare base slower", "compare base broken"),
    *("compare quiet-base other-torch", "compare pytest-benchmark", "selftest"),
]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_id_is_whole_at_every_width(views, screen, language):
    view = views[language][screen]
    ids = ids_in(printed(view, UNBOUNDED, language))
    assert ids or screen == "fleet goodput"
    for width in WIDTHS:
        text = printed(view, width, language)
        assert {each for each in ids if each not in text} == set(), width


def test_the_screens_are_all_there(views):
    assert set(views["en"]) == set(views["zh"]) == set(SCREENS)


def test_what_is_looked_for_is_found(views):
    """The ids of each kind that the screens hold at all: an empty search would prove nothing."""
    text = {name: ids_in(printed(view, UNBOUNDED, "en")) for name, view in views["en"].items()}
    assert "20261122T165536-standard-1901" in text["show 3"]
    assert {"a100-sxm-80gb-scaled-7b-x8", "nio-2024-10", "fp16", "pue"} <= text["fleet cost"]
    assert {"nvidia-a800-sxm4-80gb", "tesla-before-2023-09"} <= text["fleet list"]
    assert "`bench run --resume 'my runs/20261122T120000-standard-b800'`" in text["show 2"]
    assert {"cuda:0", "cuda:1", "10de:20f3"} <= text["devices"]
    assert "heavy right tail" in text["selftest"]
    assert "four-share/before" in text["fleet audit"]


def words_of(text):
    """The words of a screen, without what its layout adds."""
    return {word.removesuffix(":") for word in ADDED.sub(" ", text).split()}


@pytest.mark.parametrize("screen", SCREENS)
def test_no_word_is_broken_and_none_is_added(views, screen):
    view = views["en"][screen]
    all_words = words_of(printed(view, UNBOUNDED, "en"))
    for width in WIDTHS:
        assert words_of(printed(view, width, "en")) - all_words == set(), width


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("screen", SCREENS)
def test_only_what_cant_be_broken_is_longer_than_a_line(views, screen, language):
    for width in WIDTHS:
        lines = [line.strip() for line in printed(views[language][screen], width, language).splitlines()]
        for line in lines:
            if cell_len(line) > width:
                assert "`" in line or "bench " in line or len(line.split()) == 1 or width == 20, (width, line)


ID = "a100-sxm-80gb-scaled-7b-x8"
PLACES = ("title", "fact", "heading", "lead", "cell", "number", "meaning", "advice", "problem")


@pytest.mark.parametrize("before", ["", "as published: ", "见（"])
@pytest.mark.parametrize("place", PLACES)
def test_an_id_is_whole_wherever_it_stands(place, before):
    said = dict.fromkeys(PLACES, "") | {place: f"{before}{ID}）" if "（" in before else f"{before}{ID}"}
    row = ("one", said["cell"], said["number"], "a sentence of many words that needs a line or two")
    table = Table(said["heading"], ("case", "x", "n", "reason"), (row,), frozenset({2}), (), (), said["lead"])
    facts, problems = (("name", said["fact"]),), (said["problem"],)
    view = View(said["title"], facts, (table,), said["meaning"], (said["advice"],), problems)
    for width in range(20, 61):
        assert ID in printed(view, width, "en"), width


@pytest.mark.parametrize(
    "name",
    [
        "/数据/节点-17/运行.json",
        "运行/20261122T120000-standard-1901",
        "`bench run --resume '我的 运行/20261122T120000-x'`",
        "tests/test_x.py::test_it[a-b]",
    ],
)
def test_an_id_in_chinese_text_is_whole(name):
    sentence = f"有些记录没有读到，因此下面的数值并不完整：请先查看 {name}，再用同样的命令继续。"
    for width in (20, 33, 47, 80):
        text = printed(View("", (), (), sentence, (), ()), width, "zh")
        assert name in text
        assert "".join(text.split()) == "".join(sentence.split())
        assert not re.search(r"(?m)^ *[，。；：、）”]", text)
