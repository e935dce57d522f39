"""The pydantic model that every file from outside and every record is built on."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

# Numbers beyond these are no physical quantity. Products, ratios and squares of any within them are finite.
LARGEST, SMALLEST = 1e30, 1e-30
LARGEST_COUNT = 2**63 - 1  # what databases and Parquet hold


def is_possible(number: float) -> bool:
    """Whether a number can be a quantity: 0, or neither beyond `LARGEST` nor nearer to 0 than `SMALLEST`."""
    return not number or SMALLEST <= abs(number) <= LARGEST


def is_interval(value: float | None, low: float | None, high: float | None) -> bool:
    """Whether the ends of an interval hold its value; also where neither end is known."""
    if low is None and high is None:
        return True
    return value is not None and low is not None and high is not None and low <= value <= high


def _require_possible(number: float) -> float:
    if not is_possible(number):
        raise ValueError(f"no quantity is that small: {number:g}")
    return number


Number = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=LARGEST)]
Positive = Annotated[float, Field(gt=0, le=LARGEST), AfterValidator(_require_possible)]
Count = Annotated[int, Field(ge=0, le=LARGEST_COUNT)]
PositiveCount = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]


class FrozenModel(BaseModel):
    """A model that can't be changed, and refuses unknown keys and numbers that aren't finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def explain_error(error: ErrorDetails) -> tuple[object, str]:
    """Return what was given and what was expected, of one of pydantic's errors."""
    if error["type"] == "extra_forbidden":
        return error["input"], "no such key"
    if error["type"] == "missing":
        return "nothing", "a value: the key is required"
    return error["input"], error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def describe_first_error(error: ValidationError) -> str:
    """Return the first error after the key that it concerns, such as `stats.mean: Field required`."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    said = str(first["msg"]).removeprefix("Value error, ")
    return f"{key}: {said}" if key else said
