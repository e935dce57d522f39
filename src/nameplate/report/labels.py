"""What a case is called in a table: its id without what all its like have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from nameplate.base.language import _
from nameplate.base.text import plain
from nameplate.chain.stage import Stage
from nameplate.store.folder import Run
from nameplate.suite import CACHES, FILLS, PHASES

_Axes = tuple[str, str, str, str]
_DEFAULTS: _Axes = ("normal", "warm", "-", "torch")  # fill, cache, phase, backend


@dataclass(frozen=True)
class Labels:
    """The names of a run's cases. `usual` holds, for each workload, the axes that its labels leave out."""

    usual: Mapping[str, _Axes]
    several_devices: bool = False

    @classmethod
    def of(cls, run: Run) -> Self:
        """The names for a run: the cache state and the phase that most cases of a workload have go unsaid."""
        cases = [record.case for record in run.records] + [each.case for each in run.manifest.expected]
        return cls(_usual(dict.fromkeys(cases)), len(run.manifest.devices) > 1)

    def case(self, case: str) -> str:
        """The id's words, with spaces where a narrow column can break."""
        work, axes = _cut(case)
        usual = self.usual.get(work.split("/")[0], _DEFAULTS)
        said = [_axis(axis) for axis, common in zip(axes, usual, strict=False) if axis != common]
        return plain(" ".join([work.replace("/", " "), *said]))

    def row(self, device: str, case: str) -> str:
        """What a row is called: its case, and in a run of several devices the device too."""
        return f"{plain(device)} {self.case(case)}" if self.several_devices else self.case(case)

    def unsaid(self) -> str | None:
        """What the labels leave out and nobody would guess; None where there is nothing."""
        found: dict[str, list[str]] = {}
        for work, axes in self.usual.items():
            for axis, default in zip(axes, _DEFAULTS, strict=True):
                if axis != default:
                    found.setdefault(axis, []).append(work)
        said = [_("{axis} ({works})", axis=axis, works=_(", ").join(works)) for axis, works in found.items()]
        return _("{axes}, where a row says no other", axes=_(", ").join(said)) if said else None


def _axis(axis: str) -> str:
    return _("no phase") if axis == "-" else axis


def _cut(case: str) -> tuple[str, _Axes | tuple[()]]:
    """`workload/dtype/shape` and the axes; an id of another form is all of the first."""
    work, *axes = case.rsplit("/", 4)
    if len(axes) == 4 and axes[0] in FILLS and axes[1] in CACHES and axes[2] in ("-", *PHASES):
        return work, (axes[0], axes[1], axes[2], axes[3])
    return case, ()


def _usual(cases: Iterable[str]) -> dict[str, _Axes]:
    by_work: dict[str, list[_Axes]] = {}
    for case in cases:
        work, axes = _cut(case)
        if axes:
            by_work.setdefault(work.split("/")[0], []).append(axes)
    return {work: _most(found) for work, found in by_work.items()}


def _most(found: list[_Axes]) -> _Axes:
    """The default fill and backend; the cache state and the phase that more than half have, if several do."""
    cache, phase = (_common([axes[n] for axes in found], _DEFAULTS[n]) for n in (1, 2))
    return (_DEFAULTS[0], cache, phase, _DEFAULTS[3])


def _common(values: list[str], default: str) -> str:
    value, count = Counter(values).most_common(1)[0]
    return value if count > max(1, len(values) / 2) else default


def stage_words(stage: Stage) -> str:
    """What a stage is called where a person reads it."""
    return _(stage.label)


def slowest_words(reaching: int, devices: int) -> str:
    """What the slowest device of a run is, of so many that reach as far as it does and so many in all."""
    if reaching == devices:
        return _("the slowest of {count} devices", count=devices)
    if reaching == 1:
        return _("the only one of {count} devices that reaches this far", count=devices)
    return _(
        "the slowest of the {reaching} of {count} devices that reach this far",
        reaching=reaching,
        count=devices,
    )
