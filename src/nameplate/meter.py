"""The MFU of a training loop: `mfu` from tokens a second, and `Meter`, which a loop tells of its steps.

MFU = tokens a second × FLOPs a token ÷ (devices × peak). FLOPs a token are by a named convention, from the
model's sizes (`models/conventions.py`); the peak is the dense datasheet figure of the part that the device is
recognised as by evidence (`specs/recognition.py`). What isn't known is None with the reason, never a guess.

Importing this module costs next to nothing; the tables are read with the first figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nameplate.models.shape import ModelShape
    from nameplate.specs.rating import Rating

_TFLOP = 1e12
# As base/model.py has them, which loads pydantic.
_LARGEST, _SMALLEST, _LARGEST_COUNT = 1e30, 1e-30, 2**63 - 1
_OF_A_DRIVER = "nvidia "  # what the names begin with that a driver reports
# What torch calls a number format, by the name that it has in tables of peaks.
_TORCH_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
    "float64": "fp64",
    "double": "fp64",
    "float8_e4m3fn": "fp8_e4m3",
    "float8_e5m2": "fp8_e5m2",
}


@dataclass(frozen=True)
class Mfu:
    """Model FLOPs utilisation of one figure of throughput; None is what isn't known, and `reason` says why.

    `value` is by `convention`, `by_convention` holds it by all of them, and `flops_per_token` what each
    counts, forward and backward. `tflops` is the throughput of one device, `peak_tflops` its dense datasheet
    figure for `dtype`. An MFU above 1 can't be: a `warning` says so.
    """

    value: float | None
    reason: str | None
    convention: str
    by_convention: Mapping[str, float | None]
    tokens_per_s: float
    devices: int
    flops_per_token: Mapping[str, float | None]
    context: int | None
    model: str
    tflops: float | None
    dtype: str
    peak_tflops: float | None
    peak_source: str
    part: str | None
    warning: str | None = None

    def __float__(self) -> float:
        """Return the MFU for a logger of numbers; NaN where it isn't known."""
        return float("nan") if self.value is None else self.value

    def __str__(self) -> str:
        """Return one line: the MFU, of what peak, by which convention."""
        if self.value is None:
            return f"MFU unknown: {self.reason}"
        from nameplate.base.formatting import percent, stated

        of_part = f" of {self.part}" if self.part else ""
        peak = f"{stated(self.peak_tflops)} TFLOPS {self.dtype}{of_part}"
        return f"MFU {percent(self.value)} of {peak}, FLOPs by {self.convention}"

    def as_json(self) -> dict[str, Any]:
        """Return every field as JSON has it."""
        return {"mfu": self.value, **{name: each for name, each in asdict(self).items() if name != "value"}}


def mfu(
    tokens_per_s: float,
    model: Any,
    *,
    device: Any = None,
    convention: str = "megatron",
    dtype: Any = "bf16",
    context: int | None = None,
    devices: int = 1,
    peak_tflops: float | None = None,
) -> Mfu:
    """Return the MFU of `tokens_per_s` on `devices` devices together, by every convention.

    `model` is a name (`llama3-8b`), a file (TOML or config.json), a config of Hugging Face, a mapping of
    sizes, a `ModelShape`, or a number of parameters, which gives `6n` alone. `device` is a driver's name, a
    part, or one of torch's CUDA devices (`cuda:0`, a `torch.device`); by default the current one. `context`
    is the tokens of a sequence, by default those that the model was trained on. `dtype` is of the products,
    by our name or torch's. `peak_tflops` replaces the datasheet's peak of one device.

    Raises InputError for an unknown model or convention and for numbers that can't be. A device that isn't
    recognised is no error: the MFU is None, with the reason.
    """
    return _Basis.of(model, device, convention, dtype, context, devices, peak_tflops).at(tokens_per_s)


class Meter:
    """Counts a training loop's tokens and time, and gives its MFU; the arguments are those of `mfu`.

    Call `update(tokens)` once a step, after it: the first call only starts the clock, so that what a first
    step costs once (compiling, allocating) isn't counted. On a GPU a step's launches run behind the host:
    over many steps the queue's length doesn't matter; for one step synchronise before the call. `clock`
    returns seconds.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: Any = None,
        convention: str = "megatron",
        dtype: Any = "bf16",
        context: int | None = None,
        devices: int = 1,
        peak_tflops: float | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Keep what the MFU depends on; nothing is read before the first figure."""
        self._given = (model, device, convention, dtype, context, devices, peak_tflops)
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget all steps: the next one starts the clock anew (after an evaluation, a checkpoint)."""
        self.tokens, self.seconds = 0.0, 0.0
        self._since_s: float | None = None
        self._last = (0.0, 0.0)

    def update(self, tokens: int, seconds: float | None = None) -> None:
        """Count a step of so many tokens on all devices, which took `seconds`, or the time since the last.

        Raises InputError, and counts nothing, for what is no number, not finite or below 0.
        """
        counted = _require_number("Meter.update: tokens", tokens)
        took_s = None if seconds is None else _require_number("Meter.update: seconds", seconds)
        now_s = self._clock()
        if took_s is None:
            began_s, self._since_s = self._since_s, now_s
            if began_s is None:
                return
            took_s = now_s - began_s
        self.tokens += counted
        self.seconds += took_s
        self._last = (counted, took_s)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second of all steps that were counted; 0 before the second one."""
        return self.tokens / self.seconds if self.seconds else 0.0

    def read(self) -> Mfu:
        """Return the MFU of all steps since the beginning or the last reset."""
        return self._basis.at(self.tokens_per_s)

    def read_last(self) -> Mfu:
        """Return the MFU of the last step alone."""
        tokens, seconds = self._last
        return self._basis.at(tokens / seconds if seconds else 0.0)

    @cached_property
    def _basis(self) -> _Basis:
        return _Basis.of(*self._given)


@dataclass(frozen=True)
class _Basis:
    """What an MFU depends on besides tokens a second; `flops` and `peak` are None with their reasons."""

    model: str
    context: int | None
    convention: str
    flops: Mapping[str, float | None]
    flops_reason: str | None
    dtype: str
    devices: int
    peak_tflops: float | None
    peak_source: str
    part: str | None

    @classmethod
    def of(
        cls,
        model: Any,
        device: Any,
        convention: str,
        dtype: Any,
        context: int | None,
        devices: int,
        peak_tflops: float | None,
    ) -> _Basis:
        from nameplate.models.conventions import SHOWN, find_convention

        find_convention(convention)
        if context is not None:
            _check_whole("context", context)
        _check_whole("devices", devices)
        named = _name_dtype(dtype)
        name, shape, trained_on = _find_model(model)
        context = context or trained_on
        flops, reason = _count(shape, context, dict.fromkeys((*SHOWN, convention)))
        peak, source, part = _find_peak(device, named, peak_tflops)
        return cls(name, context, convention, flops, reason, named, devices, peak, source, part)

    def at(self, tokens_per_s: float) -> Mfu:
        """The MFU at so many tokens a second of all devices."""
        tokens_per_s = _require_number("tokens_per_s", tokens_per_s)
        reached = {
            name: None if flops is None else tokens_per_s / self.devices * flops / _TFLOP
            for name, flops in self.flops.items()
        }
        shares = {
            name: None if tflops is None or self.peak_tflops is None else tflops / self.peak_tflops
            for name, tflops in reached.items()
        }
        value = shares[self.convention]
        no_flops = self.flops_reason if self.flops[self.convention] is None else None
        no_peak = self.peak_source if self.peak_tflops is None else None
        return Mfu(
            value=value,
            reason="; ".join(filter(None, (no_flops, no_peak))) or None,
            convention=self.convention,
            by_convention=shares,
            tokens_per_s=tokens_per_s,
            devices=self.devices,
            flops_per_token=self.flops,
            context=self.context,
            model=self.model,
            tflops=reached[self.convention],
            dtype=self.dtype,
            peak_tflops=self.peak_tflops,
            peak_source=self.peak_source,
            part=self.part,
            warning=_warn_above(value),
        )


def _warn_above(value: float | None) -> str | None:
    if value is None or value <= 1:
        return None
    return "above the peak: the model, tokens a second, number of devices or dtype can't be right"


def _require_number(name: str, given: Any, *, above_0: bool = False) -> float:
    """Return a number of whatever library as Python's; raises InputError for one that can't be a quantity."""
    try:
        number = float("nan") if isinstance(given, str | bytes | bool) else float(given)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if (number == 0 and not above_0) or _SMALLEST <= number <= _LARGEST:
        return number
    from nameplate.base.errors import InputError

    least = "above 0" if above_0 else "0 or more"
    raise InputError("can't be counted", where=name, got=given, expected=f"{least}, at most {_LARGEST}")


def _check_whole(name: str, given: int) -> None:
    from nameplate.base.errors import InputError

    if isinstance(given, bool) or not isinstance(given, int) or not 1 <= given <= _LARGEST_COUNT:
        raise InputError("not a number of things", where=name, got=given, expected="a whole number above 0")


def _name_dtype(dtype: Any) -> str:
    """Return our name of a dtype, given by our name or torch's, as text or as torch's object."""
    name = str(dtype).removeprefix("torch.")
    return _TORCH_DTYPES.get(name, name)


def _find_model(given: Any) -> tuple[str, ModelShape | float, int | None]:
    """Return the name, the shape or only the number of parameters, and the context that it was trained on."""
    from nameplate.models.load import find_model
    from nameplate.models.shape import ModelShape

    if isinstance(given, ModelShape):
        return "a model of given sizes", given, None
    if isinstance(given, int | float) and not isinstance(given, bool):
        return (
            "a number of parameters",
            _require_number("model: a number of parameters", given, above_0=True),
            None,
        )
    model = find_model(given)
    return model.name, model.shape, model.context


def _count(
    shape: ModelShape | float, context: int | None, conventions: Mapping[str, None]
) -> tuple[dict[str, float | None], str | None]:
    """Return FLOPs a token by convention, None for those that can't be counted, and why they can't."""
    from nameplate.models.conventions import flops_per_token

    only_6n: dict[str, float | None] = dict.fromkeys(conventions)
    if isinstance(shape, float):
        counted = flops_per_parameter(shape)
        return only_6n | {"6n": counted}, "attention's FLOPs follow from a model's sizes: a name or a file"
    if context is None:
        why = "attention's FLOPs depend on the tokens of a sequence: give `context`"
        return only_6n | {"6n": flops_per_token(shape, 1, "6n")}, why
    return {name: flops_per_token(shape, context, name) for name in conventions}, None


def flops_per_parameter(parameters: float) -> float:
    """6N: FLOPs a token of so many parameters, forward and backward."""
    from nameplate.models.conventions import flops_per_token
    from nameplate.models.shape import shape_from_parameters

    return flops_per_token(shape_from_parameters(parameters), 1, "6n")


def _find_peak(device: Any, dtype: str, given: float | None) -> tuple[float | None, str, str | None]:
    """Return the peak of one device in TFLOPS, its source or the reason for none, and the part."""
    if given is not None:
        return _require_number("peak_tflops", given, above_0=True), "given as peak_tflops", None
    rating = _rate(device)
    if isinstance(rating, str):
        return None, rating, None
    found = rating.datasheet_for(dtype)
    return found.tflops, str(found.source if rating.part else rating.evidence), rating.part


def _rate(device: Any) -> Rating | str:
    """Return the rating of a device, or the reason why it has none."""
    from nameplate.base.errors import InputError
    from nameplate.specs.part import Part
    from nameplate.specs.rating import rate_evidence, rate_part
    from nameplate.specs.recognition import Evidence, require
    from nameplate.specs.registry import load_registry

    if isinstance(device, Part):
        return rate_part(device, "the part that was given")
    if isinstance(device, Evidence):
        return rate_evidence(device)
    named = "cuda" if device is None else str(device)
    kind = named.partition(":")[0]
    if kind == "cpu":
        return "a CPU's peak is measured, not looked up: give peak_tflops, such as a run's nominal_tflops"
    if kind == "cuda":
        evidence = _ask_torch(named)
        return evidence if isinstance(evidence, str) else rate_evidence(evidence)
    if kind.casefold().startswith(_OF_A_DRIVER):  # never completed: "NVIDIA H100" alone may be either form
        return rate_evidence(Evidence(named))
    try:
        found = require(named, load_registry())
    except InputError as error:
        return f"the device isn't recognised: {error}"
    return rate_part(found.part, found.note or f"the name {named!r}", found.memory)


def _ask_torch(named: str) -> Any:
    """Return what torch says of one of its CUDA devices as `Evidence`, or the reason why it says nothing."""
    import torch

    from nameplate.specs.recognition import Evidence

    if not torch.cuda.is_available():
        return "torch finds no CUDA device: give `device` (a part's name) or peak_tflops"
    try:
        found: Any = torch.cuda.get_device_properties(torch.device(named))
    except (AssertionError, RuntimeError) as error:
        return f"torch has no device {named}: {error}"
    return Evidence(found.name, found.total_memory, found.multi_processor_count)
