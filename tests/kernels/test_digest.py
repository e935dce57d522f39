"""A digest finds a flip of any bit and any swap, and depends on nothing but bits, dtype and shape."""

import hashlib

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nameplate_kernels import digest as module
from nameplate_kernels.digest import ROW_WORDS, digest_of

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU")
DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int8,
]


def tensor(*shape, dtype=torch.float32, seed=0):
    """Random bits, of every pattern, NaN included."""
    generator = torch.Generator().manual_seed(seed)
    octets = torch.randint(0, 256, (*shape, dtype.itemsize), dtype=torch.uint8, generator=generator)
    return octets.view(dtype).squeeze(-1)


def with_bit_flipped(x, element, bit):
    flipped = x.clone()
    octets = flipped.view(-1)[element : element + 1].view(torch.uint8)
    octets[bit // 8] ^= 1 << bit % 8
    return flipped


def independent_digest(x):
    """The same by numpy on unsigned numbers, from the bytes in memory."""
    octets = x.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    words = np.frombuffer(octets + bytes(-len(octets) % 4), dtype="<i4").astype(np.uint64)
    weights = np.frombuffer(hashlib.shake_256(b"nameplate").digest(8 * ROW_WORDS), dtype="<u8") | np.uint64(1)
    full = len(words) // ROW_WORDS
    rows = [*words[: full * ROW_WORDS].reshape(full, ROW_WORDS), words[full * ROW_WORDS :]]
    sums = np.array([(row * weights[: len(row)]).sum(dtype=np.uint64) for row in rows])
    header = f"{x.dtype} {tuple(x.shape)}\n".encode()
    return hashlib.blake2b(header + sums.astype("<u8").tobytes(), digest_size=16).hexdigest()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (5, 7), (3, ROW_WORDS), (2, ROW_WORDS, 5), (1000, 1001)])
def test_a_digest_is_the_sums_it_says(dtype, shape):
    x = tensor(*shape, dtype=dtype)
    assert digest_of(x) == independent_digest(x)


def test_a_digest_is_the_same_everywhere():
    assert digest_of(torch.arange(50_000, dtype=torch.int32)) == "a2a5e3856ccdd75d0882dc3e751ba00e"


def test_no_weight_can_lose_a_bit_or_a_swap():
    weights = module._weights(CPU).tolist()
    assert all(weight % 2 for weight in weights)
    assert len({weight % 2**33 for weight in weights}) == len(weights) == ROW_WORDS


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("fill", ["bits", "zeros"])
def test_a_flip_of_any_bit_is_found(dtype, fill):
    x = tensor(130, 257, dtype=dtype)
    if fill == "zeros":
        x.view(torch.uint8).zero_()
    bits = range(8 * dtype.itemsize)
    elements = (0, 1, 2, 3, x.numel() // 2, x.numel() - 1)
    flipped = [digest_of(with_bit_flipped(x, element, bit)) for element in elements for bit in bits]
    assert digest_of(x) not in flipped
    assert len(set(flipped)) == len(flipped)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_flip_of_the_same_bit_in_two_elements_is_found(dtype):
    x = tensor(64, dtype=dtype)
    top = 8 * dtype.itemsize - 1
    pairs = [(0, other) for other in range(1, 64)]
    flipped = [digest_of(with_bit_flipped(with_bit_flipped(x, a, top), b, top)) for a, b in pairs]
    assert len({digest_of(x), *flipped}) == 64


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_lone_sign_is_found_wherever_it_moves(dtype):
    x = torch.ones(2 * ROW_WORDS, dtype=torch.float32).to(dtype)
    places = [*range(32), ROW_WORDS - 1, ROW_WORDS, 2 * ROW_WORDS - 1]
    moved = {digest_of(with_bit_flipped(x, place, 8 * dtype.itemsize - 1)) for place in places}
    assert len(moved) == len(places)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("side", [8, 300])
def test_swapped_rows_and_columns_are_found(dtype, side):
    x = tensor(side, side, dtype=dtype)
    order = list(range(side))
    order[1], order[-2] = order[-2], order[1]
    octets = x.view(torch.uint8).view(side, side, -1)
    swapped = [octets[order].contiguous().view(dtype), octets[:, order].contiguous().view(dtype), x.t()]
    assert len({digest_of(x), *(digest_of(each.reshape(side, side)) for each in swapped)}) == 4


def test_dtype_shape_and_order_count():
    x, y = torch.zeros(4, 4, dtype=torch.float16), torch.zeros(2, 8, dtype=torch.float16)
    different = [(x,), (y,), (x.bfloat16(),), (x.view(-1)[:15],), (x, y), (y, x), (x, x)]
    assert len({digest_of(*each) for each in different}) == len(different)


@pytest.mark.parametrize("dtype", DTYPES)
def test_only_the_bits_count_and_not_how_they_lie(dtype):
    x = tensor(90, 75, dtype=dtype)
    wide = torch.zeros(90, 151, dtype=torch.float32).to(dtype)
    wide.view(torch.uint8).view(90, 151, -1)[:, 1::2] = x.view(torch.uint8).view(90, 75, -1)
    shifted = torch.zeros(x.numel() + 1, dtype=torch.float32).to(dtype)[1:]
    shifted.view(torch.uint8).copy_(x.view(-1).view(torch.uint8))
    same = [x.t().contiguous().t(), wide[:, 1::2], shifted.view(90, 75), x.clone()]
    assert {digest_of(each) for each in same} == {digest_of(x)}
    assert digest_of(x[3, 4]) == digest_of(x[3, 4].clone())


def test_tensors_of_autograd_and_of_inference_mode_work():
    x = tensor(33, 3)
    with torch.inference_mode():
        inferred = x * 1
    expected = digest_of(x * 1)
    assert digest_of(inferred) == expected
    assert digest_of((x * 1).requires_grad_()) == expected


def test_neither_threads_nor_chunks_change_it(monkeypatch):
    x, threads = tensor(40, ROW_WORDS), torch.get_num_threads()
    expected = digest_of(x)
    try:
        torch.set_num_threads(1)
        assert digest_of(x) == expected
    finally:
        torch.set_num_threads(threads)
    monkeypatch.setattr(module, "_CHUNK_WORDS", {"cpu": 3 * ROW_WORDS})
    assert digest_of(x) == expected


class LargestOutput(TorchDispatchMode):
    """Keeps the bytes of the largest tensor that an operation made anew."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made._base is None and not func.is_view:
            self.nbytes = max(self.nbytes, made.nbytes)
        return made


@pytest.mark.long
def test_it_takes_a_chunk_of_memory_and_not_a_copy():
    x = tensor(64, ROW_WORDS)
    module._weights(CPU)
    with LargestOutput() as largest:
        digest_of(x)
    assert 0 < largest.nbytes <= 8 * module._CHUNK_WORDS["cpu"] < x.nbytes


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_on_a_gpu_equal_bits_give_the_digest_of_the_cpu(dtype):
    x = tensor(700, 2 * ROW_WORDS + 3, dtype=dtype)
    y = x.cuda()
    assert digest_of(y) == digest_of(x)
    assert digest_of(y.t()) == digest_of(x.t())
    assert digest_of(with_bit_flipped(y, 12_345, 8 * dtype.itemsize - 1)) != digest_of(x)
