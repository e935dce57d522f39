"""The first link of a fleet's chain, and which dtype serves which."""

import pytest

from nameplate.base.errors import InputError
from nameplate.chain.link import assume_link
from nameplate.fleet import cost
from nameplate.fleet.chains import link_ratings
from nameplate.specs import lookup
from nameplate.stats.uncertain import exact

A800 = lookup("nvidia-a800-sxm4-80gb")


def test_the_first_link_is_the_registrys_with_both_figures_and_their_sources():
    first = link_ratings(A800)
    assert (first.span, first.value) == ("nominal → datasheet", 312 / 320)
    assert "nominal 320: 36Kr" in first.source
    assert "datasheet 312: aiwiki" in first.source
    assert link_ratings(lookup("nvidia-h100-sxm5-80gb")).value == 1


def test_bf16_serves_fp16_where_both_are_rated_alike_and_says_so():
    bf16 = assume_link("datasheet", "block", exact(0.6), "a guess", dtype="bf16")
    (one,) = cost(part=A800.id, derate=bf16, draws=1000)
    assert "the bf16 derate serves fp16: both are rated 312 TFLOPS on NVIDIA A800 SXM4 80GB" in one.notes
    (one,) = cost(part=A800.id, derate="datasheet:block=0.6", draws=1000)
    assert not any("serves" in note for note in one.notes)


@pytest.mark.parametrize(
    ("part", "dtype", "said"),
    [
        (A800.id, "fp8", "a derate of fp8 says nothing of fp16"),
        ("intel-gaudi3", "bf16", "isn't rated alike in bf16 and fp16"),
    ],
)
def test_nothing_else_serves(part, dtype, said):
    other = assume_link("datasheet", "block", exact(0.6), "a guess", dtype=dtype)
    with pytest.raises(InputError, match=said):
        cost(part=part, derate=other, draws=1000)
