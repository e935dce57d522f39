"""The arithmetic peak of processors with a known truth, and of paths that don't run."""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path

import pytest

from nameplate.base.processes import Child, ChildEnded, ChildGarbled, ChildSilent
from nameplate.silicon import measure
from nameplate.silicon.loops import find_loops, load_loops
from nameplate.silicon.measure import measure_silicon
from nameplate.silicon.peak import Silicon

RECORDED = Path(__file__).parents[1] / "data" / "silicon"
FLAGS = {"avx2", "fma", "avx512f", "avx512vl", "avx512_fp16", "avx512_bf16", "avx512_vnni"} | {
    *("amx_tile", "amx_bf16", "amx_int8")
}


def measure_guest(processor, cpus=(0, 1), cores=None, flags=FLAGS, **changes):
    given = {"system": "Linux", "architecture": "x86_64", "start": processor.start} | changes
    return measure_silicon(flags, cpus, cores or float(len(cpus)), **given)


# ---- the truth is found ----


def test_each_path_has_its_rate_its_clock_and_its_flop_per_cycle(guest):
    processor = guest()
    silicon = measure_guest(processor)
    assert silicon.absent is None
    assert silicon.failed == {}
    assert {peak.loop for peak in silicon.peaks} == set(processor.flop_per_cycle)
    for peak in silicon.peaks:
        rate, clock = processor.flop_per_cycle[peak.loop], processor.clock_hz[peak.loop]
        assert peak.flop_per_cycle == pytest.approx(rate, rel=1e-3)
        assert peak.core_clock_mhz == pytest.approx(clock / 1e6, rel=1e-3)
        assert peak.clock_mhz == pytest.approx(clock / 1e6, rel=1e-3)
        assert peak.core_gflops == pytest.approx(rate * clock / 1e9, rel=1e-3)
        assert peak.tflops == pytest.approx(2 * rate * clock / 1e12, rel=1e-3)
        assert peak.parallel_share == pytest.approx(1, rel=1e-3)
        assert peak.tflops_low < peak.tflops < peak.tflops_high
        assert peak.interval.relative_half_width <= 0.02


def test_the_peak_of_a_dtype_is_its_fastest_path(guest):
    silicon = measure_guest(guest())
    assert silicon.dtypes == ("bf16", "fp16", "fp16_acc16", "fp32", "fp64", "int8")
    found = {dtype: silicon.peak(dtype).loop for dtype in silicon.dtypes}
    assert found == {
        "fp64": "fp64-avx512",
        "fp32": "fp32-avx512",
        "bf16": "bf16-amx",
        "fp16": "fp16-avx512",
        "fp16_acc16": "fp16-avx512",
        "int8": "int8-amx",
    }
    assert silicon.peak("fp8_e4m3") is None


def test_the_clock_is_the_one_held_beside_each_loop(guest):
    """AMX and AVX-512 run at lower clocks than scalar code: nominal × the scalar clock would be too high."""
    silicon = measure_guest(guest())
    assert silicon.peak("bf16").clock_mhz == pytest.approx(2700, rel=1e-3)
    assert silicon.peak("fp32").clock_mhz == pytest.approx(2900, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_other_work_on_the_machine_changes_nothing_while_some_stretches_are_left_alone(guest, seed):
    silicon = measure_guest(guest(disturbed=0.6, busy=0.5, seed=seed))
    for peak in silicon.peaks:
        rate, clock = guest().flop_per_cycle[peak.loop], guest().clock_hz[peak.loop]
        assert peak.tflops == pytest.approx(2 * rate * clock / 1e12, rel=0.01)
        assert peak.tflops_low <= 2 * rate * clock / 1e12 <= peak.tflops_high
        assert peak.flop_per_cycle == pytest.approx(rate, rel=0.01)


def test_where_the_cores_were_never_free_at_once_the_interval_says_so(guest):
    """No sum of undisturbed cores was seen: the peak is that of one × the cores, down to what was seen."""
    silicon = measure_guest(guest(together=0.55, busy=0.5))
    peak = silicon.peak("fp32")
    assert peak.tflops == pytest.approx(2 * 64 * 2.9e9 / 1e12, rel=0.01)
    assert peak.tflops_low < 0.56 * peak.tflops
    assert peak.parallel_share is None


def test_hidden_siblings_show_in_the_parallel_share(guest):
    """Two CPUs that are threads of one core do together what one does alone."""
    silicon = measure_guest(guest(together=0.5))
    peak = silicon.peak("fp32")
    assert peak.parallel_share == pytest.approx(0.5, rel=1e-3)
    assert peak.tflops == pytest.approx(64 * 2.9e9 / 1e12, rel=1e-3)
    assert peak.core_gflops == pytest.approx(64 * 2.9, rel=1e-3)


def test_cores_of_two_kinds_are_added_and_none_stands_for_the_others(guest):
    """Two performance and two efficiency cores: the sum is theirs, and isn't mistaken for sharing."""
    silicon = measure_guest(guest(slower={0: 0.5, 1: 0.5}), cpus=(0, 1, 2, 3))
    peak = silicon.peak("fp32")
    assert peak.tflops == pytest.approx(3 * 64 * 2.9e9 / 1e12, rel=0.01)
    assert peak.core_gflops == pytest.approx(64 * 2.9, rel=0.01)  # of the faster kind
    assert peak.flop_per_cycle == pytest.approx(64, rel=0.01)
    assert peak.parallel_share is None


def test_a_quota_counts_as_the_part_of_the_cores_that_it_is(guest):
    silicon = measure_guest(guest(), cpus=(0, 1), cores=1.5)
    assert silicon.cores == 1.5
    assert silicon.peak("fp32").tflops == pytest.approx(1.5 * 64 * 2.9e9 / 1e12, rel=1e-3)


def test_one_core_is_enough(guest):
    silicon = measure_guest(guest(), cpus=(3,))
    assert silicon.peak("fp32").tflops == pytest.approx(64 * 2.9e9 / 1e12, rel=1e-3)
    assert silicon.peak("fp32").parallel_share == pytest.approx(1)


def test_a_clock_that_moves_between_visits_widens_the_interval(guest):
    steady, moving = measure_guest(guest()), measure_guest(guest(drift=(1.0, 0.97)))
    assert moving.peak("fp32").tflops == pytest.approx(steady.peak("fp32").tflops, rel=1e-3)
    assert moving.peak("fp32").tflops_low < 0.97 * steady.peak("fp32").tflops
    assert moving.peak("fp32").interval.log_half_width > steady.peak("fp32").interval.log_half_width + 0.02


def test_a_visit_that_another_guest_slowed_is_repeated_and_widens_nothing(guest):
    """One of eight starts on an idle guest had intervals of a factor of two: one visit ran at half speed."""
    steady = measure_guest(guest())
    slowed = measure_guest(guest(drift=(1.0, 0.5, 1.0)))
    for dtype in steady.dtypes:
        assert slowed.peak(dtype).tflops == pytest.approx(steady.peak(dtype).tflops, rel=1e-3)
        assert slowed.peak(dtype).interval.relative_half_width <= 0.02


def test_a_speed_that_no_visit_repeats_is_not_certain(guest):
    silicon = measure_guest(guest(drift=(1.0, 0.5, 0.5, 0.5, 0.5, 0.5)))
    assert silicon.peak("fp32").interval.relative_half_width > 0.4


def test_cores_that_start_apart_count_only_while_all_work(guest, monkeypatch):
    """A core that begins when the others are done would show each at its best."""
    processor = guest(together=0.5)
    usual = processor.start

    def start_late():
        process = usual()
        run = process._run

        def run_late(**asked):
            told = run(**asked)
            if len(told["stamps"]) == 2:  # the second core starts half-way
                shift = (told["stamps"][0][-1] - told["stamps"][0][0]) // 2
                told["stamps"][1] = [tick + shift for tick in told["stamps"][1]]
            return told

        process._run = run_late
        return process

    peak = measure_guest(processor, start=start_late).peak("fp32")
    assert peak.parallel_share == pytest.approx(0.5, rel=0.01)


def test_a_path_that_stays_disturbed_gets_more_visits_and_no_other_does(guest):
    quiet, loud = guest(), guest(disturbed=0.97)
    measure_guest(quiet, flags=["avx2", "fma"])
    measure_guest(loud, flags=["avx2", "fma"])

    def together(processor):
        return sum(len(each.get("run", {}).get("cpus", ())) == 2 for each in processor.requests)

    assert together(quiet) == 2 * 2
    assert 2 * 2 < together(loud) <= 2 * 6


def test_paths_take_turns_and_each_process_is_closed(guest):
    processor = guest()
    measure_guest(processor)
    assert processor.started == processor.closed == len(find_loops("x86_64", FLAGS))
    runs = [each["run"] for each in processor.requests if "run" in each]
    assert all(run["rounds"] >= 20 for run in runs)
    # One core, then all: never the same path twice in a row.
    assert [
        len(group) for group in (list(each) for _, each in groupby(runs, lambda run: len(run["cpus"])))
    ] == [1] * len(runs)


class Recorded:
    """A loop's process as it answered on a machine: the answers in order."""

    def __init__(self, answers):
        self.answers = answers
        self.at = None

    def ask(self, request, deadline_s=None):
        if "load" in request:
            code = request["load"]["code"]
            self.at = iter(self.answers[next(loop.name for loop in load_loops() if loop.code == code)])
        return next(self.at)

    def close(self):
        """Nothing runs."""


def test_recorded_answers_of_a_busy_guest_give_whole_instructions_a_cycle(guest):
    """Two Zen 4 cores at a load average of 10: many stretches are disturbed, and the truth is there."""
    recorded = json.loads((RECORDED / "zen4-busy-guest.json").read_text())
    flags = {"avx2", "fma", "avx512_bf16"}
    silicon = measure_guest(guest(), flags=flags, start=lambda: Recorded(recorded))
    fp32, bf16 = silicon.peak("fp32"), silicon.peak("bf16")
    assert fp32.flop_per_cycle == pytest.approx(32, rel=0.001)
    assert bf16.flop_per_cycle == pytest.approx(64, rel=0.001)
    assert fp32.tflops == pytest.approx(2 * 32 * 3.693e9 / 1e12, rel=0.003)
    assert bf16.tflops == pytest.approx(2 * 64 * 3.693e9 / 1e12, rel=0.003)


# ---- a path that doesn't run costs that path only ----


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ({"time": ChildEnded(-4)}, "illegal instruction, although the CPU's flags show it"),
        ({"run": ChildEnded(-11)}, "its process was ended by SIGSEGV"),
        ({"run": ChildSilent(5.0)}, "no answer within 5 s"),
        ({"load": ChildEnded(1)}, "its process ended with exit status 1"),
        ({"load": ChildGarbled(b"?")}, "its process gave no usable answer"),
        (
            {"load": {"refused": "Operation not supported", "call": "arch_prctl"}},
            "the kernel refuses AMX's tile",
        ),
    ],
)
def test_a_path_that_fails_is_named_and_the_others_are_measured(guest, failing, said):
    silicon = measure_guest(guest(failing={"bf16-amx": failing}))
    assert list(silicon.failed) == ["bf16-amx"]
    assert said in str(silicon.failed["bf16-amx"])
    assert silicon.absent is None
    assert len(silicon.peaks) == len(find_loops("x86_64", FLAGS)) - 1
    assert silicon.peak("bf16").loop in ("bf16-avx512-zmm", "bf16-avx512-ymm")


def test_a_host_that_refuses_the_mapping_is_told_in_one_sentence(guest):
    refused = {"load": {"refused": "Operation not permitted", "call": "mmap"}}
    silicon = measure_guest(guest(failing={loop.name: refused for loop in find_loops("x86_64", FLAGS)}))
    assert silicon.peaks == ()
    assert str(silicon.absent) == (
        "this host refuses to run machine code from memory (mmap: Operation not permitted), so the "
        "arithmetic peak can't be measured: allow executable memory files for this user, or run outside "
        "the sandbox"
    )
    assert silicon.peak("fp32") is None


def test_a_process_that_cant_start_is_a_failure_of_its_path(guest):
    def start():
        raise OSError("Resource temporarily unavailable")

    silicon = measure_guest(guest(), start=start)
    assert "can't be started (Resource temporarily unavailable)" in str(silicon.absent)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"system": "Darwin"}, "isn't measured on Darwin"),
        ({"flags": ["sse2"]}, "the CPU's flags show no instruction path"),
        ({"flags": [], "architecture": "riscv64"}, "the CPU's flags show no instruction path"),
    ],
)
def test_a_machine_without_loops_starts_no_process(guest, changes, said):
    processor = guest()
    silicon = measure_guest(processor, **changes)
    assert said in str(silicon.absent)
    assert processor.started == 0


def test_of_equally_fast_paths_the_wider_is_named_at_every_start(guest):
    """Zen 4 does 512 bits in two halves: what a start finds a little faster is chance."""
    for factor in (0.998, 1.002):
        processor = guest()
        ymm, zmm = "int8-avx512-ymm", "int8-avx512-zmm"
        processor.flop_per_cycle |= {ymm: 128 * factor, zmm: 128}
        silicon = measure_guest(processor, flags=FLAGS - {"amx_int8"})
        assert silicon.peak("int8").loop == zmm
    processor.flop_per_cycle[ymm] = 140
    assert measure_guest(processor, flags=FLAGS - {"amx_int8"}).peak("int8").loop == ymm


def test_a_dtype_whose_paths_all_failed_says_so_and_not_that_there_is_none(guest):
    lost = {"time": ChildEnded(-4)}
    silicon = measure_guest(guest(failing={"fp16-avx512": lost}))
    assert str(silicon.describe("fp16")) == (
        "the arithmetic peak of fp16-avx512 isn't measured: illegal instruction, although the CPU's flags "
        "show it"
    )
    assert (
        str(silicon.describe("fp8_e4m3")) == "the CPU's flags show no fp8_e4m3 instructions that have a loop"
    )
    assert str(silicon.describe("bf16")) == "TDPBF16PS on 2 cores at 2,700 MHz, measured"


def test_programs_get_sentences(guest):
    silicon = measure_guest(guest(failing={"bf16-amx": {"time": ChildEnded(-4)}}))
    found = silicon.as_json()
    assert found["failed"] == {"bf16-amx": "illegal instruction, although the CPU's flags show it"}
    assert found["absent"] is None
    assert found["peaks"][0]["loop"] == "fp32-avx2"


def test_the_peak_survives_a_file():
    """It is part of the device's identity in the manifest."""
    silicon = Silicon(cores=2.0)
    assert Silicon.model_validate_json(silicon.model_dump_json()) == silicon


# ---- the real process ----

UD2, HANG = b"\x0f\x0b", b"\xeb\xfe"


def start_real():
    return Child((sys.executable, "-I", "-S", str(measure._CHILD)), quiet=True)


@pytest.mark.process
@pytest.mark.skipif(not find_loops(measure.platform.machine(), FLAGS), reason="x86-64 code")
@pytest.mark.parametrize(("code", "failure"), [(UD2, ChildEnded), (HANG, ChildSilent)])
def test_an_illegal_instruction_or_a_hang_ends_only_the_loops_process(code, failure):
    process = start_real()
    try:
        told = process.ask({"load": {"code": code.hex(), "operands": "fp32", "tiles": False}}, 10)
        if "refused" in told:
            pytest.skip(f"machine code can't be mapped here: {told}")
        with pytest.raises(failure) as error:
            process.ask({"time": {"cpu": 0, "turns": 1, "chain": 1}}, 1 if code == HANG else 10)
    finally:
        process.close()
    if failure is ChildEnded:
        assert error.value.status == -4


# What a sandbox does: mmap(2) with PROT_EXEC ends with "Operation not permitted". The filter is classic BPF
# over seccomp's data: the number of the call, and the third argument's lower half.
HARDENED = """
import ctypes, errno, json, os, struct, sys, threading, time, typing
call, path = int(sys.argv[1]), sys.argv[2]
code = [(0x20, 0, 0, 0), (0x15, 0, 3, call), (0x20, 0, 0, 32), (0x45, 0, 1, 4), (0x06, 0, 0, 0x50001),
        (0x06, 0, 0, 0x7FFF0000)]
filters = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(code), ctypes.addressof(filters)))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, program) == 0
exec(compile(open(path).read(), path, "exec"), {"__name__": "__main__"})
"""
MMAP = {"x86_64": 9, "aarch64": 222}


@pytest.mark.process
@pytest.mark.skipif(
    sys.platform != "linux" or measure.platform.machine() not in MMAP, reason="a filter for Linux"
)
def test_a_host_that_forbids_executable_memory_costs_the_peak_and_says_what_it_lacks():
    machine = measure.platform.machine()

    def start():
        call = str(MMAP[machine])
        return Child((sys.executable, "-I", "-S", "-c", HARDENED, call, str(measure._CHILD)), quiet=True)

    flags = {"x86_64": ("avx2", "fma"), "aarch64": ("asimd",)}[machine]
    silicon = measure_silicon(flags, (0,), 1.0, start=start)
    assert silicon.peaks == ()
    assert "refuses to run machine code from memory (mmap: Operation not permitted)" in str(silicon.absent)
