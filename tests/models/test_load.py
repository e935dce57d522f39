"""Models as data: shipped ones, TOML files and config.json of Hugging Face, good and bad."""

import json
import re

import pytest

from nameplate.base.errors import InputError
from nameplate.models.load import load_model, load_shipped_models
from nameplate.models.model import Model

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
}


def config(tmp_path, **changes):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({name: value for name, value in (LLAMA | changes).items() if value != "-"}))
    return str(file)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("llama3-8b", 8.03),
        ("llama3-70b", 70.6),
        ("llama3-405b", 405.8),
        ("llama2-7b", 6.74),
        ("mistral-7b", 7.24),
        ("qwen2.5-7b", 7.61),
        ("qwen2.5-72b", 72.7),
        ("mixtral-8x7b", 46.7),
        ("gpt3-175b", 174.6),  # "175 billion", with biases and norms
        ("vit-l-16", 0.3022),  # "307M", with the patches' embedding, the head, biases and norms
        ("driving-8b", 7.99),
    ],
)
def test_a_shipped_model_has_as_many_parameters_as_its_source_says(name, billions):
    model = load_model(name)
    assert model.shape.total_parameters / 1e9 == pytest.approx(billions, rel=0.002)
    assert model.source


def test_every_shipped_model_is_in_that_table():
    assert len(load_shipped_models()) == 11


def test_a_config_of_hugging_face_gives_the_same_sizes(tmp_path):
    read = load_model(config(tmp_path))
    others = {"name": "", "source": "", "context": None}
    assert read.model_copy(update=others) == load_model("llama3-8b").model_copy(update=others)


def test_the_decoder_of_a_model_of_images_is_read(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"model_type": "llama", "text_config": LLAMA}))
    assert load_model(str(file)).layers == 32


def test_without_grouped_queries_each_head_has_its_own_keys(tmp_path):
    assert load_model(config(tmp_path, num_key_value_heads="-")).shape.products[0] == ("qkv", 3 * 4096, 4096)


def test_gpt2_has_names_of_its_own_and_no_gate(tmp_path):
    file = tmp_path / "gpt2.json"
    file.write_text(
        json.dumps({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257})
    )
    model = load_model(str(file))
    assert (model.ffn, model.gated) == (3072, False)
    assert [name for name, *_ in model.shape.products] == ["qkv", "out", "up", "down"]


def test_a_mixture_of_experts_passes_each_token_through_some(tmp_path):
    model = load_model(
        config(tmp_path, model_type="mixtral", num_local_experts=8, num_experts_per_tok=2, vocab_size=32000)
    )
    assert [name for name, *_ in model.shape.products] == [
        "qkv",
        "out",
        "router",
        *["gate", "up", "down"] * 2,
    ]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "bert"}, "a model type whose layer isn't known"),
        ({"hidden_size": "-"}, "a size is missing"),
        ({"num_hidden_layers": -1}, "layers"),
        ({"num_key_value_heads": 5}, "kv_heads that divide heads"),
        ({"hidden_size": 1e300}, "width"),
        ({"num_attention_heads": 24, "num_key_value_heads": 8}, "heads must divide width"),
        ({"num_local_experts": 8}, "active_experts and expert_ffn"),
        ({"model_type": "mixtral", "num_local_experts": 10**12, "num_experts_per_tok": 10**12}, "experts"),
        ({"model_type": ["w" * 5000]}, "a model type whose layer isn't known"),
    ],
)
def test_a_config_that_cant_be_used_is_one_sentence(tmp_path, changes, said):
    with pytest.raises(InputError) as error:
        load_model(config(tmp_path, **changes))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"heads": 31}, "kv_heads that divide heads"),
        ({"heads": 24, "kv_heads": 8}, "heads must divide width"),
        ({"head_dim": 33}, "even number of features"),
        ({"width": -4096}, "width.*got -4096; expected greater than or equal to 1"),
        ({"wdith": 4096}, "wdith.*no such key"),
        ({"norm": "batch"}, "norm.*'rms' or 'layer'"),
        ({"positions": "learned"}, "learned_positions above 0"),
        ({"vocabulary": 0}, "vocabulary above 0"),
    ],
)
def test_a_wrong_block_is_one_sentence(tmp_path, changes, said):
    file = tmp_path / "model.toml"
    sizes = load_model("llama3-8b").model_dump(exclude_none=True) | changes
    file.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in sizes.items()))
    with pytest.raises(InputError) as error:
        load_model(str(file))
    assert re.search(said, str(error.value)), error.value
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "[" * 5000, '{"a":1,"a":2}', "\ufeff{}"])
def test_what_is_no_config_is_one_sentence(tmp_path, text):
    file = tmp_path / "config.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        load_model(str(file))


@pytest.mark.parametrize(
    ("text", "said"),
    [("layers = 2", "required"), ("heds = 2", "no such key"), ("layers = [", "not TOML"), ("", "required")],
)
def test_a_toml_file_that_cant_be_used_is_one_sentence(tmp_path, text, said):
    file = tmp_path / "model.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        load_model(str(file))


def test_a_toml_file_is_a_model(tmp_path):
    file = tmp_path / "model.toml"
    shown = load_model("llama2-7b").model_dump(exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in shown.items()]
    file.write_text("\n".join(lines))
    assert load_model(str(file)) == Model.model_validate(shown)


def test_an_unknown_name_lists_those_that_are_known():
    with pytest.raises(InputError, match=r"no such model; got 'llama9'; expected llama3-8b or .*or a file"):
        load_model("llama9")
