"""A worker whose measuring processes get into trouble: `python -m sick_processes JOB`.

Every case takes virtual time only. Of case `b`, the second process that measures it does what the environment
variable TROUBLE says; FOLDER has a line for each process that opened the device.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import nameplate.run.child
import nameplate.run.forks
import nameplate.run.worker
import nameplate.suite
from nameplate.device.simulated import SimulatedDevice
from nameplate.device.simulated_law import make_steady
from nameplate.suite import Case, Suite
from nameplate_kernels.workload import CheckResult

FOLDER = Path(os.environ.get("FOLDER", "."))
PROCESSES = 3


@dataclass(frozen=True)
class Work:
    """Work that computes nothing; as it is prepared it is its own launches."""

    shape: str
    name: str = "matmul"
    dtype: str = "fp32"
    dimensions: dict = field(default_factory=dict)
    flops: int = 10**9
    bytes: int = 10**6
    resident_bytes: int = 10**6
    convention: str = "2MNK"
    represents: str | None = None

    @property
    def launches(self):
        return (self,)

    def unsupported(self, device):
        return None

    def pilots(self):
        return ()

    def prepare(self, device, *, fill, seed, copies=1):
        if self.shape == "b":
            get_into_trouble()
        return self

    def numerics(self):
        return nullcontext()

    def compute_reference(self):
        pass

    def check(self):
        return CheckResult("fp64", 0.1, "rounding")

    def digest(self):
        return "0123"


def get_into_trouble():
    """Do what TROUBLE says, where another process of this worker has measured the case before."""
    first = FOLDER / f"first of {os.getppid()}"
    if not first.exists():
        first.touch()
        return
    match os.environ["TROUBLE"]:
        case "dies":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "ends":
            os._exit(0)
        case "hangs":
            time.sleep(600)
        case "context":
            device.is_working = lambda: False
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        case "stopped" if not (FOLDER / "stopped").exists():
            (FOLDER / "stopped").touch()
            group = os.getpgid(0)
            later = f"import os, time, signal; time.sleep(0.5); os.killpg({group}, signal.SIGCONT)"
            subprocess.Popen([sys.executable, "-c", later], start_new_session=True)
            os.killpg(group, signal.SIGSTOP)


CASES = [Case(Work("a"), group="1"), Case(Work("b"), group="1"), Case(Work("c"), group="2")]
SUITE = Suite("fake", "a test's own", 30.0, lambda target: CASES, processes=PROCESSES)
device = SimulatedDevice(make_steady(1e-3, 0.05), nominal_tflops=4.0, name="cpu")


def open_device(name, begun, known=None):
    with (FOLDER / "opened").open("a") as file:
        print(os.getpid(), os.getppid(), file=file)
    return device


if __name__ == "__main__":
    nameplate.run.child.open_device = open_device
    nameplate.run.forks.prepare_copies = lambda *_: None
    nameplate.suite.find_suite = lambda name: SUITE
    nameplate.run.worker.main()
