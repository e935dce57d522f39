"""Kinds of simulated cards, healthy and sick, as data: what each is, and which verdict it is due."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from nameplate.base.model import FrozenModel
from nameplate.base.toml import parse_toml, read_packaged
from nameplate.record import Status, Verdict
from nameplate.selftest.cards import draw_card
from nameplate.twin.card import Card
from nameplate.twin.faults import Fault

Measured = Literal["burst", "sustained", "copy"]


class DueVerdict(FrozenModel):
    """The verdict and status that a case must have in `rate` of the draws; `said` is in what it says."""

    verdict: Verdict
    status: Status = "ok"
    said: str | None = None
    rate: Annotated[float, Field(gt=0, le=1)] = 1.0


class CardScenario(FrozenModel):
    """A kind of card. `card_scenarios.toml` says what each field is for; times are virtual."""

    name: str
    about: str
    share: Annotated[float, Field(gt=0, le=1)] = 0.003
    wanted: tuple[float, float] = (1.1, 1.9)
    time_constant_s: tuple[float, float] = (3.0, 8.0)
    largest_swing: Annotated[float, Field(gt=0, le=0.1)] = 0.02
    seconds: Annotated[float, Field(ge=5, le=600)] = 30.0
    container: bool = False
    mig: str | None = None
    fault: tuple[Fault, ...] = ()
    due: Mapping[Measured, DueVerdict]
    figures: bool = False
    coverage: Annotated[float, Field(gt=0, lt=1)] | None = None

    def draw(self, run: int) -> Card:
        """Draw the card of one run, from that run's own seed."""
        seed = np.random.SeedSequence([zlib.crc32(self.name.encode()), run])
        card = draw_card(np.random.default_rng(seed), self.wanted, self.time_constant_s, self.largest_swing)
        environment = card.environment.model_copy(update={"container": self.container, "mig": self.mig})
        return card.model_copy(update={"environment": environment, "fault": self.fault})


class _ScenarioFile(FrozenModel):
    scenario: Annotated[tuple[CardScenario, ...], Field(min_length=1)]


@cache
def load_card_scenarios() -> Mapping[str, CardScenario]:
    """Return the shipped scenarios by name, in the file's order."""
    name = "card_scenarios.toml"
    shipped = parse_toml(_ScenarioFile, read_packaged("nameplate.selftest", name), name)
    return {each.name: each for each in shipped.scenario}
