"""Collectives: the bytes that links carry, as nccl-tests counts them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from nameplate.suite import Target
from nameplate_kernels import COLLECTIVES, Collective, bus_factor
from nameplate_suites.collectives import SUITE


@pytest.mark.parametrize("n", [2, 3, 8, 72])
def test_the_factors_are_those_of_nccl_tests(n):
    """src/*.cu of NVIDIA/nccl-tests: `*busBw = baseBw * factor`."""
    assert bus_factor("all_reduce", n) == Fraction(2 * (n - 1), n)
    for kind in ("reduce_scatter", "all_gather", "all_to_all"):
        assert bus_factor(kind, n) == Fraction(n - 1, n)
    for kind in ("broadcast", "send_recv"):
        assert bus_factor(kind, n) == 1
    for kind in COLLECTIVES:
        work = Collective(kind, 1 << 10 if n in (2, 8) else 4 * n * 100, n)
        assert work.bytes == work.message_bytes * bus_factor(kind, n)  # exactly: no byte is rounded away
        assert work.dimensions["world_size"] == n


def test_what_is_no_collective_is_refused():
    with pytest.raises(ValueError, match="unknown kind 'gather'"):
        Collective("gather", 8, 2)
    with pytest.raises(ValueError, match="at least 2 processes"):
        Collective("broadcast", 8, 1)
    with pytest.raises(ValueError, match="12 bytes can't be shared out"):
        Collective("all_reduce", 12, 2)
    assert "needs a job of 2 processes" in Collective("all_reduce", 8, 2).unsupported(None)


def test_the_suite_has_every_collective_from_8_bytes_to_8_gibibytes(monkeypatch):
    target = Target("cpu", None, 1 << 34, frozenset())
    cases = SUITE.cases(target)
    assert cases[0].id == "collective/fp32/all_reduce-8B-x2/normal/warm/-/torch"
    assert {case.workload.dimensions["kind"] for case in cases} == set(COLLECTIVES)
    assert max(case.workload.message_bytes for case in cases) == 1 << 33
    for name, value in {"RANK": "0", "WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    assert SUITE.cases(target)[0].id.startswith("collective/fp32/all_reduce-12B-x3/")
