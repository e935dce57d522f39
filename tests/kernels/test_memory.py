"""Memory and caches: declared work, and a check of every element."""

import math

import pytest
import torch

from nameplate_kernels import CACHE_KINDS, CacheMemory, Memory, find_instructions

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")


def launched(workload, device=CPU, fill="normal", copies=1):
    prepared = workload.prepare(device, fill=fill, seed=3, copies=copies)
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


def test_a_copy_declares_its_bytes_and_no_flops():
    workload = Memory("copy", "fp32", 256)
    assert (workload.name, workload.shape) == ("memory", "copy-256MiB")
    assert workload.bytes == 2 * 256 * 2**20
    assert (workload.flops, workload.convention) == (None, None)
    assert workload.dimensions == {"kind": "copy", "mebibytes": 256, "elements": 2**26}
    assert workload.pilots() == (Memory("copy", "fp32", 16),)
    assert Memory("copy", "fp32", 512).pilots() == (Memory("copy", "fp32", 16), Memory("copy", "fp32", 128))
    assert Memory("copy", "fp32", 64).pilots() == ()
    assert workload.represents is None


def test_a_triad_declares_three_arrays_and_no_flops():
    workload = Memory("triad", "bf16", 4)
    assert workload.shape == "triad-4MiB"
    assert workload.bytes == 3 * 4 * 2**20
    assert (workload.flops, workload.convention) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("move", "fp32", 1), "unknown kind 'move'; expected one of copy, scale, add, triad, read"),
        (("copy", "fp31", 1), "unknown dtype 'fp31'"),
        (("copy", "fp32", 0), "mebibytes must be at least 1, got 0"),
    ],
)
def test_refuses_what_is_no_transfer(arguments, message):
    with pytest.raises(ValueError, match=message):
        Memory(*arguments)


def test_tf32_is_unsupported_with_a_reason():
    assert "mode of matrix products" in Memory("copy", "tf32", 1).unsupported(CPU)
    assert Memory("copy", "fp32", 1).unsupported(CPU) is None


@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
@pytest.mark.parametrize("fill", ["normal", "uniform", "integers", "zeros"])
def test_right_results_pass(dtype, fill):
    copied = launched(Memory("copy", dtype, 1), fill=fill).check()
    assert (copied.reference, copied.error) == ("exact", 0)
    added = launched(Memory("triad", dtype, 1), fill=fill).check()
    assert added.reference == "fp64"
    assert added.passed


def test_a_triad_is_b_plus_three_c():
    (arrays,) = launched(Memory("triad", "fp64", 1)).buffers
    b, c = arrays.sources
    torch.testing.assert_close(arrays.target, b + 3 * c)


@pytest.mark.parametrize("kind", ["copy", "triad"])
@pytest.mark.parametrize("wrong", [7.0, math.nan])
def test_one_wrong_element_is_found_wherever_it_is(kind, wrong, monkeypatch):
    monkeypatch.setattr("nameplate_kernels.memory._CHUNK_ELEMENTS", {"cpu": 100_000})
    prepared = launched(Memory(kind, "fp32", 1))
    assert prepared.check().passed
    prepared.buffers[0].target[-1] = wrong
    assert not prepared.check().passed


def test_a_triad_rounded_to_bf16_fails_as_fp32():
    prepared = launched(Memory("triad", "fp32", 1))
    target = prepared.buffers[0].target
    target.copy_(target.bfloat16())
    assert prepared.check().error > 1000


def test_only_what_was_launched_is_checked_and_nothing_fails():
    prepared = Memory("copy", "fp32", 1).prepare(CPU, fill="normal", seed=0, copies=2)
    prepared.compute_reference()
    assert prepared.check().error == math.inf
    prepared.launches[1]()
    assert prepared.check().passed


@pytest.mark.parametrize("kind", ["copy", "triad"])
@pytest.mark.parametrize("dtype", ["fp64", "fp32", "fp16", "bf16"])
def test_the_digest_is_the_same_at_every_launch_and_finds_a_flipped_bit(kind, dtype):
    prepared = launched(Memory(kind, dtype, 1), copies=2)
    before = prepared.digest()
    prepared.buffers[1].target.zero_()
    assert digests_of_launches(prepared, 3) == {before} == {launched(Memory(kind, dtype, 1)).digest()}
    prepared.buffers[0].target[-1:].view(torch.uint8)[0] ^= 1
    assert prepared.digest() != before


def test_an_unknown_fill_is_refused():
    with pytest.raises(ValueError, match="unknown fill 'ones'"):
        Memory("copy", "fp32", 1).prepare(CPU, fill="ones", seed=0)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["copy", "triad"])
def test_on_a_gpu_results_pass(kind):
    assert launched(Memory(kind, "bf16", 64), torch.device("cuda")).check().passed


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("kind", ["copy", "triad"])
def test_on_a_gpu_the_digest_is_the_same_at_every_launch(kind):
    prepared = launched(Memory(kind, "fp32", 64), torch.device("cuda"))
    assert digests_of_launches(prepared, 20) == {
        launched(Memory(kind, "fp32", 64), torch.device("cuda")).digest()
    }


# ---- the other kinds ----


# What STREAM counts of one array of 4 MiB: a read or a write once, a strided copy of one element a line
# twice.
COUNTED_MIB = {"scale": 8, "add": 12, "read": 4, "write": 4, "h2d": 4, "d2h": 4, "strided": 0.5}


@pytest.mark.parametrize("kind", COUNTED_MIB)
def test_each_kind_counts_what_it_moves_and_sees_a_wrong_element(kind):
    workload = Memory(kind, "fp32", 4)
    assert workload.bytes == COUNTED_MIB[kind] * 2**20
    assert workload.dimensions.get("level") == ("host link" if kind in ("h2d", "d2h") else None)
    prepared = launched(workload)
    assert prepared.check().passed
    (arrays,) = prepared.buffers
    arrays.target[-1] = 7.5
    assert not prepared.check().passed


def test_a_read_with_passes_counts_each_and_the_link_is_no_cpus():
    workload = Memory("read", "fp32", 1, passes=3, level="L2")
    assert (workload.shape, workload.bytes, workload.dimensions["level"]) == ("read-1MiBx3", 3 * 2**20, "L2")
    assert launched(workload).check().passed
    assert Memory("h2d", "fp32", 1).unsupported(CPU) == "a CPU has no link to a host"
    with pytest.raises(ValueError, match="only a read has passes"):
        Memory("copy", "fp32", 1, passes=2)


# ---- caches ----


@pytest.mark.skipif(find_instructions() is None, reason="no loop for this CPU")
@pytest.mark.parametrize("kind", CACHE_KINDS)
def test_every_loop_of_this_cpu_computes_its_kind_in_all_threads(kind):
    sets = ("avx2", find_instructions()) if find_instructions() == "avx512" else (find_instructions(),)
    for instructions in sets:
        workload = CacheMemory(kind, "L1d", 3, threads=2, passes=5, instructions=instructions)
        arrays = {"copy": 2, "scale": 2, "add": 3, "triad": 3, "read": 1, "write": 1}[kind]
        assert workload.bytes == arrays * 3 * 1024 * 2 * 5
        assert workload.unsupported(CPU) is None
        prepared = workload.prepare(CPU, fill="normal", seed=3)
        assert prepared.check().error == math.inf  # nothing was launched yet
        prepared.launches[0]()
        assert prepared.check().passed, prepared.check()
        prepared.buffers[0].arrays[1].target[2] = 7.5  # of the other thread
        assert not prepared.check().passed


def test_the_widest_instructions_that_a_cpu_has_are_taken_or_the_case_says_why_not():
    assert find_instructions(frozenset({"avx2", "avx512f"}), "x86_64") == "avx512"
    assert find_instructions(frozenset({"avx2"}), "AMD64") == "avx2"
    assert find_instructions(frozenset({"asimd"}), "aarch64") == "neon"
    assert find_instructions(frozenset({"sse2"}), "x86_64") is None
    assert "there are loops for" in CacheMemory("copy", "L1d", 4, 1, 1, "sse2").unsupported(CPU)
    with pytest.raises(ValueError, match="odd number of passes"):
        CacheMemory("read", "L1d", 4, 1, 2, "avx2")
