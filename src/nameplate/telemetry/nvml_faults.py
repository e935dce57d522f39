"""What NVML tells of faults otherwise than by one call for one figure: Xid errors, and errors of NVLink.

Like `nvml_worker.py`, which uses it, it imports only what the NVML process needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nameplate.base.messages import Reason, message
from nameplate.telemetry.nvml_library import Library
from nameplate.telemetry.sampling import Absent

_XID_EVENT = 0x8  # nvmlEventTypeXidCriticalError of nvml.h
_MOST_EVENTS = 64  # taken at once: a card in a storm of errors must not keep this process from answering
_MOST_LINKS = 36  # NVML_NVLINK_MAX_LINKS of nvml.h; Hopper and Blackwell have 18
# nvmlNvLinkErrorCounter_t, link by link, as `nvidia-smi nvlink -e` reads them: on Hopper the fields with the
# totals (38, 52, 59) report success and 0 whatever happens (DataDog/datadog-agent#55966).
LINK_ERRORS = {"nvlink_replays": 0, "nvlink_recoveries": 1, "nvlink_crc_errors": 2}


class XidLog:
    """The Xid errors that the driver reports of one card from now on.

    NVML tells of none that came before. Of several between two calls of `collect` it gives the last one's
    number for each (nvmlEventSetWait of nvml.h), so `collect` is called often.
    """

    def __init__(self, library: Library, card: Any) -> None:
        """Have the driver report the card's Xid errors; where it doesn't, `read` says why."""
        self._library = library
        self._events: Any = None
        self._refusal: Reason | None = None  # an error would keep alive the frames that it has passed
        self._seen: list[int] = []
        try:
            events = library.call("nvmlEventSetCreate")
            library.call("nvmlDeviceRegisterEvents", card, _XID_EVENT, events)
            self._events = events
        except Absent as error:
            self._refusal = error.reason

    def collect(self) -> None:
        """Keep the errors that have come since the last call; doesn't wait for any."""
        if self._events is None:
            return
        for _ in range(_MOST_EVENTS):
            try:
                event = self._library.call("nvmlEventSetWait", self._events, 0)
            except Absent:  # NVML_ERROR_TIMEOUT: no more; other errors show in the other figures too
                return
            if event.eventType & _XID_EVENT:
                self._seen.append(int(event.eventData))

    def read(self) -> list[int]:
        """Return the numbers of all errors so far, oldest first; raises Absent where none are reported."""
        if self._refusal is not None:
            raise Absent(self._refusal)
        self.collect()
        return list(self._seen)


class LinkErrors:
    """The error counters of one card's NVLink, summed over its links."""

    def __init__(self, library: Library, card: Any) -> None:
        """Find the links that are up; a counter has no meaning for another."""
        self._library, self._card = library, card
        self._links: Sequence[int] = ()
        self._refusal: Reason = message("no_nvlink_up")
        try:
            self._links = [link for link in range(_MOST_LINKS) if self._is_up(link)]
        except Absent as error:
            self._refusal = error.reason

    def _is_up(self, link: int) -> bool:
        try:
            return bool(self._library.call("nvmlDeviceGetNvLinkState", self._card, link))
        except Absent:
            if link == 0:  # a card without NVLink
                raise
            return False

    def read(self, figure: str) -> int:
        """Return one of `LINK_ERRORS` since the driver was loaded; raises Absent where it isn't counted."""
        if not self._links:
            raise Absent(self._refusal)
        kind = LINK_ERRORS[figure]
        return sum(
            self._library.call("nvmlDeviceGetNvLinkErrorCounter", self._card, link, kind)
            for link in self._links
        )
