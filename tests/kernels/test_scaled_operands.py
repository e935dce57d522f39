"""Products in 8 and 4 bits: what is stored is what the reference multiplies, and errors are found."""

import pytest
import torch

from nameplate_kernels import BestMatmul, Matmul
from nameplate_kernels.numerics import numerics, product_precision_of
from nameplate_kernels.scaled_operands import (
    FORMATS,
    has_fast_sums,
    make_launch,
    make_operand,
    make_scales,
    why_refused,
)

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
        blocks = Matmul(128, 128, 512, "fp8_e4m3", "nt", scaling="blocks").unsupported(cuda)
        assert (blocks is None) == (capability == (9, 0))
    by_blocks = Matmul(256, 256, 256, "fp8_e4m3", "nt", scaling="blocks")
    assert "on a CPU" in str(by_blocks.unsupported(torch.device("cpu")))
    assert str(by_blocks.unsupported(torch.device("meta"))).startswith("the twin has no model of")


ON_META, CUDA = torch.device("meta"), torch.device("cuda")
KINDS = [
    *(("fp8_e4m3", scaling) for scaling in ("tensor", "rows", "blocks")),
    *(("fp8_e5m2", "tensor"), ("fp8_e5m2", "rows")),
    *(("mxfp8", "tensor"), ("nvfp4", "tensor"), ("int8", "tensor")),
]


def call_on_meta(m, n, k, dtype, scaling="tensor", change=lambda operands: operands):
    """Have torch look at the call of a product, as at one of CUDA tensors, without a GPU.

    torch's meta functions check what CUDA's code does, of tensors of which it isn't told whose they are
    (`device_hint` in torch/_meta_registrations.py).
    """
    a, b = (make_operand(torch.ones(rows, k), dtype, which, scaling) for rows, which in ((m, "a"), (n, "b")))
    tensors = change([a.stored, b.stored, a.scale, b.scale])
    c = torch.empty(m, n, dtype=product_precision_of(dtype).result_dtype, device=ON_META)
    moved = [None if each is None else each.to(ON_META) for each in tensors]
    launch = make_launch(*moved, c, has_fast_sums(dtype, scaling))
    found = launch()
    return found if dtype == "int8" else launch.result


@pytest.mark.parametrize(("dtype", "scaling"), KINDS)
def test_every_call_is_one_that_torch_takes_of_cuda_tensors(dtype, scaling):
    m, n, k = 384, 256, 1536
    result = call_on_meta(m, n, k, dtype, scaling)
    assert result.shape == (m, n)
    assert result.dtype == product_precision_of(dtype).result_dtype
    assert result.is_meta
    for rows, which in ((m, "a"), (n, "b")):
        values = torch.ones(rows, k)
        asked, made = make_operand(values, dtype, which, scaling).scale, make_scales
        ones = made(rows, k, dtype, which, scaling, values)  # of a grid's points
        assert (asked is None) == (ones is None)
        if asked is not None:
            assert (ones.shape, ones.stride(), ones.dtype) == (asked.shape, asked.stride(), asked.dtype)


def test_the_meta_functions_refuse_what_cuda_refuses():
    """Else the test above would hold nothing."""

    def wrong(place, change):
        def change_one(tensors):
            tensors[place] = change(tensors[place])
            return tensors

        return change_one

    for dtype, scaling, change in (
        ("fp8_e4m3", "tensor", wrong(2, torch.Tensor.double)),
        ("fp8_e4m3", "tensor", wrong(1, lambda b: b.t().contiguous().t())),
        ("fp8_e4m3", "rows", wrong(3, torch.t)),
        ("fp8_e4m3", "blocks", wrong(3, lambda scale: scale[:-1])),
        ("mxfp8", "tensor", wrong(2, lambda scale: scale[:-1])),
        ("nvfp4", "tensor", wrong(3, lambda scale: scale.view(torch.uint8).float())),
    ):
        with pytest.raises((RuntimeError, ValueError)):
            call_on_meta(256, 256, 1024, dtype, scaling, change)


@pytest.mark.parametrize(("dtype", "scaling"), KINDS)
def test_a_size_that_cuda_refuses_is_said_beforehand(dtype, scaling):
    """Of operands that can be made at all, torch's own check of sizes refuses no more than is said."""
    for m, n, k in (
        (256, 256, 1024),
        (17, 256, 1024),
        (1, 272, 512),
        (16, 24, 64),
        (32, 8, 96),
        (32, 64, 72),
    ):
        said = why_refused(m, n, k, dtype, scaling, CUDA)
        assert said == why_refused(m, n, k, dtype, scaling, ON_META)
        assert why_refused(m, n, k, dtype, scaling, CPU) is None
        if dtype == "int8":  # its meta function doesn't look at sizes; CUDA's code does
            assert (said is not None) == (m <= 16 or n % 8 != 0 or k % 8 != 0)
            continue
        try:
            call_on_meta(m, n, k, dtype, scaling)
        except (RuntimeError, ValueError):
            assert said is not None
            assert "a multiple of" in said
        else:  # what torch hands on unpadded has no check of its own
            assert said is None or scaling == "blocks"


def test_a_product_that_cuda_refuses_is_skipped_with_the_reason(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    assert Matmul(128, 128, 1000, "fp8_e4m3", "nt").unsupported(CUDA) == (
        "K of fp8_e4m3 products is a multiple of 16 on a GPU, not 1000"
    )
    assert "17 rows at least, not 16" in Matmul(16, 128, 128, "int8", "nt").unsupported(CUDA)
    assert Matmul(128, 128, 1000, "fp8_e4m3", "nt").unsupported(CPU) is None
    by_blocks = Matmul(128, 128, 1536, "fp8_e4m3", "nt", scaling="blocks")
    for built, lacks in (("12.6", True), ("12.9", False), ("13.0", False), (None, False)):
        monkeypatch.setattr(torch.version, "cuda", built)
        assert ("need CUDA 12.9" in str(by_blocks.unsupported(CUDA))) == lacks
    unpadded = Matmul(128, 128, 1280, "fp8_e4m3", "nt", scaling="blocks")
    assert "by blocks of 128 is a multiple of 512" in unpadded.unsupported(CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (10, 0))
    assert "need CUDA 12.8" in str(_built_for("12.6", monkeypatch, Matmul(128, 128, 128, "mxfp8", "nt")))


def _built_for(cuda, monkeypatch, work):
    monkeypatch.setattr(torch.version, "cuda", cuda)
    return work.unsupported(CUDA)


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
