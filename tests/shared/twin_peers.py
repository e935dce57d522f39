"""A job of twins: all ranks are one simulated card on virtual time; what exchanging costs is known."""

from __future__ import annotations

import torch

from nameplate.device.survey import open_device
from nameplate.engine.conditions import conditions_between
from nameplate.specs.links import RatedLink
from nameplate.store.launch import Launch


class TwinPeers:
    """`run.peers.Peers` of `world` twins of a card, seen by rank 0.

    The block takes the twin's own time, times `factors` by rank. Collectives take the bytes of the links ÷
    `busbw_gb_s`; overlapped ones only as far as they outlast the block. Nothing is sent.
    """

    transport = "simulated"

    def __init__(self, card="twin:h200", world=8, busbw_gb_s=360.0, factors=None, shared=False):
        self.opened = open_device(card)
        self.device = torch.device("cpu")
        self.launch = Launch(launcher="torch", rank=0, world_size=world, local_world_size=world)
        self.hosts, self.nodes = ("twin",) * world, ("twin",)
        self.link, self.broken, self.shared = RatedLink("gpu link", 450.0, "half of 900 GB/s"), None, shared
        self.busbw_gb_s, self.factors = busbw_gb_s, factors or [1.0] * world
        self.work = {}

    def agree(self, values, how="MAX"):
        factor = {"MAX": max(self.factors), "MIN": 1.0, "SUM": sum(self.factors)}[how]
        return [each * factor for each in values]

    def gather(self, mine):
        world = self.launch.world_size
        if isinstance(mine, tuple) and not self.shared:  # who shares cores or GPUs: nobody
            return [(mine[0], frozenset({rank})) for rank in range(world)]
        return [mine] * world

    def clock(self):
        return self.opened.clock()

    def free_bytes(self):
        return float(self.opened.memory_bytes)

    def prepare(self, workload, fill, seed):
        inner = getattr(workload, "block", workload)
        prepared = self.opened.prepare(inner, fill=fill, seed=seed)
        if inner is not workload:
            self.work[prepared.launches[0]] = workload
        return prepared

    def time(self, launch, count):
        timing = self.opened.time_batch([launch], samples=1, per_sample=count)
        compute_s, added_s = timing.elapsed_s, 0.0
        workload = self.work.get(launch)
        if workload is not None:
            exchange_s = count * workload.link_bytes / self.busbw_gb_s / 1e9
            added_s = max(exchange_s - compute_s, 0.0) if workload.overlapped else exchange_s
            self.opened.idle(added_s)
        return compute_s + added_s, 0.0

    def read_counters(self):
        return self.opened.counters()

    def conditions(self, before, after):
        return conditions_between(before, after, self.opened.cores)

    def dimensions(self):
        return {"transport": self.transport, "nodes": 1, "processes_a_node": self.launch.world_size}
