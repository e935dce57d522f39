"""Attention alone, by backend, mask, heads and length, forward and backward: a minute; on a GPU six."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nameplate.suite import Case, Suite, Target
from nameplate_kernels import ATTENTION_BACKENDS, ATTENTION_PASSES, Attention
from nameplate_suites.parts import matmuls


class _Heads(NamedTuple):
    """Query heads, key/value heads, and features of a head."""

    query: int
    key_value: int
    features: int


# Of Llama-3-8B, and of GPT-2 and ViT-L (16 heads of 64); a CPU's cases have a quarter of the heads.
_GROUPED, _PLAIN = _Heads(32, 8, 128), _Heads(16, 16, 64)
_ROWS = 16_384  # tokens of a GPU's batch, as FlashAttention's own benchmark has them
# In order of importance: a tight budget is spent on the first.
_GPU_TOKENS = (4096, 16_384, 1024, 512, 2048, 8192, 32_768, 131_072)
_CPU_TOKENS = (1024, 512, 2048)
_CPU_GROUP = "attention"
# Of more tokens a launch takes a GPU most of a second: by the default alone, with as much time as six others.
_LONG_TOKENS, _LONG_WEIGHT = 65_536, 6.0
_ON_CPU = ("default", "flash", "math")
_LIKELY = ("default", "flash", "cudnn", "fa3", "fa4")  # those that a training run would take


def _cases(target: Target) -> Iterator[Case]:
    cpu = target.kind == "cpu"
    tokens = _CPU_TOKENS if cpu else _GPU_TOKENS
    backends = _ON_CPU if cpu else ATTENTION_BACKENDS
    if cpu:  # what its arithmetic reaches, to hold attention to
        yield from matmuls(target, ("bf16",), (2048,), phase="sustained", group=_CPU_GROUP)
    yield from _shape(target, tokens[0], _GROUPED, causal=True, backends=backends)
    yield from _shape(target, tokens[0], _GROUPED, causal=False, backends=("default",))
    yield from _shape(target, tokens[0], _PLAIN, causal=True, backends=backends[:1] if cpu else backends)
    for each in tokens[1:]:
        several = not cpu and each < _LONG_TOKENS
        yield from _shape(target, each, _GROUPED, causal=True, backends=_LIKELY if several else backends[:1])


def _shape(
    target: Target, tokens: int, heads: _Heads, *, causal: bool, backends: tuple[str, ...]
) -> Iterator[Case]:
    """Yield the backends of one shape in turn, both passes: a GPU's processes take seconds to begin. On a CPU
    with all other shapes, since a few cases are over before it can be told whether the machine has settled.
    """
    H, G, Q = heads
    cpu = target.kind == "cpu"
    less = 4 if cpu else 1
    batch = 1 if cpu else max(_ROWS // tokens, 1)
    mask = "causal" if causal else "full"
    for pass_ in ATTENTION_PASSES:
        for backend in backends:
            work = Attention(batch, tokens, H // less, G // less, Q, causal, "bf16", pass_, backend)
            yield Case(
                work,
                phase="sustained",
                backend="torch" if backend == "default" else f"torch+{backend}",
                weight=1.0 if tokens < _LONG_TOKENS else _LONG_WEIGHT,
                group=_CPU_GROUP if cpu else f"attention-{tokens}-{H}x{Q}-{mask}",
            )


SUITE = Suite(
    "attention",
    "attention alone by backend, mask, heads and length, forward and backward",
    60.0,
    _cases,
    processes=2,
    gpu_budget_s=360.0,
)
