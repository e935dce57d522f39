"""Products in 8 and 4 bits: what is stored is what the reference multiplies, and errors are found."""

import pytest
import torch

from nameplate_kernels import BestMatmul, Matmul
from nameplate_kernels.numerics import numerics
from nameplate_kernels.scaled_operands import FORMATS, make_operand

CPU = torch.device("cpu")


def _values(rows, depth, seed=1):
    return torch.randn(rows, depth, generator=torch.Generator().manual_seed(seed)) * torch.logspace(
        -2, 2, rows
    ).view(-1, 1)


@pytest.mark.parametrize(
    ("dtype", "scaling", "bits"),
    [
        ("fp8_e4m3", "tensor", 3),
        ("fp8_e4m3", "rows", 3),
        ("fp8_e4m3", "blocks", 3),
        ("fp8_e5m2", "rows", 2),
        ("mxfp8", "tensor", 3),
        ("nvfp4", "tensor", 1),
    ],
)
def test_stored_numbers_times_their_scales_are_near_what_was_asked_for(dtype, scaling, bits):
    values = _values(256, 512)
    operand = make_operand(values, dtype, "a", scaling)
    exact = operand.values()
    # Rounding to nearest: half of the last bit of the largest numbers of a block.
    largest = values.abs().amax(dim=1, keepdim=True) if scaling != "tensor" else values.abs().max()
    if dtype in ("mxfp8", "nvfp4"):
        group = FORMATS[dtype].group
        largest = values.abs().view(256, -1, group).amax(dim=2).repeat_interleave(group, dim=1)
    assert ((exact - values).abs() <= 2.0 ** -(bits + 1) * largest + 1e-6).all()
    mantissa, _ = torch.frexp(operand.factors)
    assert set(mantissa.unique().tolist()) == {0.5}  # powers of two
    assert exact.double().equal(exact)  # and so exact in fp32
    assert operand.stored.numel() == values.numel() // (2 if dtype == "nvfp4" else 1)


def test_scales_lie_as_the_library_wants_them():
    a = make_operand(_values(256, 512), "fp8_e4m3", "a", "blocks").scale
    assert (a.shape, a.stride()) == ((256, 4), (1, 256))
    b = make_operand(_values(256, 512), "fp8_e4m3", "b", "blocks").scale
    assert (b.shape, b.stride()) == ((4, 2), (1, 4))
    # Of 130 rows of 3 scales: two tiles of 128 by 4, in each of which rows 0, 32, 64 and 96 are neighbours.
    operand = make_operand(_values(130, 96), "mxfp8", "a", "tensor")
    raw, factors = operand.scale.view(torch.uint8), operand.factors.to(torch.float8_e8m0fnu).view(torch.uint8)
    assert raw.shape == (256 * 4,)
    assert raw[:16].view(4, 4)[:, :3].equal(factors[[0, 32, 64, 96]])
    assert raw[512:528].view(4, 4)[0, :3].equal(factors[128])


@pytest.mark.parametrize(
    ("dtype", "scaling", "backend"),
    [
        ("fp8_e4m3", "tensor", "torch"),
        ("fp8_e4m3", "rows", "torch"),
        ("fp8_e5m2", "tensor", "torch"),
        ("int8", "tensor", "torch"),
        ("int8", "tensor", "onednn_packed"),
    ],
)
def test_a_product_passes_its_check_and_a_wrong_one_fails(dtype, scaling, backend):
    work = Matmul(64, 128, 256, dtype, "nt", scaling=scaling, backend=backend)
    prepared = work.prepare(CPU, fill="normal", seed=1)
    with prepared.numerics():
        prepared.compute_reference()
        assert not prepared.buffers[0].launched
        prepared.launches[0]()
    found = prepared.check()
    assert found.passed
    assert found.error == 0 or dtype != "int8"  # integers are exact
    c = prepared.buffers[0].c
    if dtype == "int8":
        c[3, 4] += 1  # one unit of one element
    else:
        c[:, 32:64] = c[:, :32].clone()  # a tile in the wrong place
    assert not prepared.check().passed


def test_sums_of_many_products_are_held_to_a_bound_that_is_smaller_than_they_are():
    """A launch that left out a quarter of K would pass a bound by |A||B|."""
    work = Matmul(32, 64, 4096, "fp8_e4m3", "nt")
    prepared = work.prepare(CPU, fill="normal", seed=1)
    prepared.compute_reference()
    a, b = prepared.buffers[0].exact_operands()
    c = prepared.buffers[0].c  # as if a launch had written it
    c.copy_(a[:, :3072] @ b[:3072])
    assert not prepared.check().passed
    # What Hopper's short sums were seen to lose: 2 % of the root mean square.
    c.copy_(a @ b)
    exact = c.float().clone()
    c.copy_(exact + 0.02 * exact.square().mean().sqrt())
    assert prepared.check().passed


def test_what_a_device_lacks_is_said(monkeypatch):
    assert "blocks of scales on a CPU" in Matmul(128, 128, 128, "mxfp8", "nt").unsupported(CPU)
    assert "CUDA's products" in Matmul(128, 128, 128, "fp16_acc16").unsupported(CPU)
    cuda = torch.device("cuda")
    for capability, has in (
        ((8, 0), {"int8"}),
        ((9, 0), {"int8", "fp8_e4m3", "fp8_e5m2"}),
        ((10, 0), set(FORMATS)),
    ):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device, it=capability: it)
        found = {dtype: Matmul(128, 128, 128, dtype, "nt").unsupported(cuda) for dtype in FORMATS}
        assert {dtype for dtype, reason in found.items() if reason is None} == has
        assert all(f"{capability[0]}.{capability[1]}" in reason for reason in found.values() if reason)
        blocks = Matmul(128, 128, 128, "fp8_e4m3", "nt", scaling="blocks").unsupported(cuda)
        assert (blocks is None) == (capability == (9, 0))
    by_blocks = Matmul(256, 256, 256, "fp8_e4m3", "nt", scaling="blocks")
    assert "on a CPU" in str(by_blocks.unsupported(torch.device("cpu")))
    assert str(by_blocks.unsupported(torch.device("meta"))).startswith("the twin has no model of")


def test_only_sums_in_fp16_are_asked_for_by_their_dtype():
    matmul = torch.backends.cuda.matmul
    with numerics("fp16_acc16"):
        assert matmul.allow_fp16_accumulation
    with numerics("fp16"):
        assert not matmul.allow_fp16_accumulation


@pytest.mark.parametrize(
    "changes",
    [{"layout": "nn"}, {"scaling": "columns"}, {"dtype": "int8", "scaling": "rows"}, {"backend": "magic"}],
)
def test_what_there_is_no_product_of_is_refused(changes):
    with pytest.raises(ValueError, match=r"matmul|backend"):
        Matmul(**{"m": 128, "n": 128, "k": 128, "dtype": "fp8_e4m3", "layout": "nt"} | changes)


def test_a_grid_in_eight_bits_launches_the_first_numbers_of_one_allocation():
    grid = BestMatmul((128, 256), (128,), (256, 512), "int8")
    buffers = grid.allocate(CPU, fill="normal", seed=1)
    launch = buffers.launcher(grid.at({"m": 128, "n": 128, "k": 256, "layout": "nt"}))
    a, b = launch.args
    assert launch().equal(a.int() @ b.int())
    assert grid.axes["layout"] == ("nt",)
    assert grid.at({"m": 128, "n": 128, "k": 256, "layout": "nt"}).bytes == 2 * 128 * 256 + 4 * 128**2
