"""The sections of a run, by the names that `bench show RUN SECTION` takes: what each of them shows.

`report.run` makes them. This module imports next to nothing: `bench show --help` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping

from nameplate.base.language import N_

# In the order in which they are printed; what is said of each goes on from its name.
SECTIONS: Mapping[str, str] = {
    "health": N_("whether each device is fit, by each way of judging"),
    "advice": N_("what stood in the way of a clean figure, and what to do"),
    "chain": N_("the links from nominal to a training step"),
    "losses": N_("what was lost from the silicon to the products, by cause, with the evidence"),
    "throughput": N_("every case that computes: achieved, nominal, efficiency"),
    "best": N_("the shapes that a search found fastest, and what may have been missed"),
    "shapes": N_("matrix products by shape and dtype"),
    "contended": N_("cases that other programs disturbed"),
    "graphs": N_("cases without the host between launches"),
    "effects": N_("what inputs and caches change"),
    "memory": N_("bandwidth of main memory, of caches, of a GPU's link"),
    "roofline": N_("each case's FLOPs a byte, what binds it, its share of the roof"),
    "collectives": N_("collectives between processes: time, bandwidth, share of the link"),
    "block": N_("the transformer block by pass"),
    "backends": N_("attention and blocks by torch's choice of backend and by the fastest"),
    "conventions": N_("training passes of layers by every convention of counting FLOPs"),
    "parts": N_("where the time of a block went"),
    "in-place": N_("the time of each part of a block, forward and backward"),
    "kernels": N_("the kernels of each traced launch, by their share of its time"),
    "largest": N_("the largest batch of a layer or a step that fits the memory"),
    "step": N_("a training step: predicted from its pieces, and measured with a few layers"),
    "idle": N_("throughput from idle until it has settled"),
    "devices": N_("the same case on several devices"),
    "power-limits": N_("the best product by the power limits that devices had"),
    "unmeasured": N_("cases that were skipped, failed or are missing"),
    "warnings": N_("what is worth knowing of each case"),
    "fleets": N_("what fleets deliver and cost by this run"),
    "machine": N_("the machine, its parts and its software"),
    "method": N_("how the figures were measured"),
    "records": N_("every record"),
    "reproduce": N_("the commands that repeat this run"),
}
