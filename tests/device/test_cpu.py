"""The host's processors as a device: rating from evidence, and how a batch is put together."""

from __future__ import annotations

import gc
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nameplate.base.errors import InputError
from nameplate.base.messages import message
from nameplate.device import cpu, host, survey
from nameplate.device.cpu import CpuDevice, rate
from nameplate.device.host import set_default_threads
from nameplate.device.identity import CpuIdentity
from nameplate.device.protocol import Counters
from nameplate.engine.window import TimedBatch, Window
from nameplate.run.job import target_of
from nameplate.silicon.peak import Silicon
from nameplate.specs.cpu import CpuEvidence
from nameplate.suite import find_suite
from nameplate.telemetry.host import HostReading

RECORDED = Path(__file__).parents[1] / "data" / "cpuinfo"
AMX = {"amx_tile", "amx_bf16", "amx_int8"}


def machine(recorded, cores=2.0, *, without=(), **changes):
    """An identity as `read_identity` makes it, from a recorded cpuinfo."""
    seen = host.parse_cpuinfo((RECORDED / f"{recorded}.txt").read_text())
    facts = {
        **asdict(seen),
        "architecture": "x86_64",
        "flags": tuple(sorted(seen.flags - set(without))),
        "virtual_machine": "hypervisor" in seen.flags,
        "logical_cpus": 2,
        "affinity_cpus": (0, 1),
        "usable_cores": cores,
        "threads_per_core": 1,
        "memory_bytes": 8 << 30,
        "caches_bytes": {"L1d": 32 << 10, "L2": 1 << 20, "L3": 4 << 20},
    }
    return CpuIdentity(**(facts | changes))


def guest(**changes):
    return machine("amd-epyc-guest", **({"measured_mhz": 3570.0} | changes))


def xeon(cores=2.0, **changes):
    return machine("intel-xeon-8480", cores, **changes)


def test_a_known_model_is_rated_at_its_boost():
    rating = rate(xeon(cores=56.0, measured_mhz=3000.0))
    assert rating.part == "intel-sapphire-rapids"
    figure = rating.nominal_for("fp32")
    assert figure.tflops == pytest.approx(64 * 56 * 3.8e9 / 1e12)
    assert "64 FLOP per cycle per core" in figure.source
    assert "56 cores" in figure.source
    assert "3,800 MHz (the model's maximum boost)" in figure.source
    assert rating.datasheet_for("fp32") == figure


def test_a_hidden_model_is_rated_at_its_measured_clock_and_says_so():
    rating = rate(guest())
    assert rating.part == "amd-zen4"
    assert rating.nominal_for("bf16").tflops == pytest.approx(64 * 2 * 3.57e9 / 1e12)
    assert "3,570 MHz (measured)" in str(rating.nominal_for("bf16").source)
    assert "family 25, model 17" in str(rating.evidence)


def test_without_a_clock_there_is_no_figure_and_the_reported_one_is_not_used():
    rating = rate(guest(measured_mhz=None, reported_mhz=2596.0, maximum_mhz=2596.0))
    assert rating.part == "amd-zen4"
    assert rating.rated_dtypes == frozenset()
    assert rating.nominal_for("bf16").tflops is None
    assert "no clock to rate AMD Zen 4 by" in str(rating.nominal_for("bf16").source)


def test_an_unknown_part_has_no_figure_and_says_what_was_seen():
    rating = rate(guest(family=99))
    assert rating.part.startswith("x86-64-avx512-bf16-")
    assert rating.nominal_for("fp32").tflops is None
    assert "no part is recognised by AuthenticAMD family 99" in str(rating.nominal_for("fp32").source)
    assert "no loop measured this CPU's peak" in str(rating.nominal_for("fp32").source)
    assert "AuthenticAMD family 99, model 17" in str(rating.evidence)


def test_a_machine_that_says_nothing_is_unknown_too():
    rating = rate(CpuIdentity(name="", architecture="x86_64", logical_cpus=1, usable_cores=1, memory_bytes=1))
    assert rating.part.startswith("x86-64-")
    assert "no part is recognised by brand ''" in str(rating.evidence)


def test_an_arm_part_is_recognised_by_its_numbers():
    rating = rate(machine("arm-graviton3", measured_mhz=2600.0, architecture="aarch64"))
    assert (rating.part, rating.evidence) == ("arm-neoverse-v1", "implementer 0x41, part 0xd40")
    assert rating.nominal_for("fp32").tflops > 0


def test_the_flags_decide_the_path():
    def bf16(identity):
        return rate(identity).nominal_for("bf16")

    with_amx, without = bf16(xeon()), bf16(xeon(without=AMX))
    assert with_amx.tflops == pytest.approx(32 * without.tflops)
    assert bf16(xeon(without=AMX | {"avx512_bf16"})).tflops is None
    assert "amx_bf16" in str(bf16(xeon(without=AMX | {"avx512_bf16"})).source)


def test_a_dtype_without_arithmetic_says_so():
    rating = rate(guest())
    assert rating.nominal_for("fp16").tflops is None
    assert "no FP16 arithmetic" in str(rating.nominal_for("fp16").source)
    assert {"fp64", "fp32", "bf16", "int8"} == rating.rated_dtypes


def test_a_quota_scales_the_figure_and_is_noted():
    whole, part = rate(xeon()), rate(xeon(1.5, quota_cpus=1.5))
    assert part.nominal_for("fp32").tflops == pytest.approx(0.75 * whole.nominal_for("fp32").tflops)
    assert "1.5 cores" in part.nominal_for("fp32").source
    assert list(map(str, part.notes)) == ["a control group limits this process to 1.5 CPUs"]
    assert whole.notes == ()


def test_a_guests_cores_may_be_threads_and_the_note_says_so():
    assert any("may share one physical core" in note for note in map(str, rate(guest()).notes))
    assert not any("share" in note for note in map(str, rate(guest(cores=1.0)).notes))


def test_a_users_nominal_replaces_ours_and_leaves_the_datasheet():
    rating = rate(guest()).with_nominal({"bf16": 0.5, "fp16": 0.1})
    assert rating.nominal_for("bf16").tflops == 0.5
    assert "--nominal" in str(rating.nominal_for("bf16").source)
    assert rating.datasheet_for("bf16").tflops == pytest.approx(0.45696)
    assert "fp16" in rating.rated_dtypes


def test_a_devices_limits_come_from_its_identity():
    device = CpuDevice(guest(quota_cpus=1.5, cores=1.5))
    assert (device.cores, device.cache_bytes) == (1.5, 4 << 20)
    assert CpuDevice(guest(caches_bytes={})).cache_bytes is None
    assert 0 < device.timer_resolution_s < 1e-3
    assert device.torch_device.type == "cpu"


@pytest.mark.parametrize(
    ("available", "limit", "usable"), [(8 << 30, 1 << 30, 1 << 30), (1 << 30, 8 << 30, 1 << 30), (5, None, 5)]
)
def test_memory_is_what_is_free_within_the_limit(monkeypatch, available, limit, usable):
    monkeypatch.setattr(
        cpu.psutil, "virtual_memory", lambda: SimpleNamespace(available=available, total=1 << 40)
    )
    assert CpuDevice(guest(memory_limit_bytes=limit)).memory_bytes == usable


@pytest.fixture
def ticking(monkeypatch):
    """A clock of the host that moves only when told: in the test's launches."""
    now = {"ns": 1_000_000_000}
    monkeypatch.setattr(cpu.time, "perf_counter_ns", lambda: now["ns"])
    monkeypatch.setattr(cpu.time, "perf_counter", lambda: now["ns"] / 1e9)
    monkeypatch.setattr(cpu, "_measure_timer_resolution", lambda: 1e-7)
    return now


class Watch:
    """A stand-in for the host's sampler: the rows it is given, once each."""

    def __init__(self, *rows):
        self.waiting, self.cpus, self.starts = list(rows), None, 0
        self.absent = None

    def __call__(self, cpus):
        self.cpus = cpus
        self.starts += 1
        return self

    def take_readings(self):
        taken, self.waiting = self.waiting, []
        return taken

    def close(self):
        """Nothing to end."""


@pytest.fixture(autouse=True)
def watch(monkeypatch):
    """No process of its own samples the host while a test runs."""
    instead = Watch()
    monkeypatch.setattr(cpu, "HostSampler", instead)
    return instead


def host_row(at_s, **figures):
    unknown = dict.fromkeys(("busy_cpu_s", "steal_s", "mhz", "temperature_c", "energy_j"))
    return HostReading(at_s, **(unknown | figures))


def launchers(now, log, *durations_ns):
    def launcher(name, duration):
        def launch():
            log.append(name)
            now["ns"] += duration

        return launch

    return [launcher(name, duration) for name, duration in zip("abc", durations_ns, strict=False)]


def test_a_batch_cycles_through_its_launchers_and_loses_no_time(ticking):
    log = []
    device = CpuDevice(guest())
    timing = device.time_batch(launchers(ticking, log, 100, 200, 300), samples=2, per_sample=4)
    assert "".join(log) == "abcabcab"
    assert timing.start_s == 1.0
    np.testing.assert_allclose(timing.sample_s, [700e-9, 800e-9])
    assert timing.elapsed_s == pytest.approx((ticking["ns"] - 1_000_000_000) / 1e9)
    assert timing.end_s == pytest.approx(timing.start_s + timing.elapsed_s)
    assert (timing.launches, timing.per_sample) == (8, 4)


def test_a_batch_knows_the_cpu_time_it_took_unless_flushes_are_in_it(ticking, monkeypatch):
    monkeypatch.setattr(cpu.time, "process_time", lambda: 5.0 + ticking["ns"] / 1e9 * 2)
    monkeypatch.setattr(CpuDevice, "_flush", lambda self: None)

    def usage(who):
        return SimpleNamespace(ru_stime=ticking["ns"] / 4e9)

    monkeypatch.setattr(cpu, "resource", SimpleNamespace(RUSAGE_SELF=0, getrusage=usage))
    device = CpuDevice(guest())
    warm = device.time_batch(launchers(ticking, [], 500_000_000), samples=2, per_sample=1)
    assert (warm.cpu_s, warm.system_s) == (pytest.approx(2.0), pytest.approx(0.25))
    assert Window([TimedBatch(0, warm)] * 3, 0.0).system_share == pytest.approx(0.125)
    cold = device.time_batch(launchers(ticking, [], 500_000_000), samples=2, per_sample=1, flush=True)
    assert (cold.cpu_s, cold.system_s) == (None, None)
    assert Window([TimedBatch(0, warm), TimedBatch(0, cold)], 0.0).system_share is None


def test_a_flush_comes_before_each_sample_and_is_not_timed(ticking, monkeypatch):
    log = []

    def flush(self):
        log.append("|")
        ticking["ns"] += 1_000_000

    monkeypatch.setattr(CpuDevice, "_flush", flush)
    timing = CpuDevice(guest()).time_batch(
        launchers(ticking, log, 100, 200), samples=3, per_sample=1, flush=True
    )
    assert "".join(log) == "|a|b|a"
    np.testing.assert_allclose(timing.sample_s, [100e-9, 200e-9, 100e-9])
    assert timing.end_s - timing.start_s == pytest.approx(3 * 1e-3 + 400e-9)


def test_a_flush_writes_twice_the_last_level_and_allocates_once():
    device = CpuDevice(guest())
    device.time_batch([lambda: None], samples=2, per_sample=1, flush=True)
    buffer = device._flush_buffer
    assert buffer.numel() * buffer.element_size() == 2 * (4 << 20)
    assert set(buffer.unique().tolist()) == {2}  # written, once a sample
    device.time_batch([lambda: None], samples=1, per_sample=1, flush=True)
    assert device._flush_buffer is buffer


def test_the_collector_is_off_during_a_batch_and_back_after_even_one_that_breaks():
    seen = []
    device = CpuDevice(guest())
    device.time_batch([lambda: seen.append(gc.isenabled())], samples=2, per_sample=1)
    assert seen == [False, False]
    assert gc.isenabled()

    def broken():
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        device.time_batch([broken], samples=1, per_sample=1)
    assert gc.isenabled()


def test_counters_are_this_process_and_the_whole_machine(ticking, monkeypatch):
    monkeypatch.setattr(cpu, "read_cpu_totals", lambda cpus: (51.0, 2.5))
    monkeypatch.setattr(cpu, "read_tick_s", lambda: 0.01)
    monkeypatch.setattr(cpu.time, "process_time", lambda: 7.0)
    device = CpuDevice(guest())
    assert device.counters() == Counters(1.0, 7.0, 51.0, 2.5, 0.01)
    monkeypatch.setattr(cpu, "read_cpu_totals", lambda cpus: None)
    assert device.counters() == Counters(1.0, 7.0, None, None, None)


def test_the_timeline_has_the_rows_of_the_hosts_sampler_and_its_own_in_order(ticking, monkeypatch, watch):
    monkeypatch.setattr(cpu, "read_cpu_totals", lambda cpus: (51.0, 2.5))
    device = CpuDevice(guest())
    watch.waiting = [host_row(0.9, mhz=3000.0), host_row(1.1, mhz=3500.0, temperature_c=61.0, energy_j=5.0)]
    ticking["ns"] = 1_200_000_000
    own = device.counters()
    watch.waiting = [host_row(1.3, busy_cpu_s=52.0, steal_s=2.5)]
    rows = device.timeline(1.0)
    assert rows == (
        Counters(1.1, mhz=3500.0, temperature_c=61.0, energy_j=5.0),
        own,
        Counters(1.3, busy_cpu_s=52.0, steal_s=2.5),
    )
    assert device.timeline(1.25) == rows[2:]
    assert (watch.cpus, watch.starts) == ((0, 1), 1)


def test_a_sampler_that_ends_after_it_began_is_telemetry_lost_and_no_other_is(ticking, watch):
    device = CpuDevice(guest())
    watch.absent = "no /proc here"
    device.counters()
    assert device.telemetry_lost is None
    watch.waiting = [host_row(1.0, mhz=3000.0)]
    watch.absent = "the host sampler's process ended (exit status -9)"
    device.counters()
    assert device.telemetry_lost == watch.absent


def test_the_sampler_runs_before_the_first_counters_are_read(ticking, monkeypatch, watch):
    started = []
    monkeypatch.setattr(cpu, "read_cpu_totals", lambda cpus: started.append(watch.starts))
    CpuDevice(guest()).counters()
    assert started == [1]


def test_a_dtype_that_the_cpu_is_rated_for_has_probes_that_are_in_no_suite():
    device = CpuDevice(guest())
    probes = device.probes("fp32")
    assert [each.name for each in probes] == [f"fp32 {edge}x{edge}x{edge}" for edge in (960, 1920, 2880)]
    assert [each.flops for each in probes] == [2 * edge**3 for edge in (960, 1920, 2880)]
    names = ["smoke", "quick", "standard", "soak", "sensitivity", "block", "attention", "memory"]
    suites = [find_suite(name).cases(target_of(device)) for name in names]
    shapes = {case.workload.shape for cases in suites for case in cases}
    assert not shapes & {each.name.removeprefix("fp32 ") for each in probes}
    assert device.probes("fp16") == ()  # Zen 4 has no arithmetic in it
    assert device.probes("tf32") == ()


def test_a_users_rating_gives_no_probe_to_a_dtype_without_arithmetic():
    device = CpuDevice(guest())
    device.rating = device.rating.with_nominal({"fp16": 1979.0, "bf16": 0.5})
    assert "fp16" in device.rating.rated_dtypes
    assert device.probes("fp16") == ()
    assert device.probes("bf16")
    unknown = CpuDevice(guest(family=99))  # no figure of its own: what every CPU can do is still probed
    unknown.rating = unknown.rating.with_nominal({"fp32": 0.2, "fp16": 1979.0})
    assert (bool(unknown.probes("fp32")), unknown.probes("fp16")) == (True, ())


def test_a_probe_computes_a_product_in_its_own_dtype():
    probe = CpuDevice(guest()).probes("bf16")[0]
    product = probe.launch.__self__
    probe.launch()
    a, b, result = product._buffers
    assert {str(each.dtype) for each in product._buffers} == {"torch.bfloat16"}
    expected = a.double() @ b.double()
    assert (result.double() - expected).abs().max() < 0.01 * expected.abs().max()


def test_nothing_is_captured_and_idling_sleeps(monkeypatch):
    slept = []
    monkeypatch.setattr(cpu.time, "sleep", slept.append)
    device = CpuDevice(guest())
    device.idle(2.5)
    device.idle(-1.0)
    assert slept == [2.5, 0.0]
    assert device.capture([lambda: None], 10) is None


def test_threads_are_chosen_where_the_user_has_not_and_put_back(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "3")
    for unset in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(unset, raising=False)
    with set_default_threads():
        assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
        assert int(os.environ["GOMP_SPINCOUNT"]) > 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert "GOMP_SPINCOUNT" not in os.environ


def test_what_the_user_said_of_waiting_stands(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    with set_default_threads():
        assert "GOMP_SPINCOUNT" not in os.environ


def test_reads_a_hidden_guest_and_measures_its_clock(monkeypatch):
    monkeypatch.setattr(
        host, "read_processor", lambda root: host.parse_cpuinfo((RECORDED / "amd-epyc-guest.txt").read_text())
    )
    monkeypatch.setattr(cpu.clock, "measure_mhz", lambda: 3570.0)
    identity = cpu.read_identity()
    assert (identity.name, identity.measured_mhz, identity.virtual_machine) == ("AMD EPYC", 3570.0, True)
    assert CpuIdentity.model_validate_json(identity.model_dump_json()) == identity


def test_a_named_models_clock_is_not_measured(monkeypatch):
    monkeypatch.setattr(
        host,
        "read_processor",
        lambda root: host.parse_cpuinfo((RECORDED / "intel-xeon-8480.txt").read_text()),
    )
    monkeypatch.setattr(cpu.clock, "measure_mhz", lambda: pytest.fail("needless"))
    assert cpu.read_identity().measured_mhz is None


@pytest.mark.parametrize(
    ("quota", "cpus", "cores"), [(None, (1, 5, 6, 7), 4.0), (1.5, (1, 5), 1.5), (0.5, (1,), 0.5)]
)
def test_the_peak_is_measured_on_one_cpu_of_each_core_that_may_be_used(
    monkeypatch, make_silicon, quota, cpus, cores
):
    """Two threads of one core would take from each other; a quota pays for fewer cores than there are."""
    seen = host.Cores(16, (1, 3, 5, 6, 7), quota, 4, 2, 1, 1, first_cpus=(1, 5, 6, 7))
    monkeypatch.setattr(host, "read_cores", lambda root: seen)
    monkeypatch.setattr(host, "read_processor", lambda root: CpuEvidence(flags=frozenset({"avx2", "fma"})))
    asked = []
    monkeypatch.setattr(cpu, "measure_silicon", lambda *given: asked.append(given) or make_silicon())
    identity = cpu.measure_identity()
    assert asked == [({"avx2", "fma"}, cpus, cores)]
    assert identity.silicon == make_silicon()
    assert CpuIdentity.model_validate_json(identity.model_dump_json()) == identity


def test_a_run_has_one_peak_measured_once(monkeypatch, make_silicon):
    """Its processes take it from the manifest, wherever a clock is meanwhile."""
    measured = []

    def measure(*_):
        measured.append(1)
        return make_silicon(0.2 + len(measured))

    monkeypatch.setattr(cpu, "measure_silicon", measure)
    monkeypatch.setattr(survey, "find_device_names", lambda flag: ["cpu"])
    begun = survey.describe("cpu").identity
    for device in (survey.open_device("cpu", begun), survey.describe("cpu", begun)):
        assert device.identity.silicon == begun.silicon
        assert device.rating.silicon_for("fp32").tflops == 1.2
        assert device.rating.silicon_for("bf16") is None
    assert len(measured) == 1
    # A run of a machine that refuses such code doesn't try again.
    refused = begun.model_copy(update={"silicon": None})
    assert survey.open_device("cpu", refused).identity.silicon is None
    assert survey.open_device("cpu").identity.silicon == make_silicon(2.2)


def test_what_could_not_be_measured_of_the_peak_is_noted_once_with_the_reason(make_silicon):
    failed = {"int8-amx": message("silicon_illegal")}
    identity = guest(silicon=make_silicon().model_copy(update={"failed": failed}))
    assert identity.as_json()["silicon"]["failed"]["int8-amx"].startswith("illegal instruction")
    (note,) = [note for note in map(str, rate(identity).notes) if "int8-amx" in note]
    assert "illegal instruction" in note
    absent = Silicon(absent=message("silicon_refused", call="mmap", why="Permission denied"))
    said = [note for note in map(str, rate(guest(silicon=absent)).notes) if "run machine code" in note]
    assert len(said) == 1
    assert "(mmap: Permission denied)" in said[0]


def test_a_manifests_entry_gives_its_rating_the_peak(make_manifest, make_silicon):
    entry = make_manifest().devices[0]
    assert entry.rating.silicon is None
    mine = entry.model_copy(update={"identity": guest(silicon=make_silicon())})
    assert mine.rating.silicon_for("fp32").instruction == "VFMADD231PS ymm"


def test_two_runs_are_of_one_device_whatever_its_clock_did():
    assert guest().fingerprint() == guest(measured_mhz=3400.0).fingerprint()
    # Another thread count is another machine under the same header.
    assert guest().fingerprint() != guest(threads=1).fingerprint()
    assert guest().fingerprint() != guest(cores=1.0).fingerprint()
    assert guest().fingerprint() != guest(without={"avx512_bf16"}).fingerprint()


@pytest.mark.parametrize(
    ("lines", "blas"),
    [
        (
            ["Intel(R) oneAPI Math Kernel Library Version 2024.2"],
            "Intel(R) oneAPI Math Kernel Library Version 2024.2",
        ),
        (["Build settings: BLAS_INFO=open, BUILD_TYPE=Release"], "open"),
        (["nothing of the kind"], None),
    ],
)
def test_names_torchs_blas(lines, blas):
    assert cpu._find_line(lines, r"Math Kernel Library|OpenBLAS|Accelerate|BLAS_INFO") == blas


def test_cores_that_share_are_told_of():
    assert not any(
        "share physical cores" in note for note in map(str, rate(guest(parallel_speed=0.98)).notes)
    )
    (note,) = (
        note for note in map(str, rate(guest(parallel_speed=0.52)).notes) if "share physical cores" in note
    )
    assert "2 cores working at once run at 0.52 of their speed" in note


def test_counters_tell_how_the_cores_run_side_by_side_against_the_start(monkeypatch):
    monkeypatch.setattr(cpu.clock, "measure_parallel_speed", lambda threads: 0.5 if threads == 2 else None)
    assert CpuDevice(guest(parallel_speed=1.0)).counters().parallel_share == pytest.approx(0.5)
    assert CpuDevice(guest(parallel_speed=0.5)).counters().parallel_share == 1.0
    assert CpuDevice(guest(parallel_speed=0.4)).counters().parallel_share == 1.0  # the start was the odd one
    assert CpuDevice(guest(parallel_speed=None)).counters().parallel_share is None


PART = """
schema = 1

[sources.sheet]
text = "Acme, measured by ourselves"
date = "2026-11"

[[part]]
id = "acme-cpu"
name = "Acme CPU"
vendor = "Acme"
driver_names = ["AMD EPYC"]
sources = ["sheet"]
dense_tflops = { fp32 = 0.4, bf16 = 0.8 }
"""


def test_a_part_of_the_users_own_rates_a_cpu_that_it_names(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(PART)
    monkeypatch.setenv("NAMEPLATE_PARTS", str(tmp_path / "mine.toml"))
    rating = rate(guest())
    assert rating.part == "acme-cpu"
    assert rating.nominal_for("bf16").tflops == 0.8
    assert "Acme, measured by ourselves" in str(rating.nominal_for("bf16").source)
    assert rate(xeon()).part == "intel-sapphire-rapids"  # another name is another CPU


def test_a_wrong_part_file_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "mine.toml").write_text(PART.replace("fp32 = 0.4", "fp32 = -1"))
    monkeypatch.setenv("NAMEPLATE_PARTS", str(tmp_path / "mine.toml"))
    with pytest.raises(InputError) as refused:
        rate(guest())
    for word in ("mine.toml", "acme-cpu", "fp32", "-1", "a number above 0"):
        assert word in str(refused.value)
