"""What a whole model would get of a device: tokens a second, estimated from one layer that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nameplate.models.load import load_shipped_models
from nameplate.record import Record
from nameplate.report.sections.throughput import measured_records
from nameplate.stats.interval import Interval
from nameplate.store.folder import Run


@dataclass(frozen=True)
class ModelRate:
    """Tokens a second that all layers of a model would train on, on one device.

    It is layers × the layer measured, forward and backward: without embedding, logits, optimizer and
    communication, so a real training step is slower. `per_second` has the interval of the layer's record.
    """

    record: Record
    model: str
    layers: int
    tokens: int  # of a sequence
    per_second: Interval


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
    return max(trusted, key=lambda each: each.record.flops or 0, default=None)


def _find_rate(record: Record, run: Run) -> ModelRate | None:
    sizes = record.dimensions
    achieved = record.interval("tflops")
    tokens, batch = sizes.get("tokens"), sizes.get("batch", 1)
    if (
        record.represents is None
        or sizes.get("pass") != "forward_backward"
        or record.is_wrong
        or achieved is None
        or not record.flops
        or not isinstance(tokens, int)
        or not isinstance(batch, int)
    ):
        return None
    layers = _count_layers(record.represents, run)
    if layers is None:
        return None
    per_second = achieved.scaled(1e12 / record.flops * batch * tokens / layers)
    return ModelRate(record, record.represents, layers, tokens, per_second)


def _count_layers(name: str, run: Run) -> int | None:
    asked = run.manifest.options.axes.model
    if asked is not None and asked.name == name:
        return asked.shape.layers
    # A suite's own layer has the model's name in its publisher's spelling: Llama-3-8B is llama3-8b.
    shipped = {_normalize(each.name): each for each in load_shipped_models().values()}
    known = shipped.get(_normalize(name))
    return None if known is None else known.shape.layers


def _normalize(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))
