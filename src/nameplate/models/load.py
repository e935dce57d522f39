"""Load a model: by the name of one that is shipped, from a TOML file, or from a Hugging Face config.json.

A config.json is read as data: no code of the model is run, and unknown keys are left alone, since it is made
for another program.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nameplate.base.errors import InputError
from nameplate.base.files import MIB, parse_json, read_bytes
from nameplate.base.model import FrozenModel, describe_first_error
from nameplate.base.toml import parse_toml, read_file, read_packaged, validate
from nameplate.models.model import Model

_MOST_BYTES = MIB  # the largest published config.json has some 100 kB, most of it a table of labels
_EXPECTED = "a name that is known, a .toml file, or a config.json"
# Model types of Hugging Face whose feed-forward part is gated and whose keys are Llama's.
_LIKE_LLAMA = ("llama", "mistral", "mixtral", "qwen2", "qwen3", "phi3")
# Keys of a config.json by the name of a size; the first that is there counts. GPT-2 has names of its own.
_KEYS: Mapping[str, tuple[str, ...]] = {
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "width": ("hidden_size", "n_embd", "word_embed_proj_dim"),
    "heads": ("num_attention_heads", "n_head"),
    "kv_heads": ("num_key_value_heads",),
    "head_dim": ("head_dim",),
    "ffn": ("intermediate_size", "ffn_dim", "n_inner"),
    "vocabulary": ("vocab_size",),
    "experts": ("num_local_experts", "num_experts"),
    "active_experts": ("num_experts_per_tok",),
    "context": ("max_position_embeddings", "n_positions"),
}
_UNGATED = ("gpt2", "gpt_neox", "opt")
_POSITIONS = {"gpt2": "learned", "opt": "learned"}


class _ModelsFile(FrozenModel):
    model: tuple[Model, ...]


@cache
def load_shipped_models() -> Mapping[str, Model]:
    """Return the models that are shipped, by name."""
    found = parse_toml(_ModelsFile, read_packaged("nameplate.models", "models.toml"), "models.toml").model
    return {each.name: each for each in found}


def find_shipped_model(named: str) -> Model | None:
    """Return the shipped model of that name in any spelling (Llama-3-8B is llama3-8b); None for others."""
    return _shipped_by_letters().get(_keep_letters(named))


@cache
def _shipped_by_letters() -> Mapping[str, Model]:
    return {_keep_letters(each.name): each for each in load_shipped_models().values()}


def _keep_letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def load_model(named: str) -> Model:
    """Return the model of that name, or of that file: `*.json` is a config.json, `*.toml` our own form.

    Raises InputError, in one sentence, for a name that isn't known, a file that can't be read, and sizes that
    are missing or don't fit together.
    """
    if named.endswith(".json"):
        return _read_config(Path(named))
    if named.endswith(".toml"):
        return parse_toml(Model, read_file(named, "a model's sizes"), named)
    shipped = load_shipped_models()
    if named.lower() not in shipped:
        raise InputError(
            "no such model", where="--model", got=named, expected=f"{' or '.join(shipped)}, or a file"
        )
    return shipped[named.lower()]


def find_model(given: object) -> Model:
    """Return the model of a name or file, as `load_model` does, of a mapping of sizes, by our names or those
    of a config.json, or of a Hugging Face config object. Raises InputError for anything else.
    """
    if isinstance(given, Model):
        return given
    if isinstance(given, str | Path):
        return load_model(str(given))
    to_dict = getattr(given, "to_dict", None)
    sizes = to_dict() if callable(to_dict) else given
    if not isinstance(sizes, Mapping):
        raise InputError(
            "not a model", where="model", got=type(given).__name__, expected=f"{_EXPECTED}, or its sizes"
        )
    if "model_type" in sizes:
        return _shape_of_config(_decoder_of(sizes), Path("config"))
    return validate(Model, {"name": "a model of given sizes", **sizes}, "model")


def _decoder_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the config of the decoder in that of a model of text and images; any other as it is."""
    decoder = config.get("text_config")
    return {"model_type": config.get("model_type"), **decoder} if isinstance(decoder, dict) else config


def _read_config(path: Path) -> Model:
    try:
        found = parse_json(read_bytes(path, _MOST_BYTES), any_number=True)
    except OSError as error:
        raise InputError(
            "a model's file can't be read", where=str(path), got=error.strerror, expected=_EXPECTED
        ) from None
    except ValueError as error:
        raise InputError(f"{error}", where=str(path), expected="a config.json of Hugging Face") from None
    if not isinstance(found, dict):
        raise InputError("not a config.json", where=str(path), got=type(found).__name__, expected="an object")
    return _shape_of_config(_decoder_of(found), path)


def _shape_of_config(config: Mapping[str, Any], path: Path) -> Model:
    kind = config.get("model_type")
    if kind not in (*_LIKE_LLAMA, *_UNGATED):
        raise InputError(
            "a model type whose layer isn't known",
            where=f"{path}, model_type",
            got=kind,
            expected=f"{' or '.join((*_LIKE_LLAMA, *_UNGATED))}, or a .toml file with the model's sizes",
        )
    sizes = {name: _first(config, keys) for name, keys in _KEYS.items()}
    if sizes["experts"]:
        sizes["expert_ffn"] = sizes["ffn"]
    if kind == "gpt2" and sizes["ffn"] is None and isinstance(sizes["width"], int):
        sizes["ffn"] = 4 * sizes["width"]  # GPT-2's own default
    if kind == "gpt2" and sizes["context"] is None:
        sizes["context"] = 1024  # … and this
    missing = [name for name in ("layers", "width", "heads", "ffn", "vocabulary") if sizes[name] is None]
    if missing:
        keys = " or ".join(_KEYS[missing[0]])
        raise InputError("a size is missing", where=str(path), got="nothing", expected=f"the key {keys}")
    positions = _POSITIONS.get(str(kind), "rotary")
    if positions == "learned":
        sizes["learned_positions"] = sizes["context"]
        if sizes["context"] is None:
            positions = "none"
    name = str(config.get("_name_or_path") or path.parent.name or path.stem)[:200]
    try:
        return Model.model_validate(
            {
                **{key: value for key, value in sizes.items() if value is not None},
                "name": name,
                "gated": kind in _LIKE_LLAMA,
                "norm": "rms" if kind in _LIKE_LLAMA else "layer",
                "bias": kind in _UNGATED,
                "positions": positions,
                "source": str(path.name),
            }
        )
    except ValidationError as error:
        raise InputError(
            "the model's sizes can't be used",
            where=str(path),
            got=describe_first_error(error),
            expected="sizes that fit together",
        ) from None


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)
