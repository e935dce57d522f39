"""The grid that is searched: the values of each axis, and what is known of how they act."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Value = int | str
Point = Mapping[str, Value]  # a value for each axis


@dataclass(frozen=True)
class Space:
    """All combinations of the axes' values, numbered from 0 with the last axis fastest.

    `work` is the FLOPs of each point. `features` has a row for each point and a column for each known
    influence on the logarithm of throughput, such as how well a shape fills a GPU's multiprocessors.
    """

    axes: Mapping[str, Sequence[Value]]
    work: NDArray[np.float64]
    features: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        """Raise ValueError where an axis is empty, or a row is missing."""
        if not all(self.axes.values()):
            raise ValueError("an axis of the search has no values")
        if self.work.shape != (self.size,) or (self.features.size and len(self.features) != self.size):
            raise ValueError(f"the grid has {self.size} points: expected as many FLOPs and rows of features")

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many values each axis has."""
        return tuple(map(len, self.axes.values()))

    @property
    def size(self) -> int:
        """How many points there are."""
        return int(np.prod(self.sizes))

    def point(self, index: int) -> dict[str, Value]:
        """Return the point of this number."""
        places = np.unravel_index(index, self.sizes)
        return {name: values[int(at)] for (name, values), at in zip(self.axes.items(), places, strict=True)}

    @cached_property
    def design(self) -> NDArray[np.float64]:
        """The design matrix of a model in which each value of each axis has an effect, and each feature one.

        A row for each point: an indicator for each value of each axis, then the features.
        """
        places = np.unravel_index(np.arange(self.size), self.sizes)
        columns = [
            np.equal.outer(at, np.arange(size)).astype(float)
            for at, size in zip(places, self.sizes, strict=True)
        ]
        return np.hstack([*columns, self.features] if self.features.size else columns)
