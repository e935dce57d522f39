"""What tests of blocks share: a launched one, and attention of one head written another way."""

import math

import torch

CPU = torch.device("cpu")


def launched(workload, device=CPU, fill="normal", copies=1):
    prepared = workload.prepare(device, fill=fill, seed=3, copies=copies)
    with prepared.numerics():
        prepared.compute_reference()
        for launch in prepared.launches:
            launch()
    return prepared


def independent_rope(x_TQ):
    """RoPE as the product of complex numbers, position by position."""
    half = x_TQ.shape[1] // 2
    turned = []
    for position, row in enumerate(x_TQ):
        frequencies = [500000 ** (-2 * pair / x_TQ.shape[1]) for pair in range(half)]
        turns = [complex(math.cos(position * f), math.sin(position * f)) for f in frequencies]
        product = torch.complex(row[:half], row[half:]) * torch.tensor(turns, dtype=torch.complex128)
        turned.append(torch.cat([product.real, product.imag]))
    return torch.stack(turned)


def independent_head(q_TQ, k_TQ, v_TQ):
    """Causal attention of one head, query by query over the keys it may see."""
    q_TQ, k_TQ = independent_rope(q_TQ), independent_rope(k_TQ)
    rows = []
    for position in range(q_TQ.shape[0]):
        scores = k_TQ[: position + 1] @ q_TQ[position] / math.sqrt(q_TQ.shape[1])
        rows.append(torch.softmax(scores, 0) @ v_TQ[: position + 1])
    return torch.stack(rows)
