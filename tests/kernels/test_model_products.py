"""Products of a set: what they count, and a grouped one by a loop."""

import torch

from nameplate_kernels import GROUPED, GroupedProduct, ModelProduct

CPU = torch.device("cpu")


def test_a_grouped_product_is_one_product_a_group_and_each_is_checked():
    work = GroupedProduct(24, 40, 32, "bf16", "nt", represents="a model", times=2, set_flops=1, groups=3)
    single = ModelProduct(24, 40, 32, "bf16", "nt")
    assert (work.name, work.shape) == ("matmul", "3of24x40x32-nt")
    assert (work.flops, work.bytes) == (3 * single.flops, 3 * single.bytes)
    assert work.dimensions["by"] == "loop"
    prepared = work.prepare(CPU, fill="normal", seed=1, copies=2)
    assert len(prepared.launches) == 2
    with prepared.numerics():
        prepared.compute_reference()
        for launch in prepared.launches:
            launch()
        assert prepared.check().passed
        digest = prepared.digest()
        prepared.buffers[1].each[2].c[3, 5] += 8.0
        assert not prepared.check().passed
        assert prepared.digest() == digest  # of the first set


def test_a_grouped_call_needs_a_gpu_that_has_one():
    work = GroupedProduct(24, 40, 32, "fp32", "nt", groups=3, by=GROUPED)
    assert "for bf16 on Hopper and later" in work.unsupported(CPU)
