"""Where the rival libraries are, and which of their own settings suits this machine best."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import tempfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, files, version
from pathlib import Path

import numpy as np
import paired

from scalpel_tf.deploy import toolchain

PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "mkl", "ai-edge-litert", "onnxruntime")
# Intel documents MKL_ENABLE_INSTRUCTIONS; on other makers' processors MKL may not heed it.
MKL_SETTINGS = ({}, {"MKL_ENABLE_INSTRUCTIONS": "AVX2"}, {"MKL_ENABLE_INSTRUCTIONS": "AVX512"})


@lru_cache
def mkl() -> ctypes.CDLL:
    """libmkl_rt of the wheel `mkl`; OSError where it is not installed."""
    try:
        found = [file for file in files("mkl") if file.name.startswith("libmkl_rt.so")]
    except PackageNotFoundError:
        raise OSError("`pip install mkl` first") from None
    return ctypes.CDLL(str(found[0].locate()), mode=ctypes.RTLD_GLOBAL)


@lru_cache
def numpy_openblas() -> tuple[ctypes.CDLL, str]:
    """The OpenBLAS that numpy brought, and what its names begin with."""
    for entry in _openblas():
        return ctypes.CDLL(entry["filepath"]), "scipy_"
    raise OSError("this numpy was built without its own OpenBLAS")


def _openblas():
    """numpy's own; scipy brings another."""
    import threadpoolctl

    return [
        entry
        for entry in threadpoolctl.threadpool_info()
        if entry["internal_api"] == "openblas" and "openblas64" in entry["filepath"]
    ]


@lru_cache
def xsmm() -> ctypes.CDLL:
    """xsmm.c with Debian's libxsmm inside; RuntimeError where that is not installed."""
    with tempfile.TemporaryDirectory() as scratch:
        libraries = ["-lxsmm", "-lxsmmnoblas", "-lpthread", "-ldl", "-lrt", "-lm"]
        arguments = ["-O2", "-shared", "-fPIC", paired.HERE / "xsmm.c", *libraries]
        out = Path(scratch) / "libxsmm_rival.so"
        try:
            return ctypes.CDLL(str(toolchain.compile_c(toolchain.host(), arguments, out)))
        except RuntimeError as error:
            raise RuntimeError("`apt install libxsmm-dev` first") from error


@lru_cache
def tensorflow(threads: int):
    """TensorFlow with so many threads, which cannot change while a process lives."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise RuntimeError(
            "TensorFlow's number of threads is fixed once per process, and this one has another"
        ) from None
    tf.config.list_logical_devices()
    tf.constant(0)  # fixes the number
    return tf


def best_mkl_setting() -> dict[str, str]:
    """The environment in which MKL is fastest here; {} where it makes no difference of 3 %."""
    try:
        mkl()
    except OSError:
        return {}
    seconds = []
    for setting in MKL_SETTINGS:
        environment = paired.clean_environment(**setting)
        command = [sys.executable, __file__]
        result = subprocess.run(command, capture_output=True, text=True, env=environment)
        seconds.append(float(result.stdout) if result.returncode == 0 else np.inf)
    best = int(np.argmin(seconds))
    return MKL_SETTINGS[best] if seconds[best] < 0.97 * seconds[0] else {}


def _probe():
    """Prints the geometric mean of the seconds of a matrix-vector and of a matrix product."""
    library, rng = mkl(), np.random.default_rng(0)
    library.MKL_Set_Num_Threads(1)
    a, b, c = (rng.random(size, np.float32) for size in (1 << 24, 1 << 20, 1 << 20))
    gemv = (library.cblas_sgemv_64, ctypes.c_int(111), 4096, 4096, a, b, c)
    gemm = (library.cblas_sgemm_64, ctypes.c_int(111), 128, 729, 1200, a, b, 729, c)
    alternatives = [
        paired.in_c(kind, 1, library.MKL_Set_Num_Threads, kind, *arguments, y=c)
        for kind, arguments in (("gemv", gemv), ("gemm", gemm))
    ]
    times = paired.measure(alternatives, budget=0.6)
    print(np.exp(np.mean([np.log(np.median(rounds)) for rounds in times])))


def versions() -> dict[str, str]:
    """Versions, and the instruction sets that the rivals chose for themselves."""
    found = {"compiler": toolchain.host_cxx().description}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    found["OpenBLAS"] = ", ".join(f"{e['version']} ({e['architecture']})" for e in _openblas()[:1])
    maps = Path("/proc/self/maps")
    loaded = {
        Path(line.split()[-1]).name for line in maps.read_text().splitlines() if "mkl_" in line
    }
    kernels = sorted(
        n for n in loaded if n.split(".")[0].split("_")[1] in ("def", "avx2", "avx512")
    )
    found["MKL kernels"] = ", ".join(kernels) or "not loaded"
    return found


if __name__ == "__main__":
    _probe()
