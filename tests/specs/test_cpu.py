"""CPU ratings: recorded machines through the real files, and what a bad file says."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from importlib import resources

import pytest

from nameplate.base.errors import InputError
from nameplate.specs.cpu import (
    MICROARCHITECTURES_FILE,
    MODELS_FILE,
    explain_absence,
    find_boost,
    find_foreign_flags,
    find_throughput,
    identify,
    load_microarchitectures,
    load_models,
    parse_microarchitectures,
    parse_models,
)
from nameplate.specs.cpu_evidence import (
    CpuEvidence,
    find_certain_name,
    name_by_instructions,
    normalize_brand,
)
from nameplate.specs.cpu_products import find_product, load_products

AVX2 = frozenset({"fma", "avx2", "f16c"})
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512vl", "avx512dq"}
ZEN4 = AVX512 | {"avx512_bf16", "avx512_vnni"}
GOLDEN_COVE = ZEN4 | {"avx_vnni", "avx512_fp16"}
AMX = frozenset({"amx_tile", "amx_bf16", "amx_int8"})
NEOVERSE_V1 = frozenset(
    {"asimd", "fphp", "asimdhp", "asimddp", "asimdfhm", "sve", "svei8mm", "svebf16", "i8mm", "bf16"}
)


def amd(family, model, flags, brand="AMD EPYC"):
    return CpuEvidence("AuthenticAMD", family, model, 1, name=brand, flags=frozenset(flags))


def intel(model, stepping, flags, brand="Intel(R) Xeon(R) Processor"):
    return CpuEvidence("GenuineIntel", 6, model, stepping, name=brand, flags=frozenset(flags))


def arm(part, flags=NEOVERSE_V1, implementer=0x41):
    return CpuEvidence(implementer=implementer, arm_part=part, flags=frozenset(flags))


MACHINES = {
    "Zen 4 guest": (amd(25, 17, ZEN4), "amd-zen4", {"fp64": 16, "fp32": 32, "bf16": 64, "int8": 128}),
    "EPYC 7763": (
        amd(25, 1, AVX2, "AMD EPYC 7763 64-Core Processor"),
        "amd-zen3",
        {"fp64": 16, "fp32": 32},
    ),
    "EPYC 7742": (amd(23, 49, AVX2), "amd-zen2", {"fp64": 16, "fp32": 32}),
    "EPYC 9754 (Zen 4c)": (amd(25, 160, ZEN4), "amd-zen4", {"fp64": 16, "fp32": 32, "bf16": 64, "int8": 128}),
    "EPYC 9755": (amd(26, 2, ZEN4 | {"avx_vnni"}), "amd-zen5", {"fp64": 32, "fp32": 64, "int8": 256}),
    "Ryzen AI 9 HX 370": (amd(26, 36, ZEN4), "amd-zen5-mobile", {"fp64": 16, "fp32": 32}),
    "Emerald Rapids guest without AMX": (
        intel(207, 2, GOLDEN_COVE),
        "intel-emerald-rapids",
        {"fp64": 32, "fp32": 64, "bf16": 32, "fp16": 64, "fp16_acc16": 128, "int8": 256},
    ),
    "Emerald Rapids": (
        intel(207, 2, GOLDEN_COVE | AMX),
        "intel-emerald-rapids",
        {"fp64": 32, "fp32": 64, "bf16": 1024, "fp16": 64, "fp16_acc16": 128, "int8": 2048},
    ),
    "Sapphire Rapids with AVX-512 masked": (
        intel(143, 8, AVX2),
        "intel-sapphire-rapids",
        {"fp64": 16, "fp32": 32},
    ),
    "Granite Rapids": (
        intel(173, 1, GOLDEN_COVE | AMX | {"amx_fp16"}),
        "intel-granite-rapids",
        {"fp64": 32, "fp32": 64, "bf16": 1024, "fp16": 1024, "fp16_acc16": 128, "int8": 2048},
    ),
    "Ice Lake-SP": (
        intel(106, 6, AVX512 | {"avx512_vnni"}),
        "intel-ice-lake-server",
        {"fp64": 32, "fp32": 64, "int8": 256},
    ),
    "Skylake-SP": (intel(85, 4, AVX512), "intel-skylake-x", {"fp64": 32, "fp32": 64}),
    "Cascade Lake": (
        intel(85, 7, AVX512 | {"avx512_vnni"}),
        "intel-cascade-lake",
        {"fp64": 32, "fp32": 64, "int8": 256},
    ),
    "Cooper Lake": (
        intel(85, 11, AVX512 | {"avx512_vnni", "avx512_bf16"}),
        "intel-cooper-lake",
        {"fp64": 32, "fp32": 64, "int8": 256},
    ),
    "Graviton3": (
        arm(0xD40),
        "arm-neoverse-v1",
        {"fp64": 16, "fp32": 32, "fp16_acc16": 64, "fp16": 32, "bf16": 128, "int8": 256},
    ),
    "Graviton2": (
        arm(0xD0C, {"asimd", "fphp", "asimdhp", "asimddp"}),
        "arm-neoverse-n1",
        {"fp64": 8, "fp32": 16, "fp16_acc16": 32, "int8": 64},
    ),
    "Azure Cobalt 100": (
        arm(0xD49, {"asimd"}, implementer=0x6D),
        "arm-neoverse-n2",
        {"fp64": 8, "fp32": 16},
    ),
    "Grace": (
        arm(0xD4F),
        "arm-neoverse-v2",
        {"fp64": 16, "fp32": 32, "fp16_acc16": 64, "fp16": 32, "bf16": 128, "int8": 256},
    ),
    "Apple M2": (CpuEvidence(name="Apple M2"), "apple-m2", {"fp64": 16, "fp32": 32, "fp16_acc16": 64}),
    "Apple M1 under Linux": (
        arm(0x23, implementer=0x61),
        "apple-m1",
        {"fp64": 16, "fp32": 32, "fp16_acc16": 64},
    ),
}


@pytest.mark.parametrize(("evidence", "part", "figures"), MACHINES.values(), ids=MACHINES)
def test_a_recorded_machine_gets_its_part_and_its_figures(evidence, part, figures):
    found = identify(evidence)
    assert found is not None
    assert found.id == part
    usable = find_throughput(found, evidence.flags, evidence.name)
    assert {dtype: figure.flop_per_cycle for dtype, figure in usable.items()} == figures


NO_PARTS = {
    "nothing known": CpuEvidence(),
    "flags alone": CpuEvidence(name="", flags=AVX512),
    "no model": amd(25, None, ZEN4),
    "a family to come": amd(27, 1, ZEN4),
    "Strix Halo, neither of the two Zen 5 entries": amd(26, 112, ZEN4),
    "one of three parts that share a model, without a stepping": intel(85, None, AVX512),
    "the same with a stepping of none of them": intel(85, 8, AVX512),
    "Ice Lake-D, which isn't Ice Lake-SP": intel(108, 1, AVX512),
    "Meteor Lake, of three kinds of core": intel(170, 4, AVX2),
    "Hygon": CpuEvidence("HygonGenuine", 25, 1),
    "a core of Arm's by another implementer": arm(0xD49, implementer=0x42),
    "a core of Arm's to come": arm(0xFFF),
    "Apple M2 Extreme": CpuEvidence(name="Apple M2 Extreme"),
    "Apple M20": CpuEvidence(name="Apple M20"),
}


@pytest.mark.parametrize("evidence", NO_PARTS.values(), ids=NO_PARTS)
def test_a_machine_of_no_known_part_gets_none_never_a_neighbour(evidence):
    assert identify(evidence) is None


@pytest.mark.parametrize(
    ("brand", "fp32"),
    [
        ("Intel(R) Xeon(R) Gold 5218 CPU @ 2.30GHz", 32),  # one 512-bit FMA unit
        ("Intel(R) Xeon(R) Silver 4210R CPU @ 2.40GHz", 32),
        ("Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz", 64),
        ("Intel(R) Xeon(R) Processor", 64),  # hidden: a nominal is an upper bound
        (None, 64),
    ],
)
def test_a_model_with_one_fma_unit_is_not_given_two(brand, fp32):
    evidence = intel(85, 7, AVX512 | {"avx512_vnni"}, brand)
    part = identify(evidence)
    assert part is not None
    assert find_throughput(part, evidence.flags, brand)["fp32"].flop_per_cycle == fp32


@pytest.mark.parametrize(
    ("brand", "mhz"),
    [
        ("AMD EPYC 7763 64-Core Processor", 3500),
        ("AMD EPYC 9654 96-Core Processor", 3700),
        ("AMD EPYC 9R14", 3700),
        ("AMD Ryzen 9 7950X 16-Core Processor", 5700),
        ("AMD Ryzen 7 5700G with Radeon Graphics", 4600),
        ("Intel(R) Xeon(R) Platinum 8380 CPU @ 2.30GHz", 3400),
        ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", 3500),
        ("Intel(R) Xeon(R) Platinum 8480+", 3800),
        ("INTEL(R) XEON(R) PLATINUM 8592+", 3900),
        ("Intel(R) Xeon(R) 6980P", 3900),
        ("Intel(R) Xeon(R) CPU E5-2680 v4 @ 2.40GHz", 3300),
        ("11th Gen Intel(R) Core(TM) i7-1185G7 @ 3.00GHz", 4800),
        ("Ampere(R) Altra(R) Processor Q80-30 CPU @ 3.0GHz", 3000),
        ("AWS Graviton3", 2600),
        ("Apple  M1", 3204),
    ],
)
def test_a_model_named_as_the_kernel_prints_it_has_its_boost(brand, mhz):
    boost = find_boost(brand)
    assert boost is not None
    assert boost.max_boost_mhz == mhz


@pytest.mark.parametrize(
    "brand",
    [
        None,
        "",
        "AMD EPYC",
        "AMD EPYC Processor",
        "AMD EPYC-Rome Processor",
        "AMD EPYC-Milan Processor (2)",
        "Intel(R) Xeon(R) Processor",
        "Intel(R) Xeon(R) Processor @ 2.30GHz",
        "Intel Xeon Processor (Cascadelake)",
        "QEMU Virtual CPU version 2.5+",
        "Common KVM processor",
        "Neoverse-V1",
        "AMD EPYC 7763X 64-Core Processor",
        "AMD EPYC 776 64-Core Processor",
        "AMD EPYC 77",
        "Intel(R) Xeon(R) Platinum 8573C",  # only its all-core turbo is published
        "Apple",
    ],
)
def test_a_hidden_or_unknown_model_has_no_boost(brand):
    assert find_boost(brand) is None


def test_no_name_matches_by_a_part_of_it():
    names = [boost.model for boost in load_models().boosts.values()]
    for name in names:
        for other in (name + "Q", name[:-1], "x" + name):
            found = find_boost(other)
            assert found is None or normalize_brand(found.model) == normalize_brand(other)


def test_every_figure_has_a_source_a_date_and_a_basis():
    for part in load_microarchitectures():
        for figure in part.throughput:
            assert figure.source
            assert figure.date
            assert figure.basis
    for boost in load_models().boosts.values():
        assert boost.group.source
        assert boost.group.date
        assert boost.group.basis


def test_every_model_belongs_to_a_part_of_the_table():
    parts = {part.id for part in load_microarchitectures()}
    assert {boost.group.microarchitecture for boost in load_models().boosts.values()} <= parts


def test_flop_per_cycle_times_cores_times_clock_is_the_datasheets():
    part = identify(amd(25, 17, ZEN4))
    assert part is not None
    bf16 = find_throughput(part, ZEN4)["bf16"]
    assert bf16.flop_per_cycle == 64
    # The datasheet of NVIDIA's Grace, 7.1 TFLOPS of fp64 for 144 cores, at 3.1 GHz.
    grace = identify(arm(0xD4F))
    assert grace is not None
    fp64 = find_throughput(grace, NEOVERSE_V1)["fp64"]
    assert math.isclose(fp64.flop_per_cycle * 144 * 3.1e9 / 1e12, 7.1, rel_tol=0.01)


@pytest.mark.parametrize(
    ("dtype", "evidence", "words"),
    [
        (
            "fp16",
            amd(25, 1, AVX2),
            "no FP16 arithmetic on this CPU (needs AVX512-FP16, AMX-FP16 or Arm FP16)",
        ),
        ("fp16", arm(0xD0C), "no sourced figure for fp16 on Arm Neoverse N1"),
        ("bf16", amd(25, 17, AVX512), "bf16 on AMD Zen 4 needs avx512_bf16"),
        ("bf16", intel(207, 2, AVX2), "needs avx512_bf16 or amx_bf16"),
        ("fp32", CpuEvidence(), "not recognised"),
    ],
)
def test_the_reason_for_a_missing_dtype_says_what_it_needs(dtype, evidence, words):
    assert words in str(explain_absence(dtype, identify(evidence), evidence.flags))


def text_of(name):
    return (resources.files("nameplate.specs") / "data" / name).read_text(encoding="utf-8")


def replaced(text, old, new):
    """Change the first `old` of a file."""
    assert old in text
    return text.replace(old, new, 1)


BAD_MICROARCHITECTURES = {
    "a misspelt key": (
        ("basis =", "bais ="),
        "microarchitecture[amd-zen2].throughput[0].bais",
        "got 'published'; expected no such key",
    ),
    "a flag of another spelling": (
        ('"avx2"', '"AVX2"'),
        "microarchitecture[amd-zen2].flags[0]",
        "got 'AVX2'; expected 'avx2'",
    ),
    "no date": (
        ('date = "2026-11-22"\n', ""),
        "microarchitecture[amd-zen2].throughput[0].date",
        "got 'nothing'; expected a value: the key is required",
    ),
    "a date that isn't one": (
        ('date = "2026-11-22"', 'date = "yesterday"'),
        "microarchitecture[amd-zen2].throughput[0].date",
        "got 'yesterday'; expected String should match",
    ),
    "no source": (
        ('source = "', 'source = "" # '),
        "microarchitecture[amd-zen2].throughput[0].source",
        "got ''; expected String should have at least 8",
    ),
    "a negative figure": (
        ("flop_per_cycle = 16", "flop_per_cycle = -16"),
        "microarchitecture[amd-zen2].throughput[0].flop_per_cycle",
        "got -16; expected greater than 0",
    ),
    "a cluster's figure": (
        ("flop_per_cycle = 16", "flop_per_cycle = 8192"),
        "microarchitecture[amd-zen2].throughput[0].flop_per_cycle",
        "got 8192; expected less than or equal to 4096",
    ),
    "a figure no lanes give": (
        ("flop_per_cycle = 16", "flop_per_cycle = 62"),
        "microarchitecture[amd-zen2].throughput[0]",
        "expected flop_per_cycle a power of two times an odd number up to 9",
    ),
    "one machine, two parts": (
        ("family = 25\nmodels = [[0, 15], [32, 95]]", "family = 23\nmodels = [[0, 50]]"),
        "microarchitecture[amd-zen3].identify",
        "got 'the same machines as amd-zen2'; expected no machine recognised as two parts",
    ),
    "one id, two parts": (
        ('id = "amd-zen3"', 'id = "amd-zen2"'),
        "microarchitecture[amd-zen2].id",
        "got 'amd-zen2'; expected an id of its own",
    ),
    "half an identity": (
        ("family = 23\n", ""),
        "microarchitecture[amd-zen2].identify[0]",
        "expected vendor, family and models; or implementer and parts; or brands",
    ),
    "two figures for one path": (
        ('dtype = "fp64"', 'dtype = "fp32"'),
        "microarchitecture[amd-zen2].throughput[1]",
        "got 'fp32 with avx2, fma'; expected one figure for a dtype and its flags",
    ),
    "tiles below vectors": (
        ("flop_per_cycle = 1024", "flop_per_cycle = 16"),
        "microarchitecture[intel-sapphire-rapids].throughput[5].flop_per_cycle",
        "got 16; expected with AMX, at least the 32 of AVX-512",
    ),
    "a figure by a flag that the part can't show": (
        ('flags = ["avx2", "fma"]', 'flags = ["fma"]'),
        "microarchitecture[amd-zen2].throughput[0].requires",
        "got 'avx2'; expected a flag that the part can show",
    ),
    "efficiency cores of no entry": (
        ('efficiency = "intel-gracemont"', 'efficiency = "intel-crestmont"'),
        "microarchitecture[intel-alder-lake].efficiency",
        "got 'intel-crestmont'; expected the id of another entry",
    ),
    "efficiency cores of its own": (
        ('efficiency = "apple-m1-efficiency"', 'efficiency = "apple-m1"'),
        "microarchitecture[apple-m1].efficiency",
        "got 'apple-m1'; expected the id of another entry",
    ),
    "another schema": (("schema = 1", "schema = 2"), "schema", "got 2; expected 1"),
}


@pytest.mark.parametrize(
    ("change", "key", "rest"), BAD_MICROARCHITECTURES.values(), ids=BAD_MICROARCHITECTURES
)
def test_a_bad_microarchitectures_file_names_file_key_got_and_expected(change, key, rest):
    bad = replaced(text_of(MICROARCHITECTURES_FILE), *change)
    with pytest.raises(InputError) as caught:
        parse_microarchitectures(bad, "copy.toml")
    sentence = str(caught.value)
    assert sentence.startswith(f"copy.toml: the value of {key}")
    assert rest in sentence
    assert re.search(r"; got .+; expected .+", sentence)


BAD_MODELS = {
    "a clock in GHz": (
        ('"AMD EPYC 7F72" = 3700', '"AMD EPYC 7F72" = 3'),
        "models[0].max_boost_mhz.AMD EPYC 7F72",
        "got 3; expected greater than or equal to 1000",
    ),
    "a clock too high": (
        ('"AMD EPYC 7F72" = 3700', '"AMD EPYC 7F72" = 9000'),
        "models[0].max_boost_mhz.AMD EPYC 7F72",
        "got 9000; expected less than or equal to 6500",
    ),
    "an unknown part": (
        ('"amd-zen2"', '"amd-zen9"'),
        "models[0].microarchitecture",
        f"got 'amd-zen9'; expected an id of {MICROARCHITECTURES_FILE}",
    ),
    "a name that hides its model": (
        ('"AMD EPYC 7F72"', '"AMD EPYC Processor"'),
        "models[0].max_boost_mhz.AMD EPYC Processor",
        "got 'AMD EPYC Processor'; expected a model name with its number",
    ),
    "one model twice": (
        ('"AMD EPYC 7F52"', '"AMD EPYC(TM) 7F72 24-Core Processor"'),
        "models[0].max_boost_mhz.AMD EPYC(TM) 7F72 24-Core Processor",
        "expected one entry a model; 'AMD EPYC 7F72' is the same name",
    ),
    "a misspelt key": (("basis =", "base ="), "models[0].base", "expected no such key"),
    "no source": (('source = "', 'source = "" # '), "models[0].source", "got ''"),
}


@pytest.mark.parametrize(("change", "key", "rest"), BAD_MODELS.values(), ids=BAD_MODELS)
def test_a_bad_models_file_names_file_key_got_and_expected(change, key, rest):
    bad = replaced(text_of(MODELS_FILE), *change)
    with pytest.raises(InputError) as caught:
        parse_models(bad, "copy.toml", {part.id for part in load_microarchitectures()})
    sentence = str(caught.value)
    assert sentence.startswith(f"copy.toml: the value of {key}")
    assert rest in sentence
    assert re.search(r"; got .+; expected .+", sentence)


def test_a_file_that_is_not_toml_says_so():
    with pytest.raises(InputError, match=r"copy\.toml: not TOML; got .*; expected a TOML document"):
        parse_microarchitectures("[[microarchitecture]\n", "copy.toml")


@pytest.mark.process
def test_importing_the_ratings_stays_light():
    code = (
        "import sys, nameplate.specs; assert 'pydantic' not in sys.modules; import nameplate.specs.cpu;"
        "print(sorted({'torch', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_figure_is_of_flags_that_the_part_can_show_and_of_no_other_vendor():
    for part in load_microarchitectures():
        assert part.foreign_flags(part.flags) == ()
        for vendor in {each.vendor for each in part.identify if each.vendor}:
            assert find_foreign_flags(vendor, part.flags) == ()


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (("Amazon EC2", "m7g.large"), "AWS Graviton3"),
        (("AWS Graviton3",), "AWS Graviton3"),
        (("Amazon EC2x",), None),
        ((), None),
    ],
)
def test_a_product_is_named_by_whole_words_of_the_firmware(texts, name):
    assert find_product(arm(0xD40), texts) == name
    assert find_product(arm(0xD40, implementer=0x42), texts) is None


def test_every_product_is_of_a_part_and_one_with_a_clock_is_of_the_same():
    for product in load_products():
        found = {
            part.id
            for number in product.parts
            if (part := identify(arm(number, implementer=product.implementer)))
        }
        assert len(found) == 1
        boost = find_boost(product.name)
        assert boost is None or {boost.group.microarchitecture} == found


def test_two_processors_in_no_table_have_two_names_and_each_is_read_again():
    same = arm(0xD08, {"asimd"})
    other = arm(0x0A1, {"asimd"}, implementer=0x43)
    names = [name_by_instructions(each, "aarch64") for each in (same, other, same)]
    assert names[0] == names[2] != names[1]
    for name in names:
        assert find_certain_name(name.id) == name
    assert find_certain_name("aarch64") is None
    assert find_certain_name("aarch64-nonsense") is None


@pytest.mark.parametrize(
    ("evidence", "architecture", "tier"),
    [
        (amd(99, 1, GOLDEN_COVE | AMX | {"amx_fp16"}), "x86_64", "x86-64-amx-fp16"),
        (amd(99, 1, GOLDEN_COVE | AMX), "AMD64", "x86-64-amx"),
        (amd(99, 1, GOLDEN_COVE), "", "x86-64-avx512-fp16"),
        (amd(99, 1, AVX2), "x86_64", "x86-64-avx2"),
        (amd(99, 1, ()), "i686", "x86"),
        (arm(0xFFF, NEOVERSE_V1 | {"sve2"}), "arm64", "aarch64-sve2"),
        (arm(0xFFF, NEOVERSE_V1), "", "aarch64-bf16"),
        (arm(0xFFF, {"asimd"}), "aarch64", "aarch64"),
        (CpuEvidence(), "riscv64", "riscv64"),
        (CpuEvidence(), "toaster", "cpu"),
    ],
)
def test_an_unknown_processor_is_named_by_the_best_that_its_flags_show(evidence, architecture, tier):
    assert name_by_instructions(evidence, architecture).id.rpartition("-")[0] == tier
