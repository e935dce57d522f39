"""The models that published runs trained, by id: their sizes, from which the FLOPs of a token follow."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel, Positive
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.models.model import ModelSizes
from nameplate.models.shape import ModelShape, shape_from_parameters

PUBLISHED_MODELS_FILE = "published_models.toml"
_Text = Annotated[str, Field(min_length=1)]


class PublishedModel(ModelSizes):
    """A model that published runs trained. Without sizes, a usual decoder of its parameters stands for it."""

    name: _Text
    stated_parameters: Positive  # as published, rounded; of a model without sizes, those that are active
    source: _Text

    @property
    def shape(self) -> ModelShape:
        """The sizes that FLOPs follow from."""
        sizes = (self.layers, self.width, self.heads, self.vocabulary, self.ffn)
        return shape_from_parameters(self.stated_parameters) if None in sizes else super().shape


class _PublishedModelsFile(FrozenModel):
    schema_version: Annotated[Literal[1], Field(alias="schema")]
    model: dict[str, PublishedModel]


@cache
def load_published_models() -> Mapping[str, PublishedModel]:
    """The models of the published runs by id, checked."""
    text = read_packaged("nameplate.models", PUBLISHED_MODELS_FILE)
    return parse_toml(_PublishedModelsFile, text, PUBLISHED_MODELS_FILE).model
