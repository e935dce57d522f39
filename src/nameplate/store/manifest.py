"""The manifest: what a run is to measure, on which devices, with which software; written at its start."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from nameplate.base.messages import Message, Reason, text
from nameplate.base.model import FrozenModel, Positive, is_interval
from nameplate.device.identity import CpuIdentity, Identity
from nameplate.record import METHOD, MOST_CASES, SCHEMA
from nameplate.specs.rating import Figure, Rating
from nameplate.store.launch import Launch
from nameplate.suite import NO_AXES, Axes

# A text that becomes a folder's name. A manifest may come from someone else, so it is checked.
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=200)]


MOST_DEVICES = 1024  # of a run, which is of one node


def parse_time(text: str) -> datetime | None:
    """Parse an ISO 8601 time, without a zone as UTC; None where it isn't one."""
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


class DeviceEntry(FrozenModel):
    """A device of the run: its identity, the part it was recognised as and why, and its rated figures.

    The figures are kept so that a resumed run divides by the same ones.
    """

    name: str
    part: FolderName | None
    evidence: Reason
    nominal: Mapping[str, Figure] = {}
    datasheet: Mapping[str, Figure] = {}
    missing: Message = text("")
    notes: tuple[Message, ...] = ()
    rated_clock_mhz: Mapping[str, Positive] = {}
    memory_gb_s: Positive | None = None
    identity: Identity

    @model_validator(mode="after")
    def _check_figures(self) -> Self:
        for dtype, figure in (*self.nominal.items(), *self.datasheet.items()):
            value, low, high = figure.tflops, figure.low, figure.high
            if value is not None and not value > 0:
                raise ValueError(f"a rating of {dtype} can't be {value:g} TFLOPS")
            if not is_interval(value, low, high):
                raise ValueError(f"a rating of {dtype}: interval {low}..{high} doesn't hold {value}")
        return self

    @property
    def rating(self) -> Rating:
        """The rating that the run was begun with, including the user's --nominal."""
        return Rating(
            self.part,
            self.evidence,
            nominal=self.nominal,
            datasheet=self.datasheet,
            missing=self.missing,
            notes=self.notes,
            rated_clock_mhz=self.rated_clock_mhz,
            memory_gb_s=self.memory_gb_s,
            silicon=self.identity.silicon if isinstance(self.identity, CpuIdentity) else None,
        )

    def as_json(self) -> dict[str, Any]:
        """Return the entry as plain JSON values, with sentences in place of messages."""
        return {
            **self.model_dump(mode="json"),
            "evidence": str(self.evidence),
            "nominal": _figures_as_json(self.nominal),
            "datasheet": _figures_as_json(self.datasheet),
            "missing": str(self.missing),
            "notes": [str(note) for note in self.notes],
            "identity": self.identity.as_json(),
        }


def _figures_as_json(figures: Mapping[str, Figure]) -> dict[str, dict[str, Any]]:
    return {
        dtype: {"tflops": figure.tflops, "source": str(figure.source), **_known(figure)}
        for dtype, figure in figures.items()
    }


def _known(figure: Figure) -> dict[str, Any]:
    """What is known of a figure besides its value and source."""
    more = ("basis", "low", "high", "instruction", "clock_mhz")
    return {name: value for name in more if (value := getattr(figure, name)) is not None}


class Expected(FrozenModel):
    """A case that a run is to measure, and the device to measure it on."""

    case: str
    device: str


class Options(FrozenModel):
    """The flags of the run; a resumed run keeps them."""

    device: str = "auto"
    only: str | None = None
    budget_s: Positive | None = None
    nominal: Mapping[str, Positive] = {}
    axes: Axes = NO_AXES
    history: bool = True  # whether earlier runs say how much figures vary
    trace: bool = False  # whether a launch of each case is traced
    largest_batch: bool = False  # whether the largest batch that fits is looked for


class Manifest(FrozenModel):
    """One run. It is complete when each of `cases` has a record.

    In a run of one device `cases` are plain ids; in a run of several, each also names its device.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA)] = SCHEMA
    method: Annotated[int, Field(ge=1, le=METHOD)] = METHOD
    run: FolderName
    suite: str
    created: str
    hostname: str
    devices: Annotated[tuple[DeviceEntry, ...], Field(min_length=1, max_length=MOST_DEVICES)]
    software: Mapping[str, str | None]
    options: Options = Options()
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    cases: Annotated[tuple[str | Expected, ...], Field(max_length=MOST_CASES)]
    nvml: Message | None = None  # what NVML said where the CPU was measured for want of a GPU
    incidents: tuple[Message, ...] = ()  # a GPU that NVML can't read, a process that hung, a device given up
    measured: bool = True  # False: some device is a twin, and no figure of the run is a measurement
    # Ids of earlier runs in the same folder: how much their figures vary is part of the intervals.
    history: Annotated[tuple[FolderName, ...], Field(max_length=MOST_CASES)] = ()
    launch: Launch | None = None  # which process of a job measured it; None: nobody's launcher started it
    # Names the boot of the machine: runs of one boot share what a boot keeps. None: the system doesn't tell.
    boot: Annotated[str, Field(max_length=64)] | None = None
    published: bool = False  # a published copy, with hashes in place of host name, serial and UUID
    forced: Message | None = None  # why it wasn't to be published, and was by --force

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        """Raise ValueError for a device that is there twice, a case of a device that isn't there, and a twin
        in a run that says it was measured.
        """
        devices = [entry.name for entry in self.devices]
        if len(set(devices)) < len(devices):
            raise ValueError(f"a device is there twice: {', '.join(devices)}")
        twins = [entry.name for entry in self.devices if getattr(entry.identity, "twin", None) is not None]
        if twins and self.measured:
            raise ValueError(f"a twin is no measured device: {', '.join(twins)}")
        unknown = {each.device for each in self.expected}.difference(devices)
        if unknown:
            raise ValueError(f"a case of device {min(unknown)!r}, which isn't among {', '.join(devices)}")
        return self

    @property
    def expected(self) -> tuple[Expected, ...]:
        """Every case with its device, in the order of `cases`."""
        return tuple(
            Expected(case=entry, device=self.devices[0].name) if isinstance(entry, str) else entry
            for entry in self.cases
        )

    @property
    def node(self) -> str:
        """What the node is called: by the launcher, else by its host name."""
        return (self.launch and self.launch.node) or self.hostname

    @property
    def began(self) -> datetime:
        """When the run began, UTC; the earliest possible time where `created` isn't a valid time."""
        return parse_time(self.created) or datetime.min.replace(tzinfo=UTC)

    @property
    def command(self) -> str:
        """The command of the run, quoted for a shell. A model's file isn't known any more, only its name."""
        options = self.options
        words = ["bench", "run", *(_axes_flags(options.axes) or [self.suite])]
        if options.device != "auto":
            words += ["--device", options.device]
        if options.only is not None:
            words += ["--only", options.only]
        if options.budget_s is not None:
            words += ["--budget", f"{options.budget_s:g}"]
        for dtype, tflops in options.nominal.items():
            words += ["--nominal", f"{dtype}={tflops:g}"]
        words += ["--trace"] * options.trace + ["--largest-batch"] * options.largest_batch
        return shlex.join(words)

    def entry(self, device: str) -> DeviceEntry:
        """Return the device of that name. Raises KeyError where the run has none."""
        return {entry.name: entry for entry in self.devices}[device]

    def as_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON values, with sentences in place of messages."""
        return {
            **self.model_dump(mode="json"),
            "devices": [entry.as_json() for entry in self.devices],
            "nvml": None if self.nvml is None else str(self.nvml),
            "incidents": [str(each) for each in self.incidents],
        }


def _axes_flags(axes: Axes) -> list[str]:
    """Return the flags that asked for the cases; none for a suite's own."""
    given: Mapping[str, Sequence[str]] = {
        "--shape": ["x".join(map(str, shape)) for shape in axes.shapes],
        "--model": [] if axes.model is None else [axes.model.name],
        "--tokens": list(map(str, axes.tokens)),
        "--dtype": axes.dtypes,
        "--layout": axes.layouts,
    }
    return [word for flag, values in given.items() if values for word in (flag, ",".join(values))]
