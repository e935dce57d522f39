"""Warnings and reasons as code and values: made and checked, rendered late, never read back."""

from __future__ import annotations

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest

import nameplate
from nameplate.base import language, messages
from nameplate.base.language import use_language
from nameplate.base.messages import (
    Message,
    edit_texts,
    message,
    own_text,
    placeholders,
    render,
    text,
    to_message,
)
from nameplate.base.templates import OURS, TEMPLATES, TEXT
from nameplate.device.protocol import Counters
from nameplate.engine.ceiling import clock_loss, name_losses, probe_losses
from nameplate.engine.conditions import conditions_between
from nameplate.engine.warnings import gpu_warnings
from nameplate.record import Record
from nameplate.report.run import run_document, run_view
from nameplate.run.pool import WorkerResult
from nameplate.specs.rating import rate_part
from nameplate.specs.registry import load_registry
from nameplate.telemetry.gpu import POLICIES, GpuProcess, GpuReading

HARNESS = Path(nameplate.__file__).parent
FOREIGN = "RuntimeError: CUDA error: out of memory; power"
HAN = re.compile(r"[\u3400-\u9fff]")


# ---- making one ----


@pytest.mark.parametrize("code", TEMPLATES)
def test_every_code_has_a_sentence_in_both_languages(every_message, code):
    said = every_message[code]
    english = str(said)
    assert english
    assert not re.search(r"[{}]", english)
    assert render(said) == english
    with use_language("zh"):
        chinese = render(said)
        assert str(said) == english  # whatever language is spoken
    assert chinese
    assert not re.search(r"[{}]", chinese)
    if code not in ("text", "ours", "losses", "clauses") and re.search(
        "[a-z]", re.sub("{.*?}", "", TEMPLATES[code])
    ):
        assert HAN.search(chinese), chinese


def test_an_unregistered_code_is_an_error_that_says_where_to_add_it():
    with pytest.raises(ValueError, match=r"no message has the code 'no_such_thing': add it .*templates\.py"):
        message("no_such_thing")


@pytest.mark.parametrize("values", [{}, {"needed_gb": 1.0}, {"needed_gb": 1.0, "held_gb": 2.0, "left": 3}])
def test_values_that_a_code_does_not_take_are_an_error_that_names_those_it_takes(values):
    with pytest.raises(ValueError, match=r"needs_memory takes the values \['held_gb', 'needed_gb'\]"):
        message("needs_memory", **values)


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": 1}, [["nested"]]])
def test_a_value_that_no_file_can_hold_is_an_error(value):
    with pytest.raises(TypeError, match="a message holds text, numbers and messages"):
        message("budget_spent", budget_s=value)


def test_values_stay_raw_and_plain():
    said = message("few_batches", count=np.int64(3), least=np.float64(20))
    assert said.values == {"count": 3, "least": 20.0}
    assert [type(value) for value in said.values.values()] == [int, float]
    assert message("needs_memory", needed_gb=1 / 3, held_gb=2).values["needed_gb"] == 1 / 3


@pytest.mark.parametrize("value", [None, math.inf, math.nan])
def test_what_is_not_known_or_not_finite_is_shown_as_unknown(value):
    said = message("wide_interval", half_width=value)
    assert said.values == {"half_width": None}
    assert str(said) == "the interval is ±– of the figure"


def test_a_message_has_the_codes_of_its_parts():
    found = [message("few_batches", count=3, least=20), message("not_settled")]
    said = message("sampling", found=found)
    assert said.codes == ("sampling", "few_batches", "not_settled")
    assert message("gpu_not_judged", why="NVML_ERROR_UNKNOWN: why").codes == ("gpu_not_judged",)


def test_messages_are_equal_by_what_they_say_and_can_be_keys(every_message):
    again = {said: code for code, said in every_message.items()}
    assert len(again) == len(TEMPLATES)
    assert message("process_died", how=WorkerResult(-11).how) == message(
        "process_died", how=WorkerResult(-11).how
    )


def test_every_text_of_a_message_can_be_edited_its_code_and_numbers_stay():
    inner = message("name_not_recognised", name="node17", why=message("name_unknown", name="node17"))
    said = message("flagged", figures=["node17", "x"], problem=inner, why=text("on node17"))
    changed = edit_texts(said, lambda each: each.replace("node17", "hidden"))
    assert "node17" not in str(changed)
    assert str(changed) == str(said).replace("node17", "hidden")
    assert changed.codes == said.codes
    numbers = message("few_batches", count=3, least=20)
    assert edit_texts(numbers, str.upper) == numbers


# ---- reading one ----


def test_a_record_is_the_same_after_a_file(make_record, every_message):
    record = make_record(
        warnings=tuple(every_message.values()),
        loss=message("losses", each=[message("lost_to_heat", share=0.09)]),
        nominal_source=message("no_rating"),
        datasheet_source="a datasheet, page 3",
    )
    assert Record.model_validate_json(record.model_dump_json()) == record
    stored = json.loads(record.model_dump_json())
    assert stored["loss"]["values"]["each"] == [{"code": "lost_to_heat", "values": {"share": 0.09}}]


@pytest.mark.parametrize(
    ("code", "values", "said"),
    [
        ("fan_stopped", {"fan": 2, "share": 0.5}, "fan_stopped (fan 2, share 0.5)"),
        ("fan_stopped", {}, "fan_stopped"),
        ("fan_stopped", {"fans": ("a", "b")}, "fan_stopped (fans a b)"),
        ("needs_memory", {"needed_gb": 1.0}, "needs_memory (needed_gb 1.0)"),
        (
            "needs_memory",
            {"needed_gb": "much", "held_gb": "little"},
            "needs_memory (needed_gb much, held_gb little)",
        ),
        (
            "needs_memory",
            {"needed_gb": 10**400, "held_gb": 1},
            f"needs_memory (needed_gb {10**400}, held_gb 1)",
        ),
        ("text", {}, "{text}"),
        ("text", {"text": 3}, "3"),
    ],
)
def test_what_another_version_wrote_is_shown_and_never_fails(make_record, code, values, said):
    line = make_record().model_dump(mode="json") | {"warnings": [{"code": code, "values": values}]}
    (warning,) = Record.model_validate_json(json.dumps(line)).warnings
    if (code, values) != ("text", {}):
        assert str(warning) == said
    for each in ("en", "zh"):
        with use_language(each):
            assert render(warning)


def test_an_unknown_codes_parts_are_said_in_the_readers_language():
    said = Message("fan_stopped", {"why": message("empty_window"), "fan": None})
    assert str(said) == "fan_stopped (why the window has no length, fan –)"
    with use_language("zh"):
        assert render(said) == "fan_stopped (why 窗口时长为零, fan –)"


# ---- text of others ----


@pytest.mark.parametrize("foreign", [FOREIGN, "power", "clean", "needs about {x} GB", "", "signal SIGSEGV"])
def test_foreign_text_is_never_translated(foreign):
    with use_language("zh"):
        assert render(text(foreign)) == foreign
        assert render(foreign) == foreign
        assert render(message("of_new", why=foreign)) == f"新测：{foreign}"
        assert render(message("of_new", why=text(foreign))) == f"新测：{foreign}"
    assert to_message(foreign) == text(foreign)
    assert to_message(message("no_pair")) == message("no_pair")


def test_text_of_our_own_is_looked_up_as_it_stands():
    with use_language("zh"):
        assert render(own_text("contended")) == "受干扰"
        assert render(own_text("contended, or so")) == "contended, or so"
    assert str(own_text("contended")) == "contended"


def test_a_report_shows_foreign_text_verbatim_in_any_language(make_run, make_record):
    run = make_run(
        make_record(warnings=(text(FOREIGN), message("gpu_not_judged", why=FOREIGN))),
        make_record(status="failed", reason=text(FOREIGN), case="matmul/int8/8x8x8/normal/warm/-/torch"),
        problems=[message("device_refused", device="cuda:0", why=FOREIGN), text(FOREIGN)],
    )
    with use_language("zh"):
        shown = run_view(run)
    assert shown.problems == (f"cuda:0：{FOREIGN}", FOREIGN)
    cells = [cell for table in shown.tables for row in table.rows for cell in row]
    assert cells.count(FOREIGN) == 2
    assert f"无法判断是否降频、是否有其他进程：{FOREIGN}" in cells


def test_what_programs_read_is_english_whatever_language_is_spoken(make_run, make_record):
    warning, reason = message("not_settled"), message("budget_spent", budget_s=5.0)
    run = make_run(
        make_record(warnings=(warning,), loss=message("losses", each=[message("lost_to_heat", share=0.3)])),
        make_record(status="skipped", reason=reason, case="matmul/int8/8x8x8/normal/warm/-/torch"),
        problems=[message("torn_line", file="records-x-0.jsonl", count=12)],
    )
    english = run_document(run)
    with use_language("zh"):
        assert run_document(run) == english
    first, second = english["records"]
    assert first["warnings"] == ["throughput had not settled when the time was up"]
    assert (first["loss"], first["reason"]) == ("heat 30%", None)
    assert (first["warning_codes"], first["reason_code"]) == (["not_settled"], None)
    assert (second["reason"], second["reason_code"]) == (
        "the budget of 5.0 s was spent before this case's turn",
        "budget_spent",
    )
    assert english["run"]["problems"] == ["records-x-0.jsonl: skipped a torn last line of 12 bytes"]


# ---- what the engine says, and what is made of it ----


def conditions(**after):
    """A GPU's window of 8 s at whose end its driver tells this; all quiet otherwise."""
    quiet = {f"{policy}_throttle_s": 100.0 for policy in POLICIES}
    quiet |= {"ecc_uncorrected": 0, "processes": (), "pids_match": True}
    first, second = (
        GpuReading(uuid="GPU-1", at_s=10.0, **quiet),
        GpuReading(uuid="GPU-1", at_s=18.0, **(quiet | after)),
    )
    return conditions_between(Counters(10.0, gpu=first), Counters(18.0, gpu=second), 1.0).gpu


def warned(**after):
    (warning,) = gpu_warnings(conditions(**after))
    return warning


def held(policy):
    return {f"{policy}_throttle_s": 104.0}


def processes(*pids):
    return tuple(GpuProcess(pid=pid, used_bytes=0) for pid in pids)


def lost_to(policy):
    return name_losses({clock_loss(conditions(**(held(policy) if policy else {}))): 0.91})


SAID = [
    (
        message("process_died", how=WorkerResult(-11).how),
        "its process ended while it was measured: signal SIGSEGV",
        "测量它时进程终止：信号 SIGSEGV",
    ),
    (
        message("process_died", how=WorkerResult(3).how),
        "its process ended while it was measured: exit status 3",
        "测量它时进程终止：退出状态 3",
    ),
    (
        warned(**held("power")),
        ("held at its power limit for 50.0% of the window, which is normal for sustained work"),
        "窗口中有 50.0% 的时间处于功耗上限，这对持续负载是正常现象",
    ),
    (
        warned(**held("thermal")),
        (
            "the clock was held down for 50.0% of the window (thermal): check its airflow and its "
            "neighbours' heat"
        ),
        "窗口中有 50.0% 的时间频率被压低（温度）：请检查其风道以及相邻设备的散热",
    ),
    (
        warned(**held("software_thermal")),
        (
            "the clock was held down for 50.0% of the window (software thermal): check its airflow and its "
            "neighbours' heat"
        ),
        "窗口中有 50.0% 的时间频率被压低（软件温控）：请检查其风道以及相邻设备的散热",
    ),
    (
        warned(**held("hardware_thermal")),
        (
            "the clock was held down for 50.0% of the window (hardware thermal): check its cooler: this is "
            "the last protection before it shuts down"
        ),
        "窗口中有 50.0% 的时间频率被压低（硬件温控）：请检查散热器：这是关机前的最后一道保护",
    ),
    (
        warned(**held("power_brake")),
        (
            "the clock was held down for 50.0% of the window (power brake): check the server's power "
            "supplies and its power cap"
        ),
        "窗口中有 50.0% 的时间频率被压低（供电制动）：请检查服务器的电源与功率上限",
    ),
    (
        warned(ecc_uncorrected=2),
        (
            "2 uncorrectable memory errors during the window: the result can't be trusted; see "
            "nvidia-smi -q -d ECC, and reset the GPU"
        ),
        "窗口内出现 2 个不可纠正的显存错误：结果不可信；请查看 nvidia-smi -q -d ECC，并重置 GPU",
    ),
    (
        warned(processes=processes(1)),
        "1 other process used the GPU during the window: end it, or wait",
        "测量期间 GPU 上有 1 个其他进程：请结束它，或稍后再测",
    ),
    (
        warned(processes=processes(1, 2)),
        "2 other processes used the GPU during the window: end them, or wait",
        "测量期间 GPU 上有 2 个其他进程：请结束它们，或稍后再测",
    ),
    (
        warned(pids_match=False, processes=processes(1)),
        (
            "other processes on the GPU can't be detected: process ids here aren't those the driver reports; "
            "in a container, share the host's (--pid=host)"
        ),
        "无法得知 GPU 上是否有其他进程：此处的进程号与驱动所见不同；在容器中请共享主机的进程号（--pid=host）",
    ),
    (
        warned(
            power_throttle_s=None,
            absent={"power_throttle_s": message("counted_since_driver_575", driver="535.1")},
        ),
        "throttling (power) wasn't counted: counted since driver 575: this is 535.1",
        "未能统计降频（功耗）：自驱动 575 起才有统计：当前为 535.1",
    ),
    (
        warned(power_throttle_s=None, absent={"power_throttle_s": "NVML_ERROR_NOT_SUPPORTED: field 74"}),
        "throttling (power) wasn't counted: NVML_ERROR_NOT_SUPPORTED: field 74",
        "未能统计降频（功耗）：NVML_ERROR_NOT_SUPPORTED: field 74",
    ),
    (
        name_losses(probe_losses(40.0, 50.0, 60.0, idle=True)),
        "library 17%, contention 20%",
        "计算库 17%、干扰 20%",
    ),
    (name_losses(probe_losses(40.0, 40.0, 50.0, idle=True)), "library 20%", "计算库 20%"),
    (
        name_losses(probe_losses(40.0, 50.0, 80.0, idle=False)),
        "library or contention 38%, contention 20%",
        "计算库或干扰 38%、干扰 20%",
    ),
    (lost_to("power"), "power limit 9%", "功耗上限 9%"),
    (lost_to("thermal"), "heat 9%", "温度 9%"),
    (lost_to(None), "clock 9%", "频率 9%"),
    (
        rate_part(load_registry().parts["nvidia-a800-sxm4-80gb"], "").notes[0],
        (
            "nominal_tflops.fp16 and nominal_tflops.bf16 = 320 would need 1447 MHz, but the part reaches "
            "1410 MHz at most (which gives 311.9): kept because fleets are counted by it; no registry read "
            "lists it, and where it comes from was not found"
        ),
        (
            "nominal_tflops.fp16 与 nominal_tflops.bf16 = 320 需要 1447 MHz，高于该型号的 1410 MHz（"
            "只能达到 311.9）：予以保留，因为各集群按此计数；所查各登记表均未列出，出处未找到"
        ),
    ),
]


@pytest.mark.parametrize(("said", "english", "chinese"), SAID)
def test_what_the_engine_says_is_said_in_either_language(said, english, chinese):
    assert str(said) == english
    assert render(said) == english
    with use_language("zh"):
        assert render(said) == chinese


# ---- the sources ----


def calls(of):
    """Every call of a function by that name in the harness, with the file it is in."""
    for path in sorted(HARNESS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == of:
                yield path, node


def test_every_message_that_the_sources_make_has_its_code_and_its_values():
    found = [(path, call) for path, call in calls("message") if isinstance(call.args[0], ast.Constant)]
    assert len(found) > 80
    for path, call in found:
        code, names = call.args[0].value, {each.arg for each in call.keywords}
        assert code in TEMPLATES, f"{path}:{call.lineno}"
        assert names == placeholders(TEMPLATES[code]), f"{path}:{call.lineno}: {code}"


def test_every_code_is_said_somewhere():
    rest = [path for path in HARNESS.rglob("*.py") if path.name != "templates.py"]
    literals = {
        node.value
        for path in rest
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
    }
    assert TEMPLATES.keys() - literals - {TEXT, OURS} == set()


_SAYING = {"reason", "warnings", "loss", "problems", "notes", "missing", "why", "evidence"}
_MATCHING = {"startswith", "endswith", "find", "index", "split", "partition", "fullmatch", "match", "search"}


def test_no_sentence_is_read_back():
    """Nothing looks for words in what a record, a run or a rating says."""
    for path in HARNESS.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            at = f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In | ast.NotIn):
                is_text = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
                assert not (is_text and _says(node.comparators[0])), at
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                matched = [node.func.value, *node.args] if node.func.attr in _MATCHING else []
                assert not any(map(_says, matched)), at
    assert not hasattr(language, "retold")
    assert [path.name for path in HARNESS.rglob("*.po")] == ["nameplate.po"]
    assert not re.search(r"\bimport re\b", Path(messages.__file__).read_text(encoding="utf-8"))
    assert not re.search(r"\bimport re\b", Path(language.__file__).read_text(encoding="utf-8"))


def _says(node):
    """Whether an expression is what something says, as text: `record.reason`, `str(record.reason or "")`."""
    return any(isinstance(each, ast.Attribute) and each.attr in _SAYING for each in ast.walk(node))
