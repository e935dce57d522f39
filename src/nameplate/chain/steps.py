"""A training step, predicted for any number of layers from pieces that one run measured.

    step = layers × (layer, forward and backward) + (embedding, norm, logits and loss) + AdamW by weights

A model of a few layers shows what that misses. Such a residual is another model's than the one predicted, so
it widens the interval and doesn't move the figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nameplate.models.load import find_shipped_model
from nameplate.record import Record
from nameplate.stats.interval import Interval

_WORKLOAD = "training_step"
STEP, ENDS, OPTIMIZER = "step", "embedding_head", "adamw"
# What two pieces of one model have in common.
_SAME = (
    *("batch", "tokens", "d_model", "heads", "kv_heads", "head_dim", "ffn"),
    *("mlp", "mask", "norm", "bias", "positions"),
)


@dataclass(frozen=True)
class StepPieces:
    """The records of one model's pieces on one device: a layer, its two ends, and the optimiser."""

    layer: Record
    ends: Record
    optimizer: Record

    @property
    def records(self) -> tuple[Record, Record, Record]:
        """All three."""
        return self.layer, self.ends, self.optimizer

    def weights(self, layers: int) -> int:
        """Weights of a model of so many layers."""
        return layers * _size(self.layer, "parameters") + _size(self.ends, "parameters")

    def flops(self, layers: int) -> int:
        """FLOPs of a step, by the convention of the records."""
        return layers * (self.layer.flops or 0) + (self.ends.flops or 0)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return _size(self.layer, "batch") * _size(self.layer, "tokens")

    def seconds(self, layers: int) -> Interval:
        """Seconds of a step of so many layers, without what the prediction misses.

        The ends of the pieces' intervals add up: they were measured in the same processes and hour, and what
        makes one slow makes all slow.
        """
        share = self.weights(layers) / _size(self.optimizer, "parameters")
        parts = (
            _seconds(self.layer).scaled(layers),
            _seconds(self.ends),
            _seconds(self.optimizer).scaled(share),
        )
        return Interval(
            *(sum(values) for values in zip(*((p.value, p.low, p.high) for p in parts), strict=True))
        )

    def shares(self, layers: int) -> tuple[float, float, float]:
        """What layers, ends and optimiser take of a predicted step."""
        whole = self.seconds(layers).value
        layers_s, ends_s = layers * _seconds(self.layer).value, _seconds(self.ends).value
        return layers_s / whole, ends_s / whole, 1 - (layers_s + ends_s) / whole


@dataclass(frozen=True)
class StepFigure:
    """A step of a model of so many layers: predicted, and measured where the run has such a model.

    `model` is the one that is predicted whole; None for the few layers that show the residual.
    """

    pieces: StepPieces
    layers: int
    predicted: Interval  # seconds
    measured: Record | None = None
    model: str | None = None

    @property
    def residual(self) -> float | None:
        """Measured ÷ predicted − 1; None where it wasn't measured."""
        if self.measured is None:
            return None
        return (self.measured.time_s or 0.0) / self.predicted.value - 1

    @property
    def tokens_per_second(self) -> Interval:
        """As predicted."""
        return self.predicted.inverted(self.pieces.tokens)

    @property
    def tflops(self) -> Interval:
        """As predicted."""
        return self.predicted.inverted(self.pieces.flops(self.layers) / 1e12)

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        layers, ends, optimizer = self.pieces.shares(self.layers)
        return {
            "device": self.pieces.layer.device,
            "dtype": self.pieces.layer.dtype,
            "model": self.model,
            "layers": self.layers,
            "tokens": self.pieces.tokens,
            "cases": [record.case for record in self.pieces.records],
            "predicted_s": self.predicted.value,
            "predicted_low_s": self.predicted.low,
            "predicted_high_s": self.predicted.high,
            "layers_share": layers,
            "embedding_head_share": ends,
            "adamw_share": optimizer,
            "measured_case": None if self.measured is None else self.measured.case,
            "measured_s": None if self.measured is None else self.measured.time_s,
            "residual": self.residual,
            "tokens_per_second": self.tokens_per_second.value,
        }


def find_steps(records: Sequence[Record]) -> list[StepFigure]:
    """Return the steps of the small models that were measured, then of whole models whose pieces were.

    A whole model is one that is shipped, by whose name the pieces' records say that they are its own.
    """
    measured = list(_find_measured(records))
    whole = (_predict_whole(pieces, measured) for pieces in _find_pieces(records))
    return [*measured, *(each for each in whole if each is not None)]


def find_whole_step(records: Sequence[Record], layer: Record) -> StepFigure | None:
    """Return the step of the whole model that this layer's record is a piece of; None where there is none."""
    for pieces in _find_pieces(records):
        if _is_same(pieces.layer, layer):
            return _predict_whole(replace(pieces, layer=layer), list(_find_measured(records)))
    return None


def _predict_whole(pieces: StepPieces, measured: Sequence[StepFigure]) -> StepFigure | None:
    """Predict the step of the model that the pieces are of; None where they are of no shipped one."""
    layer = pieces.layer
    model = find_shipped_model(layer.represents or "")
    if model is None or model.shape.vocabulary != _size(pieces.ends, "vocabulary"):
        return None
    beside = (each for each in measured if each.pieces.layer.device == layer.device)
    missed = [each.residual or 0.0 for each in beside if each.pieces.layer.dtype == layer.dtype]
    layers = model.shape.layers
    return StepFigure(pieces, layers, _widen(pieces.seconds(layers), missed), model=layer.represents)


def _widen(predicted: Interval, residuals: Sequence[float]) -> Interval:
    """Let the interval reach as far as the residuals of models that were measured."""
    below, above = min(0.0, *residuals, 0.0), max(0.0, *residuals, 0.0)
    return Interval(predicted.value, predicted.low * (1 + below), predicted.high * (1 + above))


def _find_measured(records: Sequence[Record]) -> Iterator[StepFigure]:
    for pieces in _find_pieces(records, by_every_backend=True):
        for whole in records:
            same = _is_piece(whole, STEP) and _is_same(whole, pieces.layer)
            words = _size(whole, "vocabulary") == _size(pieces.ends, "vocabulary")
            if same and words and whole.backend == pieces.layer.backend:
                layers = _size(whole, "layers")
                if layers:
                    yield StepFigure(pieces, layers, pieces.seconds(layers), whole)


def _find_pieces(records: Sequence[Record], *, by_every_backend: bool = False) -> Iterator[StepPieces]:
    """Yield the pieces of each model, with its layer by the backend that runs it fastest, or by each."""
    for ends in records:
        if not _is_piece(ends, ENDS):
            continue
        layers = [
            each
            for each in records
            if each.workload == "transformer_block"
            and each.dimensions.get("pass") == "forward_backward"
            and _is_usable(each)
            and _is_same(each, ends)
            and each.represents == ends.represents
        ]
        optimizers = [each for each in records if _is_piece(each, OPTIMIZER) and each.device == ends.device]
        optimizers = [each for each in optimizers if each.dtype == ends.dtype]
        own = [each for each in optimizers if _is_same(each, ends)] or optimizers
        if not layers or not own:
            continue
        if by_every_backend:
            for layer in layers:
                yield StepPieces(layer, ends, own[0])
        else:
            trusted = [each for each in layers if each.trusted] or layers
            yield StepPieces(max(trusted, key=lambda each: each.tflops or 0.0), ends, own[0])


def _is_piece(record: Record, pass_: str) -> bool:
    return (
        record.workload == _WORKLOAD
        and record.dimensions.get("pass") == pass_
        and _is_usable(record)
        and "parameters" in record.dimensions
        and (pass_ != OPTIMIZER or record.size("parameters") is not None)
    )


def _is_usable(record: Record) -> bool:
    return record.status == "ok" and record.time_s is not None and not record.is_wrong


def _is_same(one: Record, other: Record) -> bool:
    same = all(one.dimensions.get(name) == other.dimensions.get(name) for name in _SAME)
    return same and (one.device, one.dtype) == (other.device, other.dtype)


def _size(record: Record, name: str) -> int:
    return record.size(name) or 0


def _seconds(record: Record) -> Interval:
    """Seconds a launch; with the interval of its throughput, or of its bandwidth where it has no FLOPs."""
    assert record.time_s is not None
    figure = record.interval("tflops") or record.interval("bandwidth_gb_s")
    if figure is None:
        return Interval(record.time_s, record.time_s, record.time_s)
    return figure.inverted(figure.value * record.time_s)
