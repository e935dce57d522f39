"""The versions of the libraries that compute: of those that are loaded, not those that torch came with.

cuBLAS and cuDNN decide a figure more than torch's own version does, and LD_LIBRARY_PATH can replace them.
"""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

# What `read_library_versions` returns, by the kind of device whose figures each decides.
LIBRARIES = {"cuda": ("cublas", "cublaslt", "cudnn"), "cpu": ("blas", "onednn")}
# cublasGetProperty (cuBLAS) and cublasLtGetProperty (cuBLASLt): version by libraryPropertyType of
# library_types.h, MAJOR_VERSION 0, MINOR_VERSION 1, PATCH_LEVEL 2. Neither needs a handle or a GPU.
_PROPERTY_CALLS = {"cublas": "cublasGetProperty", "cublaslt": "cublasLtGetProperty"}
_PROPERTIES = (0, 1, 2)
_MAPS = Path("/proc/self/maps")
_BUILT_WITH = (
    ("blas", "MKL {}", r"(?:Math Kernel Library Version|\bMKL) (\d\S*?)(?:-Product)?(?!\S)"),
    ("blas", "OpenBLAS {}", r"OpenBLAS\s+v?(\d[\w.]*)"),
    ("blas", "{}", r"BLAS_INFO=(\w+)"),
    ("onednn", "{}", r"(?:MKL-DNN|oneDNN) v?(\d\S*)"),
)


def read_library_versions() -> dict[str, str | None]:
    """Return the version of each of `LIBRARIES`, and of CUDA (`cuda`), which torch was built for.

    None: this torch has no such library, or doesn't tell. Makes no CUDA context.
    """
    import torch

    maps = _read_maps()
    loaded = {name: _ask_version(name, find_loaded(f"lib{name}", maps)) for name in _PROPERTY_CALLS}
    built = parse_build(torch.__config__.show())
    openblas = find_loaded("libopenblas", maps)
    if openblas is not None:
        built["blas"] = _ask_openblas(openblas) or built["blas"]
    return {"cuda": torch.version.cuda, **loaded, "cudnn": _read_cudnn_version(), **built}


def find_loaded(name: str, maps: str) -> str | None:
    """Return the path of the loaded library `NAME.so…`, of /proc/self/maps; None where it isn't loaded."""
    paths = (line.split(maxsplit=5)[5] for line in maps.splitlines() if line.count("/"))
    wanted = re.compile(rf"{re.escape(name)}(-[0-9a-f]+)?\.so(\.\d+)*", re.IGNORECASE)
    return next((path for path in paths if wanted.fullmatch(path.rpartition("/")[2])), None)


def parse_build(text: str) -> dict[str, str | None]:
    """Return the versions of BLAS and oneDNN from torch.__config__.show()."""
    found: dict[str, str | None] = {"blas": None, "onednn": None}
    for library, form, pattern in _BUILT_WITH:
        match = re.search(pattern, text)
        if match and found[library] is None:
            found[library] = form.format(match[1])
    return found


def write_cudnn_version(number: int) -> str:
    """Return 9.10.2 for 91002, and 8.9.2 for 8902 (CUDNN_VERSION of cudnn_version.h: it changed with 9)."""
    scale = 10_000 if number >= 10_000 else 1_000
    return f"{number // scale}.{number % scale // 100}.{number % 100}"


def _read_maps() -> str:
    try:
        return _MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return ""


def _ask_version(name: str, path: str | None) -> str | None:
    """Ask a loaded library for its version; None where it isn't loaded or doesn't say."""
    if path is None:
        return None
    numbers = []
    with suppress(OSError, AttributeError):
        call = getattr(ctypes.CDLL(path), _PROPERTY_CALLS[name])
        for kind in _PROPERTIES:
            value = ctypes.c_int()
            if call(kind, ctypes.byref(value)) != 0:
                return None
            numbers.append(str(value.value))
    return ".".join(numbers) or None


def _ask_openblas(path: str) -> str | None:
    """Return `OpenBLAS 0.3.30` by openblas_get_config, whose text begins so."""
    with suppress(OSError, AttributeError):
        call = ctypes.CDLL(path).openblas_get_config
        call.restype = ctypes.c_char_p
        text = (call() or b"").decode(errors="replace")
        return " ".join(text.split()[:2]) or None
    return None


def _read_cudnn_version() -> str | None:
    import torch

    cudnn: Any = torch.backends.cudnn
    with suppress(RuntimeError):  # raised where the cuDNN that was found isn't one that this torch can use
        number = cudnn.version()
        return None if number is None else write_cudnn_version(number)
    return None
