"""Every text field of records, manifests, parts, fleets and claims, found by their schemas: one that takes a
hostile text is inert in every medium.

A field that comes later is among them by itself. test_hostile_text.py renders such texts together, by hand.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import re
import sys
import tomllib
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import pytest

from nameplate.base.errors import InputError
from nameplate.fleet import claims
from nameplate.fleet.catalogues import Catalogue, catalogue
from nameplate.record import Record
from nameplate.specs.registry import PartsFile, load_registry
from nameplate.store.manifest import Manifest

sys.path.insert(0, str(Path(__file__).parents[2] / "fuzz"))

from fuzzing.foreign import to_toml
from fuzzing.user_files import CLAIMS, FLEETS, PARTS

HOSTILE = (
    "=1+1\x1b[31m\x1b]0;t\x07\r\n\u2028\u202e\x9b2J\x85[bold]m[/]</td><script>alert(1)</script>"
    "<img src=x onerror=alert(1)>|`[a](javascript:b)\t;=2+2\ue000"
)
# Texts of the usual forms: a field that takes one of these, but not the hostile one, refuses it.
TAME = (
    "a text of some length",
    "x-y",
    "2024-10",
    "10de:20f3",
    "fp16",
    "sheet",
    "nvidia-a800-sxm4-80gb",
    "mine",
)
ITEM, ENTRY, KEY = "<item>", "<entry>", "<key>"
# These decide which section a record is shown in: hostile in one record, as they should be in another.
AXES = {("workload",), ("dtype",), ("fill",), ("cache",), ("phase",), ("part",), ("shape",)}


def list_places(schema, defs=None, above=()):
    """Yield where a JSON Schema has a text that may be any: keys, or marks for an item, an entry, a key."""
    defs = defs or schema.get("$defs", {})
    if (name := schema.get("$ref", "").rpartition("/")[2]) and name not in above:
        yield from list_places(defs[name], defs, (*above, name))
    for each in (*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())):
        yield from list_places(each, defs, above)
    inside = list(schema.get("properties", {}).items())
    inside += [(ITEM, each) for each in (schema.get("items"), *schema.get("prefixItems", ()))]
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        yield (KEY,)
        inside.append((ENTRY, extra))
    for step, each in inside:
        if isinstance(each, dict):
            yield from ((step, *place) for place in list_places(each, defs, above))
    if schema.get("type") == "string" and not {"const", "enum"} & schema.keys():
        yield ()


def list_spots(document, place):
    """Yield a place with the number of an item for each mark of one: every item of a list that is there."""
    if not place:
        yield ()
        return
    step, *rest = place
    found = document if isinstance(document, list) else []
    for each in range(max(len(found), 1)) if step == ITEM else [step]:
        inside = found[each] if step == ITEM and found else _get(document, step)
        yield from ((each, *spot) for spot in list_spots(inside, rest))


def _get(document, step):
    if not isinstance(document, dict):
        return None
    return next(iter(document.values()), None) if step == ENTRY else document.get(step)


def put(document, spot, value):
    """Return a document with a value at a spot; what lacks above it is made."""
    if not spot:
        return value
    step, *rest = spot
    if isinstance(step, int):
        items = document if isinstance(document, list) and document else [None]
        return [*items[:step], put(items[step], rest, value), *items[step + 1 :]]
    if step == "values" and rest and rest[0] in (KEY, ENTRY) and "code" not in (document or ()):
        document = {"code": "text", "values": {"text": "x"}}
    found = dict(document) if isinstance(document, dict) else {}
    if isinstance(document, int | float) and step in ("note", "sources"):
        found = {"value": document}  # a figure, with more than its value
    first = next(iter(found), "fp16")
    if step == KEY:
        rest_of = {key: each for key, each in found.items() if key != first}
        return {value: found.get(first, "a text of some length"), **rest_of}
    name = first if step == ENTRY else step
    return found | {name: put(found.get(name), rest, value)}


def spoil(document, places, is_accepted):
    """Return the document with every text hostile that may be, and the places that took it."""
    taken = set()
    for place in places:
        for spot in list(list_spots(document, place)):
            spoilt = put(copy.deepcopy(document), spot, HOSTILE)
            if is_accepted(spoilt):
                document = spoilt
                taken.add(place)
    return document, taken


def list_unreachable(document, places, taken, is_accepted):
    """The places that neither took the hostile text nor have, or take, any other: they weren't tried."""
    for place in places:
        spots = list(list_spots(document, place))
        reached = any(_is_text(document, spot) for spot in spots) or any(
            is_accepted(put(copy.deepcopy(document), spot, tame)) for spot in spots for tame in TAME
        )
        if place not in taken and not reached:
            yield ".".join(place)


def _is_text(document, spot):
    for step in spot:
        if step == KEY:
            return isinstance(document, dict) and bool(document)
        if isinstance(step, int):
            document = document[step] if isinstance(document, list) and document else None
        else:
            document = _get(document, step)
    return isinstance(document, str)


def accepted_by(model):
    def is_accepted(document):
        try:
            model.model_validate(document)
        except ValueError:
            return False
        return True

    return is_accepted


def find_raw(said):
    """Yield what a reader's terminal or editor could act on."""
    for char in set(said) - {"\n"}:
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co"):
            yield f"{char!r} is raw"


def find_live(path):
    """Yield what is no text in a file that a browser, an editor or a spreadsheet opens."""
    said = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        said = re.sub(r"<script.*?</script>|<style.*?</style>", "", said, flags=re.DOTALL)
    if path.suffix == ".svg":
        for element in ElementTree.fromstring(said).iter():
            name = element.tag.rpartition("}")[2]
            links = [value for key, value in element.attrib.items() if key.endswith("href")]
            handlers = [key for key in element.attrib if key.lower().startswith("on")]
            if name in ("script", "foreignObject", "image") or handlers or links:
                yield f"{name} in {path.name}: {handlers} {links}"
    elif re.search(r"(?<!\\)<(script>alert|img src=x)", said):
        yield f"mark-up in {path.name}"
    yield from (f"{found} in {path.name}" for found in find_raw(said))


def find_formulas(table):
    """Yield the cells in which a spreadsheet would read a formula."""
    for row in csv.reader(io.StringIO(table)):
        for cell in row:
            if re.match(r"\s*[=+@＝＋－＠]|\s*-(?![\d.])", cell) or re.search(r";\s*[=+@]", cell):
                yield cell


def list_texts(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for each in (*value, *value.values()):
            yield from list_texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from list_texts(each)


# ---- runs ----

PLACES = {
    "record": list(dict.fromkeys(list_places(Record.model_json_schema()))),
    "manifest": list(dict.fromkeys(list_places(Manifest.model_json_schema()))),
}
# A message's code is one of ours, and its values are those that its sentence names.
OURS = re.compile(r"(\.|^)(code|values\.<key>|values\.<entry>\.<item>)$")
SILICON = {
    "cores": 2.0,
    "failed": {"bf16-amx": {"code": "text", "values": {"text": "x"}}},
    "peaks": [
        {
            "loop": "fp32-avx2",
            "instruction": "VFMADD231PS ymm",
            "dtypes": ["fp32"],
            "tflops": 0.24,
            "tflops_low": 0.23,
            "tflops_high": 0.25,
            "clock_mhz": 3700.0,
            "core_gflops": 118.0,
            "core_clock_mhz": 3700.0,
            "flop_per_cycle": 32.0,
            "parallel_share": 1.0,
        }
    ],
}
# What a measured record may have besides.
ENDS = {"figure": "tflops", "low": 0.39, "high": 0.41}
PART_TIMES = [{"name": "norm", "forward_s": 0.001}]
PROFILE = {"trace": "traces/a.json.gz", "kernels": [{"name": "gemm", "time_s": 0.001, "calls": 1}]}
SPREADS = {"time_s": {"by_process": [0.005, 0.005]}}
LOOK = {"point": {"m": 4096}, "stage": "explore", "begin_s": 0.0, "cost_s": 0.1, "tflops": 0.4}
SEARCH = {"shapes": 9, "seen": 1, "cost_s": 0.1, "grid_s": 0.9, "looks": [LOOK]}
SHAPE_SET = {"name": "a set", "source": "a page", "shape": [{"name": "a product", "m": 1, "n": 1, "k": 1}]}
LAUNCH = {
    "launcher": "slurm",
    "rank": 0,
    "world_size": 2,
    "job": "a job",
    "node": "n1",
    "hosts": ["n1", "n2"],
}
ESTIMATED = {"interval_within": ENDS, "interval_next": ENDS, "spreads": SPREADS}
MORE = (ESTIMATED | {"search": SEARCH, "parts": PART_TIMES, "profile": PROFILE}, {})
MODEL = {
    "name": "a model",
    "layers": 2,
    "width": 8,
    "heads": 2,
    "kv_heads": 2,
    "ffn": 16,
    "vocabulary": 10,
    "source": "a source",
}
IDENTITIES = {
    "cpu": {
        "kind": "cpu",
        "name": "A CPU",
        "architecture": "x86_64",
        "logical_cpus": 2,
        "usable_cores": 2.0,
        "memory_bytes": 1 << 30,
        "silicon": SILICON,
        "core_kinds": [{"cores": 2, "name": "a kind"}],
        "caches_bytes": {"L1d": 1 << 15},
    },
    "cuda": {"kind": "cuda", "name": "A GPU", "index": 0},
}
# Two ways to be measured and one way not to be: a field may be allowed in one of them alone.
STATES = ({"status": "ok"}, {"status": "failed", "reason": {"code": "text", "values": {"text": "x"}}})


def as_document(model):
    return json.loads(model.model_dump_json())


def bases(make_record, make_manifest):
    """Good documents, in which each field can be reached in at least one."""
    manifest = as_document(make_manifest(["a case"])) | {
        "options": {"axes": {"model": MODEL, "shape_set": SHAPE_SET}},
        "launch": LAUNCH,
    }
    (entry,) = manifest["devices"]
    figure = {"fp32": {"tflops": 0.5, "source": "a source"}}
    of_dtypes = {"options": {"nominal": {"fp32": 0.5}}, "cases": [{"case": "a case", "device": "cpu"}]}
    clocked = entry | {"rated_clock_mhz": {"fp32": 2000.0}, "identity": IDENTITIES["cuda"]}
    return {
        "record": [
            as_document(make_record(**state)) | more for state, more in zip(STATES, MORE, strict=True)
        ],
        "manifest": [
            manifest | {"devices": [entry | {"identity": identity, "nominal": figure, "datasheet": figure}]}
            for identity in IDENTITIES.values()
        ]
        + [manifest | of_dtypes | {"devices": [clocked]}],
    }


MODELS = {"record": Record, "manifest": Manifest}


@pytest.mark.parametrize("kind", MODELS)
def test_every_text_of_a_run_takes_the_hostile_one_or_refuses_it(make_record, make_manifest, kind):
    is_accepted = accepted_by(MODELS[kind])
    left = set(map(".".join, PLACES[kind]))
    for base in bases(make_record, make_manifest)[kind]:
        assert is_accepted(base)
        _document, taken = spoil(base, PLACES[kind], is_accepted)
        left &= set(list_unreachable(base, PLACES[kind], taken, is_accepted))
    assert sorted(place for place in left if not OURS.search(place)) == []


@pytest.fixture
def hostile_runs(make_record, make_manifest, tmp_path):
    """A run of each kind of device on disk, with every text hostile that may be."""
    documents = bases(make_record, make_manifest)
    folders = []
    for number, base_manifest in enumerate(documents["manifest"]):
        manifest, _ = spoil(base_manifest, PLACES["manifest"], accepted_by(Manifest))
        device = manifest["devices"][0]["name"]
        records = []
        for base in documents["record"]:
            for left_out in (set(), AXES, set(PLACES["record"]) - AXES):
                places = [each for each in PLACES["record"] if each not in left_out and each != ("device",)]
                record, _ = spoil(base | {"device": device}, places, accepted_by(Record))
                records.append(record | {"case": f"{HOSTILE}{len(records)}"})
        manifest |= {"run": f"20261122T12000{number}-fake-0001", "cases": [each["case"] for each in records]}
        folder = tmp_path / "runs" / manifest["run"]
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        (folder / "records-cpu-0.jsonl").write_text("".join(f"{json.dumps(each)}\n" for each in records))
        (folder / "DONE").touch()
        folders.append(folder)
    return folders


def test_a_run_of_hostile_texts_is_inert_on_screens_and_in_exports(
    bench, hostile_runs, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    one, other, _ = hostile_runs
    found = json.loads(bench("show", one, "--json").out)
    assert len(found["records"]) == 3 * len(STATES)
    for words in (
        *(["show", folder] for folder in hostile_runs),
        ["show", one, "--lang", "zh"],
        ["show", one, "--json"],
        ["list", "--results", one.parent],
        ["list", "--results", one.parent, "--json"],
        ["compare", one, other, "--across-parts"],
        ["compare", one, one, "--markdown"],
        ["compare", one, one, "--json"],
        *(["export", one, other, "-o", f"out{suffix}"] for suffix in (".csv", ".jsonl", ".prom")),
        ["export", one, "-o", "action.json", "--format", "github-action-benchmark"],
        ["export", one, "-o", "benchmark.json", "--format", "pytest-benchmark"],
        ["publish", one, "--to", "published"],
        ["check", one.parent],
        ["check", one.parent, "--json"],
        ["leaderboard", "published"],
        ["fleet", "cost", "nio", "--run", one, "--draws", "1000"],
    ):
        result = bench(*words)
        assert result.status in ((1, 3) if words[0] == "check" else (0, 2, 3)), (words, result.err)
        assert not list(find_raw(result.out + result.err)), words
        if "--markdown" in words:
            assert not re.search(r"(?<!\\)<(script|img)", result.out)
    assert not list(find_formulas((tmp_path / "out.csv").read_text(encoding="utf-8")))
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    documents = [*lines, *((tmp_path / name).read_text() for name in ("action.json", "benchmark.json"))]
    assert not [raw for each in documents for text in list_texts(json.loads(each)) for raw in find_raw(text)]
    for line in (tmp_path / "out.prom").read_text(encoding="utf-8").splitlines():
        assert re.fullmatch(r'# .*|\w+\{(\w+="([^"\\]|\\.)*",?)*\} \S+', line)


@pytest.mark.long
@pytest.mark.usefixtures("one_library")
def test_a_run_of_hostile_texts_is_inert_in_reports(bench, hostile_runs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other, _ = hostile_runs
    for words in ([one, "-o", "page.html"], [other, "-o", "page.md"], [one, other, "-o", "both.md"]):
        result = bench("report", *words)
        assert result.status == 0, result.err
        assert not list(find_raw(result.out + result.err)), words
    for path in (each for each in tmp_path.glob("*.*") if each.suffix in (".html", ".md", ".svg")):
        assert not list(find_live(path))
    assert len(list(tmp_path.glob("*.svg"))) >= 2


# ---- files of users ----


def reads_claims(path):
    return claims.load_claims(path.read_text(encoding="utf-8"), "a file", load_registry())


FILES = {
    "parts": (
        PARTS,
        PartsFile.model_json_schema(),
        lambda path: load_registry([path]),
        (
            "specs --parts FILE",
            "specs my-part --parts FILE",
            "specs my-part --parts FILE --json",
            "fleet list --parts FILE",
            "fleet cost --part my-part --eflops 2 --parts FILE --draws 1000",
            "fleet plan --eflops 1 --part my-part --parts FILE --draws 1000",
        ),
    ),
    "claims": (
        CLAIMS,
        claims.schema(),
        reads_claims,
        *[
            (
                "fleet audit --claims FILE",
                "fleet audit --claims FILE --json",
                "fleet audit --claims FILE --csv",
            )
        ],
    ),
    "fleets": (
        FLEETS,
        Catalogue.model_json_schema(by_alias=True),
        lambda path: catalogue([path]),
        (
            "fleet list --fleets FILE",
            "fleet list --fleets FILE --csv",
            "fleet cost mine mixed --fleets FILE --draws 1000 --derate mine",
            "fleet cost mine more --fleets FILE --draws 1000 --csv --lang zh",
            "fleet plan --eflops 1 --fleets FILE --draws 1000",
            "fleet plan --budget-rmb 1e9 --fleets FILE --draws 1000 --csv",
            "fleet plan --parameters 8e9 --hours 10 --every-days 14 --fleet mine --fleets FILE --draws 1000",
        ),
    ),
}


# Texts that are tried elsewhere: a clock of all dtypes is a figure like one of a dtype's, and what is used is
# one of the values.
ELSEWHERE = {
    "parts": {
        "part.<item>.rated_mhz.sources.<item>",
        "part.<item>.rated_mhz.note",
        "part.<item>.conflict.<item>.used",
    },
    "claims": set(),
    "fleets": set(),
}


@pytest.fixture
def accepted_file(tmp_path):
    """Make the test of whether a reader takes a document as a file."""

    def make(read):
        def is_accepted(document):
            try:
                write_toml(tmp_path / "tried.toml", document)
                read(tmp_path / "tried.toml")
            except (InputError, TypeError):
                return False
            return True

        return is_accepted

    return make


def write_toml(path, document):
    path.write_bytes(to_toml(document))


@pytest.mark.parametrize("kind", FILES)
def test_every_text_of_a_file_is_inert_or_refuses_the_hostile_one(bench, tmp_path, accepted_file, kind):
    text, schema, read, commands = FILES[kind]
    base, is_accepted = tomllib.loads(text), accepted_file(read)
    places = list(dict.fromkeys(list_places(schema)))
    assert is_accepted(base)
    document, taken = spoil(base, places, is_accepted)
    assert set(list_unreachable(base, places, taken, is_accepted)) == ELSEWHERE[kind]
    assert len(taken) >= 7
    path = tmp_path / "hostile.toml"
    write_toml(path, document)
    refused = 0
    for words in commands:
        result = bench(*(str(path) if word == "FILE" else word for word in words.split()))
        refused += result.status == 2
        assert result.status in (0, 2), (words, result.err)
        assert not list(find_raw(result.out + result.err)), words
        if "--csv" in words:
            assert not list(find_formulas(result.out)), words
    assert refused <= 1  # a derate of a hostile dtype serves no fleet


# ---- the checks can fail ----


def test_the_checks_above_can_fail(tmp_path):
    assert list(find_raw("a\x1bb"))
    assert list(find_formulas("a,=1\n"))
    assert list(find_formulas("a; =1\n"))
    for name, said in (
        ("a.svg", "<svg onload='x'/>"),
        ("b.svg", "<svg><script/></svg>"),
        ("c.md", "<script>alert(1)</script>"),
        ("d.html", "<p>\u202e</p>"),
    ):
        (tmp_path / name).write_text(said, encoding="utf-8")
        assert list(find_live(tmp_path / name)), name
    schema = {
        "properties": {"a": {"type": "string"}, "b": {"items": {"$ref": "#/$defs/c"}}, "d": {"enum": ["x"]}}
    }
    schema["$defs"] = {"c": {"additionalProperties": {"type": "string"}}}
    assert set(list_places(schema)) == {("a",), ("b", ITEM, KEY), ("b", ITEM, ENTRY)}
