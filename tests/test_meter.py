"""The MFU of a training loop: figures, reasons where there is none, the loops of docs/mfu.md, its weight."""

import json
import math
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from nameplate import Meter, mfu
from nameplate.base.errors import InputError
from nameplate.models.shape import ModelShape
from nameplate.specs.recognition import Evidence

H100 = "NVIDIA H100 80GB HBM3"
DOC = Path(__file__).parent.parent / "docs" / "mfu.md"
SIZES = {"layers": 2, "width": 64, "heads": 4, "ffn": 256, "vocabulary": 100, "context": 16}


def test_one_throughput_has_an_mfu_by_every_convention():
    found = mfu(9_600, "llama3-8b", device=H100, context=8192)
    assert found.value == pytest.approx(9_600 * 51.469e9 / 989e12, rel=1e-4)
    assert (found.part, found.peak_tflops, found.reason) == ("nvidia-h100-sxm5-80gb", 989, None)
    assert found.by_convention["megatron"] == found.value == float(found)
    assert found.by_convention["torchtitan"] / found.value == pytest.approx(1.125, abs=1e-3)
    assert found.by_convention["llm_foundry_hfu"] / found.value == pytest.approx(1.582, abs=1e-3)
    assert str(found) == "MFU 50.0% of 989 TFLOPS bf16 of nvidia-h100-sxm5-80gb, FLOPs by megatron"
    by_another = mfu(9_600, "llama3-8b", device="h100", context=8192, convention="torchtitan")
    assert by_another.value == found.by_convention["torchtitan"]
    assert mfu(8 * 9_600, "llama3-8b", device=H100, context=8192, devices=8).value == found.value
    assert found.as_json()["mfu"] == found.value


def test_what_it_is_divided_by():
    assert mfu(1, "llama3-8b", device="A800").peak_tflops == 312  # the datasheet's, not the 320 it is sold as
    assert mfu(1, "llama3-8b", device="h100", dtype=torch.float8_e4m3fn).peak_tflops == 1979
    assert mfu(1, "llama3-8b", device="h100", dtype="torch.bfloat16").dtype == "bf16"
    assert mfu(1, "llama3-8b", device="mi250x").peak_tflops == 191.5  # one of the two devices that torch sees
    given = mfu(1, "llama3-8b", peak_tflops=0.4)
    assert (given.peak_tflops, given.part, given.peak_source) == (0.4, None, "given as peak_tflops")
    evidence = Evidence(H100, memory_bytes=80 << 30, multiprocessors=132)
    assert mfu(1, "llama3-8b", device=evidence).part == "nvidia-h100-sxm5-80gb"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("acme-9000", "isn't recognised: 'acme-9000' isn't the name of a part"),
        ("NVIDIA H100", "alone doesn.t say which part"),  # what a driver says is never completed
        ("cpu", "a CPU's peak is measured"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a slice|MIG"),
        (Evidence(H100, multiprocessors=114), "114"),
    ],
)
def test_a_device_that_isnt_recognised_has_no_mfu_but_a_reason(device, said):
    found = mfu(9_600, "llama3-8b", device=device)
    assert (found.value, found.peak_tflops) == (None, None)
    assert set(found.by_convention.values()) == {None}
    assert re.search(said, found.reason), found.reason
    assert found.tflops == pytest.approx(9_600 * 51.469e9 / 1e12, rel=1e-4)  # what was reached is known
    assert math.isnan(float(found))
    assert str(found).startswith("MFU unknown: ")


def test_torchs_own_device_is_recognised_by_what_torch_says(monkeypatch):
    properties = types.SimpleNamespace(name=H100, total_memory=80 << 30, multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for device in (None, "cuda:0", torch.device("cuda", 0)):
        assert mfu(1, "llama3-8b", device=device).part == "nvidia-h100-sxm5-80gb"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "torch finds no CUDA device" in mfu(1, "llama3-8b").reason


def test_what_isnt_known_of_a_model_is_none_with_the_reason():
    only_parameters = mfu(9_600, 8.03e9, device="h100", convention="6n")
    assert only_parameters.value == pytest.approx(9_600 * 6 * 8.03e9 / 989e12)
    assert [name for name, each in only_parameters.by_convention.items() if each] == ["6n"]
    assert "attention" in mfu(9_600, 8.03e9, device="h100").reason
    shape = ModelShape(32, 4096, 32, 128256, 14336, kv_heads=8)
    assert "give `context`" in mfu(9_600, shape, device="h100").reason
    assert (
        mfu(9_600, shape, device="h100", context=8192).value == mfu(9_600, "llama3-8b", device="h100").value
    )
    both = mfu(9_600, 8e9, device="acme").reason
    assert "attention" in both
    assert "isn't recognised" in both
    assert "no dense figure" in mfu(1, "llama3-8b", device="h100", dtype="fp7").reason


def test_a_config_of_hugging_face_is_a_model_too():
    config = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"intermediate_size": 256, "vocab_size": 100, "max_position_embeddings": 16}
    an_object = types.SimpleNamespace(to_dict=lambda: config)
    values = {mfu(1e6, each, device="h100").value for each in (config, an_object, SIZES)}
    assert len(values) == 1
    assert None not in values


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": "llama9"}, "no such model"),
        ({"model": [1]}, "not a model; got 'list'"),
        ({"model": {**SIZES, "heads": 5}}, "heads must divide width"),
        ({"model": -1.0}, "number of parameters"),
        ({"convention": "palm"}, "no such convention"),
        ({"context": 0}, "context.*above 0"),
        ({"devices": 1.5}, "devices.*whole number"),
        ({"tokens_per_s": -1}, "tokens_per_s"),
        ({"tokens_per_s": math.nan}, "tokens_per_s"),
        ({"peak_tflops": 0}, "peak_tflops"),
    ],
)
def test_what_cant_be_is_one_sentence(arguments, said):
    with pytest.raises(InputError, match=said) as error:
        mfu(**({"tokens_per_s": 1, "model": "llama3-8b", "device": "h100"} | arguments))
    assert "\n" not in str(error.value)


def test_more_than_the_peak_is_warned_of():
    found = mfu(96_000, "llama3-8b", device=H100)
    assert found.value > 1
    assert "can't be right" in found.warning
    assert mfu(9_600, "llama3-8b", device=H100).warning is None


def test_a_meter_counts_steps_after_the_first_by_the_clock():
    times = iter([100.0, 101.0, 103.0, 500.0, 502.0])
    meter = Meter(SIZES, peak_tflops=1e-3, clock=lambda: next(times))
    assert meter.read().value == 0
    for _ in range(3):  # the first call only starts the clock
        meter.update(64)
    assert (meter.tokens, meter.seconds, meter.tokens_per_s) == (128, 3.0, 128 / 3)
    assert meter.read().value == mfu(128 / 3, SIZES, peak_tflops=1e-3).value
    assert meter.read_last().tokens_per_s == 32
    meter.reset()
    meter.update(64)
    assert meter.tokens_per_s == 0
    meter.update(64)
    assert meter.tokens_per_s == 32
    timed = Meter(SIZES, peak_tflops=1e-3)
    timed.update(10, seconds=2.0)
    assert timed.tokens_per_s == 5
    with pytest.raises(InputError, match=r"Meter\.update"):
        timed.update(-1)


def block_of(heading):
    """The Python block under a heading of the document."""
    section = DOC.read_text(encoding="utf-8").split(f"\n## {heading}\n")[1]
    return re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]


def test_the_plain_loop_of_the_document_runs(capsys):
    embedding = torch.nn.Embedding(100, 4)
    names = {
        "model": lambda batch: embedding(batch).sum(),
        "optimizer": torch.optim.SGD(embedding.parameters(), 0.1),
        "batches": [torch.zeros(1, 16, dtype=torch.long)] * 10,
        "tokens_of_a_sequence": 16,
        "world_size": 1,
    }
    exec(block_of("A plain torch loop"), names)
    assert names["meter"].tokens == 9 * 16
    assert "step 9: " in capsys.readouterr().out


def test_the_callback_for_lightning_runs(monkeypatch):
    lightning = types.ModuleType("lightning")
    pl = types.ModuleType("lightning.pytorch")
    pl.Callback, lightning.pytorch = object, pl
    monkeypatch.setitem(sys.modules, "lightning", lightning)
    monkeypatch.setitem(sys.modules, "lightning.pytorch", pl)
    names = {}
    exec(block_of("Lightning"), names)
    logged = []
    trainer = types.SimpleNamespace(world_size=2, log_every_n_steps=1)
    module = types.SimpleNamespace(log=lambda name, value: logged.append((name, value)))
    callback = names["MfuCallback"]("llama3-8b", 8192)
    callback.on_train_start(trainer, module)
    for step in range(3):
        callback.on_train_batch_end(trainer, module, None, {"input_ids": torch.zeros(2, 8)}, step)
    assert callback.meter.tokens == 2 * 2 * 16
    assert [name for name, _ in logged] == ["mfu"] * 3
    callback.on_validation_start(trainer, module)
    assert callback.meter.tokens == 0


def test_the_callback_for_the_hugging_face_trainer_runs(monkeypatch):
    transformers = types.ModuleType("transformers")
    transformers.TrainerCallback = object
    monkeypatch.setitem(sys.modules, "transformers", transformers)
    names = {}
    exec(block_of("Hugging Face Trainer"), names)
    arguments = types.SimpleNamespace(
        world_size=1, per_device_train_batch_size=4, gradient_accumulation_steps=2
    )
    model = types.SimpleNamespace(config=SIZES)
    callback, logs = names["MfuCallback"](16), {}
    for _ in range(3):
        callback.on_step_end(arguments, None, None, model=model)
    callback.on_log(arguments, None, None, logs=logs)
    assert callback.meter.tokens == 2 * 4 * 2 * 16
    assert set(logs) == {"mfu"}


@pytest.mark.process
def test_importing_it_and_making_a_meter_loads_nothing_heavy():
    program = (
        "from nameplate import mfu, Meter; import sys; Meter('llama3-8b', device='h100').update(1);"
        "before = sorted(sys.modules); mfu(1, 'llama3-8b', device='h100'); print(*before);"
        "print(*sorted(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    imported, used = (set(line.split()) for line in done.stdout.splitlines())
    assert not {"torch", "pandas", "scipy", "numpy", "pydantic", "typer", "rich"} & imported
    assert not {"torch", "pandas", "scipy"} & used
    assert "pydantic" in used  # the check above can fail


NO_NUMBERS = (None, float("nan"), float("inf"), -1, 10**400, 10**5000, 1e31, 1e-320, "7", b"7", True, [], 1j)


@pytest.mark.parametrize("given", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_what_is_no_quantity_is_refused_wherever_a_number_is_meant(given):
    good = {"model": "llama3-8b", "device": "h100"}
    meter = Meter(**good)
    meter.update(100, 0.1)
    for broken in (
        lambda: mfu(given, **good),
        lambda: meter.update(given, 0.1),
        lambda: meter.update(100, 0.1 if given is None else given) if given else meter.update(None),
        lambda: mfu(1e4, "llama3-8b", peak_tflops=0 if given is None else given),
        lambda: mfu(1e4, **good, devices=given),
        lambda: mfu(1e4, **good, context=0 if given is None else given),
        lambda: mfu(1e4, **good, convention=given),
        lambda: mfu(1e4, -1 if given is None else given, device="h100"),
    ):
        with pytest.raises(InputError):
            broken()
    assert (meter.tokens, meter.seconds) == (100, 0.1)


def test_numbers_of_other_libraries_become_pythons():
    figure = mfu(np.int64(3), "llama3-8b", peak_tflops=np.float32(2))
    assert json.dumps(figure.as_json(), allow_nan=False)
