"""scalpel_requantize.h and the float conversions against exact arithmetic on Python integers."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest

from scalpel_tf.deploy import tflite, toolchain

RUNTIME = Path(tflite.__file__).parent / "runtime"
INT_MIN, INT_MAX = -(2**31), 2**31 - 1
SHIM = """
#include "scalpel_requantize.h"
int32_t twice(int32_t acc, int32_t multiplier, int32_t shift);
int32_t twice(int32_t acc, int32_t multiplier, int32_t shift) {
  return scalpel_requantize_twice(acc, multiplier, shift);
}
int32_t bounded(int32_t acc, int32_t zero_point);
int32_t bounded(int32_t acc, int32_t zero_point) {
  return scalpel_output(acc, 1 << 30, 1, zero_point, -128, 127);
}
"""
ARM = ["arm-none-eabi-gcc", "-mthumb", "-ffreestanding"]
ZIG = [sys.executable, "-m", "ziglang", "cc", "-target"]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = tmp_path_factory.mktemp("arithmetic")
    (folder / "shim.c").write_text(SHIM)
    sources = [folder / "shim.c", RUNTIME / "scalpel_quantize_f32_s8.c"]
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run([*command, "-I", RUNTIME, "-o", folder / "a.so", *sources], check=True)
    return ctypes.CDLL(str(folder / "a.so"))


def twice(acc, multiplier, shift):
    """TFLite's MultiplyByQuantizedMultiplier on exact numbers: the first tie goes up, the second
    away from zero, and a left shift wraps."""
    shifted = (acc << max(shift, 0)) + 2**31
    wrapped = shifted % 2**32 - 2**31
    high = floor(Fraction(wrapped * multiplier, 2**31) + Fraction(1, 2))
    magnitude = floor(Fraction(abs(high), 2 ** max(-shift, 0)) + Fraction(1, 2))
    return magnitude if high >= 0 else -magnitude


@pytest.mark.parametrize(
    "acc, multiplier, shift, expected",
    [
        (10, 1 << 30, 0, 5),
        (3, 1 << 30, 0, 2),  # 1.5 up
        (-3, 1 << 30, 0, -1),  # -1.5 up
        (-3, 1 << 30, -1, -1),  # -1.5 up to -1, then -0.5 away
        (5, 1 << 30, -1, 2),  # 2.5 up to 3, then 1.5 away: rounding once gives 1
        (7, 1 << 30, 1, 7),
        (INT_MIN, 1 << 30, 1, 0),  # the left shift drops the only bit
    ],
)
def test_requantize_by_hand(library, acc, multiplier, shift, expected):
    assert library.twice(acc, multiplier, shift) == twice(acc, multiplier, shift) == expected


@pytest.mark.parametrize("shift", range(-31, 31))
def test_requantize_at_every_shift(library, shift):
    rng = np.random.default_rng(shift + 31)
    accumulators = [INT_MIN, INT_MIN + 1, -(1 << 30), -3, -2, -1, 0, 1, 2, 3, 1 << 30, INT_MAX]
    accumulators += rng.integers(INT_MIN, INT_MAX, 40, np.int64, endpoint=True).tolist()
    accumulators += rng.integers(-70000, 70000, 40).tolist()
    multipliers = [0, 1 << 30, (1 << 30) + 1, 3 << 29, INT_MAX]
    multipliers += rng.integers(1 << 30, INT_MAX, 8, np.int64).tolist()
    for acc in accumulators:
        for multiplier in multipliers:
            expected = twice(acc, multiplier, shift)
            assert library.twice(acc, multiplier, shift) == expected, (acc, multiplier)


@pytest.mark.parametrize(
    "acc, zero_point, expected",
    [(0, 5, 5), (200, 5, 127), (-200, 5, -128), (INT_MAX >> 1, 127, 127), (-9, 3, -6)],
)
def test_output_is_kept_in_its_bounds(library, acc, zero_point, expected):
    assert library.bounded(acc, zero_point) == expected


class FloatParams(ctypes.Structure):
    _fields_ = [
        ("count", ctypes.c_int32),
        ("scale", ctypes.c_float),
        ("zero_point", ctypes.c_int32),
    ]


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
def test_quantize_rounds_ties_away_from_zero_and_saturates(library, zero_point):
    steps = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, np.nextafter(np.float32(0.5), np.float32(0))]
    expected = [0, 0, 1, -1, 2, 3, -3, 0]
    steps += [254.5, 255.5, 256.0, -255.5, 3e9, -3e9, 3e38, np.inf, -np.inf, np.nan]
    expected += [255, 256, 256, -256, 256, -256, 256, 256, -256, 0]
    x = np.array(steps, np.float32) * np.float32(0.25)
    y = np.zeros(x.size, np.int8)
    params = FloatParams(x.size, 0.25, zero_point)
    library.scalpel_quantize_f32_s8(
        ctypes.byref(params),
        x.ctypes.data_as(ctypes.c_void_p),
        y.ctypes.data_as(ctypes.c_void_p),
    )
    assert y.tolist() == np.clip(np.array(expected) + zero_point, -128, 127).tolist()


def ops_sources():
    return [path for path in sorted(RUNTIME.glob("*.c")) if "scalpel_ops.h" in path.read_text()]


@pytest.mark.parametrize(
    "compiler",
    [
        [*ARM, "-mcpu=cortex-m0"],
        [*ARM, "-mcpu=cortex-m4"],
        [*ZIG, "thumb-freestanding-eabi", "-mcpu=cortex_m0"],
        [*ZIG, "thumb-freestanding-eabihf", "-mcpu=cortex_m4"],
    ],
    ids=["gcc cortex-m0", "gcc cortex-m4", "zig cortex-m0", "zig cortex-m4"],
)
def test_the_operators_compile_without_a_c_library(compiler, tmp_path):
    if compiler[0] == ARM[0] and shutil.which(ARM[0]) is None:
        pytest.skip("no arm-none-eabi-gcc")
    if "ziglang" in compiler and importlib.util.find_spec("ziglang") is None:
        pytest.skip("no ziglang")
    assert ops_sources()
    for source in ops_sources():
        command = [*compiler, "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-c", source]
        command += ["-o", tmp_path / f"{source.stem}.o", f"-I{toolchain.FREESTANDING}"]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert (tmp_path / f"{source.stem}.o").stat().st_size > 0
