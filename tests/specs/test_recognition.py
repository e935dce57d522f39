"""Names that drivers report, and the evidence beside them: each finds its part, or is refused."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nameplate.base.errors import InputError
from nameplate.specs.rating import rate_evidence
from nameplate.specs.recognition import Evidence, find_nearest, identify, lookup, search
from nameplate.specs.registry import extend, load_shipped, normalize_name

MIB = 1 << 20

NAMES = {
    "NVIDIA A800-SXM4-80GB": "nvidia-a800-sxm4-80gb",
    "NVIDIA A800-SXM4-40GB": "nvidia-a800-sxm4-40gb",
    "NVIDIA A800 80GB PCIe": "nvidia-a800-pcie-80gb",
    "NVIDIA A800 80GB PCIe LC": "nvidia-a800-pcie-80gb",
    "NVIDIA A100-SXM4-40GB": "nvidia-a100-sxm4-40gb",
    "NVIDIA A100-SXM4-80GB": "nvidia-a100-sxm4-80gb",
    "A100-SXM4-40GB": "nvidia-a100-sxm4-40gb",
    "A100-PCIE-40GB": "nvidia-a100-pcie-40gb",
    "NVIDIA A100-PCIE-40GB": "nvidia-a100-pcie-40gb",
    "NVIDIA A100 80GB PCIe": "nvidia-a100-pcie-80gb",
    "NVIDIA H100 80GB HBM3": "nvidia-h100-sxm5-80gb",
    "NVIDIA H100 PCIe": "nvidia-h100-pcie-80gb",
    "NVIDIA H100 NVL": "nvidia-h100-nvl-94gb",
    "NVIDIA H800": "nvidia-h800-sxm5-80gb",
    "NVIDIA H800 PCIe": "nvidia-h800-pcie-80gb",
    "NVIDIA H20": "nvidia-h20-96gb",
    "NVIDIA H200": "nvidia-h200-sxm-141gb",
    "NVIDIA H200 NVL": "nvidia-h200-nvl-141gb",
    "NVIDIA GH200 480GB": "nvidia-gh200",
    "NVIDIA GH200 120GB": "nvidia-gh200",
    "NVIDIA GH200 144G HBM3e": "nvidia-gh200",
    "NVIDIA B200": "nvidia-b200",
    "NVIDIA B300 SXM6 AC": "nvidia-b300",
    "NVIDIA B300": "nvidia-b300",
    "NVIDIA GB200": "nvidia-gb200",
    "NVIDIA GB300": "nvidia-gb300",
    "NVIDIA L4": "nvidia-l4",
    "NVIDIA L20": "nvidia-l20",
    "NVIDIA L40": "nvidia-l40",
    "NVIDIA L40S": "nvidia-l40s",
    "NVIDIA A10": "nvidia-a10",
    "NVIDIA A10G": "nvidia-a10g",
    "NVIDIA A30": "nvidia-a30",
    "NVIDIA A40": "nvidia-a40",
    "NVIDIA RTX A6000": "nvidia-rtx-a6000",
    "NVIDIA RTX 6000 Ada Generation": "nvidia-rtx-6000-ada",
    "NVIDIA RTX PRO 6000 Blackwell Workstation Edition": "nvidia-rtx-pro-6000-blackwell",
    "NVIDIA RTX PRO 6000 Blackwell Server Edition": "nvidia-rtx-pro-6000-server",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "nvidia-rtx-pro-6000-max-q",
    "NVIDIA GeForce RTX 3090": "nvidia-geforce-rtx-3090",
    "NVIDIA GeForce RTX 4090": "nvidia-geforce-rtx-4090",
    "GeForce RTX 4090": "nvidia-geforce-rtx-4090",
    "NVIDIA GeForce RTX 4090 D": "nvidia-geforce-rtx-4090-d",
    "NVIDIA GeForce RTX 5090": "nvidia-geforce-rtx-5090",
    "NVIDIA GeForce RTX 5090 D": "nvidia-geforce-rtx-5090-d",
    "NVIDIA GeForce RTX 5090 D v2": "nvidia-geforce-rtx-5090-d-v2",
    "NVIDIA GB10": "nvidia-gb10",
    "NVIDIA H20-3e": "nvidia-h20-141gb",
    "Tesla V100-SXM2-16GB": "nvidia-v100-sxm2",
    "Tesla V100-SXM2-32GB": "nvidia-v100-sxm2",
    "Tesla V100-PCIE-32GB": "nvidia-v100-pcie",
    "Tesla T4": "nvidia-t4",
    "AMD Instinct MI250X": "amd-mi250x",
    "AMD Instinct MI300X": "amd-mi300x",
    "AMD Instinct MI300X OAM": "amd-mi300x",
    "AMD Instinct MI308X": "amd-mi308x",
    "AMD Instinct MI325X": "amd-mi325x",
    "AMD Instinct MI355X": "amd-mi355x",
    "HL-225": "intel-gaudi2",
    "GAUDI2": "intel-gaudi2",
    "HL-325L": "intel-gaudi3",
    "Ascend910A": "huawei-ascend-910",
    "Ascend910B1": "huawei-ascend-910b1",
    "Ascend910B2": "huawei-ascend-910b2",
    "Ascend910B2C": "huawei-ascend-910b2",
    "Ascend910B3": "huawei-ascend-910b3",
    "Ascend910B4": "huawei-ascend-910b4",
    "Ascend910B4-1": "huawei-ascend-910b4",
    "Ascend950DT": "huawei-ascend-950dt",
    "MLU590-M9": "cambricon-mlu590",
    "MLU590-M9D": "cambricon-mlu590",
    "trn2": "aws-trainium2",
    "Ascend910_9392": "huawei-ascend-910c",
    "TPU v4": "google-tpu-v4",
    "TPU v5 lite": "google-tpu-v5e",
    "TPU v5": "google-tpu-v5p",
    "TPU v6 lite": "google-tpu-v6e",
    "TPU7x": "google-tpu-v7x",
}


def test_a_driver_s_name_finds_its_part(subtests):
    for name, part in NAMES.items():
        with subtests.test(name=name):
            assert lookup(name).id == part
            assert rate_evidence(Evidence(name)).part == part


def test_a_part_is_found_by_its_id_and_by_the_name_of_the_table(subtests):
    for part, found in load_shipped().parts.items():
        with subtests.test(part=part):
            assert lookup(part).id == part
            assert lookup(part.upper()).id == part
            assert lookup(found.name).id == part


REFUSED = {
    "NVIDIA GeForce RTX 4090 Laptop GPU": "nvidia-geforce-rtx-4090",
    "NVIDIA GeForce RTX 4090 D v2": "nvidia-geforce-rtx-4090-d",
    "NVIDIA GeForce RTX 5090 D v3": "nvidia-geforce-rtx-5090-d",
    "NVIDIA A1000": "nvidia-a10",
    "NVIDIA H2000": "nvidia-h20",
    "NVIDIA H20-4e": "nvidia-h20",
    "NVIDIA A10M": "nvidia-a10",
    "NVIDIA A800 40GB Active": "nvidia-a800",
    "NVIDIA A100-SXM-64GB": "nvidia-a100",
    "AMD Instinct MI300A": "amd-mi300x",
    "AMD Instinct MI308X HF": "amd-mi308x",
    "AMD Instinct MI300X HF": "amd-mi300x",
    "NVIDIA Graphics Device": "",
    "TPU v4 lite": "google-tpu-v4",
}


@pytest.mark.parametrize("name", REFUSED)
def test_no_part_is_given_a_neighbour_s_figure(name):
    with pytest.raises(InputError) as caught:
        lookup(name)
    sentence = str(caught.value)
    assert caught.value.exit_status == 2
    assert "isn't the name of a part" in sentence
    assert REFUSED[name] in sentence
    assert "--parts FILE" in sentence
    found = rate_evidence(Evidence(name))
    assert found.part is None
    assert found.nominal_for("fp16").tflops is None
    assert name in str(found.nominal_for("fp16").source)
    assert "--nominal DTYPE=TFLOPS" in str(found.missing)


@pytest.mark.parametrize("name", ["", "  "])
def test_a_device_without_a_name_is_refused(name):
    with pytest.raises(InputError, match="no name"):
        lookup(name)
    assert rate_evidence(Evidence(name, 81920 * MIB, 108)).part is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "MIG slice"),
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", "MIG slice"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "MIG slice"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition MIG 1g.24gb+gfx", "MIG slice"),
        ("NVIDIA RTX Pro 6000 Blackwell DC-1-12Q", "virtual GPU"),
        ("GRID A100X-40C", "virtual GPU"),
        ("NVIDIA A40-48Q", "virtual GPU"),
    ],
)
def test_a_slice_of_a_gpu_is_refused_as_one(name, reason):
    with pytest.raises(InputError, match=reason):
        lookup(name)


EVIDENCE = [
    (Evidence("NVIDIA A800-SXM4-80GB", 81920 * MIB, 108, 400, 0x20F310DE), "nvidia-a800-sxm4-80gb"),
    (Evidence("NVIDIA H100 80GB HBM3", 81559 * MIB, 132, 700, 0x2330), "nvidia-h100-sxm5-80gb"),
    (Evidence("NVIDIA H20", 97871 * MIB, 78, 500), "nvidia-h20-96gb"),
    (Evidence("NVIDIA H200", 143771 * MIB, 132, 700), "nvidia-h200-sxm-141gb"),
    (Evidence("NVIDIA B300 SXM6 AC", 275040 * MIB, 148, 1100), "nvidia-b300"),
    (Evidence("NVIDIA B300", 275040 * MIB, 152, 1100, 0x318210DE), "nvidia-b300"),
    (Evidence("NVIDIA GB200", 189471 * MIB, 152, 1200), "nvidia-gb200"),
    (Evidence("NVIDIA L4", 23034 * MIB, 58, 72, 0x27B810DE), "nvidia-l4"),
    (Evidence("NVIDIA L20", 46068 * MIB, 92, 275), "nvidia-l20"),
    (Evidence("NVIDIA A800-SXM4-40GB", 40960 * MIB, 108, 400, 0x20BD10DE), "nvidia-a800-sxm4-40gb"),
    (Evidence("NVIDIA GeForce RTX 4090 D", 24564 * MIB, 114, 425, 0x268510DE), "nvidia-geforce-rtx-4090-d"),
    (
        Evidence("NVIDIA RTX PRO 6000 Blackwell Server Edition", 97887 * MIB, 188),
        "nvidia-rtx-pro-6000-server",
    ),
    (Evidence("NVIDIA GH200 480GB", 96768 * MIB, 132, 900), "nvidia-gh200"),
    (Evidence("NVIDIA GH200 144G HBM3e", 146831 * MIB, 132, 900), "nvidia-gh200"),
    (Evidence("NVIDIA H200 NVL", 143771 * MIB, 132, 600), "nvidia-h200-nvl-141gb"),
    (Evidence("NVIDIA H100 NVL", 95830 * MIB, 132, 400), "nvidia-h100-nvl-94gb"),
    (Evidence("Tesla T4", 14910 * MIB, 40, 70), "nvidia-t4"),
    (Evidence("NVIDIA A10G", 22502 * MIB, 80), "nvidia-a10g"),
    (Evidence("AMD Instinct MI300X", 196592 * MIB, 304, 750, "1002:74a1"), "amd-mi300x"),
    # A name that several answer to is settled by the rest.
    (Evidence("NVIDIA H100", 81559 * MIB, 132), "nvidia-h100-sxm5-80gb"),
    (Evidence("NVIDIA H100", 81559 * MIB, 114), "nvidia-h100-pcie-80gb"),
    (Evidence("NVIDIA A800", 81920 * MIB, 108, 400), "nvidia-a800-sxm4-80gb"),
    (Evidence("NVIDIA A800", pci_device_id="0x20f5"), "nvidia-a800-pcie-80gb"),
    (Evidence("NVIDIA A100", 40536 * MIB, 108, 250), "nvidia-a100-pcie-40gb"),
    (Evidence("NVIDIA A800 PCIe", 40536 * MIB, 108, 250), "nvidia-a800-pcie-40gb"),
    (Evidence("NVIDIA A800 PCIe", 81920 * MIB, 108, 300), "nvidia-a800-pcie-80gb"),
    (Evidence("NVIDIA H20-3e", 143771 * MIB, 78, 500), "nvidia-h20-141gb"),
    (Evidence("NVIDIA GeForce RTX 5090 D", 32607 * MIB, 170, 575), "nvidia-geforce-rtx-5090-d"),
    (Evidence("NVIDIA GeForce RTX 5090 D v2", 24463 * MIB, 170, 575), "nvidia-geforce-rtx-5090-d-v2"),
    (Evidence("AMD Instinct MI308X", 196592 * MIB, 80), "amd-mi308x"),
    (Evidence("AMD Instinct MI250X / MI250", 65520 * MIB, 110), "amd-mi250x"),
    (Evidence("AMD Instinct MI300X VF", 196592 * MIB, 304), "amd-mi300x"),
    (Evidence("GAUDI3", pci_device_id="1da3:1060"), "intel-gaudi3"),
]


@pytest.mark.parametrize(("evidence", "part"), EVIDENCE, ids=lambda one: getattr(one, "name", one))
def test_evidence_agrees_with_the_name_or_settles_it(evidence, part):
    assert lookup(evidence).id == part
    assert evidence.name in rate_evidence(evidence).evidence


CONTRADICTIONS = [
    (Evidence("NVIDIA H100 PCIe", 81559 * MIB, 132), "132 SMs where that part has 114"),
    (Evidence("NVIDIA A100-SXM4-40GB", 81920 * MIB), "80.0 GiB of memory where that part has 40 GB"),
    (Evidence("Tesla V100-SXM2-32GB", 16160 * MIB), "15.8 GiB of memory where that part has 32 GB"),
    (Evidence("NVIDIA GH200 480GB", 146831 * MIB), "where that part has 96 GB"),
    (Evidence("NVIDIA H100 PCIe", power_limit_w=700), "power limit is 700 W where that part has 350 W"),
    (Evidence("NVIDIA H100 80GB HBM3", pci_device_id=0x233110DE), "PCI id is that of nvidia-h100-pcie-80gb"),
    (Evidence("NVIDIA L4", vendor="AMD"), "the vendor is AMD"),
    (Evidence("NVIDIA H20-3e", 97871 * MIB, 78), "where that part has 141 GB"),
    (Evidence("NVIDIA GeForce RTX 5090 D", 24463 * MIB, 170), "where that part has 32 GB"),
    (Evidence("MLU590-M9", 80 << 30), "80.0 GiB of memory where that part has 96 GB"),
    (Evidence("Ascend910B4", 64 << 30), "64.0 GiB of memory where that part has 32 GB"),
    (Evidence("AMD Instinct MI300X", 24 << 30, 38), "24.0 GiB of memory where that part has 192 GB"),
    (Evidence("AMD Instinct MI250X", 131040 * MIB, 220), "128 GiB of memory where that part has 64 GB"),
]


@pytest.mark.parametrize(("evidence", "reason"), CONTRADICTIONS, ids=lambda one: getattr(one, "name", ""))
def test_evidence_that_contradicts_the_name_is_refused(evidence, reason):
    with pytest.raises(InputError, match=f"the name is that of .*, but .*{reason}"):
        lookup(evidence)
    assert reason in str(rate_evidence(evidence).missing)


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        (Evidence("A800"), ["nvidia-a800-sxm4-80gb", "nvidia-a800-pcie-80gb", "400 W", "300 W", "10de:20f3"]),
        (Evidence("NVIDIA A800", 81920 * MIB, 108), ["alone doesn't say which part"]),
        (Evidence("NVIDIA H100"), ["nvidia-h100-nvl-94gb", "132 SMs", "114 SMs", "94 GB"]),
        (Evidence("NVIDIA H100", multiprocessors=132), ["alone doesn't say"]),  # a 64 GB one has 132 as well
        (Evidence("NVIDIA H100", 65247 * MIB, 132), ["is none of the parts of that name"]),
        (Evidence("AMD Instinct MI250X / MI250"), ["amd-mi250x", "one that isn't in the registry"]),
        (Evidence("AMD Instinct MI250X / MI250", 65520 * MIB, 104), ["104 CUs where that part has 110"]),
        (Evidence("Ascend910B"), ["huawei-ascend-910 or huawei-ascend-910b"]),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_an_ambiguous_name_says_what_would_settle_it(evidence, said):
    with pytest.raises(InputError) as caught:
        lookup(evidence)
    for one in said:
        assert one in str(caught.value)
    assert rate_evidence(evidence).part is None


def test_a_memory_limit_allows_for_what_drivers_keep_back_and_no_more():
    for gib, found in ((24 * 0.916, True), (24 * 0.8, False), (24 * 1.1, False)):
        assert (rate_evidence(Evidence("NVIDIA A10", int(gib * (1 << 30)))).part is not None) == found


def test_the_a800_is_rated_by_both_figures_and_says_why():
    found = rate_evidence(Evidence("NVIDIA A800-SXM4-80GB", 81920 * MIB, 108))
    assert (found.nominal_for("bf16").tflops, found.datasheet_for("bf16").tflops) == (320, 312)
    assert "36Kr" in found.nominal_for("bf16").source
    assert "2024-10-30" in found.nominal_for("bf16").source
    assert any("1447 MHz" in note for note in map(str, found.notes))
    assert found.nominal_for("tf32").tflops == 156
    assert "NVIDIA A800 SXM4 80GB" in str(found.nominal_for("fp8_e4m3").source)


def test_a_part_of_two_devices_is_rated_for_the_one_a_framework_sees():
    found = rate_evidence(Evidence("AMD Instinct MI250X", 65520 * MIB, 110))
    assert found.nominal_for("bf16").tflops == pytest.approx(191.5)
    assert "1/2 of 383" in found.nominal_for("bf16").source
    assert any("2 devices to a framework" in note for note in map(str, found.notes))
    assert lookup("amd-mi250x").datasheet["bf16"].value == 383


def test_fp64_products_are_rated_by_the_matrix_unit():
    a100 = rate_evidence(Evidence("NVIDIA A100-SXM4-80GB"))
    assert a100.nominal_for("fp64").tflops == a100.datasheet_for("fp64").tflops == 19.5
    assert str(a100.nominal_for("fp64").source).startswith("fp64_tensor: ")
    assert rate_evidence(Evidence("NVIDIA L4")).nominal_for("fp64").tflops == 0.473
    assert rate_evidence(Evidence("NVIDIA H100 80GB HBM3")).nominal_for("fp32").tflops == 67


def test_a_conflict_without_a_value_gives_no_figure_and_says_so():
    found = rate_evidence(Evidence("NVIDIA B300"))
    assert found.part == "nvidia-b300"
    assert found.nominal_for("int8").tflops is None
    assert "int8" not in found.rated_dtypes
    for said in ("4500", "125", "none is used"):
        assert said in found.nominal_for("int8").source


def test_a_name_settles_the_memory_size():
    known = load_shipped()
    assert search("NVIDIA GH200 480GB", known).memory.gb.value == 96
    assert search("Tesla V100-SXM2-32GB", known).memory.gb.value == 32
    assert identify(Evidence("NVIDIA V100 SXM2", 32510 * MIB), known).memory.gb.value == 32
    assert search("nvidia-v100-sxm2", known).memory is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("sapphire", "intel-sapphire-rapids"),
        ("granite rapid", "intel-granite-rapids"),
        ("zen 44", "amd-zen4"),
        ("AMD EPYC 9655Z", "amd-zen5"),
    ],
)
def test_nearest_names_have_cpus_only_where_they_are_asked_for(name, nearest):
    assert find_nearest(name, load_shipped(), cpus=True)[0] == nearest
    assert nearest not in find_nearest(name, load_shipped(), count=20)


@pytest.mark.parametrize("name", ["amd-zen4", "Zen 4", "AMD EPYC 9654"])
def test_a_cpu_isn_t_a_part_of_the_registry_and_the_refusal_says_so(name):
    with pytest.raises(InputError) as caught:
        lookup(name)
    assert f"{name!r} is a CPU (AMD Zen 4)" in str(caught.value)
    assert "nearest" not in str(caught.value)


def test_nearest_names_are_parts_of_the_registry():
    assert find_nearest("NVIDIA A800-SXM4-48GB", load_shipped())[0].startswith("nvidia-a800-sxm4-")
    assert set(find_nearest("h100", load_shipped())) <= load_shipped().parts.keys()


OWNERS: dict[str, set[str]] = {}
for _part in load_shipped().parts.values():
    for _name in (_part.id, *_part.names(), *_part.shared_names):
        OWNERS.setdefault(normalize_name(_name), set()).add(_part.id)
    OWNERS.setdefault(_part.id, set()).add(_part.id)

KNOWN = [name for part in load_shipped().parts.values() for name in part.names()]


def check_perturbed(name):
    """Refused, or the part whose own table has exactly this name; never another."""
    part = identify(Evidence(name), load_shipped()).part
    if part is not None:
        assert part.id in OWNERS.get(normalize_name(name), {name.strip().casefold()})


def test_a_name_with_a_character_less_or_exchanged_never_finds_a_neighbour(subtests):
    for name in KNOWN:
        with subtests.test(name=name):
            for index in range(len(name)):
                check_perturbed(name[:index] + name[index + 1 :])
                for other in "0489AGSXD ":
                    check_perturbed(name[:index] + other + name[index + 1 :])
                    check_perturbed(name[:index] + other + name[index:])


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(KNOWN),
    st.integers(0, 60),
    st.text(string.ascii_letters + string.digits + " -/", max_size=3),
    st.integers(0, 2),
)
def test_a_perturbed_name_never_finds_a_neighbour(name, index, put, cut):
    index %= len(name) + 1
    check_perturbed(name[:index] + put + name[index + cut :])


MINE = """schema = 1
[sources]
me = { text = "my own reading", date = "2026-11" }
[[part]]
id = "acme-h1"
name = "H1"
vendor = "ACME"
sources = ["me"]
driver_names = ["NVIDIA GeForce RTX 4090 E"]
dense_tflops = { bf16 = 147 }
"""


def test_a_user_s_part_is_found_by_its_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(MINE)
    found = rate_evidence(Evidence("NVIDIA GeForce RTX 4090 E"), [file])
    assert found.nominal_for("bf16").tflops == 147
    assert "from mine.toml" in found.evidence
    assert str(tmp_path) not in found.evidence  # a folder may say whose machine this is
    assert lookup("acme-h1", [file]).name == "H1"


def test_a_longer_name_is_no_part_s_name():
    known = extend(load_shipped(), MINE, "mine.toml")
    assert search("NVIDIA H100 80GB HBM3", known).part.id == "nvidia-h100-sxm5-80gb"
    assert search("H10", known).part is None
