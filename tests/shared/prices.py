"""Fleets priced by few draws."""

from nameplate.chain.published import find_figure
from nameplate.fleet import cost as cost_of

A800, H100 = "nvidia-a800-sxm4-80gb", "nvidia-h100-sxm5-80gb"

# 0.642 by llm-foundry's convention is 0.617 by that of the chain.
PUBLISHED, SHARE = "a100-sxm-80gb-scaled-7b-x8", find_figure("a100-sxm-80gb-scaled-7b-x8").as_link().value


def cost(*fleets, **options):
    """The costs with few draws: most tests are of figures at their inputs' values."""
    return cost_of(*fleets, **({"draws": 1000} | options))


def one(*fleets, **options):
    (priced,) = cost(*fleets, **options)
    return priced
