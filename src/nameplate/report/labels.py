"""What cases, stages and devices are called in tables and sentences; which of them are simulated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.stage import Stage
from nameplate.store.folder import Run
from nameplate.store.manifest import Manifest
from nameplate.suite import CACHES, FILLS, PHASES

_Axes = tuple[str, str, str, str]  # fill, cache, phase, backend
_DEFAULT_AXES: _Axes = ("normal", "warm", "-", "torch")


@dataclass(frozen=True)
class Labels:
    """The labels of a run's cases: their ids, without the axes that are the same in most of them.

    `omitted` has, for each workload, the axes that its labels leave out.
    """

    omitted: Mapping[str, _Axes]
    several_devices: bool = False

    @classmethod
    def of(cls, run: Run) -> Self:
        """Make the labels of a run, whose most common cache states and phases they leave out."""
        cases = [record.case for record in run.records] + [each.case for each in run.manifest.expected]
        axes_by_work: dict[str, list[_Axes]] = {}
        for case in dict.fromkeys(cases):
            work, axes = _split_id(case)
            if axes:
                axes_by_work.setdefault(work.split("/")[0], []).append(axes)
        omitted = {work: _most_common_axes(found) for work, found in axes_by_work.items()}
        return cls(omitted, len(run.manifest.devices) > 1)

    def case(self, case: str) -> str:
        """Label a case by the words of its id, separated by spaces."""
        work, axes = _split_id(case)
        omitted = self.omitted.get(work.split("/")[0], _DEFAULT_AXES)
        shown = [_axis_name(axis) for axis, common in zip(axes, omitted, strict=False) if axis != common]
        return plain(" ".join([work.replace("/", " "), *shown]))

    def row(self, device: str, case: str) -> str:
        """Label a row by its case; in a run of several devices by the device too."""
        return f"{plain(device)} {self.case(case)}" if self.several_devices else self.case(case)

    def describe_omitted(self) -> str | None:
        """Say which axes the labels leave out, but for the defaults; None where there are none."""
        works: dict[str, list[str]] = {}
        for work, axes in self.omitted.items():
            for axis, default in zip(axes, _DEFAULT_AXES, strict=True):
                if axis != default:
                    works.setdefault(axis, []).append(work)
        comma = _(", ")
        named = [_("{axis} ({works})", axis=axis, works=comma.join(found)) for axis, found in works.items()]
        return _("{axes}, unless a row says otherwise", axes=comma.join(named)) if named else None


def _axis_name(axis: str) -> str:
    return _("no phase") if axis == "-" else axis


def _split_id(case: str) -> tuple[str, _Axes | tuple[()]]:
    """Split an id into `workload/dtype/shape` and the axes; one of another form has no axes."""
    work, *axes = case.rsplit("/", 4)
    if len(axes) == 4 and axes[0] in FILLS and axes[1] in CACHES and axes[2] in ("-", *PHASES):
        return work, (axes[0], axes[1], axes[2], axes[3])
    return case, ()


def _most_common_axes(found: list[_Axes]) -> _Axes:
    """Return the default fill and backend, with the cache state and the phase that most cases have."""
    fill, cache, phase, backend = _DEFAULT_AXES
    cache = _most_common([axes[1] for axes in found], cache)
    phase = _most_common([axes[2] for axes in found], phase)
    return fill, cache, phase, backend


def _most_common(values: list[str], default: str) -> str:
    """Return the value of more than half, if several have it; else the default."""
    value, count = Counter(values).most_common(1)[0]
    return value if count > max(1, len(values) / 2) else default


def join_counted(names: Iterable[str]) -> str:
    """Join names, each once with its count: `8 × NVIDIA A800-SXM4-80GB`."""
    counts = Counter(names)
    return ", ".join(name if count == 1 else f"{count} × {name}" for name, count in counts.items())


def name_stage(stage: Stage) -> str:
    """Return what a stage is called in the reader's language."""
    return _(stage.label)


def describe_slowest(reaching: int, devices: int) -> str:
    """Describe the slowest device: of `devices`, `reaching` have a chain that comes as far as its own."""
    if reaching == devices:
        return _("the slowest of {count} devices", count=devices)
    if reaching == 1:
        return _("the only one of {count} devices that reaches this far", count=devices)
    return _(
        "the slowest of the {reaching} of {count} devices that reach this far",
        reaching=reaching,
        count=devices,
    )


def describe_simulated(manifests: Iterable[Manifest]) -> str:
    """Say that the figures of these runs, or of some of them, are simulated; "" where all are measured."""
    simulated = [each for each in manifests if not each.measured]
    return describe_twins(entry.identity.name for manifest in simulated for entry in manifest.devices)


def describe_twins(names: Iterable[str]) -> str:
    """Say that the figures of these devices are simulated; "" for none."""
    twins = join_counted(plain(name) for name in names)
    return _("simulated: a twin of {gpus}, not a measurement", gpus=twins) if twins else ""
