"""Published efficiencies as data: what stands in where nothing was measured, always with its source."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.base.toml import packaged, parse
from nameplate.chain.stage import Stage

_Text = Annotated[str, Field(min_length=1)]


class Published(FrozenModel):
    """One published figure. A derate is the ratio of stage `to` to stage `from_`; others have no stages."""

    model_config = ConfigDict(populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    quantity: _Text
    from_: Annotated[Stage | None, Field(alias="from")] = None
    to: Stage | None = None
    n_from: int | None = None  # devices at either end
    n_to: int | None = None
    convention: str | None = None
    device: _Text  # as the source names it
    part: str | None = None
    stands_in_for: tuple[str, ...] = ()
    dtype: _Text
    value: Annotated[float, Field(gt=0)]
    numerator_tflops: float | None = None
    denominator_tflops: float | None = None
    scope: str | None = None
    source: _Text
    date: Annotated[str, Field(pattern=r"^20\d\d(-[01]\d(-[0-3]\d)?)?$")]
    confidence: Literal["high", "medium", "low"]
    note: str | None = None
    unasked: bool = False

    @model_validator(mode="after")
    def _spans_forward(self) -> Self:
        if self.quantity != "derate":
            return self
        if self.from_ is None or self.to is None:
            raise ValueError("a derate needs both its stages, from and to")
        if self.from_.reach >= self.to.reach:
            raise ValueError(f"a derate leads onward: {self.from_} isn't before {self.to}")
        return self

    def serves(self, part: str) -> bool:
        """Whether it is of `part`, or of one that `part` shares its silicon with."""
        return part == self.part or part in self.stands_in_for


class _File(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    figure: tuple[Published, ...]


@cache
def published() -> tuple[Published, ...]:
    """Every shipped figure, in the file's order."""
    return parse_published(packaged("nameplate.chain", "published.toml"), "published.toml")


def parse_published(text: str, where: str) -> tuple[Published, ...]:
    """Read a file of published figures. Raises InputError naming file, key, got and expected."""
    figures = parse(_File, text, where).figure
    ids = [figure.id for figure in figures]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise InputError("two figures share an id", where=where, got=twice, expected="ids of their own")
    return figures


def find(name: str) -> Published:
    """The figure of that id. Raises InputError where there is none."""
    figure = next((each for each in published() if each.id == name), None)
    if figure is None:
        raise InputError("no such published figure", got=name, expected="an id of published.toml")
    return figure


def unasked_for(part: str) -> Published | None:
    """The derate a part's fleet is priced by where no run of it is given; None where none is published."""
    return next((each for each in published() if each.unasked and each.serves(part)), None)


def best_gemm(part: str, dtype: str) -> Published | None:
    """The best published product of a part and dtype: what a healthy card should come near.

    A source that says `fp8` says so of either format of it: both are rated alike.
    """
    said = (dtype, dtype.partition("_e")[0])
    found = [
        each
        for each in published()
        if each.quantity == "derate" and each.to is Stage.GEMM_SUSTAINED and each.from_ is Stage.DATASHEET
        if each.dtype in said and each.serves(part)
    ]
    return max(found, key=lambda each: each.value, default=None)
