"""Published efficiencies as data, each with its source: they stand in where nothing was measured."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from nameplate.base.errors import InputError
from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.chain.link import Link
from nameplate.chain.stage import Stage
from nameplate.models.conventions import CONVENTIONS, convert, convert_unknown
from nameplate.models.published import PUBLISHED_MODELS_FILE, load_published_models

_Text = Annotated[str, Field(min_length=1)]
_PRODUCTS = (Stage.GEMM_BURST, Stage.GEMM_SUSTAINED)
UNKNOWN_CONVENTION = "unknown"


class Published(FrozenModel):
    """One published figure. A derate is the ratio of stage `to` to stage `from_`; others have no stages.

    An MFU, which depends on how FLOPs are counted, has the model and the context that it is converted by.
    """

    model_config = ConfigDict(populate_by_name=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    quantity: _Text
    from_: Annotated[Stage | None, Field(alias="from")] = None
    to: Stage | None = None
    n_from: int | None = None  # devices at either end
    n_to: int | None = None
    convention: str | None = None
    model: _Text | None = None  # an id of the published models
    context: Annotated[int, Field(gt=0)] | None = None  # tokens
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

    @model_validator(mode="after")
    def _spans_forward(self) -> Self:
        if self.quantity != "derate":
            return self
        if self.from_ is None or self.to is None:
            raise ValueError("a derate needs both its stages, from and to")
        if self.from_.reach >= self.to.reach:
            raise ValueError(f"a derate leads to a later stage: {self.from_} isn't before {self.to}")
        if self.is_mfu:
            if self.convention not in (*CONVENTIONS, UNKNOWN_CONVENTION):
                raise ValueError(f"a convention among {', '.join(CONVENTIONS)}, or {UNKNOWN_CONVENTION}")
            if self.model not in load_published_models() or self.context is None:
                raise ValueError(f"the model, of {PUBLISHED_MODELS_FILE}, and the context of an MFU")
        return self

    @property
    def is_mfu(self) -> bool:
        """Whether the ratio depends on how FLOPs are counted: only its later stage is counted by a model."""
        if self.from_ is None or self.to is None:
            return False
        return self.from_.reach < Stage.BLOCK.reach <= self.to.reach

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and highest value by the convention of this chain: the same unless it isn't known."""
        if not self.is_mfu or self.model is None or self.context is None or self.convention is None:
            return self.value, self.value
        shape = load_published_models()[self.model].shape
        if self.convention == UNKNOWN_CONVENTION:
            return convert_unknown(self.value, shape, self.context)
        known = convert(self.value, shape, self.context, self.convention)
        return known, known

    def serves(self, part: str) -> bool:
        """Whether it is of `part`, or of one that `part` shares its silicon with."""
        return part == self.part or part in self.stands_in_for

    def as_link(self) -> Link:
        """The derate as a link. Raises InputError for a figure that is no derate.

        An MFU is converted to the convention of this chain; where the source doesn't say how it counted, it
        is anything between the conventions that it may have used.
        """
        if self.from_ is None or self.to is None or self.quantity != "derate":
            raise InputError(
                f"a published figure, but of {self.quantity}", got=self.id, expected="the id of a derate"
            )
        low, high = self.ends
        return Link(
            self.from_,
            self.to,
            (low + high) / 2,
            self.dtype,
            "published",
            f"{self.source} ({self.date})",
            low=low,
            high=high,
            law="uniform" if low < high else "exact",
            id=self.id,
            device=self.device,
            scope=self.scope,
            convention=self.convention,
            confidence=self.confidence,
            n_from=self.n_from,
            n_to=self.n_to,
            parts=(self.part, *self.stands_in_for) if self.part else (),
            note=self.note,
        )


class _PublishedFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    figure: tuple[Published, ...]


@cache
def load_published() -> tuple[Published, ...]:
    """Every shipped figure, in the file's order."""
    return parse_published(read_packaged("nameplate.chain", "published.toml"), "published.toml")


def parse_published(text: str, where: str) -> tuple[Published, ...]:
    """Read a file of published figures. Raises InputError naming file, key, got and expected."""
    figures = parse_toml(_PublishedFile, text, where).figure
    ids = [figure.id for figure in figures]
    twice = next((each for each in ids if ids.count(each) > 1), None)
    if twice is not None:
        raise InputError("two figures share an id", where=where, got=twice, expected="ids of their own")
    return figures


def find_figure(name: str) -> Published:
    """The figure with that id. Raises InputError if there is none."""
    figure = next((each for each in load_published() if each.id == name), None)
    if figure is None:
        raise InputError("no such published figure", got=name, expected="an id of published.toml")
    return figure


def find_best_gemm(part: str, dtype: str) -> Published | None:
    """The best published matrix product of a part and dtype, which a healthy card should come near.

    A source that says `fp8` holds for both formats of fp8, since both have the same rating.
    """
    names = (dtype, dtype.partition("_e")[0])
    found = [
        each
        for each in load_published()
        if each.quantity == "derate" and each.to in _PRODUCTS and each.from_ is Stage.DATASHEET
        if each.dtype in names and each.serves(part)
    ]
    return max(found, key=lambda each: each.value, default=None)
