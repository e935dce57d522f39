"""The model of a card as data: what a file may hold, and the sentence for what it may not."""

import json
import re
import tomllib
from pathlib import Path
from typing import get_args

import jsonschema
import pytest

from nameplate.base.errors import InputError
from nameplate.twin import card as cards
from nameplate.twin.faults import Fault, Faults

ROOT = Path(__file__).parents[2]
SHIPPED = (Path(cards.__file__).parent / "data" / "h200.toml").read_text(encoding="utf-8")


def figures_of(model):
    if isinstance(model, cards.Figure):
        yield model
    elif isinstance(model, dict):
        for each in model.values():
            yield from figures_of(each)
    elif isinstance(model, tuple):
        for each in model:
            yield from figures_of(each)
    elif hasattr(type(model), "model_fields"):
        for name in type(model).model_fields:
            yield from figures_of(getattr(model, name))


@pytest.mark.parametrize("name", cards.list_twins())
def test_a_shipped_twin_has_a_source_for_every_figure(name):
    card = cards.read_card(name)
    figures = list(figures_of(card))
    assert len(figures) > 50, name
    for figure in figures:
        assert figure.source in card.sources or (figure.source == cards.ASSUMED and figure.note)


def test_the_peak_follows_from_multiprocessors_and_clock():
    card = cards.read_card("h200")
    assert card.peak_flops("bf16") == pytest.approx(132 * 4096 * 1980e6)
    assert card.peak_flops("bf16", 1830) / 1e12 == pytest.approx(989, rel=0.001)  # its datasheet's


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("idle_mhz =", "idel_mhz =", ["clock.idel_mhz", "no such key"]),
        ('value = 345, source = "seen"', 'value = 345, source = "nowhere"', ["idle_mhz", "[sources]"]),
        ('value = 345, source = "seen"', 'value = 345, source = "assumed"', ["idle_mhz", "a note"]),
        ('value = 345, source = "seen"', "value = 345", ["idle_mhz.source", "required"]),
        ('value = 345, source = "seen"', 'value = 3450, source = "seen"', ["clock", "at most maximum_mhz"]),
        ("value = 0.861", "value = 1.861", ["efficiency", "share"]),
        ("value = 132,", "value = 131.5,", ["multiprocessors", "whole number"]),
        ("value = 700,", "value = -700,", ["limit_w", "above 0"]),
        ("value = 700,", 'value = "700 W",', ["limit_w", "number"]),
        ("value = 700,", "value = nan,", ["limit_w", "finite"]),
        ("zeros = {", "ones = {", ["power.fill", "ones"]),
        ("schema = 1", "schema = 2", ["schema", "1"]),
        ("schema = 1", "schema = ", ["not TOML"]),
        ("[compute.bf16]", "[compute.int4]", ["compute", "int4"]),
        ('name = "h200"', 'name = "h200"\nbase = "h2000"', ["no such twin", "h2000", "twin:h200"]),
        ('name = "h200"', "name.a" + ".a" * 3000 + " = 1", ["not TOML", "nested too deep"]),
        ("value = 345,", "value = 1e-30,", ["clock", "idle_mhz from 0.001"]),
        ("value = 143771,", "value = 1e29,", ["identity", "memory_mib from 0.001 to 1e+09"]),
        ('driver = "580.159.04"', 'driver = "new"', ["identity.driver", "pattern"]),
        ('cuda_driver = "13.0"', 'cuda_driver = "13"', ["identity.cuda_driver", "pattern"]),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence(tmp_path, old, new, said):
    assert old in SHIPPED
    file = tmp_path / "mine.toml"
    file.write_text(SHIPPED.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        cards.read_card(str(file))
    assert "\n" not in str(raised.value)
    for each in said:
        assert each in str(raised.value)


def test_a_file_that_is_not_there_and_a_twin_that_is_not_known_are_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"no such twin.*b200.*twin:h200"):
        cards.read_card("b200")
    with pytest.raises(InputError, match="can't be read"):
        cards.read_card(str(tmp_path / "none.toml"))


def test_a_file_gives_only_what_differs_from_its_base(tmp_path):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(
        'schema = 1\nname = "first"\nbase = "h200"\n'
        '[sources]\nmine = { text = "my own card", date = "2026-11" }\n'
        '[power]\nlimit_w = { value = 600, source = "mine" }\n',
        encoding="utf-8",
    )
    second.write_text(
        'schema = 1\nname = "second"\nbase = "first.toml"\n[environment]\ncontainer = true\n',
        encoding="utf-8",
    )
    card, base = cards.read_card(str(second)), cards.read_card("h200")
    assert (card.name, card.power.limit_w.value, card.environment.container) == ("second", 600, True)
    assert card.power.idle_w == base.power.idle_w
    assert card.clock == base.clock


def test_files_that_build_on_one_another_without_an_end_are_refused(tmp_path):
    for one, other in (("a", "b"), ("b", "a")):
        text = f'schema = 1\nname = "{one}"\nbase = "{other}.toml"\n'
        (tmp_path / f"{one}.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="without an end"):
        cards.read_card(str(tmp_path / "a.toml"))


def test_the_published_schema_is_the_model_s():
    published = json.loads((ROOT / "docs/schema/twin.schema.json").read_text(encoding="utf-8"))
    assert published == cards.schema()


def test_the_schema_accepts_what_the_model_does():
    validator = jsonschema.Draft202012Validator(cards.schema())
    document = tomllib.loads(SHIPPED)
    document["sources"] = {name: dict(each) for name, each in document["sources"].items()}
    validator.validate(document)
    validator.validate({"schema": 1, "name": "mine", "base": "h200", "power": {}})
    assert not validator.is_valid({**document, "cloak": {}})
    assert not validator.is_valid({"schema": 1, "name": "mine", "power": {}})


def test_the_file_that_the_documentation_shows_can_be_used():
    text = (ROOT / "docs/twin.md").read_text(encoding="utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    card = cards.parse_card(example, "docs/twin.md")
    assert (card.name, card.power.limit_w.value, card.environment.gpus) == ("mine", 600, 2)
    for name in cards.list_twins():
        assert f"`{name}`" in text


def test_the_node_of_sick_cards_in_the_docs_has_each_fault_where_it_says_and_every_kind_is_told():
    text = (ROOT / "docs/twin.md").read_text(encoding="utf-8").split("## Sick cards")[1]
    card = cards.parse_card(text.split("```toml\n")[1].split("```")[0], "docs/twin.md")
    assert (card.name, card.environment.gpus) == ("sick-node", 8)
    sick = {gpu: [each.kind for each in Faults.of_gpu(card.fault, gpu).all] for gpu in range(8)}
    assert {gpu: kinds for gpu, kinds in sick.items() if kinds} == {
        2: ["slow"],
        4: ["cooler"],
        6: ["endless"],
    }
    (kinds, *_) = get_args(Fault)
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == {
        get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(kinds)
    }
