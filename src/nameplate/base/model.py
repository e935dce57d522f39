"""The pydantic model that every file from outside and every record is built on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationError


class FrozenModel(BaseModel):
    """A model that can't be changed, and refuses unknown keys and numbers that aren't finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def describe_first_error(error: ValidationError) -> str:
    """Return the first error after the key that it concerns, such as `stats.mean: Field required`."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg']}" if key else str(first["msg"])
