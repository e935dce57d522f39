"""The screen of `bench fleet cost`: what its figures rest on."""

import pytest

from nameplate.base.language import use_language
from nameplate.fleet.price import cost
from nameplate.report.fleet.costs import cost_view


@pytest.mark.parametrize(
    ("language", "training", "held", "left_out"),
    [
        (
            "en",
            "(7B parameters, context 4,096, bf16, tuned, 2024)",
            "A800 held at 300 W a card: 89.2% of its speed at its TDP.",
            "13 fleets aren't shown: what they deliver isn't known",
        ),
        ("zh", "（7B 参数、上下文 4,096、bf16、专门调优、2024）", "A800 每张卡限制在 300 W", "13 个集群"),
    ],
)
def test_a_power_limit_is_named_beside_the_training_in_every_language(language, training, held, left_out):
    with use_language(language):
        said = cost_view(cost(power_limit=300, draws=1000)).meaning
    assert training in said
    assert held in said
    assert left_out in said  # H100 too: its part is known, its speed at a limit isn't
    with use_language(language):
        assert held.split(" 300")[0] not in cost_view(cost(draws=1000)).meaning
