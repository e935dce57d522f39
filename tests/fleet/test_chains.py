"""The first link of a fleet's chain, and which dtype serves which."""

from nameplate.fleet.chains import link_ratings, note_dtype, why_unserved
from nameplate.specs import lookup

A800 = lookup("nvidia-a800-sxm4-80gb")


def test_the_first_link_is_the_registrys_with_both_figures_and_their_sources():
    first = link_ratings(A800)
    assert (first.span, first.value) == ("nominal → datasheet", 312 / 320)
    assert "nominal 320: 36Kr" in first.source
    assert "datasheet 312: aiwiki" in first.source
    assert link_ratings(lookup("nvidia-h100-sxm5-80gb")).value == 1


def test_bf16_serves_fp16_where_both_are_rated_alike_and_says_so():
    assert why_unserved(A800, "bf16") is None
    assert note_dtype(A800, "bf16") == (
        "the bf16 derate serves fp16: both are rated 312 TFLOPS on NVIDIA A800 SXM4 80GB"
    )
    assert why_unserved(A800, "fp16") is note_dtype(A800, "fp16") is why_unserved(A800, "any") is None


def test_nothing_else_serves():
    assert why_unserved(A800, "fp8") == "a derate of fp8 says nothing of fp16"
    assert "isn't rated alike in bf16 and fp16" in why_unserved(lookup("intel-gaudi3"), "bf16")
