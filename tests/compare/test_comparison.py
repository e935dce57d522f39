"""Two sides of recorded runs: the word for each case, its basis, its reason, and what is refused."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nameplate.base.errors import InputError
from nameplate.base.messages import text
from nameplate.compare import compare
from nameplate.compare.estimate import find_restart_spread
from nameplate.device.identity import CpuIdentity, CudaIdentity

RECORDED = Path(__file__).parents[1] / "data" / "compare"


def load_maker():
    """The script that made the recorded runs, to make others like them."""
    spec = importlib.util.spec_from_file_location("make_compared_runs", RECORDED / "make.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their own module up
    spec.loader.exec_module(module)
    return module


MAKER = load_maker()
PRODUCT, BLOCK, COPY = MAKER.PRODUCT, MAKER.BLOCK, MAKER.COPY
BASE = RECORDED / "base"


@pytest.fixture
def make(tmp_path):
    """Make a folder of runs as the recorded ones were made, and return it."""

    def made(name, **changes):
        return MAKER.make(name, MAKER.Kind(**changes), tmp_path)

    return made


def outcomes(found):
    return {row.case: row.outcome for row in found.rows}


def row_of(found, case=PRODUCT):
    (row,) = [row for row in found.rows if row.case == case]
    return row


# ---- recorded pairs ----


def test_runs_of_one_thing_are_the_same():
    found = compare(BASE, RECORDED / "same")
    assert outcomes(found) == {PRODUCT: "same", BLOCK: "same", COPY: "same"}
    assert (found.exit_status, found.slower, found.broken) == (0, [], [])


def test_a_run_on_both_sides_is_told_for_it_says_nothing_of_a_change():
    (said,) = map(str, compare(BASE, BASE).problems)
    assert said.startswith("runs that are in base and in new, and so say nothing of a change: ")
    assert not compare(BASE, RECORDED / "same").problems


def test_three_per_cent_slower_is_found_and_nothing_else():
    found = compare(BASE, RECORDED / "slower")
    assert outcomes(found) == {PRODUCT: "slower", BLOCK: "same", COPY: "same"}
    assert found.exit_status == 1
    ratio = row_of(found).ratio
    assert ratio.low < 0.97 < ratio.high < 1 - found.options.threshold


def test_the_other_way_round_it_is_faster_and_that_is_no_failure():
    found = compare(RECORDED / "slower", BASE)
    assert outcomes(found)[PRODUCT] == "faster"
    assert found.exit_status == 0
    assert row_of(found).ratio.value == pytest.approx(
        1 / row_of(compare(BASE, RECORDED / "slower")).ratio.value
    )


def test_single_runs_of_a_loud_hour_are_ambiguous_and_say_what_would_tell():
    found = compare(RECORDED / "noisy-base", RECORDED / "noisy-new")
    assert set(outcomes(found).values()) == {"ambiguous"}
    assert found.exit_status == 0
    assert str(row_of(found).reason) == "base is contended, unstable: fewer than 3 runs can't decide"
    # 7 % slower, and an interval that alone would say so.
    assert row_of(found).ratio.high < 1 - found.options.threshold


def test_single_clean_runs_say_how_many_would_tell():
    found = compare(RECORDED / "quiet-base", RECORDED / "quiet-new")
    assert set(outcomes(found).values()) == {"ambiguous"}
    assert row_of(found).scatter == "allowed for"
    assert (
        str(row_of(found).reason)
        == "±3.8% is wider than the threshold; about 26 runs on each side would decide"
    )
    assert str(row_of(found, COPY).reason).endswith(
        "; no reasonable number of runs on each side would decide"
    )


def test_a_single_run_beside_a_baseline_of_several_scatters_as_those_do():
    found = compare(BASE, RECORDED / "quiet-new")
    row = row_of(found)
    assert (row.base_runs, row.new_runs, row.scatter) == (5, 1, "measured")
    assert found.restart_spreads == compare(BASE, BASE).restart_spreads == ()
    assert row.ratio.high / row.ratio.low < 1.05


def test_what_counts_flops_otherwise_is_incomparable_and_the_rest_is_compared():
    found = compare(BASE, RECORDED / "convention")
    assert outcomes(found)[BLOCK] == "incomparable"
    assert outcomes(found)[COPY] == "same"
    assert str(row_of(found, BLOCK).reason).startswith("the work differs: base megatron: 4,500,000,000 FLOP")
    assert "new Megatron, causal attention in full: " in str(row_of(found, BLOCK).reason)
    assert found.exit_status == 0


def test_a_case_that_fails_in_new_is_missing_and_the_status_is_3():
    found = compare(BASE, RECORDED / "broken")
    assert outcomes(found)[BLOCK] == "missing"
    assert str(row_of(found, BLOCK).reason) == "failed: RuntimeError: no memory"
    assert [row.case for row in found.broken] == [BLOCK]
    assert found.exit_status == 3


def test_a_wrong_result_has_no_speed_and_the_status_is_3():
    found = compare(BASE, RECORDED / "wrong")
    row = row_of(found, BLOCK)
    assert (row.outcome, row.ratio, row.broken) == ("incomparable", None, True)
    assert (
        str(row.reason) == "new: the result is wrong or wasn't checked, so there is no throughput to compare"
    )
    assert found.exit_status == 3


def test_a_wrong_result_in_base_breaks_nothing_in_new():
    found = compare(RECORDED / "wrong", BASE)
    assert row_of(found, BLOCK).outcome == "incomparable"
    assert str(row_of(found, BLOCK).reason).startswith("base: wrong: ")
    assert found.exit_status == 0


@pytest.mark.parametrize(
    ("new", "what", "got", "expected"),
    [
        ("other-part", "two parts", "intel-emerald-rapids in base, amd-zen4 in new", "--across-parts"),
        ("other-kind", "two kinds of device", "cpu in base, cuda in new", "one"),
        (
            "other-method",
            "measured by two methods",
            "method 2 in base, method 1 in new",
            "(method 2: cases take turns;",
        ),
    ],
)
def test_what_can_not_be_compared_is_refused_in_a_sentence(new, what, got, expected):
    with pytest.raises(InputError) as refused:
        compare(BASE, RECORDED / new)
    assert refused.value.exit_status == 2
    assert str(refused.value).startswith("bench compare: ")
    assert what in str(refused.value)
    assert f"got '{got}'" in str(refused.value)
    assert expected in str(refused.value).partition("; expected ")[2]


CUBLAS_12 = {"cuda": "12.8", "cublas": "12.8.4", "cublaslt": "12.8.4", "cudnn": "9.10.2"}
ON_GPU = {"identity": MAKER.GPU, "part": "nvidia-a800-sxm4-80gb", "device": "cuda:0"}


@pytest.mark.parametrize(
    ("changes", "of_base", "of_new", "named"),
    [
        (ON_GPU, CUBLAS_12, {**CUBLAS_12, "cublas": "12.9.1"}, ["cublas 12.8.4 → 12.9.1"]),
        (
            ON_GPU,
            CUBLAS_12,
            {**CUBLAS_12, "cublaslt": "12.9.1", "cudnn": "9.13.0"},
            ["cublaslt 12.8.4 → 12.9.1", "cudnn 9.10.2 → 9.13.0"],
        ),
        ({}, {"onednn": "3.7.1"}, {"onednn": "3.12.0"}, ["onednn 3.7.1 → 3.12.0"]),
        # Before schema 4 the identity of a CPU named them alone.
        ({}, {}, {"onednn": "3.12.0", "blas": "MKL 2024.2"}, ["onednn 3.7.1 → 3.12.0"]),
        ({}, {}, {"blas": "OpenBLAS 0.3.30"}, ["blas MKL 2024.2 → OpenBLAS 0.3.30"]),
    ],
)
def test_two_versions_of_a_library_are_compared_only_when_asked_for(make, changes, of_base, of_new, named):
    base = make("base", runs=3, libraries=of_base, **changes)
    new = make("new", runs=3, libraries=of_new, **changes)
    with pytest.raises(InputError, match="--across-libraries") as refused:
        compare(base, new)
    assert refused.value.exit_status == 2
    assert f"got '{'; '.join(named)}'" in str(refused.value)
    assert compare(base, new, across_libraries=True).rows
    assert compare(base, base).rows


@pytest.mark.parametrize(
    ("changes", "of_base", "of_new"),
    [
        # What another kind of device computes with, or nothing does, and what one side doesn't know.
        ({}, {"cublas": "12.8.4", "cuda": "12.8"}, {"cublas": "12.9.1", "cuda": "13.0"}),
        (ON_GPU, {"onednn": "3.7.1"}, {"onednn": "3.12.0"}),
        (ON_GPU, {}, CUBLAS_12),
    ],
)
def test_a_library_that_decides_nothing_or_is_not_known_refuses_nothing(make, changes, of_base, of_new):
    base = make("base", runs=3, libraries=of_base, **changes)
    assert compare(base, make("new", runs=3, libraries=of_new, **changes)).rows


def test_another_kernel_is_named(make):
    def with_kernels(*kernels, attention=None):
        return {PRODUCT: {"kernels": kernels}, BLOCK: {"kernels": kernels, "attention": attention}}

    base = make("base", runs=3, changes=with_kernels("nvjet_128", "copy", attention="flash"))
    new = make("new", runs=3, changes=with_kernels("nvjet_256", "copy", attention="cudnn"))
    found = compare(base, new)
    assert "another kernel ran: base nvjet_128; new nvjet_256" in str(row_of(found, PRODUCT).reason)
    assert "another kernel ran: base flash; new cudnn" in str(row_of(found, BLOCK).reason)
    assert "another kernel" not in str(row_of(found, COPY).reason)
    # Where one side doesn't tell, or only a product of a block is another, there is nothing to name.
    silent = make("silent", runs=3, changes=with_kernels("nvjet_128", attention="flash"))
    block = row_of(compare(base, silent), BLOCK)
    assert "another kernel" not in str(block.reason)
    assert "another kernel" not in str(row_of(compare(make("old", runs=3), new), PRODUCT).reason)


# ---- made here ----


def test_a_regression_wins_over_what_is_missing(make):
    found = compare(BASE, make("new", runs=5, speed={PRODUCT: 0.9}, cases=(PRODUCT, COPY)))
    assert outcomes(found)[BLOCK] == "missing"
    assert str(row_of(found, BLOCK).reason) == "only base has this case"
    assert found.exit_status == 1


def test_a_run_that_ended_early_lacks_cases_with_that_reason(make):
    new = make("new", runs=3, cases=(PRODUCT,), missing=(BLOCK, COPY))
    row = row_of(compare(BASE, new), BLOCK)
    assert (row.outcome, str(row.reason), row.broken) == ("missing", "missing: the run ended before it", True)


def test_a_case_skipped_for_lack_of_time_is_missing(make):
    skipped = MAKER.FAILED | {"status": "skipped", "reason": text("the budget was spent")}
    found = compare(BASE, make("new", runs=1, changes={BLOCK: skipped}))
    assert (row_of(found, BLOCK).outcome, found.exit_status) == ("missing", 3)
    assert str(row_of(found, BLOCK).reason) == "skipped: the budget was spent"


def test_a_case_that_failed_in_one_run_of_several_is_compared_and_counts_as_broken(make, tmp_path):
    new = make("new", runs=4)
    (one,) = make("other", runs=1, changes={PRODUCT: MAKER.FAILED}).iterdir()
    one.rename(new / one.name)
    row = row_of(compare(BASE, new))
    assert (row.outcome, row.new_runs, row.broken) == ("same", 4, True)
    assert str(row.reason) == "new: failed in 1 of 5 runs: RuntimeError: no memory"


def test_a_wrong_result_in_one_run_of_several_is_enough(make):
    new = make("new", runs=4)
    (one,) = make("other", runs=1, changes={PRODUCT: MAKER.WRONG}).iterdir()
    one.rename(new / one.name)
    row = row_of(compare(BASE, new))
    assert (row.outcome, row.broken) == ("incomparable", True)


def test_a_case_that_only_new_has_is_listed(make):
    found = compare(make("old", runs=3, cases=(PRODUCT,)), BASE)
    assert outcomes(found) == {PRODUCT: "same", BLOCK: "added", COPY: "added"}
    assert str(row_of(found, COPY).reason) == "only new has this case"
    assert found.exit_status == 0


def test_a_case_that_neither_side_could_measure_is_nobodys_news(make):
    sides = [make(name, runs=3, changes={BLOCK: MAKER.FAILED}) for name in ("old", "new")]
    assert BLOCK not in outcomes(compare(*sides))


def test_where_nothing_is_left_to_compare_the_reason_is_the_answer(make):
    other = {case: {"convention": "another"} for case in (PRODUCT, BLOCK, COPY)}
    with pytest.raises(InputError, match=r"nothing can be compared; got 'matmul/.*the work differs"):
        compare(BASE, make("new", runs=3, changes=other))
    failed = dict.fromkeys((PRODUCT, BLOCK, COPY), MAKER.FAILED)
    with pytest.raises(InputError, match="nothing can be compared; got 'no figure in base'"):
        compare(make("old", changes=failed), make("new", changes=failed))


def test_runs_of_two_suites_have_nothing_in_common(make):
    with pytest.raises(InputError, match="no case is in both; got '1 cases in base, 1 in new'"):
        compare(make("old", cases=(PRODUCT,)), make("new", cases=(COPY,)))


def test_only_takes_the_cases_that_match_and_refuses_a_glob_that_matches_none():
    assert set(outcomes(compare(BASE, RECORDED / "slower", only="memory/*"))) == {COPY}
    with pytest.raises(
        InputError, match=r"--only: no case that is in both matches; got 'x\*'; expected a glob"
    ):
        compare(BASE, RECORDED / "slower", only="x*")


@pytest.mark.parametrize("flag", ["threshold", "restart_spread"])
@pytest.mark.parametrize("value", [0, -0.1, 1, 3, math.nan])
def test_what_is_no_fraction_is_refused(flag, value):
    with pytest.raises(InputError, match=rf"--{flag.replace('_', '-')}: not a fraction; got .*0.02 is 2 %"):
        compare(BASE, BASE, **{flag: value})


def test_an_unknown_basis_is_refused():
    with pytest.raises(InputError, match=r"--by: no such metric; got 'median'; expected auto or achieved or"):
        compare(BASE, BASE, by="median")


def test_the_margin_decides_the_outcome():
    new = RECORDED / "slower"
    assert outcomes(compare(BASE, new, threshold=0.05))[PRODUCT] == "same"
    assert outcomes(compare(BASE, new, threshold=0.03))[PRODUCT] == "ambiguous"
    assert str(row_of(compare(BASE, new, threshold=0.03)).reason) == "the ratio is at the threshold"


def test_a_spread_of_ones_own_is_allowed_for_instead():
    sides = RECORDED / "quiet-base", RECORDED / "quiet-new"
    found = compare(*sides, restart_spread=0.001)
    assert outcomes(found) == {PRODUCT: "same", BLOCK: "same", COPY: "same"}
    assert found.restart_spreads == ()
    assert row_of(compare(*sides)).ratio.high > row_of(found).ratio.high


# ---- by what ----


def test_a_cpu_is_compared_by_its_probe_and_memory_by_throughput():
    found = compare(BASE, RECORDED / "same")
    assert (row_of(found).metric, row_of(found).unit) == ("normalized", "of the probe")
    assert row_of(found).base == pytest.approx(1.31, rel=0.01)
    assert (row_of(found, COPY).metric, row_of(found, COPY).unit) == ("achieved", "GB/s")


def test_the_calibration_cancels_and_its_error_with_it(make):
    """Made anew in each run, it would only add its own error to a ratio of two."""
    base, new = make("old"), make("new")
    row = row_of(compare(base, new, restart_spread=1e-6))
    # The normalized interval is ±0.45 %, and the calibration's ±0.3 %: ±0.335 % is left, twice in quadrature.
    assert math.log(row.ratio.high / row.ratio.value) == pytest.approx(
        math.sqrt(2) * math.sqrt(0.0045**2 - 0.003**2) * 2.394 / 1.96, rel=0.01
    )


def test_where_the_probes_library_differs_the_probe_would_hide_what_changed():
    found = compare(BASE, RECORDED / "other-torch")
    row = row_of(found)
    assert (row.metric, row.outcome) == ("achieved", "faster")
    assert str(row.reason) == "the probe depends on a setting that differs, so throughput itself is compared"
    by_probe = compare(BASE, RECORDED / "other-torch", by="normalized")
    assert row_of(by_probe).metric == "normalized"
    assert [(each.what, each.base, each.new) for each in found.differences] == [("torch", "2.13.0", "2.14.0")]


def test_by_throughput_the_machine_s_own_moves_hide_three_per_cent():
    assert outcomes(compare(BASE, RECORDED / "slower", by="achieved"))[PRODUCT] == "ambiguous"


def test_two_parts_are_compared_by_efficiency_where_that_is_asked(make):
    other = make("new", runs=5, part="amd-zen4", nominal=2 * MAKER._NOMINAL, torch="2.14.0")
    found = compare(BASE, other, across_parts=True)
    row = row_of(found)
    assert (row.metric, row.unit) == ("efficiency", "of nominal")
    assert row.ratio.value == pytest.approx(0.5, rel=0.2)
    assert (row_of(found, COPY).outcome, str(row_of(found, COPY).reason)) == (
        "incomparable",
        "no efficiency figure on both sides; --by achieved compares throughput",
    )
    assert row_of(compare(BASE, other, across_parts=True, by="achieved"), COPY).outcome == "same"


def gpu(make, name, clock_mhz, **changes):
    """Runs of a GPU that held a clock; its records have no probe."""
    conditions = {"gpu_sm_clock_mhz": clock_mhz} if clock_mhz else {}
    of_case = {case: {"conditions": conditions, "ceiling_tflops": None} for case in (PRODUCT, COPY)}
    for name_of in ("", "_low", "_high"):
        of_case[PRODUCT][f"normalized_efficiency{name_of}"] = None
    identity = replace_identity(**changes.pop("identity", {}))
    return make(
        name,
        **{
            "runs": 3,
            "identity": identity,
            "device": "cuda:0",
            "part": "nvidia-a800-sxm4-80gb",
            "changes": of_case,
            "cases": (PRODUCT, COPY),
        }
        | changes,
    )


def replace_identity(**changes):
    return CudaIdentity(**(MAKER.GPU.model_dump() | changes))


def test_a_gpu_that_held_another_clock_is_compared_at_one_clock(make):
    base, new = gpu(make, "old", 1410.0, runs=1), gpu(make, "new", 1269.0, runs=1)
    row = row_of(compare(base, new))
    assert (row.metric, row.unit) == ("normalized", "TFLOPS/GHz")
    assert str(row.reason).endswith("the clocks differ: 1,410 and 1,269 MHz")
    achieved = row_of(compare(base, new, by="achieved"))
    assert row.ratio.value == pytest.approx(achieved.ratio.value / 0.9)


@pytest.mark.parametrize("clock_mhz", [1410.0, 1402.0, None])
def test_a_gpu_that_held_its_clock_is_compared_by_throughput(make, clock_mhz):
    row = row_of(compare(gpu(make, "old", 1410.0), gpu(make, "new", clock_mhz)))
    assert (row.metric, row.unit) == ("achieved", "TFLOPS")


def test_no_gpu_was_measured_and_what_is_allowed_for_says_so(make):
    found = compare(gpu(make, "old", 1410.0, runs=1), gpu(make, "new", 1410.0, runs=1))
    (spread,) = found.restart_spreads
    assert (spread.kind, spread.provenance, spread.value) == ("cuda", "assumed", 0.0111)
    assert "no GPU was measured" in spread.source


def test_driver_card_and_limits_are_no_reason_to_refuse_and_are_listed(make):
    base = gpu(make, "old", 1410.0)
    new = gpu(make, "new", 1410.0, identity={"driver": "570.1", "uuid": "GPU-2", "power_limit_w": 300.0})
    differ = {each.what: (each.base, each.new) for each in compare(base, new).differences}
    assert differ == {
        "driver": ("550.54.15", "570.1"),
        "card": ("GPU-1", "GPU-2"),
        "power limit": ("400 W", "300 W"),
    }


def test_what_nothing_is_known_of_scatters_as_a_cpu_does():
    assert find_restart_spread("npu", "normalized") == find_restart_spread("cpu", "normalized")
    assert find_restart_spread("cpu", "efficiency") == find_restart_spread("cpu", "achieved")


def test_what_is_allowed_for_is_what_the_method_found():
    """The figures of docs/validation.md, their upper limits, with source and date."""
    found = (Path(__file__).parents[2] / "docs" / "validation.md").read_text()
    for kind, basis, row in (
        ("cpu", "normalized", "nameplate, normalized"),
        ("cpu", "achieved", "nameplate, raw"),
        ("pytest-benchmark", "achieved", "pytest-benchmark, mean"),
    ):
        (line,) = [line for line in found.splitlines() if line.startswith(f"| {row} |")]
        upper = float(line.split("|")[3].strip().removesuffix(" %")) / 100
        assert find_restart_spread(kind, basis).value == pytest.approx(upper)
        assert find_restart_spread(kind, basis).provenance == "measured"


# ---- several devices ----


@pytest.fixture
def on_devices(make, tmp_path):
    """Make three runs on each device, all of them in one folder."""

    def made(name, *devices):
        (tmp_path / name).mkdir()
        for number, device in enumerate(devices):
            for run in make(f"{name}-{number}", runs=3, cases=(PRODUCT,), device=device).iterdir():
                run.rename(tmp_path / name / run.name)
        return tmp_path / name

    return made


def test_the_same_devices_are_compared_each_by_itself(on_devices):
    found = compare(on_devices("old", "d:0", "d:1"), on_devices("new", "d:0", "d:1"))
    assert [(row.device, row.base_runs, row.new_runs) for row in found.rows] == [("d:0", 3, 3), ("d:1", 3, 3)]


def test_of_other_devices_all_of_a_kind_are_taken_together(on_devices):
    found = compare(on_devices("old", "d:0", "d:1"), on_devices("new", "d:2"))
    assert [(row.device, row.base_runs, row.new_runs) for row in found.rows] == [("cpu", 6, 3)]


@pytest.mark.parametrize("name", ["", "Some processor"])
def test_two_unknown_processors_are_two_parts(make, name):
    one, other = (
        CpuIdentity(
            name=name,
            architecture="aarch64",
            implementer=implementer,
            arm_part=part,
            logical_cpus=4,
            usable_cores=4,
            memory_bytes=8 << 30,
        )
        for implementer, part in ((0x41, 0xD08), (0x43, 0x0A1))
    )
    base, new = make("old", part=None, identity=one), make("new", part=None, identity=other)
    with pytest.raises(InputError, match=r"two parts; got 'aarch64-[0-9a-f]{8} in base, aarch64-[0-9a-f]{8}"):
        compare(base, new)
    assert compare(base, make("same", part=None, identity=one)).rows


def test_terms_are_kept_with_the_comparison():
    found = compare(BASE, RECORDED / "same", threshold=0.02)
    assert found.options == replace(found.options, threshold=0.02)
    document = found.as_json()
    assert list(document)[:3] == ["base", "new", "differences"]
    assert document["threshold"] == 0.02
    assert document["base"]["runs"][0].endswith("-base-0000")
    assert document["rows"][0] | {"ratio": 1, "ratio_low": 0, "ratio_high": 2, "base": 1, "new": 1} == {
        "case": PRODUCT,
        "device": "cpu",
        "word": "same",
        "ratio": 1,
        "ratio_low": 0,
        "ratio_high": 2,
        "basis": "normalized",
        "unit": "of the probe",
        "base": 1,
        "new": 1,
        "base_runs": 5,
        "new_runs": 5,
        "scatter": "measured",
        "runs_needed": None,
        "broken": False,
        "reason": None,
    }
    assert document["summary"]["same"] == 3
    assert document["summary"]["worst"] is None
