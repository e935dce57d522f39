"""What links are rated at: a part's own in one direction, PCIe by generation, adapters by their driver."""

from __future__ import annotations

import pytest

from nameplate.base.messages import Message
from nameplate.device.network import read_network
from nameplate.specs.links import RatedLink, find_bounding_link, rate_gpu_link, rate_pcie
from nameplate.specs.recognition import lookup


@pytest.mark.parametrize(
    ("part", "both_ways"),
    [
        ("nvidia-a100-sxm4-80gb", 600),
        ("nvidia-a800-sxm4-80gb", 400),
        ("nvidia-h800-sxm5-80gb", 400),
        ("nvidia-h100-sxm5-80gb", 900),
        ("nvidia-h200-sxm-141gb", 900),
        ("nvidia-h20-96gb", 900),
        ("nvidia-b200", 1800),
        ("huawei-ascend-910b1", 392),
    ],
)
def test_a_part_s_own_link_is_rated_in_one_direction_with_its_source(part, both_ways):
    link = rate_gpu_link(lookup(part))
    assert (link.kind, link.gb_s) == ("gpu link", both_ways / 2)
    assert "(20" in link.source  # a date


def test_pcie_is_rated_by_generation_and_width():
    assert rate_gpu_link(lookup("nvidia-l40s")) is None
    for generation, gts in {3: 8, 4: 16, 5: 32}.items():
        assert rate_pcie(generation, 16).gb_s == pytest.approx(gts * 16 * 128 / 130 / 8, rel=1e-3)
    assert rate_pcie(4, 8).gb_s == pytest.approx(15.75, rel=1e-3)
    assert rate_pcie(9, 16) is None
    assert rate_pcie(None, 16) is None
    assert rate_pcie(4, 0) is None


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text + "\n")


def test_a_node_s_adapters_are_those_that_are_up_and_infiniband_comes_first(tmp_path):
    assert read_network(tmp_path) is None
    for name, speed, state in (("eth0", "25000", "up"), ("eth1", "100000", "down"), ("eth2", "-1", "up")):
        (tmp_path / f"sys/class/net/{name}/device").mkdir(parents=True)
        write(tmp_path, f"sys/class/net/{name}/speed", speed)
        write(tmp_path, f"sys/class/net/{name}/operstate", state)
    write(tmp_path, "sys/class/net/docker0/speed", "400000")  # virtual: no device
    write(tmp_path, "sys/class/net/docker0/operstate", "up")
    assert read_network(tmp_path) == RatedLink("network", 3.125, "an Ethernet adapter, by its driver")
    for number in range(8):
        port = f"sys/class/infiniband/mlx5_{number}/ports/1"
        write(tmp_path, f"{port}/state", "4: ACTIVE" if number else "1: DOWN")
        write(tmp_path, f"{port}/rate", "400 Gb/sec (4X NDR)")
    assert read_network(tmp_path).gb_s == 350


def test_the_slowest_known_link_bounds_a_collective_and_an_unknown_one_leaves_it_without_a_rating():
    nvlink, pcie, network = (
        RatedLink("gpu link", 450, "a"),
        RatedLink("pcie", 63, "b"),
        RatedLink("network", 400, "c"),
    )
    assert find_bounding_link([nvlink, nvlink], [None], nodes=1) is nvlink
    assert find_bounding_link([nvlink, pcie], [None], nodes=1) is pcie
    assert find_bounding_link([nvlink, nvlink], [network, network], nodes=2) is network
    assert isinstance(find_bounding_link([nvlink, None], [None], nodes=1), Message)
    assert isinstance(find_bounding_link([nvlink, nvlink], [network, None], nodes=2), Message)
    assert isinstance(find_bounding_link([], [None], nodes=1), Message)  # CPUs of one node: its memory
