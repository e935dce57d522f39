"""What the one screen says, and that no value of anyone's can say it differently."""

import io
import json
import re

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from nameplate.derate.chain import chain
from nameplate.report import markdown, terminal
from nameplate.report.document import document, to_json
from nameplate.report.view import figure, meaning, plain, view

BLOCK = "transformer_block/bf16/1x128x512-forward_backward/normal/warm/-/torch"
COPY = "memory/fp32/copy-64MiB/normal/warm/-/torch"


@pytest.fixture
def a800(make_record):
    """A product on a card that is counted by 320 and rated for 312."""

    def make(tflops=250.0, **changes):
        fields = {
            "tflops": tflops,
            "tflops_low": tflops - 5,
            "tflops_high": tflops + 5,
            "tflops_median": tflops + 1,
            "nominal_tflops": 320.0,
            "efficiency": tflops / 320,
            "efficiency_low": (tflops - 5) / 320,
            "efficiency_high": (tflops + 5) / 320,
            "datasheet_tflops": 312.0,
            "datasheet_efficiency": tflops / 312,
        }
        return make_record(**(fields | changes))

    return make


def unrated(make_record, **changes):
    nothing = ("nominal_tflops", "efficiency", "efficiency_low", "efficiency_high", "datasheet_tflops")
    fields = dict.fromkeys((*nothing, "datasheet_efficiency"))
    return make_record(**(fields | {"nominal_source": "the model isn't shown to this guest"} | changes))


def memory(make_record, **changes):
    record = unrated(make_record, case=COPY, workload="memory", dtype="fp32", **changes)
    return record.model_copy(update={"tflops": None, "tflops_low": None, "tflops_high": None})


def printed(run, width=200):
    """What rich prints where the output is no terminal: no control sequence of its own is in it."""
    out = io.StringIO()
    terminal.show(view(run), Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.145, "0.145"),
        (2.31, "2.31"),
        (788.0, "788"),
        (788.4, "788"),
        (0.00219, "0.00219"),
        (0.1, "0.100"),
        (10.0, "10.0"),
        (99.94, "99.9"),
        (1234.5, "1,234"),
        (9.999, "10.0"),
        (0.09999, "0.100"),
        (0.0, "0"),
        (None, "–"),
    ],
)
def test_a_figure_has_three_digits_and_no_exponent(value, text):
    assert figure(value) == text


def said(run):
    return meaning(run, chain(run.records))


def test_the_meaning_of_a_clean_run_is_what_is_delivered(make_run, a800):
    sentence = said(make_run(a800(240.0)))
    assert "75%" in sentence
    assert "bf16" in sentence
    assert "product" in sentence
    assert not re.search("clean|contended|unstable", sentence)


def test_the_meaning_of_what_is_not_clean_says_so(make_run, a800):
    sentence = said(make_run(a800(240.0, verdict="contended", verdicts=("contended", "unstable"))))
    assert "75%" in sentence
    assert "contended" in sentence


def test_the_meaning_without_a_rating_gives_the_figure_and_why_no_more(make_run, make_record):
    small = unrated(make_record, case="matmul/bf16/8x8x8/normal/warm/-/torch", tflops=0.395)
    sentence = said(make_run(small, unrated(make_record)))
    assert "0.400 TFLOPS (bf16)" in sentence
    assert "the model isn't shown to this guest" in sentence
    assert "%" not in sentence


@pytest.mark.parametrize("what", ["nothing", "skipped", "failed", "memory", "wrong"])
def test_the_meaning_of_nothing_measured_claims_nothing(make_run, make_record, what):
    records = {
        "nothing": (),
        "skipped": (make_record(status="skipped"),),
        "failed": (make_record(status="failed"),),
        "memory": (memory(make_record),),
        "wrong": (make_record(verdict="unverified", verdicts=("unverified",)),),
    }
    assert "nothing can be said" in said(make_run(*records[what]))


def test_the_meaning_of_two_devices_does_not_multiply_them(make_run, a800):
    """0.75 of one card and 0.75 of another aren't 0.56 of anything."""
    sentence = said(make_run(a800(240.0), a800(240.0, device="cuda:1")))
    assert "75%" in sentence
    assert "56%" not in sentence
    assert "55%" not in sentence


ADVICE = {
    "contended": "run again on a quiet machine",
    "unstable": "larger --budget",
    "unverified": "wrong beyond rounding",
    "above_peak": "the rating or its clock is wrong",
    "launch_bound": "host",
    "throttled": "clock",
    "unknown": "could not be read",
}


@pytest.mark.parametrize("verdict", ADVICE)
def test_each_verdict_that_stood_in_the_way_has_its_advice(make_run, make_record, verdict):
    (advice,) = view(make_run(make_record(verdict=verdict, verdicts=(verdict,)))).advice
    assert ADVICE[verdict] in advice


def test_a_clean_run_needs_no_advice(make_run, make_record):
    assert view(make_run(make_record())).advice == ()


def test_advice_counts_what_was_skipped_and_what_is_missing(make_run, make_record):
    reason = "the budget of 5 s was spent before it"
    run = make_run(
        make_record(status="skipped", reason=reason),
        make_record(status="skipped", reason="tf32 is a mode of NVIDIA tensor cores", case=COPY),
        missing=[BLOCK],
    )
    budget, missing = view(run).advice
    assert budget.startswith("1 case")
    assert "--budget" in budget
    assert missing.startswith("1 case")
    assert f"bench run --resume {run.folder}" in missing


def test_a_small_block_is_said_to_stand_for_nothing(make_run, make_record):
    (advice,) = view(make_run(make_record(case=BLOCK, workload="transformer_block"))).advice
    assert "below full width" in advice


def cells(run, heading):
    (table,) = [table for table in view(run).tables if table.heading.startswith(heading)]
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def test_a_row_carries_the_case_its_figures_and_all_verdicts(make_run, a800):
    (row,) = cells(make_run(a800(250.0, verdict="contended", verdicts=("contended", "unstable"))), "Achieved")
    assert row["case"] == "matmul bf16 1024x1024x1024"
    assert row["achieved"] == "250 ± 5"
    assert (row["median"], row["nominal"]) == ("251", "320")
    assert row["efficiency"] == "78.1% ± 1.6"
    assert row["verdict"] == "contended unstable"
    assert (row["datasheet"], row["of datasheet"]) == ("312", "80.1%")


def test_the_datasheet_is_left_out_where_it_is_nominal(make_run, make_record):
    (row,) = cells(make_run(make_record()), "Achieved")
    assert "datasheet" not in row


def test_axes_that_are_not_the_default_stay_in_the_name(make_run, make_record):
    record = make_record(case="matmul/bf16/8x8x8/zeros/flushed/-/torch", fill="zeros", cache="flushed")
    (row,) = cells(make_run(record), "Achieved")
    assert "zeros" in row["case"]
    assert "flushed" in row["case"]


def test_what_is_not_known_is_a_dash(make_run, make_record):
    (row,) = cells(make_run(unrated(make_record)), "Achieved")
    assert (row["nominal"], row["efficiency"]) == ("–", "–")


def test_memory_has_a_table_of_its_own(make_run, make_record):
    run = make_run(make_record(), memory(make_record, bandwidth_gb_s=1.17))
    (row,) = cells(run, "Memory")
    assert row["case"] == "memory fp32 copy-64MiB"
    assert row["achieved"].startswith("1.17 ± ")
    assert len(cells(run, "Achieved")) == 1


def test_every_case_that_was_not_measured_is_listed_with_its_reason(make_run, make_record):
    run = make_run(
        make_record(status="failed", reason="RuntimeError: no"),
        make_record(status="skipped", reason="no time", case=COPY),
        missing=[BLOCK],
    )
    rows = cells(run, "Not measured")
    assert [(row["status"], row["reason"]) for row in rows][:2] == [
        ("failed", "RuntimeError: no"),
        ("skipped", "no time"),
    ]
    assert rows[2]["status"] == "missing"


def test_a_device_of_no_known_part_is_said_to_be_one(make_run, make_record, make_manifest):
    (entry,) = make_manifest().devices
    entry = entry.model_copy(update={"part": None, "evidence": "no table holds family 99"})
    facts = dict(view(make_run(make_record(), devices=(entry,))).facts)
    assert facts["taken for"] == "no known part: no table holds family 99"


# What a host name, a driver's message or a file from elsewhere may hold.
HOSTILE = {
    "html": "<img src=x onerror=alert(1)>",
    "pipe": "a|b",
    "row": "x |\n| forged | 999 | 999 | 999 | 99% | clean",
    "escape": "\x1b[2J\x1b[31mred",
    "c1": "\x9b2Jgone",
    "bidi": "\u202e%99 fo",
    "zero width": "a\u200bb\u2066c",
    "rich": "[red]x[/red] [link=file:///etc/passwd]y[/link] [/nothing]",
    "link": "[click](https://evil.example) ![p](https://evil.example/x.png) <https://evil.example>",
    "emphasis": "**bold** _it_ `code` ~~no~~",
    "heading": "# Not a heading\n\n---\n\n- item\n> quote",
    "backslash": "C:\\x\\| y",
    "entity": "&lt;script&gt; &#x202e;",
    "carriage": "real\rfake",
}
_CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069]")


@pytest.fixture
def hostile_run(make_run, make_record, make_manifest):
    """A run in which every free text says this."""

    def make(text):
        (entry,) = make_manifest().devices
        identity = entry.identity.model_copy(update={"name": text})
        entry = entry.model_copy(
            update={"name": text, "evidence": text, "notes": (text,), "identity": identity}
        )
        product = make_record(
            case=f"matmul/bf16/{text}/normal/warm/-/torch",
            shape=text,
            nominal_source=text,
            datasheet_source=text,
        )
        copy = memory(make_record, shape=text)
        failed = make_record(status="failed", reason=text, case=f"conv/bf16/{text}/normal/warm/-/torch")
        return make_run(
            product,
            copy,
            failed,
            missing=[f"lost/{text}"],
            problems=(text,),
            suite=text,
            hostname=text,
            created=text,
            devices=(entry,),
            software={"nameplate": text, "torch": text},
        )

    return make


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_terminal_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    out = printed(hostile_run(text))
    assert _CONTROL.search(out) is None
    host = next(line for line in out.splitlines() if line.startswith("host"))
    assert plain(text) in host


def tokens(text):
    parsed = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [each for token in parsed for each in (token, *(token.children or ()))]


@pytest.mark.parametrize("kind", HOSTILE)
def test_markdown_prints_hostile_text_as_text(hostile_run, kind):
    text = HOSTILE[kind]
    calm = [token.type for token in tokens(markdown.render(view(hostile_run("calm")), "x.svg"))]
    report = markdown.render(view(hostile_run(text)), "x.svg")
    assert _CONTROL.search(report) is None
    parsed = tokens(report)
    assert [token.type for token in parsed if token.type != "text"] == [
        kind for kind in calm if kind != "text"
    ]
    cell = "".join(token.content for token in parsed if token.type == "text")
    assert plain(text).strip() in cell


def test_the_hostile_texts_would_do_harm_if_they_were_not_escaped():
    kinds = {token.type for token in tokens("\n\n".join(HOSTILE.values()))}
    assert {"html_block", "link_open", "image", "strong_open", "heading_open", "code_inline"} <= kinds


def test_plain_strips_what_moves_a_cursor_and_keeps_letters():
    assert plain("\x1b[2J\u202eabc\x00") == "[2Jabc"
    assert plain("a\tb\nc\rd") == "a b c d"
    assert plain("EPYC™ é 中 …") == "EPYC™ é 中 …"
    assert plain(None) == "None"


def test_problems_of_reading_are_shown(make_run, make_record):
    run = make_run(make_record(), problems=("records-x.jsonl: skipped a torn last line of 7 bytes",))
    assert "skipped a torn last line of 7 bytes" in printed(run)
    assert "skipped a torn last line of 7 bytes" in markdown.render(view(run))


# What `--json` promises.
PROMISED = (
    "case workload dtype device part phase backend tflops tflops_low tflops_high nominal_tflops efficiency "
    "datasheet_tflops datasheet_efficiency ceiling_tflops normalized_efficiency tflops_median bandwidth_gb_s "
    "convention time_s launches power_w energy_j tflops_per_w verdict verdicts status reason"
)


def test_the_document_is_run_records_and_chain(make_run, a800, make_record):
    run = make_run(a800(250.0), memory(make_record), missing=[BLOCK], problems=("one problem",))
    found = json.loads(to_json(document(run)))
    assert list(found) == ["run", "records", "chain"]
    assert (found["run"]["run"], found["run"]["hostname"]) == (run.id, "node17")
    assert (found["run"]["finished"], found["run"]["missing"]) == (False, [{"case": BLOCK, "device": "cpu"}])
    assert found["run"]["problems"] == ["one problem"]
    product, copy = found["records"]
    assert [name for name in PROMISED.split() if name not in product] == []
    assert all(not isinstance(value, dict) for value in product.values())
    assert product["verdicts"] == ["clean"]
    assert (product["phase"], product["power_w"], product["reason"]) == (None, None, None)
    assert (copy["tflops"], copy["efficiency"]) == (None, None)
    first, second = found["chain"]
    assert (first["from"], first["to"], first["value"]) == ("nominal", "datasheet", 312 / 320)
    assert (second["from"], second["to"], second["provenance"]) == ("datasheet", "gemm", "measured")


def test_a_document_keeps_every_letter(make_run, make_record):
    text = to_json(document(make_run(make_record(), hostname="нода-17")))
    assert json.loads(text)["run"]["hostname"] == "нода-17"
    assert text.isascii()  # whatever the terminal's encoding


def test_neither_nan_nor_infinity_leaves(make_run):
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"tflops": float("nan")})
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json({"tflops": float("inf")})


def test_intervals_that_reach_a_time_of_zero_are_still_a_document(make_run, make_record):
    """Five very noisy batches give such an interval; a record then ends it at 1e9 times the value."""
    wide = {"tflops": 1.0, "tflops_low": 0.2, "tflops_high": 1e9}
    layer = []
    for outputs, inputs, times in ((6144, 4096, 1), (4096, 4096, 1), (14336, 4096, 2), (4096, 14336, 1)):
        dimensions = {"m": 128, "n": outputs, "k": inputs, "layout": "nt", "times": times}
        flops = 2 * 128 * outputs * inputs
        case = f"matmul/bf16/128x{outputs}x{inputs}-nt/normal/warm/-/torch"
        layer.append(
            make_record(case=case, dimensions=dimensions, flops=flops, represents="Llama-3-8B", **wide)
        )
    forward = sum(record.flops * record.dimensions["times"] for record in layer) + 2 * 128**2 * 32 * 128
    block = make_record(
        case="transformer_block/bf16/1x128x4096-forward_backward/normal/warm/-/torch",
        workload="transformer_block",
        represents="Llama-3-8B",
        dimensions={"batch": 1, "tokens": 128, "heads": 32, "head_dim": 128, "pass": "forward_backward"},
        flops=3 * forward,
        **wide,
    )
    run = make_run(make_record(), *layer, block)
    assert "gemm_model" in {link.to for link in chain(run.records)}
    assert json.loads(to_json(document(run)))["chain"]


def test_several_devices_show_their_spread_the_slowest_and_the_gang(make_run, make_manifest, a800):
    (entry,) = make_manifest().devices
    names = ("cuda:0", "cuda:1", "cuda:2")
    records = [a800(tflops, device=name) for tflops, name in zip((240.0, 200.0, 250.0), names, strict=True)]
    devices = tuple(entry.model_copy(update={"name": name}) for name in names)
    seen = view(make_run(*records, devices=devices))
    (across,) = (table for table in seen.tables if table.heading.startswith("Across devices"))
    (row,) = across.rows
    found = dict(zip(across.columns, row, strict=True))
    assert found["case"] == "matmul bf16 1024x1024x1024"
    assert (found["devices"], found["median"], found["slowest"], found["on"]) == ("3", "240", "200", "cuda:1")
    assert found["spread"] == "20.8%"  # (250 − 200) ÷ 240
    assert found["as a gang"] == "600"  # three at the pace of the slowest
    (work,) = (table for table in seen.tables if table.heading.startswith("Achieved"))
    assert [row[0].split()[0] for row in work.rows] == list(names)
    (chain,) = (table for table in seen.tables if table.heading.startswith("The chain"))
    assert {row[1] for row in chain.rows} == set(names)
