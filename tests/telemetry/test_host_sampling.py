"""Sampling the host: over a tree of files that stands for /proc and /sys, and over those that are here."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from nameplate.telemetry.host import HostReading, HostSampler, read_tick_s
from nameplate.telemetry.host_worker import Clocks, Energy, Sensors

pytestmark = pytest.mark.process
STAT = """\
cpu  300 0 0 9000 0 0 0 6 0 0
cpu0 100 0 0 3000 0 0 0 1 0 0
cpu1 110 20 30 3000 40 5 6 2 7 8
cpu2 90 0 0 3000 0 0 0 3 0 0
intr 12345 0 0
"""
GHZ = 1_000_000  # cpufreq counts in kHz


def put(root: Path, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


def clocks(*khz):
    return {
        f"sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq": value for cpu, value in enumerate(khz)
    }


def sensors(driver, number, **labels):
    """Temperatures by label, in thousandths of a degree, as one hwmon device has them."""
    folder = f"sys/class/hwmon/hwmon{number}"
    files = {f"{folder}/name": driver}
    for place, (label, value) in enumerate(labels.items(), start=1):
        files |= {
            f"{folder}/temp{place}_label": label.replace("_", " "),
            f"{folder}/temp{place}_input": value,
        }
    return files


def rapl(domain, name, energy_uj, range_uj=1000):
    folder = f"sys/class/powercap/{domain}"
    return {
        f"{folder}/name": name,
        f"{folder}/energy_uj": energy_uj,
        f"{folder}/max_energy_range_uj": range_uj,
    }


def rows_of(sampler, least, within_s=20.0):
    found = []
    end_s = time.monotonic() + within_s
    while len(found) < least and time.monotonic() < end_s and sampler.absent is None:
        time.sleep(0.05)
        found += sampler.take_readings()
    return found


def children():
    found = [one for one in psutil.Process().children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one for one in found if "host_worker" in " ".join(one.cmdline())]


# ---- the files ----


def test_the_clock_is_the_mean_of_those_sampled(tmp_path):
    put(tmp_path, clocks(1 * GHZ, 2 * GHZ, 3 * GHZ, "<unknown>", 0))
    assert Clocks(tmp_path, None).mean_mhz() == 2000.0
    assert Clocks(tmp_path, {1, 2}).mean_mhz() == 2500.0
    assert Clocks(tmp_path, {0, 3, 4, 77}).mean_mhz() == 1000.0
    assert Clocks(tmp_path, {3, 4}).mean_mhz() is None
    assert Clocks(tmp_path / "nowhere", None).mean_mhz() is None
    assert Clocks(tmp_path, set()).mean_mhz() is None


def test_of_very_many_clocks_some_are_read_from_first_to_last(tmp_path):
    put(tmp_path, clocks(*([1 * GHZ] * 128 + [3 * GHZ] * 128)))
    files = Clocks(tmp_path, None)
    assert files.mean_mhz() == 2000.0
    assert len(files._files) == 32


def test_a_clock_is_read_anew_each_time(tmp_path):
    put(tmp_path, clocks(1 * GHZ))
    files = Clocks(tmp_path, None)
    assert files.mean_mhz() == 1000.0
    put(tmp_path, clocks(3 * GHZ))
    assert files.mean_mhz() == 3000.0


@pytest.mark.parametrize(
    ("files", "hottest_c"),
    [
        (sensors("coretemp", 1, Package_id_0=61000, Core_0=95000), 61.0),
        (sensors("coretemp", 1, Package_id_0=61000) | sensors("coretemp", 2, Package_id_1=72500), 72.5),
        (sensors("k10temp", 3, Tctl=77000, Tdie=50000, Tccd1=99000), 50.0),
        (sensors("k10temp", 3, Tctl=77000, Tccd1=99000), 77.0),
        (sensors("nvme", 0, Composite=40000), None),
        ({"sys/class/thermal/thermal_zone2/type": "acpitz", "sys/class/thermal/thermal_zone2/temp": 9}, None),
        (
            {
                "sys/class/thermal/thermal_zone5/type": "x86_pkg_temp",
                "sys/class/thermal/thermal_zone5/temp": 55000,
            },
            55.0,
        ),
        ({}, None),
    ],
    ids=["intel", "two packages", "amd", "amd, one label", "no processor", "board", "zone", "nothing"],
)
def test_the_temperature_is_that_of_the_hottest_package(tmp_path, files, hottest_c):
    assert Sensors(put(tmp_path, files)).hottest_c() == hottest_c


def test_energy_is_that_of_the_packages_and_counts_on_where_a_counter_wraps(tmp_path):
    counters = {
        **rapl("intel-rapl:0", "package-0", 900, 1000),
        **rapl("intel-rapl:0:0", "core", 500),
        **rapl("intel-rapl:1", "package-1", 10, 1000),
        **rapl("intel-rapl:2", "psys", 100),
        **rapl("intel-rapl-mmio:0", "package-0", 900),
    }
    energy = Energy(put(tmp_path, counters))
    assert energy.total_j() == 0.0
    put(tmp_path, rapl("intel-rapl:0", "package-0", 950) | rapl("intel-rapl:0:0", "core", 777))
    assert energy.total_j() == pytest.approx(50e-6)
    put(tmp_path, rapl("intel-rapl:0", "package-0", 30) | rapl("intel-rapl:1", "package-1", 15))
    assert energy.total_j() == pytest.approx((50 + 80 + 5) * 1e-6)


def test_energy_that_one_package_does_not_tell_is_not_known(tmp_path):
    put(tmp_path, rapl("intel-rapl:0", "package-0", 1) | rapl("intel-rapl:1", "package-1", ""))
    assert Energy(tmp_path).total_j() is None
    assert Energy(tmp_path / "nowhere").total_j() is None
    put(tmp_path, rapl("intel-rapl:1", "package-1", 5, ""))
    assert Energy(tmp_path).total_j() is None


# ---- the process ----


@pytest.fixture
def machine(tmp_path):
    return put(
        tmp_path,
        {
            "proc/stat": STAT.rstrip(),
            **clocks(1 * GHZ, 2 * GHZ, 4 * GHZ),
            **sensors("coretemp", 0, Package_id_0=61000),
            **rapl("intel-rapl:0", "package-0", 5_000_000, 262_143_328_850),
        },
    )


def test_rows_have_what_the_files_hold(machine):
    before_s = time.perf_counter()
    with HostSampler({1, 2}, root=machine) as sampler:
        rows = rows_of(sampler, 1)
        put(machine, rapl("intel-rapl:0", "package-0", 9_000_000, 262_143_328_850))
        later = rows_of(sampler, 3)
        assert sampler.absent is None
    assert before_s < rows[0].at_s < time.perf_counter()
    assert rows[0] == HostReading(
        at_s=rows[0].at_s,
        busy_cpu_s=pytest.approx((171 + 90) * read_tick_s()),
        steal_s=pytest.approx(5 * read_tick_s()),
        mhz=3000.0,
        temperature_c=61.0,
        energy_j=0.0,
    )
    assert later[-1].energy_j == 4.0


def test_what_a_machine_does_not_tell_is_none_and_not_zero(tmp_path):
    with HostSampler(None, root=tmp_path) as sampler:
        (row, *_) = rows_of(sampler, 1)
    assert row == HostReading(row.at_s, None, None, None, None, None)


@pytest.mark.long
@pytest.mark.alone
def test_rows_come_by_themselves_some_ten_a_second():
    before_s = time.perf_counter()
    with HostSampler(None) as sampler:
        time.sleep(1.25)  # not at a moment when a sample is due
        rows = sampler.take_readings()
        after_s = time.perf_counter()
        later = rows_of(sampler, 1)
    at_s = [row.at_s for row in rows]
    assert 3 <= len(rows) <= (after_s - before_s) * 10 + 2
    assert at_s == sorted(set(at_s))
    assert before_s < at_s[0] < at_s[-1] < after_s
    assert at_s[-1] < later[0].at_s  # a row may come between the answer and `after_s`
    if sys.platform == "linux":
        busy_cpu_s = [row.busy_cpu_s for row in (*rows, *later)]
        assert busy_cpu_s == sorted(busy_cpu_s)


def test_no_cpus_have_no_figures(machine):
    with HostSampler(set(), root=machine) as sampler:
        (row, *_) = rows_of(sampler, 1)
    assert (row.busy_cpu_s, row.steal_s, row.mhz) == (None, None, None)


def test_closing_ends_the_process_and_the_rows():
    sampler = HostSampler(None)
    assert len(children()) == 1
    sampler.close()
    assert children() == []
    assert sampler.take_readings() == ()
    assert sampler.absent == "the host sampler is closed"
    sampler.close()


def test_a_process_that_dies_costs_the_rows_to_come():
    with HostSampler(None) as sampler:
        assert rows_of(sampler, 1)
        children()[0].kill()
        rows_of(sampler, 10_000)
        assert sampler.take_readings() == ()
        assert str(sampler.absent) == "the host sampler's process ended (exit status -9)"


def test_a_process_that_stands_still_costs_one_deadline():
    with HostSampler(None, deadline_s=0.5) as sampler:
        children()[0].suspend()
        began_s = time.monotonic()
        assert sampler.take_readings() == ()
        assert sampler.take_readings() == ()
        assert time.monotonic() - began_s < 5
        assert str(sampler.absent) == "the host sampler gave no answer within 0.5 s and was given up"
        assert children() == []


def test_a_process_that_can_not_start_costs_everything(monkeypatch):
    monkeypatch.setattr(HostSampler, "module", "nameplate.nowhere")
    with HostSampler(None) as sampler:
        assert sampler.take_readings() == ()
        assert str(sampler.absent) == "the host sampler's process ended (exit status 1)"
