"""The answer of a run: at most twelve lines that begin with the health of each device."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.cells import cell_len

import nameplate
from nameplate.base.language import use_language
from nameplate.compare import compare
from nameplate.fleet.price import cost
from nameplate.report.media.terminal import summary_text
from nameplate.report.run import run_document, summary_view
from nameplate.store.folder import read_run

DATA = Path(__file__).parents[1] / "data"
UUID = "GPU-a800000{}-0000-4000-8000-000000000000"
pytestmark = pytest.mark.usefixtures("made_up_figures")


def with_uuids(run):
    devices = tuple(
        each.model_copy(update={"identity": each.identity.model_copy(update={"uuid": UUID.format(n)})})
        for n, each in enumerate(run.manifest.devices)
    )
    return replace(run, manifest=run.manifest.model_copy(update={"devices": devices}))


def answer(run, width=80):
    return summary_text(summary_view(run), width).splitlines()


def test_of_two_cards_the_first_line_names_the_sick_one_and_by_how_much(a800_run):
    run = with_uuids(a800_run(1.0, 0.82))
    first, *others = answer(run)
    assert first.startswith("degraded  cuda:1 (GPU-a8000001): 18.0% below cuda:0 in its best product")
    health = run_document(run)["health"]
    assert [(each["device"], each["uuid"], each["verdict"]) for each in health] == [
        ("cuda:0", UUID.format(0), "unknown"),
        ("cuda:1", UUID.format(1), "degraded"),
    ]
    assert next(line for line in others if line.startswith("unknown")).startswith("unknown   cuda:0")
    # Of many sick ones two have lines of their own, and the healthy ones share one.
    words = ("unfit", "degraded", "unknown")
    sick = [line.split()[:2] for line in answer(a800_run(*[0.6] * 4, *[1.0] * 4)) if line.startswith(words)]
    names = ["cuda:0", "cuda:1", "cuda:2,", "cuda:4,"]
    assert sick == [[word, name] for word, name in zip(["unfit"] * 3 + ["unknown"], names, strict=True)]


def test_the_answer_says_what_is_delivered_beside_the_published_best_and_what_a_model_gets(a800_run):
    said = " ".join(" ".join(answer(a800_run())).split())
    assert (
        "260 of 320 TFLOPS nominal in bf16: 81.2% ± 0.8 (95 % within a process); published best: 84." in said
    )
    assert "4,546 ± 45 tokens a second training Llama-3-8B in bf16 on one device; estimated: 32 ×" in said
    assert "nominal → datasheet 0.975 → gemm_burst 0.881 →" in said
    assert "`bench show runs/20261122T120000-standard-a800 --details`" in said


def test_what_computes_is_no_memory_and_the_fastest_is_named_though_in_doubt(a800_run):
    run = a800_run()
    record = next(each for each in run.records if each.workload == "transformer_block")
    slow = record.model_copy(
        update={"workload": "attention", "case": "attention/bf16/slow/normal/warm/-/torch"}
    )
    fast = slow.model_copy(
        update={
            **{name: 2 * getattr(slow, name) for name in ("tflops", "tflops_low", "tflops_high")},
            "case": "attention/bf16/fast/normal/warm/-/torch",
            "verdict": "unstable",
            "verdicts": ("unstable",),
        }
    )
    lines = answer(replace(run, records=(slow, fast)))
    assert not any(line.startswith("memory") for line in lines)
    (fastest,) = (line for line in lines if line.startswith("fastest"))
    assert fastest.endswith("TFLOPS in attention bf16 fast (in doubt: unstable)")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_answer_fills_at_most_twelve_lines_and_none_is_too_long(a800_run, language):
    text = " see `bench run --resume x`, and a very long warning of somebody's driver about node-17 " * 2
    runs = [
        *map(read_run, [*sorted((DATA / "runs").iterdir()), DATA / "examples" / "node"]),
        *(with_uuids(a800_run(*scales, text=text)) for scales in ([1.0], [1.0, 0.5], [0.5] * 8)),
        with_uuids(a800_run(*[0.5, 0.8] * 4)),
    ]
    with use_language(language):
        for run in runs:
            for width in (80, 120):
                lines = answer(run, width)
                assert 3 <= len(lines) <= 12
                assert all(cell_len(line) <= width for line in lines if "`bench" not in line)
                assert f"{run.folder} --details" in " ".join(lines)


def test_from_python_runs_comparisons_and_costs_have_the_same_text(a800_run):
    run = a800_run(1.0, 0.82)
    assert run.summary() == "\n".join(answer(run))
    found = compare(DATA / "compare" / "base", DATA / "compare" / "slower")
    priced = cost(eflops=10, part="A800", draws=1_000)
    assert "slower than base" in found.summary().replace("\n", " ")
    assert priced.summary() == priced[0].summary()
    for each in (run, found, priced):
        lines = each.summary().splitlines()
        assert len(lines) <= 12
        assert all(cell_len(line) <= 80 for line in lines)
    assert {"measure", "load", "fleet", "mfu"} <= set(dir(nameplate))
    assert "import_module" not in dir(nameplate)
