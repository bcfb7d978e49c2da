"""The roof of this CPU: what its loops compute, and that no kernel gets above it."""

import ctypes
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from scalpel_tf.deploy import cpu_peak, native_build
from scalpel_tf.deploy.float_convolution import products
from scalpel_tf.driver import measure

LANES = {b"avx512": (16, 12), b"avx2": (8, 12), b"portable": (8, 7)}  # lanes of a sum, sums


def test_what_the_loops_compute():
    x = np.random.default_rng(0).integers(0, 100, 3 * cpu_peak.STEP + 1).astype(np.float32)
    address = x.ctypes.data_as(ctypes.c_void_p)
    for isa in cpu_peak.isas():
        lanes, sums = LANES[isa.isa]
        assert isa.multiply(0) == lanes * sums * (sums - 1), isa.isa  # no two sums are alike
        assert isa.multiply(1) == lanes * sum((2 * i + 1) / 2 for i in range(sums)), isa.isa
        assert isa.multiply(cpu_peak.SETTLED) == lanes * sums, isa.isa
        assert isa.load(address, 3 * cpu_peak.STEP, 2) == x[:-1].sum(), isa.isa


def test_the_best_round_counts(monkeypatch):
    rounds = iter([1e-9, 3e-4, 9e-4, *[2e-3] * 10, 6e-4, *[2e-3] * 200])
    ran = []
    monkeypatch.setattr(cpu_peak, "_seconds", lambda loop, times: ran.append(times) or next(rounds))
    assert cpu_peak._rate(None) == pytest.approx(ran[-1] / 6e-4)
    assert ran[:3] == [1, 100, 200] and len(set(ran[3:])) == 1 and len(ran) > 100


def test_exported_projects_have_none_of_it():
    files = {*native_build.kernel_files("float"), *native_build.kernel_files("int8")}
    assert files and not [file for file in files if "peak" in file]


@pytest.mark.parametrize(
    "kernel, filter, expected",
    [
        ("winograd 2x2", 3, 16 / 36),
        ("winograd 2x2", 5, 36 / 100),
        ("winograd 1x4", 3, 6 / 12),
        ("winograd 1x4", 5, 8 / 20),
        ("dense", 5, 1),
        (None, 5, 1),
    ],
)
def test_multiplications_by_tiles(kernel, filter, expected):
    assert products(kernel, filter) == pytest.approx(expected)


def test_no_layer_is_above_the_roof():
    conv = keras.layers.Conv2D(64, 5, name="conv")
    layers = [keras.Input((20, 20, 64)), conv, keras.layers.Flatten(), keras.layers.Dense(64)]
    samples = [np.ones((2, 20, 20, 64), np.float32)]
    meter = measure.CpuMeter(SimpleNamespace(target="x86-64", width=8), samples)
    found = meter(keras.Sequential(layers))
    peak = measure.peak(found)
    assert peak["bytes"] == found["loads"] and "measured on one thread" in peak["source"]
    conv, dense = found["layers"]
    assert conv["products"] < 1 == dense["products"]
    slack = 1.3  # the clock is another's too
    for layer in (conv, dense):
        assert layer["macs"] * layer["products"] / layer["time"] < slack * peak["macs"]
        assert layer["bytes"] / layer["time"] < slack * peak["bytes"]
    assert conv["macs"] * conv["products"] / conv["time"] > peak["macs"] / 10


def test_only_a_cpu_is_measured():
    assert measure.peak({"time": 3, "size": 100}) is None
