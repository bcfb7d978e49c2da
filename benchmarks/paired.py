"""Alternatives timed side by side in interleaved rounds, so that all of them share the noise."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from scalpel_tf.deploy import toolchain

HERE = Path(__file__).parent
ROUNDS, FEWEST_ROUNDS = 15, 5
CACHE_LINE = 64
LONG = 0.1  # seconds of a call beside which cold caches are nothing
# What spins after a call of several threads would otherwise hold a core of the next alternative.
PAUSE = 0.03
# Until the system has moved threads that were asleep to cores of their own.
SETTLING = 0.02


@dataclass(frozen=True)
class Alternative:
    """One way to the same result.

    run: repetitions -> seconds of all of them.  result: runs once, returns what it computed.
    """

    name: str
    threads: int
    run: Callable[[int], float]
    result: Callable[[], np.ndarray]


def in_python(name: str, threads: int, call, result=None) -> Alternative:
    """An alternative whose loop is here; `call` returns what `result` makes an array of."""

    def run(repetitions):
        start = time.perf_counter()
        for _ in range(repetitions):
            call()
        return time.perf_counter() - start

    return Alternative(name, threads, run, lambda: np.asarray((result or np.asarray)(call())))


def in_c(name: str, threads: int, set_threads, kind: str, *arguments, y) -> Alternative:
    """An alternative whose loop is repeat_<kind> of repeat.c; `y` is the array that it fills."""
    function = getattr(repeat(), f"repeat_{kind}")
    function.restype = ctypes.c_double
    converted = [_argument(argument) for argument in arguments]

    def run(repetitions, _alive=(arguments, y)):
        set_threads(threads)
        return function(*converted, ctypes.c_int64(repetitions))

    def result():
        y.fill(np.nan if y.dtype.kind == "f" else 0)
        run(1)
        return y

    return Alternative(name, threads, run, result)


def keeping(alternative: Alternative, *things) -> Alternative:
    """The alternative, holding `things` that only C points at."""

    def run(repetitions, _alive=things):
        return alternative.run(repetitions)

    return Alternative(alternative.name, alternative.threads, run, alternative.result)


def _argument(value):
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    if isinstance(value, int):
        return ctypes.c_int64(value)
    if isinstance(value, ctypes._CFuncPtr):
        return ctypes.cast(value, ctypes.c_void_p)
    return value


@lru_cache
def repeat() -> ctypes.CDLL:
    """repeat.c, built for this very machine."""
    with tempfile.TemporaryDirectory() as scratch:
        arguments = ["-O3", "-march=native", "-shared", "-fPIC", HERE / "repeat.c"]
        out = Path(scratch) / "librepeat.so"
        return ctypes.CDLL(str(toolchain.compile_c(toolchain.host(), arguments, out)))


def measure(alternatives: list[Alternative], *, budget: float) -> list[np.ndarray]:
    """Seconds of one call, by alternative and round.

    budget: seconds for all rounds. Each slice is as many repetitions as its share of that has room
    for, after one call that warms the caches; where single calls overrun it, rounds are fewer.
    What takes ten times as long as the fastest sits out most rounds, which are nan there.
    """
    single = np.array([_first(each) for each in alternatives])
    slow = single > 10 * single.min()
    rounds = int(np.clip(budget / (2 * single[~slow].sum()), FEWEST_ROUNDS, ROUNDS))
    share = budget / rounds / len(alternatives)
    repetitions = np.maximum(1, share // single - 1).astype(int)
    times = np.full((len(alternatives), rounds), np.nan)
    for turn in range(rounds):
        for index in np.roll(np.arange(len(alternatives)), -turn):
            if turn < FEWEST_ROUNDS or not slow[index]:
                if single[index] < LONG:
                    alternatives[index].run(1)
                times[index, turn] = _slice(alternatives[index], int(repetitions[index]))
    return list(times)


def median(rounds: np.ndarray) -> float:
    """The median of the rounds that took place."""
    return float(np.nanmedian(rounds))


def _first(alternative):
    seconds = _slice(alternative, 1)
    return seconds if seconds > LONG else min(seconds, _slice(alternative, 1))


def _slice(alternative, repetitions):
    if alternative.threads > 1:
        time.sleep(PAUSE)
        start = time.perf_counter()
        while time.perf_counter() - start < SETTLING:
            alternative.run(1)
    return alternative.run(repetitions) / repetitions


def check(alternatives: list[Alternative], expected: np.ndarray, tolerance: np.ndarray) -> None:
    """RuntimeError unless every result is within `tolerance` of `expected` (both float64)."""
    for each in alternatives:
        error = np.abs(each.result().reshape(expected.shape) - expected)
        if not (error <= tolerance).all():
            raise RuntimeError(
                f"{each.name} is wrong by {np.nanmax(error - tolerance):.3g} more than the "
                f"rounding of float32 sums explains."
            )


def rounding(terms: int, magnitude: np.ndarray) -> np.ndarray:
    """The error of a float32 sum of `terms` products, in any order; magnitude: sum of |w||x|."""
    return terms * np.finfo(np.float32).eps * magnitude


def aligned(array: np.ndarray) -> np.ndarray:
    """The array at the start of a cache line, as TensorFlow's are; numpy's start anywhere."""
    memory = np.empty(array.nbytes + CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % CACHE_LINE
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def read(size: int, name: str) -> Alternative:
    """Reads `size` bytes of its own: the roofline of whatever has to read as much."""
    # Not zeros: the system would lend one page of them again and again.
    words = aligned(np.ones(size // 512 * 64, np.uint64))
    return in_c(name, 1, lambda threads: None, "read", words, len(words), y=words)


def fastest(names: list[str], times: list[np.ndarray]) -> dict[str, np.ndarray]:
    """The rounds of each name's fastest alternative (a rival may have several, by thread count)."""
    best = {}
    for name, rounds in zip(names, times, strict=True):
        if name not in best or median(rounds) < median(best[name]):
            best[name] = rounds
    return best


def row(case: str, ours: np.ndarray, rivals: dict[str, np.ndarray], **facts) -> dict:
    """A row in the format that all benchmarks share. ratio and spread: median and interquartile
    range, over rounds, of the fastest rival's time over ours in the same round."""
    medians = {name: median(rounds) * 1e6 for name, rounds in rivals.items()}
    rival = min(medians, key=medians.get)
    ratios = rivals[rival] / ours
    ratios = ratios[np.isfinite(ratios)]
    return {
        "case": case,
        **facts,
        "ours": median(ours) * 1e6,
        "unit": "us",
        "rivals": medians,
        "rival": rival,
        "ratio": float(np.median(ratios)),
        "spread": float(np.subtract(*np.percentile(ratios, [75, 25]))),
        "rounds": len(ours),
        "source": "measured",
    }


# Settings of the shell that would choose a rival's kernels or threads for it.
FOREIGN = ("OPENBLAS_", "GOTO_", "MKL_", "OMP_", "KMP_", "TF_")
MARK = "SCALPEL_TF_BENCHMARK"
OWN = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "", "KMP_BLOCKTIME": "1"}


def clean_environment(**more: str) -> dict[str, str]:
    """The environment without anybody's settings for the rivals."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return {**kept, **OWN, **more}


def restart_clean(settings: Callable[[], dict[str, str]]) -> None:
    """Starts this program again, once, without the shell's settings for the rivals and with these.

    TensorFlow and others write settings of their own when they are imported, hence the mark."""
    if MARK not in os.environ:
        environment = clean_environment(**settings(), **{MARK: "1"})
        os.execve(sys.executable, sys.orig_argv, environment)


def machine() -> dict:
    """The processor and its caches in bytes, as the system describes them."""
    caches = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        if (index / "type").read_text().strip() != "Instruction":
            size = (index / "size").read_text().strip()
            caches[f"L{(index / 'level').read_text().strip()}"] = int(size.rstrip("K")) * 1024
    names = [line for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "platform": platform.platform(),
        "processor": names[0].split(":")[1].strip() if names else platform.processor(),
        "processors": len(os.sched_getaffinity(0)),
        "caches": caches,
    }


def _lines(path):
    return Path(path).read_text().splitlines() if Path(path).exists() else []
