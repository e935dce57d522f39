"""The roofline: which roof is a case's, what binds it, and which memory counts."""

import pytest

from nameplate.chain.roofline import find_memory_roof, place_cases


def memory_record(make_record, kind, gb_s, **changes):
    level = {"level": changes.pop("level")} if "level" in changes else {}
    case = f"memory/fp32/{kind}-256MiB/normal/rotating/-/torch"
    ends = {"bandwidth_low_gb_s": gb_s, "bandwidth_high_gb_s": gb_s}
    nothing = dict.fromkeys(
        ("flops", "convention", "nominal_tflops", "silicon_tflops", "efficiency", "efficiency_low")
    )
    nothing |= dict.fromkeys(("efficiency_high", "tflops", "tflops_low", "tflops_high", "tflops_median"))
    dimensions = {"kind": kind, **level}
    return make_record(case=case, dimensions=dimensions, bandwidth_gb_s=gb_s, **ends, **nothing, **changes)


def product(make_record, flops, moved, tflops, **changes):
    ends = {"tflops": tflops, "tflops_low": tflops, "tflops_high": tflops}
    return make_record(flops=flops, bytes=moved, silicon_tflops=None, nominal_tflops=100.0, **ends, **changes)


def test_a_case_is_bound_by_its_lower_roof_and_may_lie_above_the_memorys(make_record):
    memory = memory_record(make_record, "triad", 1000.0)
    dense = product(make_record, 4_000_000, 10_000, 80.0)  # 400 FLOP a byte: 400 TFLOPS of memory
    thin = product(make_record, 10_000, 1_000, 12.0)  # 10 FLOP a byte: 10 TFLOPS
    first, second = place_cases([memory, dense, thin])
    assert (first.bound, first.roof_tflops, first.share) == ("compute", 100.0, pytest.approx(0.8))
    assert (second.bound, second.roof_tflops) == ("memory", pytest.approx(10.0))
    assert second.share == pytest.approx(1.2)
    assert second.as_json()["memory"] == {"gb_s": 1000.0, "case": memory.case}


def test_only_streams_kinds_in_main_memory_are_a_roof_and_the_rating_where_none_was_measured(make_record):
    read = memory_record(make_record, "read", 2000.0, nominal_gb_s=1500.0)
    cache = memory_record(make_record, "copy", 9000.0, level="L2")
    copy = memory_record(make_record, "copy", 1200.0)
    assert find_memory_roof([read, cache, copy], copy.device).gb_s == 1200.0
    rated = find_memory_roof([read, cache], copy.device)
    assert (rated.gb_s, rated.case) == (1500.0, None)
    assert find_memory_roof([cache], copy.device) is None
    assert place_cases([cache, product(make_record, 10, 1, 1.0)]) == []
