"""What a whole model would get of a device: tokens a second, estimated from one layer that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.chain.steps import find_whole_step
from nameplate.models.load import find_shipped_model
from nameplate.record import Record
from nameplate.report.sections.throughput import measured_records
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run


@dataclass(frozen=True)
class ModelRate:
    """Tokens a second that all layers of a model would train on, on one device.

    With `is_step` it is that of a whole training step, from the pieces that were measured. Otherwise it is
    layers × the layer measured, forward and backward: without embedding, logits and optimizer, so that a step
    is slower. Communication is in neither. `record` is the layer's.
    """

    record: Record
    model: str
    layers: int
    tokens: int  # of a sequence
    per_second: Interval
    is_step: bool = False


def find_model_rates(run: Run) -> list[ModelRate]:
    """The rate by each layer that was measured of a model whose number of layers is known.

    That is the model asked for by `--model`, or one that is shipped.
    """
    found = (_find_rate(record, run) for record in measured_records(run))
    return [each for each in found if each is not None]


def choose_rate(rates: Sequence[ModelRate], device: str | None) -> ModelRate | None:
    """The rate to put first: a trusted one of `device` if there is one, of the longest layer."""
    of_device = [each for each in rates if each.record.device == device] or rates
    trusted = [each for each in of_device if each.record.trusted] or of_device
    return max(trusted, key=lambda each: (each.is_step, each.record.flops or 0), default=None)


def _find_rate(record: Record, run: Run) -> ModelRate | None:
    sizes = record.dimensions
    achieved = record.interval("tflops")
    tokens, batch = record.size("tokens"), record.size("batch") or 1
    if (
        record.represents is None
        or record.workload != "transformer_block"
        or sizes.get("pass") != "forward_backward"
        or record.is_wrong
        or achieved is None
        or not record.flops
        or tokens is None
    ):
        return None
    step = find_whole_step(run.records, record)
    if step is not None:
        return ModelRate(record, record.represents, step.layers, tokens, step.tokens_per_second, is_step=True)
    layers = _count_layers(record.represents, run)
    if layers is None:
        return None
    per_second = achieved.scaled(1e12 / record.flops * batch * tokens / layers)
    return ModelRate(record, record.represents, layers, tokens, per_second)


def _count_layers(name: str, run: Run) -> int | None:
    asked = run.manifest.options.axes.model
    if asked is not None and asked.name == name:
        return asked.shape.layers
    known = find_shipped_model(name)
    return None if known is None else known.shape.layers
