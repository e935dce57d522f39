"""Records that several tests of reports are about."""

import pytest

from nameplate.record import Batch, Derate, Moment


@pytest.fixture
def a800(make_record):
    """A product on a card that is counted by 320 and rated for 312."""

    def make(tflops=250.0, **changes):
        fields = {
            "tflops": tflops,
            "tflops_low": tflops - 5,
            "tflops_high": tflops + 5,
            "tflops_median": tflops + 1,
            "nominal_tflops": 320.0,
            "efficiency": tflops / 320,
            "efficiency_low": (tflops - 5) / 320,
            "efficiency_high": (tflops + 5) / 320,
            "datasheet_tflops": 312.0,
            "datasheet_efficiency": tflops / 312,
        }
        return make_record(**(fields | changes))

    return make


@pytest.fixture
def phases(a800):
    """One product from cool and settled, in one run from idle, with the curve between the two."""

    def make(burst=280.0, sustained=240.0, settled_s=12.0, **changes):
        case = "matmul/bf16/1024x1024x1024/normal/warm/{}/torch"
        at_s = (0.1, 0.5, 1.0, 5.0, 10.0, 20.0)
        fall = [sustained + (burst - sustained) * share for share in (1.0, 0.97, 0.9, 0.4, 0.1, 0.0)]
        first = a800(
            burst,
            case=case.format("burst"),
            phase="burst",
            group="soak",
            settled_s=settled_s,
            course=tuple(Moment(at_s=at, tflops=each) for at, each in zip(at_s, fall, strict=True)),
            derates=tuple(
                Derate(at_s=at, tflops=each, efficiency=each / 320, of_burst=each / burst)
                for at, each in ((1.0, fall[2]), (10.0, fall[4]), (60.0, 239.0), (600.0, 238.0))
            ),
        )
        settled = {"case": case.format("sustained"), "phase": "sustained", "group": "soak"}
        return [first, a800(sustained, **(settled | changes))]

    return make


@pytest.fixture
def states(make_record):
    """One product in two states, twelve rounds in turn."""
    made = []
    for fill, cache, speed in (("normal", "warm", 1.0), ("zeros", "warm", 1.25), ("normal", "flushed", 0.8)):
        batches = [
            Batch(start_s=n, elapsed_s=(1 + 0.05 * n) / speed, launches=100, round=n) for n in range(12)
        ]
        case = f"matmul/bf16/1024x1024x1024/{fill}/{cache}/-/torch"
        made.append(make_record(case=case, fill=fill, cache=cache, group="sensitivity", batches=batches))
    return made
