"""The product's declaration, and a check that passes what is right and fails what is wrong."""

import math

import pytest
import torch

from nameplate_kernels import LAYOUTS, Matmul, precision_of
from nameplate_kernels import matmul as module
from nameplate_kernels.numerics import with_reduced_sums
from nameplate_kernels.product_check import SAMPLED_ROWS, make_reference

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")


def launched(workload, device=CPU, fill="normal", copies=1, seed=3):
    prepared = workload.prepare(device, fill=fill, seed=seed, copies=copies)
    with prepared.numerics():
        prepared.compute_reference()
        for launch in prepared.launches:
            launch()
    return prepared


def digests_of_launches(prepared, times):
    found = set()
    with prepared.numerics():
        for _ in range(times):
            prepared.launches[0]()
            found.add(prepared.digest())
    return found


def rounded_to_tf32(x):
    """Round fp32 to the 10 stored mantissa bits of TF32, to nearest."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def cut_to_tf32(x):
    """Cut fp32 off at the 10 stored mantissa bits of TF32, as hardware may."""
    return (x.contiguous().view(torch.int32) & ~((1 << 13) - 1)).view(torch.float32)


def unsampled_row(prepared, copy=0):
    sampled = set(prepared._references[copy].rows.tolist())
    return next(row for row in range(prepared.workload.m) if row not in sampled)


def test_declares_its_work():
    workload = Matmul(3, 5, 7, "bf16")
    assert (workload.name, workload.shape) == ("matmul", "3x5x7")
    assert workload.flops == 2 * 3 * 5 * 7
    assert workload.convention == "2MNK"
    assert workload.bytes == 2 * (3 * 7 + 7 * 5 + 3 * 5)
    assert workload.dimensions == {"m": 3, "n": 5, "k": 7, "layout": "nn", "times": 1}
    assert workload.represents is None
    assert Matmul(3, 5, 7, "bf16", "nt", "Llama-3-8B").represents == "Llama-3-8B"
    assert Matmul(3, 5, 7, "bf16", "tn").shape == "3x5x7-tn"
    assert workload.resident_bytes > workload.bytes


def test_pilots_only_what_is_large_and_stands_for_nothing_then():
    assert Matmul(512, 512, 512, "bf16").pilots() == ()
    pilots = Matmul(8192, 4096, 4096, "bf16", "nt", "Llama-3-8B").pilots()
    assert pilots == tuple(Matmul(side, side, side, "bf16", "nt") for side in (256, 512, 1024, 2048))
    assert pilots[0].pilots() == ()
    assert Matmul(16384, 16384, 16384, "bf16").pilots()[-1].m == 8192


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 5, 7, "fp32"), "at least 1, got 0x5x7"),
        ((3, 5, 7, "int3"), "unknown dtype 'int3'"),
        ((3, 5, 7, "fp32", "xy"), "unknown layout 'xy'; expected one of nn, nt, tn, tt"),
    ],
)
def test_refuses_what_is_no_product(arguments, message):
    with pytest.raises(ValueError, match=message):
        Matmul(*arguments)


def test_tf32_on_a_cpu_is_unsupported_with_a_reason():
    assert "tf32 is a mode of NVIDIA tensor cores" in Matmul(8, 8, 8, "tf32").unsupported(CPU)
    assert Matmul(8, 8, 8, "fp32").unsupported(CPU) is None


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="unknown fill 'ones'"):
        Matmul(8, 8, 8, "fp32").prepare(CPU, fill="ones", seed=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_is_the_product_of_what_it_stores(layout):
    prepared = launched(Matmul(20, 24, 28, "fp64", layout))
    (buffers,) = prepared.buffers
    assert buffers.a.shape == (20, 28)
    assert buffers.b.shape == (28, 24)
    assert buffers.a.is_contiguous() == (layout[0] == "n")
    assert buffers.b.is_contiguous() == (layout[1] == "n")
    torch.testing.assert_close(buffers.c, torch.einsum("mk,kn->mn", buffers.a, buffers.b))
    assert prepared.check().passed


def test_a_launch_allocates_nothing_and_returns_its_buffer():
    prepared = Matmul(16, 16, 16, "fp32").prepare(CPU, fill="normal", seed=0, copies=3)
    for launch, buffers in zip(prepared.launches, prepared.buffers, strict=True):
        assert launch() is buffers.c


def test_copies_differ_and_do_not_depend_on_how_many_there_are():
    one, three = (Matmul(16, 16, 16, "bf16").prepare(CPU, fill="normal", seed=5, copies=n) for n in (1, 3))
    assert torch.equal(one.buffers[0].a, three.buffers[0].a)
    assert torch.equal(one.buffers[0].b, three.buffers[0].b)
    assert not torch.equal(three.buffers[0].a, three.buffers[1].a)


@pytest.mark.parametrize("fill", ["normal", "uniform", "integers", "zeros"])
@pytest.mark.parametrize(
    "workload",
    [
        Matmul(256, 256, 256, "fp64"),
        Matmul(256, 256, 256, "fp32"),
        Matmul(256, 256, 256, "bf16"),
        Matmul(64, 64, 64, "fp16"),
        Matmul(40, 300, 3000, "fp32", "nt"),
        Matmul(40, 300, 3000, "bf16", "tn"),
        Matmul(1, 1, 1, "fp32"),
        Matmul(5, 1, 9, "bf16", "tt"),
    ],
    ids=lambda workload: f"{workload.dtype}-{workload.shape}",
)
def test_a_right_product_passes(workload, fill):
    check = launched(workload, fill=fill).check()
    assert check.passed, check
    assert check.reference == "fp64"
    # Rounding the result alone may use up the whole bound; what a fp32 sum uses leaves room.
    assert check.error < (0.5 if workload.dtype in ("fp32", "fp64") else 1.0)


@pytest.mark.parametrize("depth", [64, 1024, 16384])
@pytest.mark.parametrize("reduced", [rounded_to_tf32, cut_to_tf32, lambda x: x.bfloat16().float()])
def test_a_silent_tf32_or_bf16_product_fails_as_fp32(depth, reduced):
    prepared = launched(Matmul(32, 64, depth, "fp32"))
    (buffers,) = prepared.buffers
    assert prepared.check().error < 0.3
    torch.mm(reduced(buffers.a), reduced(buffers.b), out=buffers.c)
    assert prepared.check().error > 3


@pytest.mark.parametrize("depth", [64, 1024, 16384])
@pytest.mark.parametrize("reduced", [rounded_to_tf32, cut_to_tf32])
def test_a_tf32_product_passes_as_tf32_whether_inputs_are_rounded_or_cut(depth, reduced):
    prepared = launched(Matmul(32, 64, depth, "tf32"))
    (buffers,) = prepared.buffers
    torch.mm(reduced(buffers.a), reduced(buffers.b), out=buffers.c)
    check = prepared.check()
    assert 0.01 < check.error < 0.7


def add_split_sums(a, b, splits, kind):
    """A product whose K is split, the partial sums rounded to `kind` and added there one after the other."""
    parts = [x.float() @ y.float() for x, y in zip(a.chunk(splits, 1), b.chunk(splits, 0), strict=True)]
    total = torch.zeros_like(parts[0], dtype=kind)
    for part in parts:
        total += part.to(kind)
    return total


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("splits", [2, 32])
def test_split_sums_in_half_precision_pass_where_torchs_default_allows_them(dtype, splits):
    precision = precision_of(dtype)
    (buffers,) = Matmul(64, 128, 4096, dtype).prepare(CPU, fill="normal", seed=3).buffers
    strict, reduced = (
        make_reference(buffers.a, buffers.b, each, seed=3)
        for each in (precision, with_reduced_sums(precision))
    )
    found = add_split_sums(buffers.a, buffers.b, splits, buffers.c.dtype)
    if splits > 2:  # two parts in fp16 are still within the bound of the sum in fp32
        assert strict.deviation(found) > 1
    assert 0.02 < reduced.deviation(found) < 1
    # The wider bound still finds a part of the sum that is missing.
    lacking = add_split_sums(buffers.a[:, :-128], buffers.b[:-128], splits, buffers.c.dtype)
    assert reduced.deviation(lacking) > 1


def test_sums_in_fp32_are_a_case_of_their_own():
    default, strict = (Matmul(64, 64, 64, "bf16", "nt", fp32_sums=each) for each in (False, True))
    assert (default.reduction, strict.reduction) == ("reduced", "fp32")
    assert (default.shape, strict.shape) == ("64x64x64-nt", "64x64x64-nt-fp32sums")
    assert Matmul(64, 64, 64, "fp32").reduction is None
    with pytest.raises(ValueError, match="fp32_sums is a choice of fp16 and bf16, got 'tf32'"):
        Matmul(64, 64, 64, "tf32", fp32_sums=True)
    matmul = torch.backends.cuda.matmul
    for workload, allowed in ((default, True), (strict, False)):
        with workload.prepare(CPU, fill="normal", seed=3).numerics():
            assert matmul.allow_bf16_reduced_precision_reduction is allowed


def test_a_bf16_product_fails_as_tf32():
    prepared = launched(Matmul(64, 512, 512, "tf32"))
    (buffers,) = prepared.buffers
    torch.mm(buffers.a.bfloat16(), buffers.b.bfloat16(), out=(half := buffers.c.bfloat16()))
    buffers.c.copy_(half)
    assert not prepared.check().passed


@pytest.mark.parametrize("depth", [512, 4096])
def test_a_sum_in_fp16_fails_as_fp16(depth):
    prepared = launched(Matmul(16, 16, depth, "fp16"))
    (buffers,) = prepared.buffers
    total = torch.zeros_like(buffers.c)
    for column, row in zip(buffers.a.t(), buffers.b, strict=True):
        total += torch.outer(column, row)
    buffers.c.copy_(total)
    assert prepared.check().error > 3


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "bf16", "fp16"])
def test_one_wrong_element_in_an_unsampled_row_is_found(dtype):
    side = 64 if dtype == "fp16" else 512
    prepared = launched(Matmul(side, side, side, dtype))
    c = prepared.buffers[0].c
    row = unsampled_row(prepared)
    column = int(c[row].abs().argmax())
    c[row, column] *= -1
    check = prepared.check()
    assert not check.passed
    assert check.error > 3


@pytest.mark.parametrize("wrong", [0.0, math.nan, math.inf])
def test_a_tile_never_written_or_not_a_number_is_found(wrong):
    prepared = launched(Matmul(128, 128, 128, "bf16"))
    rows = [row for row in range(128) if row not in set(prepared._references[0].rows.tolist())]
    assert len(rows) == 128 - SAMPLED_ROWS
    prepared.buffers[0].c[rows[:32], 64:96] = wrong
    check = prepared.check()
    assert not check.passed
    assert check.error == math.inf or wrong == 0


def test_a_fault_in_any_copy_is_found():
    prepared = launched(Matmul(64, 64, 64, "fp32"), copies=3)
    assert prepared.check().passed
    prepared.buffers[2].c.copy_(prepared.buffers[1].c)
    assert not prepared.check().passed


def test_copies_that_were_not_launched_are_left_out_and_none_at_all_fails():
    prepared = Matmul(64, 64, 64, "fp32").prepare(CPU, fill="normal", seed=0, copies=3)
    with pytest.raises(RuntimeError, match="before compute_reference"):
        prepared.check()
    prepared.compute_reference()
    assert prepared.check().error == math.inf
    prepared.launches[1]()
    assert prepared.check().passed


def test_the_check_reads_what_the_latest_launch_left():
    prepared = launched(Matmul(64, 64, 64, "fp32"))
    prepared.buffers[0].c.zero_()
    assert not prepared.check().passed
    prepared.launches[0]()
    assert prepared.check().passed


def test_products_larger_than_a_chunk_are_checked_piece_by_piece(monkeypatch):
    whole = launched(Matmul(70, 90, 110, "fp32")).check()
    monkeypatch.setattr("nameplate_kernels.product_check.CHUNK_ELEMENTS", 1000)
    assert launched(Matmul(70, 90, 110, "fp32")).check().error == pytest.approx(whole.error, rel=1e-3)


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("size", [(64, 64, 2048), (130, 70, 50), (1, 300, 300)])
def test_the_same_product_gives_the_same_digest_at_every_launch_and_again(dtype, size):
    workload = Matmul(*size, dtype, "nt")
    one, other = (launched(workload) for _ in range(2))
    assert digests_of_launches(one, 20) == {one.digest()} == {other.digest()}


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
def test_a_flipped_bit_changes_the_digest_until_the_next_launch(dtype):
    prepared = launched(Matmul(64, 64, 64, dtype))
    before = prepared.digest()
    prepared.buffers[0].c[-1].view(torch.uint8)[-1] ^= 1
    assert prepared.digest() != before
    assert digests_of_launches(prepared, 1) == {before}


def test_the_digest_is_that_of_the_first_copy_however_many_there_are():
    one, three = (launched(Matmul(40, 40, 40, "fp32"), copies=copies) for copies in (1, 3))
    assert one.digest() == three.digest()
    three.buffers[1].c.zero_()
    assert one.digest() == three.digest()
    three.buffers[0].c.zero_()
    assert one.digest() != three.digest()


def test_a_digest_is_given_only_where_a_library_promises_the_same_bits(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    kinds = ("cpu", "cuda", "xpu")
    assert [module._is_repeatable(torch.device(kind)) for kind in kinds] == [True, True, False]
    monkeypatch.setattr(torch.version, "cuda", None)
    assert not module._is_repeatable(torch.device("cuda"))
    prepared = launched(Matmul(8, 8, 8, "fp32"))
    monkeypatch.setattr(module, "_is_repeatable", lambda device: False)
    assert prepared.digest() is None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("size", [(512, 512, 512), (64, 128, 65536), (4096, 4096, 4096)])
def test_on_a_gpu_the_digest_is_the_same_at_every_launch(dtype, size):
    workload, device = Matmul(*size, dtype), torch.device("cuda")
    if reason := workload.unsupported(device):
        pytest.skip(reason)
    prepared = launched(workload, device)
    assert digests_of_launches(prepared, 50) == {launched(workload, device).digest()}


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "tf32", "fp16", "bf16"])
@pytest.mark.parametrize("fill", ["normal", "integers"])
@pytest.mark.parametrize("size", [(512, 512, 512), (256, 1024, 16384)])
def test_on_a_gpu_every_dtype_passes(dtype, fill, size):
    workload = Matmul(*size, dtype, "nt")
    device = torch.device("cuda")
    if reason := workload.unsupported(device):
        pytest.skip(reason)
    assert launched(workload, device, fill).check().passed


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@pytest.mark.parametrize("fp32_sums", [False, True])
def test_on_a_gpu_split_sums_pass_either_way(dtype, fp32_sums):
    workload = Matmul(64, 128, 65536, dtype, fp32_sums=fp32_sums)  # so deep that K is split
    assert launched(workload, torch.device("cuda")).check().passed


@pytest.mark.gpu
@needs_gpu
def test_on_a_gpu_tf32_in_place_of_fp32_fails():
    device = torch.device("cuda")
    if reason := Matmul(8, 8, 8, "tf32").unsupported(device):
        pytest.skip(reason)
    prepared = launched(Matmul(1024, 1024, 4096, "fp32"), device)
    assert prepared.check().passed
    with launched(Matmul(8, 8, 8, "tf32"), device).numerics():
        prepared.launches[0]()
    assert not prepared.check().passed


def test_an_element_whose_bound_overflows_is_wrong_too():
    prepared = Matmul(64, 64, 64, "fp64").prepare(torch.device("cpu"), fill="normal", seed=1)
    prepared.compute_reference()
    prepared.launches[0]()
    for row in range(64):
        kept = prepared.buffers[0].c[row, 5].clone()
        prepared.buffers[0].c[row, 5] = 1e300
        assert not prepared.check().passed
        prepared.buffers[0].c[row, 5] = kept
    assert prepared.check().passed
