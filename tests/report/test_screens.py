"""Every screen at every width: no id, path or command that can be pasted is broken, cropped or added to."""

import io
import re
from functools import cache

import pytest
from rich.cells import cell_len
from rich.console import Console

from nameplate.base.language import use_language
from nameplate.chain.published import load_published
from nameplate.fleet.audit import audit
from nameplate.fleet.catalogues import INPUTS, load_shipped
from nameplate.fleet.work import load_training_inputs
from nameplate.record import DTYPES
from nameplate.report.media import terminal
from nameplate.report.view import Column, Table, View
from nameplate.specs.registry import load_registry
from nameplate.suite import PHASES

# The narrowest, what most terminals have, and what lies between; the rest are tried with the long tests.
WIDTHS = (20, 40, 80)
OTHER_WIDTHS = (60, 100, 160, 300)
# What is broken is the same in both languages.
WIDTHS_OF = {"en": WIDTHS, "zh": (20, 80)}
UNBOUNDED = 10_000
# What a screen adds to the words of a view: the name before a value, bullets, bars, sparklines, blanks.
ADDED = re.compile(r"[█▏▎▍▌▋▊▉▁▂▃▄▅▆▇·]+|[•!]")
# The names of what a narrow terminal leaves out follow these words.
LEFT_OUT = {*["not", "shown", "at", "this", "width"]}
_VIEWS = {}


@pytest.fixture
def views(screens, a800_run):
    """Every screen, by the command that prints it, in both languages; made once."""
    for language in () if _VIEWS else ("en", "zh"):
        with use_language(language):
            _VIEWS[language] = screens.all_screens(a800_run)
    return _VIEWS


@cache
def printed(view, width, language):
    out = io.StringIO()
    with use_language(language):
        terminal.show(view, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


# ---- what must be whole ----


@cache
def known_ids():
    """Every id that a flag takes and data names, whatever screen it stands on."""
    catalogue = load_shipped()
    return {
        *(fleet.id for fleet in catalogue.fleet),
        *load_registry().parts,
        *(each.id for each in load_published()),
        *(row.id for row in audit()),
        *DTYPES,
        *INPUTS,
        *load_training_inputs(),
        *PHASES,
        *(f"cuda:{n}" for n in range(2)),
        "heavy right tail",
        "somebodys-suite",
        "/data/node-17/trace.json",
    }


def whole(found, text):
    """Whether an id stands in a text with neither a letter nor a hyphen of another id beside it."""
    return re.search(rf"(?<![\w-]){re.escape(found)}(?![\w-])", text) is not None


def ids_in(text):
    """The ids of a screen: known ones, commands between backquotes, and words that only an id can be."""
    found = {each for each in known_ids() if each in text and whole(each, text)}  # few need the slow search
    found |= set(re.findall(r"`[^`\n]+`", text))
    found |= set(re.findall(r"bench (?:run|show|compare|export) [^`\n]*?(?=`|\n)", text)) - {""}
    words = (word for word in re.findall(r"[\w./:+=-]+\w", text) if re.search(r"\w[-_/:]\w", word))
    found |= {word for word in words if not re.search(r"/s$|元|\dT\d\d:", word)}  # no unit or moment
    return {each.strip() for each in found}


SCREENS = [
    *(f"show {number}" for number in range(4)),
    *("fleet list", "fleet cards", "fleet cards PART", "fleet cost", "fleet own"),
    *("fleet list --details", "fleet cards --details", "fleet audit --details", "fleet validate --details"),
    "fleet cost --details",
    "fleet plan --details",
    "fleet cost, goodput",
    *(
        "fleet plan --eflops",
        "fleet plan --site-mw",
        "fleet plan --budget-rmb",
        "fleet plan --fleet",
        "fleet plan --part",
    ),
    *("fleet goodput", "fleet goodput --validate", "fleet validate", "fleet derate", "fleet audit"),
    *("specs --model", "specs --model at two"),
    *("devices", "specs", "specs NAME", "list", "suites", "compare base slower", "compare base broken"),
    *("compare quiet-base other-torch", "compare pytest-benchmark", "selftest", "best shapes"),
]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("screen", SCREENS)
def test_every_id_is_whole_at_every_width(views, screen, language):
    find_broken(views[language][screen], screen, language, WIDTHS_OF[language])


@pytest.mark.long
@pytest.mark.parametrize("screen", SCREENS)
def test_every_id_is_whole_at_odd_widths(views, screen):
    find_broken(views["en"][screen], screen, "en", OTHER_WIDTHS)


def find_broken(view, screen, language, widths):
    ids = ids_in(printed(view, UNBOUNDED, language))
    if screen == "list":  # a narrow one keeps the run's id, by which `bench show` has all that it leaves out
        ids -= words_of_secondary_columns(view)
    assert ids or screen in ("fleet goodput", "fleet derate")
    for width in widths:
        text = printed(view, width, language)
        assert {each for each in ids if each not in text} == set(), width


def words_of_secondary_columns(view):
    cells = (row[index] for table in view.tables for row in table.rows for index in table.droppable)
    return {word for cell in cells for word in cell.split()}


def test_the_screens_are_all_there(views):
    assert set(views["en"]) == set(views["zh"]) == set(SCREENS)


def test_the_search_for_ids_finds_each_kind(views):
    """The ids of each kind that the screens hold at all: an empty search would prove nothing."""
    text = {name: ids_in(printed(view, UNBOUNDED, "en")) for name, view in views["en"].items()}
    assert "20261122T165536-standard-1901" in text["show 3"]
    assert {"mfu-ampere-ga100", "nio-2024-10", "fp16", "pue"} <= text["fleet cost --details"]
    assert {"nvidia-a800-sxm4-80gb", "tesla-before-2023-09"} <= text["fleet list --details"]
    assert "`bench run --resume 'my runs/20261122T120000-standard-b800'`" in text["show 2"]
    assert {"cuda:0", "cuda:1", "10de:20f3"} <= text["devices"]
    assert "heavy right tail" in text["selftest"]
    assert "four-share/before" in text["fleet audit"]


def words_of(text):
    """The words of a screen, without what its layout adds."""
    return {word.rstrip(":,") for word in ADDED.sub(" ", text).split()}


@pytest.mark.parametrize("screen", SCREENS)
def test_no_word_is_broken_and_none_is_added(views, screen):
    view = views["en"][screen]
    all_words = words_of(printed(view, UNBOUNDED, "en"))
    for width in WIDTHS:
        assert words_of(printed(view, width, "en")) - all_words - LEFT_OUT == set(), width


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("screen", SCREENS)
def test_only_unbreakable_text_is_longer_than_a_line(views, screen, language):
    for width in WIDTHS:
        lines = [line.strip() for line in printed(views[language][screen], width, language).splitlines()]
        for line in lines:
            assert not re.match("[，。；：、）”]", line), (width, line)
            assert not line.endswith(("（", "“")), (width, line)
            if cell_len(line) > width:
                assert "`" in line or "bench " in line or len(line.split()) == 1 or width == 20, (width, line)


ID = "a100-sxm-80gb-scaled-7b-x8"
PLACES = ("title", "fact", "heading", "lead", "cell", "number", "meaning", "advice", "problem")


@pytest.mark.parametrize("before", ["", "as published: ", "见（"])
@pytest.mark.parametrize("place", PLACES)
def test_an_id_is_whole_in_every_place(place, before):
    said = dict.fromkeys(PLACES, "") | {place: f"{before}{ID}）" if "（" in before else f"{before}{ID}"}
    row = ("one", said["cell"], said["number"], "a sentence of many words that needs a line or two")
    columns = Column("case"), Column("x"), Column("n", is_number=True), Column("reason")
    table = Table(said["heading"], columns, (row,), (), said["lead"])
    facts, problems = (("name", said["fact"]),), (said["problem"],)
    view = View(
        title=said["title"],
        facts=facts,
        tables=(table,),
        meaning=said["meaning"],
        advice=(said["advice"],),
        problems=problems,
    )
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
        text = printed(View(title="", meaning=sentence), width, "zh")
        assert name in text
        assert "".join(text.split()) == "".join(sentence.split())
        assert not re.search(r"(?m)^ *[，。；：、）”]", text)
