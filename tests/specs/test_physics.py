"""The check that guards the registry: a figure that hardware can't give is refused when a file is loaded."""

from __future__ import annotations

import re
from importlib import resources

import pytest

from nameplate.base.errors import InputError
from nameplate.specs.physics import check, find_violations
from nameplate.specs.registry import PARTS_FILE, Registry, extend, load_shipped

TEXT = (resources.files("nameplate.specs") / "data" / PARTS_FILE).read_text(encoding="utf-8")
PARTS = load_shipped().parts


def load(text, where="sabotaged.toml"):
    return extend(Registry({}, {}, {}), text, where)


def edited(part, old, new):
    """The shipped text with one replacement inside one part."""
    start = TEXT.index(f'id = "{part}"')
    end = TEXT.find("\n[[part]]", start)
    block = TEXT[start : end if end > 0 else None]
    assert old in block, f"{old!r} isn't in {part}"
    return TEXT.replace(block, block.replace(old, new, 1))


def test_an_unflagged_part_has_no_violation(subtests):
    for part in [part for part in PARTS if not PARTS[part].flags]:
        with subtests.test(part=part):
            assert list(find_violations(PARTS[part])) == []


SINGLE = {  # the one figure a part has, or one that nothing it has can be compared with
    "dense_tflops.fp64",
    "dense_tflops.fp32",
    "dense_tflops.fp32_tensor",
    "dense_tflops.fp16_acc16",
    "dense_tflops.fp8_e4m3_acc16",
    "dense_tflops.fp4",
}
DOUBLED = [
    (part.id, dtype)
    for part in PARTS.values()
    for dtype in part.datasheet
    if f"dense_tflops.{dtype}" not in SINGLE and len(part.datasheet) > 1 and not part.flags
]


def test_a_sparse_figure_entered_as_dense_is_refused(subtests):
    assert DOUBLED
    for part, dtype in DOUBLED:
        found = PARTS[part]
        sparse = found.datasheet[dtype].model_copy(update={"value": 2 * found.datasheet[dtype].value})
        datasheet = {**found.datasheet, dtype: sparse}
        refusal = re.escape(f"part[{part}].dense_tflops.") + ".* can't be used"
        with subtests.test(part=part, dtype=dtype), pytest.raises(InputError, match=refusal):
            check(found.model_copy(update={"dense_tflops": datasheet}))


@pytest.mark.parametrize(
    ("part", "old", "new", "key", "expected"),
    [
        ("nvidia-v100-pcie", "fp16 = 112", "fp16 = 224", "dense_tflops.fp16", "at most 113"),
        ("nvidia-l40s", "fp64 = 1.43", "fp64 = 1.39", "dense_tflops.fp64", "1.431 (142 SM x 2520 MHz x 4"),
        ("nvidia-t4", "rated_mhz = 1590", "rated_mhz = 1500", "dense_tflops.fp32", "7.68 (40 SM x 1500 MHz"),
        ("nvidia-t4", "rated_mhz = 1590", "rated_mhz = 1700", "dense_tflops.fp32", "8.704"),
        (
            "nvidia-h100-sxm5-80gb",
            "{ value = 34, unrounded = 33.5",
            "{ value = 34, unrounded = 26",
            "dense_tflops.fp64",
            "within 3% of its unrounded 26",
        ),
        ("nvidia-t4", "fp16 = 65", "fp16 = 32", "dense_tflops.fp16", "at least 0.85"),
        ("nvidia-h200-sxm-141gb", "bf16 = 989", "bf16 = 312", "dense_tflops.bf16", "at least 0.85"),
        ("nvidia-b300", "bf16 = 2250", "bf16 = 4500", "dense_tflops.fp16", "1 times bf16"),
        ("nvidia-b300", "tf32 = 1125", "tf32 = 2250", "dense_tflops.tf32", "0.5 times bf16"),
        ("nvidia-gb300", "fp8_e4m3 = 5000", "fp8_e4m3 = 10000", "dense_tflops.fp8_e4m3", "2 times bf16"),
        ("google-tpu-v5p", "int8 = 918", "int8 = 459", "dense_tflops.int8", "2 times bf16"),
        (
            "nvidia-a800-sxm4-80gb",
            'figures = ["nominal_tflops.fp16", "nominal_tflops.bf16"]',
            'figures = ["nominal_tflops.bf16"]',
            "nominal_tflops.fp16",
            "at most 311.9",
        ),
        ("nvidia-a800-sxm4-80gb", "fp16 = { value = 320", "fp16 = { value = 312", "flag", "fails"),
    ],
)
def test_a_sabotaged_table_is_refused(part, old, new, key, expected):
    with pytest.raises(InputError) as caught:
        load(edited(part, old, new))
    assert str(caught.value).startswith(f"sabotaged.toml: the value of part[{part}].{key} can't be used")
    assert expected in str(caught.value)


def test_a_conflict_that_says_another_value_is_used_is_refused():
    with pytest.raises(InputError, match=re.escape("conflict[0].used")):
        load(edited("nvidia-a800-pcie-80gb", "used = 300", "used = 250"))
