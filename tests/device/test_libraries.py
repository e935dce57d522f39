"""The versions of the libraries that are loaded."""

from __future__ import annotations

import _ctypes
import ctypes
import shutil
import subprocess

import pytest
import torch

from nameplate.base.errors import InputError
from nameplate.device import libraries
from nameplate.device.libraries import (
    LIBRARIES,
    find_loaded,
    parse_build,
    read_library_versions,
    write_cudnn_version,
)
from nameplate.run.job import cases_of_run, read_software_versions

MAPS = """\
7f00-7f01 r-xp 00000000 08:01 11  /opt/my torch/lib/libcublas.so.12
7f02-7f03 r-xp 00000000 08:01 12  /usr/lib/libcublasLt.so.13.1.0.3
7f04-7f05 r-xp 00000000 08:01 13  /opt/numpy.libs/libscipy_openblas64_-ff11.so
7f06-7f07 rw-p 00000000 00:00 0
7f08-7f09 rw-p 00000000 00:00 0   [heap]
7f0a-7f0b r-xp 00000000 08:01 14  /opt/torch.libs/libopenblas-0123abcd.so.0
"""
BUILD = """PyTorch built with:
  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 20240605 for Intel(R) 64 architecture
  - Intel(R) MKL-DNN v3.12.0 (Git Hash 80afa71049cd69a3df32adcccb623b12cd7baa22)
  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release
"""
# Both answer as the libraries of CUDA 12.8.4 and 12.9.1 do.
STUB = """
static int tell(int kind, int *value, const int *version) {
    if (kind < 0 || kind > 2) return 7; /* CUBLAS_STATUS_INVALID_VALUE */
    *value = version[kind];
    return 0;
}
static const int cublas[] = {12, 8, 4}, lt[] = {12, 9, 1};
int cublasGetProperty(int kind, int *value) { return tell(kind, value, cublas); }
int cublasLtGetProperty(int kind, int *value) { return tell(kind, value, lt); }
const char *openblas_get_config(void) { return "OpenBLAS 0.3.30 NO_LAPACKE DYNAMIC_ARCH"; }
"""


def test_a_loaded_library_is_found_by_its_whole_name():
    assert find_loaded("libcublas", MAPS) == "/opt/my torch/lib/libcublas.so.12"
    assert find_loaded("libcublasLt", MAPS) == "/usr/lib/libcublasLt.so.13.1.0.3"
    assert find_loaded("libcublaslt", MAPS) == "/usr/lib/libcublasLt.so.13.1.0.3"
    assert find_loaded("libopenblas", MAPS) == "/opt/torch.libs/libopenblas-0123abcd.so.0"
    assert find_loaded("libcudnn", MAPS) is None


@pytest.mark.parametrize(
    ("text", "blas", "onednn"),
    [
        (BUILD, "MKL 2024.2", "3.12.0"),
        ("- OpenBLAS 0.3.29\n- Build settings: BLAS_INFO=open,", "OpenBLAS 0.3.29", None),
        ("- Build settings: BLAS_INFO=accelerate, BUILD_TYPE=Release", "accelerate", None),
        ("Intel MKL 2024.2\noneDNN 3.7.1\n", "MKL 2024.2", "3.7.1"),  # as older runs name them
        ("None\nNone\n", None, None),
    ],
)
def test_what_torch_was_built_with(text, blas, onednn):
    assert parse_build(text) == {"blas": blas, "onednn": onednn}


@pytest.mark.parametrize(("number", "version"), [(91002, "9.10.2"), (90100, "9.1.0"), (8902, "8.9.2")])
def test_cudnn_counts_differently_since_9(number, version):
    assert write_cudnn_version(number) == version


@pytest.mark.process
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) to build the stand-ins with")
def test_loaded_libraries_are_asked_for_their_versions(tmp_path, monkeypatch):
    paths = [tmp_path / name for name in ("libcublas.so.12", "libcublasLt.so.12", "libopenblas.so.0")]
    (tmp_path / "stub.c").write_text(STUB)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", paths[0], tmp_path / "stub.c"], check=True)
    for path in paths[1:]:
        shutil.copy(paths[0], path)
    loaded = [ctypes.CDLL(str(path)) for path in paths]
    try:
        monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        found = read_library_versions()
    finally:
        for library in loaded:  # twice: the module has opened it too
            _ctypes.dlclose(library._handle)
            _ctypes.dlclose(library._handle)
    assert found | {"onednn": None} == {
        "cuda": "12.8",
        "cublas": "12.8.4",
        "cublaslt": "12.9.1",
        "cudnn": "9.13.0",
        "blas": "OpenBLAS 0.3.30",
        "onednn": None,
    }


def test_a_cudnn_that_torch_refuses_has_no_version(monkeypatch):
    def refuse():
        raise RuntimeError("cuDNN version incompatibility: PyTorch was compiled against 9.10, found 8.9")

    monkeypatch.setattr(torch.backends.cudnn, "version", refuse)
    assert read_library_versions()["cudnn"] is None


def test_the_manifest_names_every_library():
    assert {name for names in LIBRARIES.values() for name in names} | {"cuda"} <= set(
        read_software_versions()
    )


def test_a_run_is_not_resumed_with_another_library(monkeypatch, a800_run):
    run = a800_run()
    software = {**run.manifest.software, "torch": read_software_versions()["torch"], "cublas": "12.8.4"}
    run = run.__class__(**{**vars(run), "manifest": run.manifest.model_copy(update={"software": software})})
    entry = run.manifest.devices[0]

    class Device:
        kind, name, identity, rating, memory_bytes = "cuda", entry.name, entry.identity, entry.rating, None

    monkeypatch.setattr(libraries, "_ask_version", lambda *_: "12.9.1")
    with pytest.raises(InputError, match=r"begun with another cublas; got '12.9.1'; expected 12.8.4"):
        cases_of_run(run, Device())
