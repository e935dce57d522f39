"""The table of twenty published runs in docs/fleet.md is what `bench fleet derate` says of each today."""

import json
import re
from pathlib import Path

import pytest

from nameplate.base.formatting import count, interval, percent, stated
from nameplate.fleet.mfu import TrainingSetup, estimate_mfu
from nameplate.fleet.mfu_fit import observe
from nameplate.fleet.mfu_links import find_training_run

TEXT = (Path(__file__).parents[2] / "docs" / "fleet.md").read_text(encoding="utf-8")
# Parameters as one would type them, and those at work on a token in a mixture of experts.
RUNS = {
    "mt-nlg-530b-x2240": (530e9, None),
    "bloom-176b-x384": (176e9, None),
    "llama1-65b-x2048": (65e9, None),
    "foundry-a100-7b-x8-t2048": (7e9, None),
    "foundry-a100-7b-x8-t16384": (7e9, None),
    "internevo-7b-x16": (7e9, None),
    "bytedance-megatron-175b-x1024": (175e9, None),
    "megascale-175b-x1024": (175e9, None),
    "bytedance-megatron-175b-x12288": (175e9, None),
    "megascale-175b-x12288": (175e9, None),
    "foundry-h100-7b-x512-t2048": (7e9, None),
    "foundry-h100-70b-x512-t2048": (70e9, None),
    "llama3-405b-x16384": (405e9, None),
    "megatron2024-175b-x4608": (175e9, None),
    "nemo2407-gpt-175b-x128-fp8": (175e9, None),
    "deepseek-v3-hours": (671e9, 37e9),
    "mixtral-8x22b-x128": (141e9, 39e9),
    "colossalai-h200-70b-x16": (70e9, None),
    "bridge2511-gb200-qwen3-235b-x256": (235e9, 22e9),
    "bridge2606-gb300-qwen3-235b-x256-fp8": (235e9, 22e9),
}


def ask(name):
    """The run as it was published, and what is predicted of it."""
    run, (parameters, active) = find_training_run(name), RUNS[name]
    training = TrainingSetup(
        parameters, run.context, active, precision=run.precision, stack=run.stack, year=run.year
    )
    return observe(run), estimate_mfu(run.part, run.devices, training)


def row(name):
    """The line of the table."""
    seen, said = ask(name)
    run, (parameters, active) = seen.run, RUNS[name]
    below, above = seen.high < said.p5, seen.low > said.p95
    published = percent(seen.low) if seen.low == seen.high else interval(percent, seen.low, seen.high)
    cells = (
        f"`{name}`",
        said.part.short_name,
        count(run.devices),
        f"{stated(parameters / 1e9)}B" + (f", {stated(active / 1e9)}B active" if active else ""),
        count(run.context),
        f"{run.stack}, {run.precision}",
        f"{run.year:g}",
        *map(percent, (said.p5, said.p50, said.p95)),
        published,
        "below" if below else "above" if above else "yes",
    )
    return f"| {' | '.join(cells)} |"


def test_the_table_is_what_the_command_says_today():
    expected = [row(name) for name in RUNS]
    lines = [line for line in TEXT.splitlines() if line.startswith(tuple(f"| `{name}` |" for name in RUNS))]
    assert lines == expected, "\n".join(["docs/fleet.md should have:", *expected])
    assert len(RUNS) == 20


def test_runs_that_the_model_was_not_fitted_to_are_said_to_be():
    unfitted = [name for name in RUNS if find_training_run(name).excluded]
    for name in unfitted:
        assert re.search(rf"^(?!\|).*`{name}`", TEXT, re.MULTILINE), name


def test_a_line_can_be_made_by_the_command_itself(bench):
    seen, said = ask("megascale-175b-x12288")
    result = bench(
        *("fleet", "derate", "--part", "A100", "--devices", "12288", "--params", "175e9"),
        *("--context", "2048", "--year", f"{seen.run.year}", "--json"),
    )
    document = json.loads(result.out)
    assert document["p50"] == pytest.approx(said.p50)
    assert document["p5"] <= seen.low <= seen.high <= document["p95"]
