"""The largest batch that fits: the bisection, what a launch holds, and memory that runs out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch

from nameplate.engine.largest_batch import (
    MOST_BATCH,
    bisect_batches,
    count_launch_bytes,
    find_largest_batch,
    has_batch,
)
from nameplate.record import BatchTry
from nameplate.suite import Case
from nameplate_kernels import Matmul, TrainingStep, TransformerBlock
from stand_ins import Work

BLOCK = TransformerBlock.llama3_8b(64, "bf16", "forward_backward", width=0.125)


def tries_below(most):
    return lambda batch: BatchTry(batch=batch, fits=batch <= most, peak_bytes=100 * batch)


@pytest.mark.parametrize("most", [0, 1, 2, 3, 37, 64, MOST_BATCH, 2 * MOST_BATCH])
def test_the_largest_batch_is_found_in_few_tries(most):
    tries, is_final = bisect_batches(tries_below(most), lambda: True)
    assert is_final
    assert max((each.batch for each in tries if each.fits), default=0) == min(most, MOST_BATCH)
    assert len({each.batch for each in tries}) == len(tries) <= 2 * MOST_BATCH.bit_length()
    if 0 < most < MOST_BATCH:  # the next larger one was tried, and didn't fit
        assert BatchTry(batch=most + 1, fits=False, peak_bytes=100 * (most + 1)) in tries


def test_where_the_time_is_over_it_is_at_least_what_fitted():
    left = iter([True, True, False])
    tries, is_final = bisect_batches(tries_below(1000), lambda: next(left))
    assert ([each.batch for each in tries], is_final) == ([1, 2, 4], False)


@dataclass(frozen=True)
class Held(Work):
    """A launch that holds 2 KiB at once for each sequence, and 1 KiB at its end."""

    batch: int = 1

    def with_batch(self, batch):
        return replace(self, batch=batch)

    def prepare(self, device, *, fill, seed, copies=1):
        def launch():
            first = torch.empty(self.batch, 1024, dtype=torch.uint8)
            first = first + 1
            first = first.add_(1)[:, :512].contiguous()

        return replace(self, launches=(launch,))


def test_tensors_count_while_something_holds_them():
    assert count_launch_bytes(Held(), "normal") == 2048
    assert count_launch_bytes(Held(batch=3), "normal") == 3 * 2048


def test_a_training_pass_holds_weights_gradients_and_activations():
    one, eight, sixteen = (count_launch_bytes(BLOCK.with_batch(batch), "normal") for batch in (1, 8, 16))
    a_sequence = (sixteen - eight) / 8
    assert 1 < a_sequence / (2 * BLOCK.activation_elements) < 2  # those of its gradients too
    stored = 2 * 2 * BLOCK.parameters  # and their gradients
    assert 0.9 * stored < one < stored + 2 * a_sequence
    step = TrainingStep(BLOCK, 1, 1000)
    moments = 2 * 2 * step.parameters
    assert count_launch_bytes(step, "normal") > one + moments


def device_with(memory_bytes, kind="cpu", **more):
    clock = iter(range(10**6))
    calls = {"why_unsupported": lambda work: None, "clock": lambda: next(clock) / 1e3}
    return SimpleNamespace(kind=kind, memory_bytes=memory_bytes, measured=True, **calls | more)


def test_on_a_cpu_the_limit_is_stated_and_nothing_is_allocated():
    one, five = (count_launch_bytes(BLOCK.with_batch(batch), "normal") for batch in (1, 5))
    device = device_with(int((five + 1e5) / 0.8))
    found = find_largest_batch(Case(BLOCK), device, 0, 1e9)
    assert (found.batch, found.is_launched, found.is_final) == (5, False, True)
    assert found.peak_bytes <= found.limit_bytes == int(0.8 * device.memory_bytes)
    assert [each.batch for each in found.tries] == [1, 2, 4, 8, 6, 5]
    assert find_largest_batch(Case(BLOCK), device_with(one), 0, 1e9).batch is None
    assert find_largest_batch(Case(BLOCK), device_with(None), 0, 1e9) is None
    assert find_largest_batch(Case(BLOCK), device_with(1, why_unsupported=lambda work: "no"), 0, 1e9) is None


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, ValueError])
def test_on_a_gpu_each_batch_is_launched_until_memory_runs_out(error, monkeypatch):
    monkeypatch.setattr("nameplate.engine.largest_batch.gc.collect", lambda: None)  # of all that pytest holds
    launched = []

    def prepare(work, *, fill, seed):
        if work.batch > 11:
            raise error("no memory")
        return replace(work, launches=(lambda: launched.append(work.batch),))

    device = device_with(
        10**12,
        kind="cuda",
        prepare=prepare,
        begin_peak=lambda: None,
        synchronize=lambda: None,
        is_working=lambda: True,
        read_peak_bytes=lambda: 7 * launched[-1],
    )
    found = find_largest_batch(Case(Held()), device, 0, 1e9)
    if error is ValueError:  # what is wrong, the case's own record says
        assert found is None
        return
    assert (found.batch, found.peak_bytes, found.is_launched) == (11, 77, True)
    assert launched == [1, 2, 4, 8, 10, 11]
    assert BatchTry(batch=12, fits=False, peak_bytes=None) in found.tries


def test_training_as_torch_runs_it_has_a_largest_batch():
    assert has_batch(Case(BLOCK))
    assert has_batch(Case(TrainingStep(BLOCK, 1, 1000)))
    assert not has_batch(Case(BLOCK, backend="compiled"))
    assert not has_batch(Case(replace(BLOCK, pass_="forward")))
    assert not has_batch(Case(Matmul(8, 8, 8, "bf16")))
