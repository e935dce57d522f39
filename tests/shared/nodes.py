"""Made-up nodes of H100s: the fields of their records and their devices."""

from __future__ import annotations

from nameplate.device.identity import CudaIdentity
from nameplate.store.manifest import DeviceEntry

H100 = "nvidia-h100-sxm5-80gb"
PRODUCT = "matmul/bf16/8192x8192x8192/normal/rotating/sustained/torch"
COPY = "memory/fp32/copy-1024MiB/normal/rotating/-/torch"
FLOPS, BYTES = 2 * 8192**3, 2**31
RATED = 989.4
# What an error-free GPU's driver counts.
COUNTED = {"gpu_ecc_errors": 0, "gpu_xid_errors": "none", "gpu_remapped_rows": 0, "elapsed_s": 9.0}


def h100_fields(device, share, case=PRODUCT):
    """The fields of a record, for `make_record`: a product or a copy at a share of an H100's rating."""
    is_copy = case == COPY
    rate, work = (3350e9 * share, BYTES) if is_copy else (RATED * 1e12 * share, FLOPS)
    fields = {
        "case": case,
        "device": device,
        "part": H100,
        "dimensions": {"m": 8192, "n": 8192, "k": 8192},
        "bytes": BYTES,
        "bandwidth_gb_s": rate / 1e9 if is_copy else 1.0,
        "bandwidth_low_gb_s": 0.99 * rate / 1e9 if is_copy else 0.9,
        "bandwidth_high_gb_s": 1.01 * rate / 1e9 if is_copy else 1.1,
        "time_s": work / rate,
        "conditions": COUNTED,
    }
    of_flops = {
        "flops": FLOPS,
        "tflops": rate / 1e12,
        "tflops_low": 0.99 * rate / 1e12,
        "tflops_high": 1.01 * rate / 1e12,
        "tflops_median": rate / 1e12,
        "nominal_tflops": RATED,
        "datasheet_tflops": RATED,
        "datasheet_efficiency": share,
        "efficiency": share,
        "efficiency_low": 0.99 * share,
        "efficiency_high": 1.01 * share,
    }
    return fields | (dict.fromkeys(of_flops) if is_copy else of_flops)


def h100_entry(number, **identity):
    """A node's GPU of that number; keyword arguments are its identity's."""
    told = {"name": "NVIDIA H100 80GB HBM3", "index": number, "uuid": f"GPU-{number:04d}"}
    made = CudaIdentity(**told | identity)
    return DeviceEntry(
        name=f"cuda:{number}", part=H100, evidence="its name", memory_gb_s=3350.0, identity=made
    )
