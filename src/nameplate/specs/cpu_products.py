"""Names processors whose kernel prints no model name, by part number and what the machine calls itself."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from typing import Annotated, Literal

from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.specs.cpu import Date, Source, Text
from nameplate.specs.cpu_evidence import CpuEvidence

PRODUCTS_FILE = "cpu_products.toml"


class Product(FrozenModel):
    """A processor: its part numbers, and words of which the firmware says one."""

    name: Text
    implementer: int
    parts: Annotated[tuple[int, ...], Field(min_length=1)]
    texts: Annotated[tuple[Text, ...], Field(min_length=1)]
    source: Source
    date: Date

    def matches(self, evidence: CpuEvidence, said: str) -> bool:
        """Return whether it is this processor: `said` is all that the firmware says, without case."""
        numbers = evidence.implementer == self.implementer and evidence.arm_part in self.parts
        return numbers and any(
            re.search(rf"(?<!\w){re.escape(text.casefold())}(?!\w)", said) for text in self.texts
        )


class _ProductsFile(FrozenModel):
    schema_version: Literal[1] = Field(alias="schema")
    product: Annotated[tuple[Product, ...], Field(min_length=1)]


def find_product(evidence: CpuEvidence, texts: Iterable[str]) -> str | None:
    """Return the processor's name; None where no entry fits. Raises InputError for a bad file."""
    said = "\n".join(texts).casefold()
    return next((each.name for each in load_products() if each.matches(evidence, said)), None)


@cache
def load_products() -> tuple[Product, ...]:
    """Return every processor of the table, validated. Raises InputError for a bad file."""
    return parse_toml(_ProductsFile, read_packaged("nameplate.specs", PRODUCTS_FILE), PRODUCTS_FILE).product
