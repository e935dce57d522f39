"""A hostile text in every field of records, manifests, parts, fleets and claims is inert in every medium."""

from __future__ import annotations

import csv
import io
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping

import pytest

from nameplate.base.messages import text
from nameplate.device.identity import CpuIdentity, CudaIdentity
from nameplate.record import Record
from nameplate.store.folder import RecordWriter, create, mark_done, read_run

pytestmark = pytest.mark.usefixtures("few_draws")
# What each medium could take for more than text: a cursor's movement, a title of the window, a new line, the
# other direction, mark-up of rich, HTML, Markdown, a table's cell, a formula.
HOSTILE = (
    "=1+1\x1b[31m\x1b]0;t\x07\r\n\u2028\u202e\x9b2J\x85[bold]m[/]</td><script>alert(1)</script>"
    "<img src=x onerror=alert(1)>|`[a](javascript:b)\t;=2+2\x00\x7f\ue000"
)
# These texts decide what is read or shown at all; each is hostile in a test of its own, or has a pattern.
KEPT = {"status", "verdict", "verdicts", "workload", "dtype", "fill", "cache", "phase", "case", "device"}


def spoil(value: object, keep: frozenset[str] | set[str] = frozenset()) -> object:
    """Return JSON values with every text hostile, keys and codes excepted."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [spoil(each, keep) for each in value]
    if isinstance(value, dict):
        if value.keys() == {"code", "values"}:
            return {"code": "text", "values": {"text": HOSTILE}}
        return {key: each if key in keep else spoil(each, keep) for key, each in value.items()}
    return value


def is_inert(said: str) -> Iterator[str]:
    """Yield what is wrong with a text that a reader gets."""
    for char in set(said) - {"\n"}:
        if unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp", "Cs", "Co"):
            yield f"{char!r} is raw"


@pytest.fixture
def hostile(make_record, make_manifest, tmp_path):
    """A run on disk with every text hostile that may be any text."""
    message = {"code": "text", "values": {"text": HOSTILE}}
    full = {
        name: HOSTILE
        for name, field in Record.model_fields.items()
        if field.annotation in (str, str | None) and name not in KEPT | {"part", "convention", "loss"}
    }
    full |= {"convention": HOSTILE, "kernels": (HOSTILE,), "conditions": {HOSTILE: HOSTILE}}
    full |= {"dimensions": {HOSTILE: HOSTILE}, "loss": text(HOSTILE), "warnings": (text(HOSTILE),)}
    measured = make_record(**full)
    odd = make_record(dtype=HOSTILE, case=f"{HOSTILE} 1", workload=HOSTILE, fill=HOSTILE, cache=HOSTILE)
    phased = make_record(phase=HOSTILE, case=f"{HOSTILE} 2")
    failed = make_record(status="failed", case=f"{HOSTILE} 3", reason=text(HOSTILE))
    products = [
        make_record(dtype=HOSTILE, shape=f"{n}x{n}x{n}{HOSTILE}", case=f"{HOSTILE} {n}") for n in (7, 8, 9)
    ]
    records = [measured, odd, phased, failed, *products]
    (entry,) = make_manifest().devices
    fields = entry.model_dump(mode="json") | {"missing": message, "notes": [message], "evidence": HOSTILE}
    fields |= {"nominal": {HOSTILE: {"tflops": 0.5, "source": HOSTILE}}, "datasheet": {}}
    identities = [
        CpuIdentity(name="x", architecture="x", logical_cpus=2, usable_cores=2, memory_bytes=1 << 30),
        CudaIdentity(name="x", index=0, uuid="x"),
    ]
    entries = [
        fields | {"name": name, "identity": spoil(identity.model_dump(mode="json"), {"kind"})}
        for name, identity in zip(("cpu", HOSTILE), identities, strict=True)
    ]
    manifest = make_manifest(
        [*({"case": each.case, "device": "cpu"} for each in records), {"case": HOSTILE, "device": HOSTILE}],
        devices=entries,
        suite=HOSTILE,
        created=HOSTILE,
        hostname=HOSTILE,
        software={"torch": HOSTILE, "nameplate": HOSTILE, HOSTILE: HOSTILE},
        options={"device": HOSTILE, "only": HOSTILE},
    )
    folder = create(tmp_path / "runs", manifest)
    with RecordWriter(folder, "cpu") as writer:
        for record in records:
            writer.append(record)
    mark_done(folder)
    assert len(read_run(folder).records) == len(records)
    return folder


def cells(table: str) -> Iterator[str]:
    for row in csv.reader(io.StringIO(table)):
        yield from row


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_screens_are_inert(bench, hostile, lang, monkeypatch):
    for columns in ("40", "300"):
        monkeypatch.setenv("COLUMNS", columns)
        for words in (
            ["show", hostile],
            ["show", hostile, hostile.parent],
            ["list", "--results", hostile.parent],
        ):
            result = bench(*words, "--lang", lang)
            assert result.status in (0, 2)
            assert not list(is_inert(result.out + result.err))
    assert "[bold]m[/]" in bench("show", hostile).out.replace("\n", "")  # as text, not as mark-up


def test_comparisons_are_inert(bench, hostile):
    for words in ([], ["--markdown"]):
        result = bench("compare", hostile, hostile, *words)
        assert not list(is_inert(result.out + result.err))
        assert not re.search(r"(?<!\\)<script", result.out) or not words


@pytest.mark.usefixtures("one_library")
@pytest.mark.parametrize("suffix", ["html", "md"])
def test_reports_are_inert(bench, hostile, tmp_path, suffix):
    path = tmp_path / f"report.{suffix}"
    assert bench("report", hostile, "-o", path).status == 0
    said = path.read_text(encoding="utf-8")
    found = said if suffix == "md" else re.sub(r"<script.*?</script>|<style.*?</style>", "", said, flags=re.S)
    assert not list(is_inert(found))
    assert "<script>alert" not in said.replace(r"\<script", "")
    assert not re.search(r"(?<!\\)<img src=x", said)


def test_exports_are_inert(bench, hostile):
    table = bench("export", hostile, "--format", "csv").out
    assert not [cell for cell in cells(table) if re.match(r"\s*[=+@＝＋－＠]|\s*-(?![\d.])", cell)]
    assert not list(is_inert(table))
    for line in bench("export", hostile, "--format", "jsonl").out.splitlines():
        assert not list(is_inert("\n".join(find_texts(json.loads(line)))))
    prometheus = bench("export", hostile, "--format", "prometheus").out
    assert not list(is_inert(prometheus))
    assert all(
        re.fullmatch(r'# .*|\w+\{(\w+="([^"\\]|\\.)*",?)*\} \S+', line) for line in prometheus.splitlines()
    )
    for format in ("github-action-benchmark", "pytest-benchmark"):
        found = json.loads(bench("export", hostile, "--format", format).out)
        assert not list(is_inert("\n".join(find_texts(found))))


def find_texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from value
        for each in value.values():
            yield from find_texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from find_texts(each)


def test_a_leaderboard_is_inert(bench, hostile, tmp_path):
    manifest = json.loads((hostile / "manifest.json").read_text(encoding="utf-8")) | {"published": True}
    manifest["cases"], manifest["devices"] = manifest["cases"][:-1], manifest["devices"][:1]
    (hostile / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    result = bench("leaderboard", hostile.parent)
    assert result.status == 0
    said = (hostile.parent / "README.md").read_text(encoding="utf-8")
    assert not list(is_inert(said + result.out + result.err))
    assert not re.search(r"(?<!\\)<(script|img)", said)


def quoted(value: str) -> str:
    return json.dumps(value)  # a JSON string is a TOML basic string, for these characters


PART = f"""
schema = 1
[sources.sheet]
text = {quoted(HOSTILE)}
date = "2026-11"
[[part]]
id = "my-part"
name = {quoted(HOSTILE)}
vendor = {quoted(HOSTILE)}
form = {quoted(HOSTILE)}
driver_names = [{quoted(HOSTILE)}]
sources = ["sheet"]
dense_tflops = {{ fp16 = {{ value = 400, note = {quoted(HOSTILE)} }}, bf16 = 400 }}
"""
CLAIMS = f"""
schema = 1
source = {quoted(HOSTILE)}
[[claim]]
id = "mine"
words = {quoted(HOSTILE)}
figure = "320"
unit = "TFLOPS"
as_of = "2024-10"
formula = "320"
why = {quoted(HOSTILE)}
[[claim]]
id = "other"
words = {quoted(HOSTILE)}
figure = "320"
unit = "TFLOPS"
cannot_check = {quoted(HOSTILE)}
"""
FLEET = f"""
schema = 1
[[fleet]]
id = "mine"
name = {quoted(HOSTILE)}
as_of = "2024"
part = "nvidia-a800-sxm4-80gb"
eflops = 1.0
source = {quoted(HOSTILE)}
note = {quoted(HOSTILE)}
[[price]]
part = "nvidia-a800-sxm4-80gb"
cards_per_server = 8
server_rmb = 1.5e6
as_of = "2024"
source = {quoted(HOSTILE)}
note = {quoted(HOSTILE)}
replaces = true
[[assumption]]
name = "pue"
value = 1.3
as_of = "2024"
source = {quoted(HOSTILE)}
note = {quoted(HOSTILE)}
"""


def test_files_of_parts_claims_and_fleets_are_inert_whatever_they_hold(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for name, content in (("parts", PART), ("claims", CLAIMS), ("fleets", FLEET)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    for words in (["specs", "my-part", "--parts"], ["specs", "--parts"]):
        result = bench(*words, tmp_path / "parts")
        assert result.status == 0
        assert ("<script>" in result.out) == ("my-part" in words)
        assert not list(is_inert(result.out + result.err))
    commands = {
        "audit": ["audit", "--claims", tmp_path / "claims"],
        "list": ["list", "--fleets", tmp_path / "fleets"],
        "cost": ["cost", "mine", "--draws", "1000", "--fleets", tmp_path / "fleets"],
        "plan": ["plan", "--eflops", "1", "--draws", "1000", "--fleets", tmp_path / "fleets"],
    }
    for words in commands.values():
        result = bench("fleet", *words)
        assert (result.status, result.err) == (0, "")
        assert not list(is_inert(result.out))
        table = bench("fleet", *words, "--csv").out
        assert not list(is_inert(table))
        assert not [cell for cell in cells(table) if re.match(r"\s*[=+@]", cell)]
