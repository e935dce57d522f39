"""The names of the kernels that a launch runs."""

from __future__ import annotations

import gzip
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from nameplate.device.kernels import (
    name_attention,
    name_cpu_kernels,
    parse_library_kernels,
    profile_launch,
    sum_kernels,
)
from nameplate_kernels.attention_backends import attend

# As oneDNN 3.12 and oneMKL 2024.2 print them.
VERBOSE = """onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost and bfloat16 support
onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind,exec_time
onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,brg_matmul:avx512_core,undef,src:f32::blocked,1.2
onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx512_core_bf16,undef,src:bf16::blocked,,8x8:8x8,6.26
onednn_verbose,v1,primitive,exec,cpu,reorder,jit:uni,undef,src:bf16::blocked,,8x8,0.1
MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture, Lnx 2.60GHz
MKL_VERBOSE SGEMM(N,N,1024,1024,1024,0x7ffefa617d40,0x560887f4acc0,1024) 15.87ms CNR:OFF Dyn:1
MKL_VERBOSE SGEMM(N,N,1024,1024,1024,0x7ffefa617d40,0x560887f4acc0,1024) 15.90ms CNR:OFF Dyn:1
"""


def test_reads_what_was_executed_each_kernel_once():
    assert parse_library_kernels(VERBOSE) == [
        "oneDNN matmul brg_matmul:avx512_core_bf16",
        "oneDNN reorder jit:uni",
        "MKL SGEMM",
    ]


def test_names_the_operators_of_a_launch_without_views(capfd):
    a, b = torch.randn(64, 64), torch.randn(64, 64)
    found = name_cpu_kernels(lambda: torch.mm(a.t(), b).add_(1.0))
    operators = [name for name in found if name.startswith("aten::")]
    assert operators == ["aten::mm", "aten::add_"]
    assert all(name.startswith(("aten::", "oneDNN ", "MKL ")) for name in found)
    print("printed after")
    out, err = capfd.readouterr()
    assert out == "printed after\n"
    assert err == ""


def test_names_the_kernels_of_a_backward_pass():
    weight = torch.randn(8, 8, requires_grad=True)
    x = torch.randn(8, 8)
    found = name_cpu_kernels(lambda: (x @ weight).sum().backward())
    assert {"aten::mm", "aten::sum"} <= set(found)


def test_standard_output_comes_back_where_the_launch_breaks(capfd):
    def broken():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        name_cpu_kernels(broken)
    print("here", file=sys.stdout)
    assert capfd.readouterr().out == "here\n"


@pytest.mark.parametrize(
    ("kernels", "backend"),
    [
        (["cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_7_64x128x128"], "cudnn"),
        (["nvjet_tst", "void pytorch_flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128>>"], "flash"),
        (["void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<…>"], "flash"),
        (["void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<…"], "flash"),
        (["fmha_cutlassF_f32_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<…"], "efficient"),
        (["void (anonymous namespace)::softmax_warp_forward<float, float, float, 9, false>"], "math"),
        (["aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_softmax"], "flash"),
        (
            ["fmha_cutlassB_f32_aligned", "cudnn_generated_fort_native_sdpa_sm90_flash_fprop"],
            "cudnn, efficient",
        ),
        (["nvjet_hsh_256x128_64x4_2x1_v_bz_NNT", "MKL SGEMM", "aten::mm"], None),
        ([], None),
    ],
)
def test_kernels_tell_whose_attention_ran(kernels, backend):
    assert name_attention(kernels) == backend


def test_this_torch_names_its_attention_as_expected():
    q, kv = torch.randn(1, 2, 16, 8), torch.randn(1, 2, 16, 8)
    assert name_attention(name_cpu_kernels(lambda: attend(q, kv, kv))) == "flash"
    math = torch.nn.attention.SDPBackend.MATH
    with torch.nn.attention.sdpa_kernel([math]):
        assert name_attention(name_cpu_kernels(lambda: attend(q, kv, kv))) == "math"
    assert name_attention(name_cpu_kernels(lambda: torch.mm(q[0, 0], q[0, 0].t()))) is None


def test_a_launch_on_a_cpu_is_traced_with_the_time_and_flops_of_its_operators(tmp_path):
    a = torch.randn(64, 64)
    trace = tmp_path / "traces" / "one.json.gz"
    found = {each.name: each for each in profile_launch(lambda: (a @ a, a @ a), trace, on_cuda=False)}
    assert (found["aten::mm"].calls, found["aten::mm"].flops) == (2, 2 * 2 * 64**3)
    assert found["aten::mm"].time_s > 0
    times = [each.time_s for each in found.values()]
    assert times == sorted(times, reverse=True)
    with gzip.open(trace) as file:
        assert "aten::mm" in {event["name"] for event in json.load(file)["traceEvents"]}


def event(name, us, kind="CUDA", flops=0, kernels=()):
    time = {"self_cpu_time_total": us} if kind == "CPU" else {"device_time_total": us}
    launched = [SimpleNamespace(name=each) for each in kernels]
    return SimpleNamespace(
        name=name, device_type=SimpleNamespace(name=kind), flops=flops, kernels=launched, **time
    )


def test_a_gpus_kernels_have_the_flops_of_the_operators_that_launched_them():
    events = [
        event("aten::mm", 5, "CPU", flops=10**9, kernels=["gemm"]),
        event("aten::mm", 5, "CPU", flops=10**9, kernels=["gemm"]),
        event("aten::bmm", 5, "CPU", flops=10**3, kernels=["scale", "cast"]),  # which one's isn't known
        event("aten::mul", 5, "CPU", flops=10**3, kernels=["scale"]),  # no convention counts them
        event("gemm", 70),
        event("gemm", 80),
        event("scale", 200),
        event("cast", 0),
    ]
    found = [each.model_dump() for each in sum_kernels(events, on_cuda=True)]
    assert found == [
        {"name": "scale", "time_s": pytest.approx(200e-6), "calls": 1, "flops": None},
        {"name": "gemm", "time_s": pytest.approx(150e-6), "calls": 2, "flops": 2 * 10**9},
    ]
