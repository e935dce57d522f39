"""The machines that golden files are of: a recorded node, and simulated devices with their cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nameplate.device.cpu import rate as rate_cpu
from nameplate.device.cuda import identify_without_torch
from nameplate.device.cuda import rate as rate_gpu
from nameplate.device.host import parse_cpuinfo
from nameplate.device.identity import CpuIdentity
from nameplate.device.simulated import Driver, SimulatedDevice, SimulatedPrepared, SimulatedWork
from nameplate.device.simulated_law import Decay, Law, Noise
from nameplate.device.survey import Survey, SurveyedDevice, find_cpu_obstacles
from nameplate.suite import Case
from nameplate.telemetry.gpu import GpuFacts, GpuReading, describe_problems

CPUINFO = Path(__file__).parents[1] / "data" / "cpuinfo" / "intel-xeon-8480.txt"


def recorded_survey():
    """A node with an idle A800, one that is throttled and shared, and the CPU of a guest."""
    recorded = parse_cpuinfo(CPUINFO.read_text(encoding="utf-8"))
    cpu = CpuIdentity(
        name=recorded.name,
        architecture="x86_64",
        vendor=recorded.vendor,
        family=recorded.family,
        model=recorded.model,
        stepping=recorded.stepping,
        flags=tuple(sorted(recorded.flags)),
        virtual_machine=True,
        logical_cpus=8,
        affinity_cpus=tuple(range(8)),
        usable_cores=4.0,
        quota_cpus=6.0,
        threads_per_core=2,
        measured_mhz=3000.0,
        memory_bytes=64 << 30,
        threads=2,
    )
    told = tuple(find_cpu_obstacles(cpu, 2.5, (1000.0, 50.0)))
    gpus = [recorded_gpu(0), recorded_gpu(1, temperature_c=88, thermal_throttle_s=3.5, ecc_uncorrected=2)]
    devices = (*gpus, SurveyedDevice("cpu", cpu, rate_cpu(cpu), in_the_way=told))
    return Survey(devices, "torch 2.13.0 built without CUDA", "550.90.07", "12.4", len(gpus))


def recorded_gpu(index, **changes):
    uuid = f"GPU-a8000000-0000-4000-8000-00000000000{index}"
    facts = GpuFacts(
        index=index,
        uuid=uuid,
        name="NVIDIA A800-SXM4-80GB",
        serial=f"132052200000{index}",
        pci_vendor_id="10de",
        pci_device_id="20f3",
        driver="550.90.07",
        cuda_driver="12.4",
        memory_bytes=80 << 30,
        max_sm_clock_mhz=1410,
        power_limit_w=400.0,
        default_power_limit_w=400.0,
        persistence_mode=index == 0,
        ecc_mode=True,
        mig_mode=False,
    )
    told = {"sm_clock_mhz": 1410, "temperature_c": 34, "power_w": 62.5, "ecc_uncorrected": 0} | changes
    reading = GpuReading(uuid=uuid, at_s=1.0, **told)
    identity = identify_without_torch(facts)
    said = tuple(describe_problems(facts, reading))
    unusable = "torch can't use it"
    name = f"nvml:{index}"
    return SurveyedDevice(
        name, identity, rate_gpu(identity), said, unusable=unusable, reading=reading, facts=facts
    )


@dataclass(frozen=True)
class Work(SimulatedWork):
    """Simulated work that may not run here, or break."""

    lacks: str | None = None
    breaks: str | None = None

    def unsupported(self, device):
        return self.lacks

    def prepare(self, device, *, fill, seed, copies=1):
        if self.breaks:
            raise RuntimeError(self.breaks)
        return SimulatedPrepared(self.device)


def simulated_cases():
    """Cases of every kind and ending: from idle and settled, in turn, of memory, skipped, failed."""
    device = steady_cpu()
    product = Work(device, 2 * 10**9, 3 * 10**6, "matmul", "fp32", "1000x1000x1000", "2MNK")
    layer = Work(device, 10**9, 10**6, "matmul", "fp32", "500x1000x1000", "2MNK", "Llama-3-8B")
    yield Case(product, phase="burst", group="product")
    yield Case(product, phase="sustained", group="product")
    yield Case(layer, fill="zeros")
    yield Case(layer, cache="flushed")
    yield Case(layer, cache="rotating")
    yield Case(Work(device, 2 * 10**9, 10**7, "memory", "fp32", "triad-10MB", "2N"))
    yield Case(Work(device, name="matmul", dtype="fp8_e4m3", lacks="no such tensor core here"))
    yield Case(Work(device, name="matmul", dtype="bf16", breaks="CUDA error: out of memory"))


def steady_cpu():
    return SimulatedDevice(Law(1e-3, Noise(0.02)), seed=1, nominal_tflops=4.0, cache_bytes=1 << 20)


def capped_gpus():
    """Two GPUs, the second 10 % slower; both are held down by their power limit."""
    driver = Driver(Decay(0.85, 4.0, 0.02, 3.0), "power")
    for index, launch_s in enumerate((1e-3, 1.1e-3)):
        law = Law(launch_s, Noise(0.01))
        rest = {"driver": driver, "cores": 1.0, "cache_bytes": 1 << 20, "name": f"cuda:{index}"}
        yield SimulatedDevice(law, seed=index, nominal_tflops=4.0, **rest)
