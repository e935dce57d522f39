"""A digest of every bit of a result: exact and cheap; equal bits give equal digests on every device.

The bits are read as 32-bit words w_ij, in rows of `ROW_WORDS`. Each row is summed as Σ_j a_j·w_ij modulo 2^64
with fixed odd weights a_j of 64 bits: the multilinear family (Lemire & Kaser, Strongly universal string
hashing is fast, The Computer Journal 57(11), 2014, 1624–1638). Integer sums that wrap around don't depend on
their order, so neither threads nor a GPU's blocks can change them. The sums of the rows, 8 bytes for 64 KiB,
are hashed in order on the host, after each tensor's dtype and shape.

**What it finds.** A change of one word by δ, |δ| < 2^32, changes the sum of its row by a_j·δ, which isn't 0
modulo 2^64 because a_j is odd: a flip of any bit is found, and any other change within one word of a row.
Two words of a row that differ by δ, swapped, change its sum by (a_j − a_l)·δ, which isn't 0 because no two
weights agree in their lower 33 bits; swapped between rows, they are a change of one word in each. Any other
change is missed with a probability of at most 2^-32 over the choice of the weights.

Words have 32 bits because, modulo 2^64, the top bits of a 64-bit word would meet only the lowest bits of its
weight.
"""

from __future__ import annotations

import hashlib
from functools import cache

import torch

ROW_WORDS = 2**14
"""Words that are summed to one number."""

WEIGHT_BYTES = 8 * ROW_WORDS
"""Memory that the weights take on each device, allocated once with the first digest."""

# Words multiplied at a time, in 8 bytes each: they fit a core's cache, or fill a GPU.
_CHUNK_WORDS = {"cpu": 2**17}
_CHUNK_ELSEWHERE = 2**22


def digest_of(*tensors: torch.Tensor) -> str:
    """Return 32 hexadecimal digits for the bits, dtypes and shapes of `tensors`, in this order.

    Equal bits give equal digests on every device of every little-endian machine, for every memory layout.
    Takes one pass on the tensors' own device. A tensor that isn't contiguous, or isn't a whole number of
    aligned 32-bit words, is copied once.
    """
    digest = hashlib.blake2b(digest_size=16)
    for tensor in tensors:
        digest.update(f"{tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_row_sums(_words(tensor.detach())).cpu().numpy().tobytes())
    return digest.hexdigest()


def _words(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's bits in logical order as 32-bit words, the last one padded with zeros."""
    flat = tensor.contiguous().view(-1)
    start, size = flat.storage_offset() * flat.itemsize, flat.numel() * flat.itemsize
    if start % 4 or size % 4:
        flat = torch.nn.functional.pad(flat.view(torch.uint8), (0, -size % 4))
    return flat.view(torch.int32)


def _row_sums(words: torch.Tensor) -> torch.Tensor:
    """Σ_j a_j·w_ij modulo 2^64 for each row i; the last row is shorter, or empty."""
    weights = _weights(words.device)
    whole, rest = words.tensor_split([words.numel() - words.numel() % ROW_WORDS])
    rows = whole.view(-1, ROW_WORDS)
    step = _CHUNK_WORDS.get(words.device.type, _CHUNK_ELSEWHERE) // ROW_WORDS
    # One buffer for all chunks: with new memory for each, a CPU took up to ten times as long.
    products = torch.empty_like(rows[:step], dtype=torch.int64)
    chunks = (rows[start : start + step] for start in range(0, len(rows), step))
    sums = [products[: len(chunk)].copy_(chunk).mul_(weights).sum(dim=1) for chunk in chunks]
    return torch.cat([*sums, (rest * weights[: len(rest)]).sum(dim=0, keepdim=True)])


@cache
def _weights(device: torch.device) -> torch.Tensor:
    """`ROW_WORDS` odd numbers of 64 bits, the same on every machine."""
    octets = bytearray(hashlib.shake_256(b"nameplate").digest(WEIGHT_BYTES))
    return (torch.frombuffer(octets, dtype=torch.int64) | 1).to(device)
