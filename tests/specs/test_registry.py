"""Files of parts: the shipped one, those of users, and what a wrong file is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.base.toml import schema_of
from nameplate.specs.registry import (
    PartsFile,
    extend,
    load_registry,
    load_shipped,
    normalize_name,
)

ROOT = Path(__file__).parents[2]
PARTS = load_shipped().parts


def test_the_published_schema_is_current():
    published = json.loads((ROOT / "docs/schema/parts.schema.json").read_text(encoding="utf-8"))
    assert published == schema_of(PartsFile), "run `make schemas`"


@pytest.mark.process
def test_loading_imports_neither_torch_nor_pandas():
    code = (
        "import sys; from nameplate.specs.registry import load_shipped; load_shipped();"
        "print([name for name in ('torch', 'pandas', 'numpy', 'scipy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


GOOD = """
schema = 1

[sources]
sheet = { text = "ACME X1 datasheet", date = "2026-10" }

[architecture.acme]
source = "sheet"
flop_per_clock = { fp16 = 1024, bf16 = 1024 }

[[part]]
id = "acme-x1"
name = "ACME X1"
vendor = "ACME"
architecture = "acme"
sources = ["sheet"]
driver_names = ["ACME X1 PCIe"]
multiprocessors = 100
maximum_mhz = 2000
memory = [{ gb = 64, type = "HBM3", bandwidth_gb_s = 3000 }]

[part.dense_tflops]
fp16 = 200
bf16 = { value = 200, note = "same unit" }
"""


def test_a_user_s_part_joins_the_shipped_ones_from_a_file_and_from_the_environment(tmp_path, monkeypatch):
    file = tmp_path / "acme.toml"
    file.write_text(GOOD)
    assert (
        load_registry([file]).parts["acme-x1"].datasheet["bf16"].source
        == "ACME X1 datasheet (2026-10); same unit"
    )
    other = tmp_path / "other.toml"
    other.write_text(GOOD.replace("acme-x1", "acme-x2").replace("ACME X1", "ACME X2"))
    monkeypatch.setenv("NAMEPLATE_PARTS", f"{file}{os.pathsep}{other}")
    assert {"acme-x1", "acme-x2"} < load_registry().parts.keys()
    assert len(load_registry([file]).parts) == len(PARTS) + 2  # the same file named twice is read once


def test_a_user_s_part_may_name_shipped_sources_and_architectures():
    text = GOOD.replace('architecture = "acme"', 'architecture = "hopper"').replace(
        'sources = ["sheet"]', 'sources = ["torchtitan"]'
    )
    text = text.replace("fp16 = 200", "fp16 = 800").replace("value = 200", "value = 800")
    assert "torchtitan" in extend(load_shipped(), text, "mine.toml").parts["acme-x1"].datasheet["fp16"].source


def test_a_user_s_part_replaces_a_shipped_one_only_when_it_says_so():
    named = GOOD.replace("ACME X1 PCIe", "NVIDIA L4")
    with pytest.raises(
        InputError, match=r"driver_names.*'NVIDIA L4'.*nvidia-l4 hasn't.*replaces = 'nvidia-l4'"
    ):
        extend(load_shipped(), named, "mine.toml")
    with pytest.raises(InputError, match=r"\.id can't be used; got 'nvidia-l4'.*replaces = 'nvidia-l4'"):
        extend(load_shipped(), GOOD.replace("acme-x1", "nvidia-l4"), "mine.toml")
    with pytest.raises(InputError, match=r"driver_names.*'NVIDIA A100'.*no name that"):
        extend(load_shipped(), GOOD.replace("ACME X1 PCIe", "NVIDIA A100"), "mine.toml")
    with pytest.raises(InputError, match=r"shared_names.*'NVIDIA L40'"):
        extend(
            load_shipped(),
            GOOD.replace('driver_names = ["ACME X1 PCIe"]', 'shared_names = ["NVIDIA L40"]'),
            "m",
        )
    ours = extend(
        load_shipped(), named.replace('vendor = "ACME"', 'vendor = "ACME"\nreplaces = "nvidia-l4"'), "m"
    )
    assert "nvidia-l4" not in ours.parts
    assert "acme-x1" in ours.parts


WRONG = [
    # old, new, key, got, expected
    ("schema = 1", "schema = 2", "schema", "2", "1"),
    ("fp16 = 200", "fp16 = 0", "part[acme-x1].dense_tflops.fp16", "0", "a number above 0"),
    ("fp16 = 200", 'fp16 = "200"', "part[acme-x1].dense_tflops.fp16", "'200'", "a number above 0"),
    ("fp16 = 200", "fp16 = true", "part[acme-x1].dense_tflops.fp16", "True", "a number above 0"),
    ("fp16 = 200", "fp16 = nan", "part[acme-x1].dense_tflops.fp16", "nan", "a number above 0"),
    ("fp16 = 200", "fp17 = 200", "part[acme-x1].dense_tflops.fp17", "'fp17'", "'fp16'"),
    ("fp16 = 200", "fp16 = 400", "part[acme-x1].dense_tflops.fp16", "400", "at most 204.8"),
    ("fp16 = 200", "fp16 = 200\nint8 = 800", "part[acme-x1].dense_tflops.int8", "800", "2 times bf16"),
    ('note = "same unit"', 'nota = "same"', "part[acme-x1].dense_tflops.bf16.nota", "'same'", "no such key"),
    ('vendor = "ACME"', 'vendor = "ACME"\ncolour = "red"', "part[acme-x1].colour", "'red'", "no such key"),
    ('vendor = "ACME"\n', "", "part[acme-x1].vendor", "'nothing'", "the key is required"),
    ('id = "acme-x1"', 'id = "Acme X1"', "part[Acme X1].id", "'Acme X1'", "match pattern"),
    ('sources = ["sheet"]', 'sources = ["shet"]', "part[acme-x1].sources", "'shet'", "[sources]"),
    ('sources = ["sheet"]', "sources = []", "part[acme-x1].sources", "'[]'", "at least 1 item"),
    ('source = "sheet"', 'source = "shet"', "architecture.acme.source", "'shet'", "[sources]"),
    (
        'architecture = "acme"',
        'architecture = "acne"',
        "part[acme-x1].architecture",
        "'acne'",
        "[architecture]",
    ),
    ('date = "2026-10"', 'date = "October"', "sources.sheet.date", "'October'", "match pattern"),
    (
        'vendor = "ACME"',
        'vendor = "ACME"\nreplaces = "acme-x0"',
        "part[acme-x1].replaces",
        "'acme-x0'",
        "known",
    ),
]


@pytest.mark.parametrize(("old", "new", "key", "got", "expected"), WRONG)
def test_a_wrong_file_is_refused_in_one_sentence(old, new, key, got, expected):
    assert old in GOOD
    with pytest.raises(InputError) as caught:
        extend(load_shipped(), GOOD.replace(old, new), "mine.toml")
    sentence = str(caught.value)
    assert sentence.startswith(f"mine.toml: the value of {key}")
    assert "can't be used; got " in sentence
    assert got in sentence
    assert expected in sentence.partition("; expected ")[2]
    assert "\n" not in sentence
    assert caught.value.exit_status == 2


def test_a_file_that_can_t_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none.toml: a file of parts can't be read; got 'No such file"):
        load_registry([tmp_path / "none.toml"])
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(InputError, match="not UTF-8"):
        load_registry([tmp_path / "latin.toml"])
    with pytest.raises(InputError, match=r"mine.toml: not TOML"):
        extend(load_shipped(), "a = ", "mine.toml")


def test_names_are_compared_whole_but_for_case_spaces_and_the_vendor():
    assert normalize_name("NVIDIA  A100-SXM4-40GB ") == normalize_name("a100-sxm4-40gb")
    assert normalize_name("NVIDIA A10") != normalize_name("NVIDIA A100")
    assert normalize_name("NVIDIA A10") != normalize_name("NVIDIA A10G")


@pytest.mark.parametrize(
    ("name", "replaces", "short"),
    [("NVIDIA A100 SXM 48GB", None, "A100 SXM 48GB"), ("NVIDIA A100 SXM4", "nvidia-a100-sxm4-80gb", "A100")],
)
def test_a_user_s_part_takes_no_short_name_of_another_unless_it_replaces_it(name, replaces, short):
    text = GOOD.replace(
        'name = "ACME X1"', f'name = "{name}"\n' + (f'replaces = "{replaces}"' if replaces else "")
    )
    assert extend(load_shipped(), text, "mine.toml").parts["acme-x1"].short_name == short
