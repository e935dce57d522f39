"""nvidia-ml-py with every refusal as `Absent`, and answers that keep a reason for each figure they lack.

It is imported where NVML is asked: in a process that holds little else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nameplate.base.messages import Reason, message
from nameplate.telemetry.sampling import Absent

# nvmlValueType_t: which member of the union holds a field's value.
_VALUE_MEMBERS = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal", 6: "usVal"}


def plain_uuid(uuid: str) -> str:
    """Return a UUID without the kind in front: torch says `GPU-` or nothing also where NVML says `MIG-`."""
    return uuid.lower().removeprefix("mig-").removeprefix("gpu-")


class Library:
    """nvidia-ml-py, with every refusal as `Absent`."""

    def __init__(self, module: Any) -> None:
        """Take the imported `pynvml`."""
        self._module = module
        # nvidia-ml-py raises this where the driver lacks a function that has older versions.
        self._mismatch = getattr(module, "NVMLLibraryMismatchError", module.NVMLError)
        self._errors = {
            value: name
            for name, value in vars(module).items()
            if name.startswith("NVML_ERROR_") and isinstance(value, int)
        }

    def call(self, function: str, *arguments: Any) -> Any:
        """Call one function by name; raises Absent with NVML's error, or where the function is missing."""
        found = getattr(self._module, function, None)
        if found is None:
            raise Absent(message("nvml_function_missing", function=function))
        try:
            return found(*arguments)
        except self._module.NVMLError as error:
            raise Absent(self._reason(error.value, function)) from error
        except self._mismatch:
            raise Absent(message("driver_function_missing", function=function)) from None
        except (TypeError, ValueError) as error:  # a signature or a text it can't read
            raise Absent(f"{function}: {error}") from error

    def read_fields(self, handle: Any, ids: Sequence[int]) -> dict[int, Any]:
        """Read fields in one call; in place of a missing value, the Absent that says why."""
        try:
            entries = self.call("nvmlDeviceGetFieldValues", handle, list(ids))
        except Absent as error:
            return dict.fromkeys(ids, error)
        return {entry.fieldId: self._value_of(entry) for entry in entries}

    def _value_of(self, entry: Any) -> Any:
        if entry.nvmlReturn != 0:
            return Absent(self._reason(entry.nvmlReturn, f"field {entry.fieldId}"))
        member = _VALUE_MEMBERS.get(entry.valueType)
        if member is None:
            return Absent(message("field_type_unknown", field=entry.fieldId, type=entry.valueType))
        return getattr(entry.value, member)

    def _reason(self, code: int, what: str) -> Reason:
        name = self._errors.get(code, f"NVML_ERROR_{code}")
        if name == "NVML_ERROR_FUNCTION_NOT_FOUND":
            return message("driver_function_missing", function=what)
        return f"{name}: {what}"


@dataclass
class Answer:
    """Figures by name, None where absent, and the reason for each None."""

    values: dict[str, Any] = field(default_factory=dict)
    absent: dict[str, Reason] = field(default_factory=dict)

    def put(self, name: str, *attempts: Callable[[], Any]) -> None:
        """Keep what the first successful attempt gives; the last one's reason where none succeeds."""
        self.values[name] = None
        for attempt in attempts:
            try:
                self.values[name] = attempt()
            except Absent as error:
                self.absent[name] = error.reason
            else:
                self.absent.pop(name, None)
                return

    def put_all(self, names: Sequence[str], attempt: Callable[[], Sequence[Any]]) -> None:
        """Keep the figures that one call gives together."""
        found: Sequence[Any] = [None] * len(names)
        try:
            found = attempt()
        except Absent as error:
            self.absent.update(dict.fromkeys(names, error.reason))
        self.values.update(zip(names, found, strict=True))

    def as_json(self) -> dict[str, Any]:
        """Return everything as one flat object."""
        return {**self.values, "absent": self.absent}
