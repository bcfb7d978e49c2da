"""What one thread of this CPU can do at most, measured: the roof of a run's layers.

Of many rounds the best counts. It runs in the best instruction set that native kernels have here.
Everything raises RuntimeError without a compiler.
"""

from __future__ import annotations

import ctypes
import math
import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np

from scalpel_tf.core.targets import MIB
from scalpel_tf.deploy import native_build, toolchain
from scalpel_tf.deploy.float_constants import ALIGNMENT

ROUND = 5e-4  # seconds
SECONDS = 0.1  # for the rounds of either figure
ROUNDS = 3  # at least
SETTLED = 64  # rounds of `multiply` after which its result is the number of lanes
STEP = 128  # floats that `load` takes at a time
FAR = 64 * MIB  # bytes at most: few caches hold them, and new memory takes long to come by


class _Isa(ctypes.Structure):
    """A scalpel_peak."""

    _fields_ = [
        ("isa", ctypes.c_char_p),
        ("multiply", ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_int64)),
        ("load", ctypes.CFUNCTYPE(ctypes.c_float, ctypes.c_void_p, *[ctypes.c_int64] * 2)),
    ]


def macs() -> float:
    """float32 multiply-accumulates a second, of operands in registers."""
    best = isas()[0]
    return _rounded(best.multiply(SETTLED) * _rate(best.multiply))


def loads(size: int) -> float:
    """Bytes a second that are loaded from `size` bytes, which are read again and again.

    They come from the nearest cache that holds them all, or from memory.
    """
    floats = STEP * max(min(size, FAR) // (4 * STEP), 1)
    memory = np.ones(floats + ALIGNMENT // 4, np.float32)  # zeros would share one page
    address = -(-memory.ctypes.data // ALIGNMENT) * ALIGNMENT
    best = isas()[0]
    return _rounded(4 * floats * _rate(lambda passes: best.load(address, floats, passes)))


@lru_cache
def isas() -> list[_Isa]:
    """The loops of each instruction set that runs here, best first."""
    with tempfile.TemporaryDirectory() as scratch:
        objects = [*native_build.kernel_objects("float"), *native_build.kernel_objects("peak")]
        path = Path(scratch) / "libpeak.so"
        toolchain.compile_c(toolchain.host(), ["-shared", *objects, "-lm"], path)
        library = ctypes.CDLL(str(path))
    library.scalpel_peak_isa.restype = ctypes.POINTER(_Isa)
    found = []
    while isa := library.scalpel_peak_isa(len(found)):
        found.append(isa.contents)
    return found


def _rate(loop):
    """How often a second `loop`, a function of how often, does what it does, at its best."""
    times = 1
    while (seconds := _seconds(loop, times)) < ROUND:
        times = round(times * min(max(1.2 * ROUND / max(seconds, 1e-9), 2), 100))
    rounds = max(round(SECONDS / seconds), ROUNDS)
    return times / min(seconds, *(_seconds(loop, times) for _ in range(rounds)))


def _seconds(loop, times):
    start = time.perf_counter()
    loop(times)
    return time.perf_counter() - start


def _rounded(rate):
    """Three digits."""
    return round(rate, 2 - math.floor(math.log10(rate)))
