"""What a person calls a part: any spelling of its names, and bare names that stand for the SXM form."""

from __future__ import annotations

import pytest

from nameplate.base.errors import InputError
from nameplate.specs.rating import rate_evidence
from nameplate.specs.recognition import Evidence, lookup, require, search
from nameplate.specs.registry import extend, load_shipped, normalize_name

BARE = {
    "A100": "nvidia-a100-sxm4-80gb",
    "A800": "nvidia-a800-sxm4-80gb",
    "H100": "nvidia-h100-sxm5-80gb",
    "H200": "nvidia-h200-sxm-141gb",
    "H800": "nvidia-h800-sxm5-80gb",
    "V100": "nvidia-v100-sxm2",
}
# With a word of form or memory: the first of the parts of that name that has it.
SHORT = {
    "a800 sxm": "nvidia-a800-sxm4-80gb",
    "A800 PCIe": "nvidia-a800-pcie-80gb",
    "A100 40GB": "nvidia-a100-sxm4-40gb",
    "A100 PCIe": "nvidia-a100-pcie-80gb",
    "A100 SXM 40 GB": "nvidia-a100-sxm4-40gb",
    "H100 94GB": "nvidia-h100-nvl-94gb",
    "H100 SXM": "nvidia-h100-sxm5-80gb",
    "H200 141GB": "nvidia-h200-sxm-141gb",
    "V100 PCIe 32GB": "nvidia-v100-pcie",
    "RTX 4090": "nvidia-geforce-rtx-4090",
    "RTX 4090 D": "nvidia-geforce-rtx-4090-d",
    "A800 40GB": "nvidia-a800-sxm4-40gb",
    "H20": "nvidia-h20-96gb",
    "5090 D": "nvidia-geforce-rtx-5090-d",
}
# Names that buyers write of cards whose form isn't in question.
BUYERS = {
    "A800 PCIe 40GB": "nvidia-a800-pcie-40gb",
    "H20 141GB": "nvidia-h20-141gb",
    "H20-3e": "nvidia-h20-141gb",
    "5090 D v2": "nvidia-geforce-rtx-5090-d-v2",
    "RTX PRO 6000 Blackwell Server Edition": "nvidia-rtx-pro-6000-server",
    "910B": "huawei-ascend-910b3",
    "910B1": "huawei-ascend-910b1",
    "昇腾910B2": "huawei-ascend-910b2",
    "Ascend 910B4": "huawei-ascend-910b4",
    "910C": "huawei-ascend-910c",
    "950DT": "huawei-ascend-950dt",
    "P800": "kunlunxin-p800",
    "昆仑芯P800": "kunlunxin-p800",
    "MLU590": "cambricon-mlu590",
    "思元590": "cambricon-mlu590",
    "MI308X": "amd-mi308x",
    "Trainium2": "aws-trainium2",
    "Trn2": "aws-trainium2",
    "DGX Spark": "nvidia-gb10",
    "GB10": "nvidia-gb10",
}


@pytest.mark.parametrize("name", BUYERS)
def test_a_card_is_found_by_the_name_that_its_buyers_use(name):
    for written in (name, name.lower(), f" {name}\n"):
        assert lookup(written).id == BUYERS[name]


@pytest.mark.parametrize("name", BARE)
def test_a_bare_name_is_taken_for_the_sxm_form_and_the_note_says_so(name):
    for written in (name, name.lower(), f"NVIDIA {name}", f"nvidia-{name.lower()}", f" {name}\n"):
        found = require(written, load_shipped())
        assert found.part.id == BARE[name]
        assert found.part.form == "SXM"
        assert found.note.startswith(
            f"{written.strip()} is taken as {BARE[name]}; name another form, such as "
        )
        other = found.note.partition("such as ")[2].partition(",")[0]
        assert load_shipped().parts[other].form != "SXM"
        assert lookup(written).id == BARE[name]


def test_the_note_is_one_sentence_with_both_ids():
    said = "A800 is taken as nvidia-a800-sxm4-80gb; name another form, such as nvidia-a800-pcie-80gb, to "
    said += "change that"
    assert require("A800", load_shipped()).note == said
    assert "\x1b" not in require("A800\x1b", load_shipped()).note


@pytest.mark.parametrize("name", SHORT)
def test_a_short_name_is_taken_for_the_first_part_that_has_its_words(name):
    for written in (name, name.upper(), name.replace(" ", "-"), name.replace(" ", ""), f"nvidia {name}"):
        found = require(written, load_shipped())
        assert found.part.id == SHORT[name]
        assert f" is taken as {SHORT[name]}" in found.note


def test_a_short_name_says_which_memory():
    assert require("V100 32GB", load_shipped()).memory.gb.value == 32
    assert require("V100", load_shipped()).memory is None
    assert require("A100 40GB", load_shipped()).memory.gb.value == 40


def spellings(name, vendor):
    """A name with and without its vendor, in other cases, with other separators and without."""
    alone = name[len(vendor) :].lstrip(" -") if name.casefold().startswith(vendor.casefold()) else name
    for written in (name, alone, f"{vendor} {alone}"):
        yield from (written.lower(), written.upper(), written.replace(" ", "-"), written.replace("-", ""))


def test_a_whole_name_finds_its_part_in_every_spelling():
    """Without a note, but for names that stand for several parts."""
    several = {normalize_name(name) for name in (*BARE, "H20", *load_shipped().shared_names)}
    for part in load_shipped().parts.values():
        for name in (part.id, *part.names()):
            for written in spellings(name, part.vendor):
                found = search(written, load_shipped())
                assert found.part is not None, written
                if written.lower().endswith("910b") and written.lower() != part.id:
                    assert found.part.id == "huawei-ascend-910b3"  # what the bare name stands for
                    continue
                assert found.part.id == part.id, written
                assert found.note is None or normalize_name(written.replace("-", " ")) in several, written


@pytest.mark.parametrize(
    "name",
    [
        *("A80", "A8000", "A800X", "A800 48GB", "A800 SXM5", "H100 SXM4", "H100 64GB", "A100 SXM 64GB"),
        *("AMD A800", "RTX 4090 E", "RTX 4090 Laptop GPU", "V100S", "nvidia", "sxm", "80gb", "H20-4e", ""),
        *("910B5", "Ascend 910D", "P8000", "MLU591", "5090 D v3", "MI308", "Trn3", "昆仑芯"),
    ],
)
def test_what_no_part_is_called_is_refused(name):
    with pytest.raises(InputError) as caught:
        lookup(name)
    assert caught.value.exit_status == 2


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(
        InputError, match=r"'A801' isn't the name of a part .* the nearest are .*nvidia-a800-"
    ):
        lookup("A801")


@pytest.mark.parametrize("name", ["A100", "A800", "H100", "V100", "RTX 4090"])
def test_a_device_is_never_recognised_by_a_bare_name(name):
    for said in (name, f"NVIDIA {name}", f"NVIDIA {name} SXM 80 GB"):
        assert rate_evidence(Evidence(said)).part is None
        with pytest.raises(InputError):
            lookup(Evidence(said))


@pytest.mark.long
def test_a_name_with_a_character_less_or_exchanged_is_never_taken_for_another_in_silence():
    names = [name for part in load_shipped().parts.values() for name in part.driver_names]
    changed = {
        name[:index] + put + name[index + 1 :]
        for name in names
        for index in range(len(name))
        for put in ("", "0", "8", "X")
    }
    for written in changed:
        found = search(written, load_shipped())
        if found.part is not None and found.note is None:
            own = [found.part.id, *found.part.names()]
            assert _squashed(written) in {_squashed(each) for each in own}


def _squashed(name):
    return "".join(char for char in name.lower() if char.isalnum()).removeprefix("nvidia").removeprefix("amd")


MINE = """schema = 1
[sources]
me = { text = "my own reading", date = "2026-11" }
[[part]]
id = "acme-h1-pcie"
name = "ACME H1 PCIe"
vendor = "ACME"
form = "PCIe"
sources = ["me"]
[[part]]
id = "acme-h1-sxm"
name = "ACME H1 SXM"
vendor = "ACME"
form = "SXM"
sources = ["me"]
[[bare_name]]
names = ["H1"]
parts = ["acme-h1-pcie", "acme-h1-sxm"]
why = "ours are all PCIe"
"""


def test_a_file_of_one_s_own_says_what_its_bare_names_stand_for():
    known = extend(load_shipped(), MINE, "mine.toml")
    assert require("h1", known).part.id == "acme-h1-pcie"
    assert require("ACME H1 sxm", known).part.id == "acme-h1-sxm"
    assert require("A800", known).part.id == BARE["A800"]


def test_a_file_of_one_s_own_may_give_a_bare_name_another_meaning():
    text = MINE.replace('names = ["H1"]', 'names = ["A800"]')
    text = text.replace('parts = ["acme-h1-pcie", "acme-h1-sxm"]', 'parts = ["nvidia-a800-pcie-80gb"]')
    assert require("a800", extend(load_shipped(), text, "mine.toml")).part.id == "nvidia-a800-pcie-80gb"


def test_a_part_that_takes_another_s_place_has_its_bare_name():
    text = MINE.partition("[[bare_name]]")[0].replace(
        'name = "ACME H1 SXM"', 'name = "ACME H1 SXM"\nreplaces = "nvidia-a800-sxm4-80gb"'
    )
    assert require("A800", extend(load_shipped(), text, "mine.toml")).part.id == "acme-h1-sxm"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('parts = ["acme-h1-pcie", ', 'parts = ["acme-h2-pcie", ', "bare_name[0].parts"),
        ('names = ["H1"]', 'names = ["H1", "h1"]', "bare_name[0].names"),
        ('names = ["H1"]', "names = []", "bare_name[0].names"),
        ('why = "ours are all PCIe"', "", "bare_name[0].why"),
    ],
)
def test_a_bare_name_that_can_not_be_is_refused_with_its_key(before, after, said):
    assert before in MINE
    with pytest.raises(InputError, match=r"^mine.toml: ") as caught:
        extend(load_shipped(), MINE.replace(before, after), "mine.toml")
    assert said in str(caught.value)
