"""The self-test of a CPU's arithmetic peak: it passes where all is well, and fails where anything isn't."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import nameplate.selftest.silicon
from nameplate.base.messages import message
from nameplate.selftest.silicon import check, check_cpu, find_theory
from nameplate.silicon.peak import Silicon

THEORY = {"fp32-avx2": 32.0}
PRODUCTS = {"fp32": ("1024x1024x1024", 0.15)}


@pytest.fixture
def checked(make_silicon):
    """Check a good machine, or one that differs in one thing."""

    def run(first=None, again=None, theory=THEORY, products=PRODUCTS):
        first = make_silicon() if first is None else first
        return check(first, make_silicon(0.201) if again is None else again, theory, products)

    return run


def test_all_is_well_where_two_starts_agree_with_theory_and_above_torch(checked):
    found = checked()
    assert (found.passed, found.failures) == (True, ())
    (product,) = found.products
    assert product.share == pytest.approx(0.15 / 0.201)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"theory": {"fp32-avx2": 30.0}}, "fp32-avx2: 32 FLOP a cycle, in theory 30"),
        ({"theory": {"fp32-avx2": 64.0}}, "fp32-avx2: 32 FLOP a cycle, in theory 64"),
        ({"products": {"fp32": ("1024x1024x1024", 0.206)}}, "fp32: torch's 1024x1024x1024 reached 102"),
        ({"again": Silicon(cores=2.0)}, "fp32-avx2: measured at one of two starts only"),
    ],
)
def test_what_does_not_hold_is_named_with_its_figures(checked, changes, said):
    found = checked(**changes)
    assert not found.passed
    assert any(said in failure for failure in found.failures), found.failures


@pytest.mark.parametrize(("again", "passed"), [(0.2035, True), (0.1965, True), (0.19, False), (0.21, False)])
def test_two_starts_agree_within_two_per_cent(checked, make_silicon, again, passed):
    found = checked(again=make_silicon(again))
    assert found.passed == passed
    if not passed:
        assert "TFLOPS at one start" in found.failures[0]


def test_two_starts_agree_within_a_wider_interval_that_was_printed(checked, make_silicon):
    first = make_silicon(0.2, tflops_low=0.17)
    assert checked(first=first, again=make_silicon(0.18)).passed


def test_a_path_that_did_not_run_fails_and_says_why(checked, make_silicon):
    failed = {"int8-amx": message("silicon_illegal")}
    found = checked(first=make_silicon().model_copy(update={"failed": failed}))
    assert found.failures == ("int8-amx: illegal instruction, although the CPU's flags show it",)


def test_a_machine_without_any_peak_fails_in_one_sentence():
    absent = Silicon(absent=message("silicon_system", system="Darwin"))
    found = check(absent, absent, {}, {})
    assert len(found.failures) == 1
    assert "isn't measured on Darwin" in found.failures[0]


def test_a_path_without_theory_is_not_held_to_it(checked):
    found = checked(theory={})
    assert found.passed
    assert found.paths[0].theory is None


def test_theory_is_the_tables_figure_of_the_same_instruction(make_silicon):
    peak = make_silicon().peaks[0]
    tiles = peak.model_copy(
        update={"loop": "int8-amx", "instruction": "TDPBSSD", "dtypes": ("int8",), "flop_per_cycle": 2048.0}
    )
    wide = peak.model_copy(update={"loop": "fp32-avx512", "instruction": "VFMADD231PS zmm"})
    silicon = Silicon(cores=2.0, peaks=(peak, wide, tiles))
    assert find_theory("amd-zen4", silicon) == {"fp32-avx2": 32.0}
    found = find_theory("intel-sapphire-rapids", silicon)
    # A core with one 512-bit unit does half.
    assert found == {"fp32-avx2": 32.0, "fp32-avx512": 32.0, "int8-amx": 2048.0}
    two = replace_peak(silicon, "fp32-avx512", flop_per_cycle=63.0)
    assert find_theory("intel-sapphire-rapids", two)["fp32-avx512"] == 64.0
    assert find_theory(None, silicon) == {}


def replace_peak(silicon, loop, **changes):
    peaks = [peak.model_copy(update=changes) if peak.loop == loop else peak for peak in silicon.peaks]
    return silicon.model_copy(update={"peaks": tuple(peaks)})


def test_it_measures_twice_and_holds_torchs_products_against_the_higher(monkeypatch, make_silicon):
    """Products of the dtypes that have a peak: this machine's own, which 10^6 TFLOPS certainly bound."""
    starts = iter([make_silicon(1e6, flop_per_cycle=32.0), make_silicon(1.01e6)])
    monkeypatch.setattr("nameplate.device.cpu.measure_silicon", lambda *_: next(starts))
    monkeypatch.setattr(nameplate.selftest.silicon, "_EDGES", (64, 128))
    monkeypatch.setattr(nameplate.selftest.silicon, "_PRODUCT_S", 0.02)
    monkeypatch.setattr(nameplate.selftest.silicon, "rate", lambda _: replace_part("amd-zen4"))
    found = check_cpu()
    assert found.passed, found.failures
    (product,) = found.products
    assert product.dtype == "fp32"
    assert 0 < product.tflops < 100
    assert product.silicon_tflops == 1.01e6


def replace_part(part):
    from nameplate.specs.rating import Rating

    return replace(Rating(None, ""), part=part)


# ---- the command ----


@pytest.mark.parametrize("passed", [True, False])
def test_the_command_prints_paths_and_products_and_ends_by_the_outcome(bench, monkeypatch, checked, passed):
    made = checked() if passed else checked(products={"fp32": ("1024x1024x1024", 0.3)})
    monkeypatch.setattr(nameplate.selftest.silicon, "check_cpu", lambda: made)
    result = bench("selftest", "--on", "cpu")
    assert result.status == (0 if passed else 1)
    for word in ("fp32-avx2", "VFMADD231PS ymm", "1024x1024x1024"):
        assert word in result.out
    assert ("FAIL: fp32: torch's 1024x1024x1024 reached 149" in " ".join(result.out.split())) is not passed
    document = json.loads(bench("selftest", "--on", "cpu", "--json").out)
    assert document["passed"] == passed
    assert document["products"][0]["share"] == pytest.approx(made.products[0].share)


def test_two_tests_at_once_are_refused(bench):
    result = bench("selftest", "--on", "cpu", "--bare")
    assert result.status == 2
    assert "two tests at once" in result.err
