"""The processes of a job try groups among themselves, led by rank 0 over the job's store.

The store isn't the fabric, so this works where a collective has just failed. A process that doesn't
answer within its time counts as one whose group failed. Which groups to try is `run/halving.py`'s to choose.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from nameplate.base.messages import Message, message
from nameplate.run.halving import Culprit, Group, find_culprits

if TYPE_CHECKING:
    import torch

_BYTES = {"cpu": 1 << 22, "cuda": 1 << 27}  # of a message that is bound by links, not by the launch
_REPEATS = 4  # of which the fastest counts: what disturbs one isn't the link
_ELEMENT_BYTES = 4
_END: list[list[int]] = []


@dataclass
class Prober:
    """One process's part in trying groups.

    `patience_s` is how long the first answer may take: a process may still wait in what failed. `limit_s` is
    the time of one group. `before` is called before each group; tests inject delays there.
    """

    store: Any  # torch.distributed.Store
    rank: int
    device: torch.device
    patience_s: float
    limit_s: float = 20.0
    before: Callable[[Group], None] = lambda _group: None
    _step: int = 0

    def lead(self, members: Sequence[Group]) -> tuple[tuple[Culprit, ...], tuple[int, ...]]:
        """Find, as rank 0, what makes members fail or slow; returns it, and the ranks that don't answer.

        A member is a node with all its ranks, or one rank. One that is only slow has to be so twice.
        """
        ranks = [rank for member in members for rank in member]
        answers = self._ask([(rank,) for rank in ranks], self.patience_s)
        silent = tuple(rank for rank in ranks if rank not in answers)
        dead = [n for n, member in enumerate(members) if not set(silent).isdisjoint(member)]

        def try_groups(groups: Sequence[Group]) -> list[float | None]:
            wide = [tuple(rank for each in group for rank in members[each]) for group in groups]
            found = self._ask(wide, self.limit_s)
            return [self._speed_of(group, found) for group in wide]

        try:
            found = find_culprits(range(len(members)), try_groups, dead)
            if any(each.share is not None for each in found):
                again = find_culprits(range(len(members)), try_groups, dead)
                kept = {(each.kind, each.members) for each in again}
                found = tuple(
                    each for each in found if each.share is None or (each.kind, each.members) in kept
                )
        finally:
            self._tell(_END)
        return found, silent

    def follow(self) -> None:
        """Try the groups that rank 0 asks for, until it ends or is silent."""
        patience_s = 2 * self.patience_s
        while True:
            self._step += 1
            try:
                self.store.wait([f"plan/{self._step}"], timedelta(seconds=patience_s))
                groups = json.loads(self.store.get(f"plan/{self._step}"))
            except RuntimeError:  # rank 0 has gone, or its store
                return
            if groups == _END:
                return
            self._take_part([tuple(group) for group in groups])

    def _ask(self, groups: Sequence[Group], limit_s: float) -> dict[int, float | None]:
        """Have groups tried at once, and return the seconds of each rank that answers; None: it failed."""
        self._tell([list(group) for group in groups])
        self._take_part(groups)
        end_s = time.monotonic() + limit_s
        found: dict[int, float | None] = {}
        for rank in (rank for group in groups for rank in group):
            left = timedelta(seconds=max(end_s - time.monotonic(), 0.001))
            with suppress(RuntimeError):  # no answer in time
                self.store.wait([f"answer/{self._step}/{rank}"], left)
                found[rank] = json.loads(self.store.get(f"answer/{self._step}/{rank}"))
        return found

    def _tell(self, groups: list[list[int]]) -> None:
        self._step += 1
        with suppress(RuntimeError):
            self.store.set(f"plan/{self._step}", json.dumps(groups))

    def _take_part(self, groups: Sequence[Group]) -> None:
        for group in groups:
            if self.rank in group:
                try:
                    seconds: float | None = self._try(group)
                except RuntimeError:  # what torch raises for a peer that fails or is late
                    seconds = None
                with suppress(RuntimeError):  # rank 0 has gone, or its store
                    self.store.set(f"answer/{self._step}/{self.rank}", json.dumps(seconds))

    def _try(self, group: Group) -> float:
        """Return the fewest seconds of an all_reduce in a process group of these ranks alone."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        if len(group) == 1:
            return 0.0
        limit = timedelta(seconds=0.75 * self.limit_s)  # the answer itself takes time
        own = PrefixStore(f"group/{self._step}/{group[0]}", self.store)
        make: Any = dist.ProcessGroupNCCL if self.device.type == "cuda" else dist.ProcessGroupGloo
        peers = make(own, group.index(self.rank), len(group), limit)
        numbers = torch.ones(_BYTES[self.device.type] // _ELEMENT_BYTES, device=self.device)
        took_s = []
        for _ in range(_REPEATS):
            peers.barrier().wait(limit)
            begin_s = time.perf_counter()
            self.before(group)
            peers.allreduce([numbers]).wait(limit)
            took_s.append(time.perf_counter() - begin_s)
        return min(took_s)

    def _speed_of(self, group: Group, answers: dict[int, float | None]) -> float | None:
        """Return the bus bandwidth of a group in GB/s, by its slowest rank; None where one failed."""
        times = [answers.get(rank) for rank in group]
        known = [each for each in times if each is not None]
        if len(known) < len(group):
            return None
        n = len(group)
        return _BYTES[self.device.type] * 2 * (n - 1) / n / max(*known, 1e-9) / 1e9


def describe_culprits(
    found: Sequence[Culprit], names: Sequence[str], silent: Sequence[str]
) -> Iterator[Message]:
    """Yield a message for each culprit; `names` are those of the members, `silent` those of dead ranks."""
    if silent:
        yield message("culprit_silent", who=", ".join(silent))
    for each in found:
        who = [names[member] for member in each.members]
        match each.kind, each.share:
            case "dead", _:
                continue
            case "member", None:
                yield message("culprit_member_fails", who=who[0])
            case "member", share:
                yield message("culprit_member_slow", who=who[0], share=share)
            case "link", None:
                yield message("culprit_link_fails", one=who[0], other=who[1])
            case "link", share:
                yield message("culprit_link_slow", one=who[0], other=who[1], share=share)
            case _, None:
                yield message("culprit_together_fails", count=len(who))
            case _, share:
                yield message("culprit_together_slow", count=len(who), share=share)
