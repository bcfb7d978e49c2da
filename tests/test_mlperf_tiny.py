"""MLPerf Tiny's networks: their sizes, and their exports bit for bit."""

import functools
import re
import subprocess
import sys

import keras
import numpy as np
import pytest

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import convert, tflite
from scalpel_tf.deploy.export import export, run
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory
from scalpel_tf.zoo import mlperf_tiny

NETWORKS = {
    mlperf_tiny.resnet_8: (77_360, 12_501_632),
    mlperf_tiny.ds_cnn: (22_016, 2_656_768),
    mlperf_tiny.mobilenet_v1: (208_112, 7_489_664),
    mlperf_tiny.autoencoder: (264_192, 264_192),
}
# What TFLite Micro says that it took, in a process of its own, as it says so on stderr.
ALLOCATED = """
import sys
from tflite_micro import runtime
runtime.Interpreter.from_bytes(sys.stdin.buffer.read(), arena_size=1 << 20).print_allocations()
"""


@functools.cache
def int8(build):
    """The network with random weights and statistics, calibrated on noise."""
    keras.utils.set_random_seed(0)
    model, rng = build(), np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
    return convert.convert(model, rng.normal(0, 1, (20, *model.input_shape[1:])).astype("f4"))


@pytest.mark.parametrize("build", NETWORKS)
def test_weights_and_macs_are_those_of_the_benchmark(build):
    model = build()
    weights = [v for v in model.trainable_variables if v.path.endswith("kernel")]
    macs = 0
    for layer in model.layers:
        if isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            per_place = int(np.prod(layer.kernel.shape))
            macs += per_place * int(np.prod(layer.output.shape[1:3]))
            assert layer.output.shape[3] == layer.kernel.shape[2 if depthwise else 3]
        elif isinstance(layer, keras.layers.Dense):
            macs += int(np.prod(layer.kernel.shape))
    assert (sum(int(np.prod(v.shape)) for v in weights), macs) == NETWORKS[build]


def check_export(build, tmp_path):
    data = int8(build)
    report = export(data, out=tmp_path / "firmware")
    assert sum(layer["macs"] for layer in report.layers) == NETWORKS[build][1]
    network = tflite.read(data)
    shape = (2, *network.tensors[network.inputs[0]].shape[1:])
    x = np.random.default_rng(1).integers(-128, 128, shape).astype(np.int8)
    expected = convert.run_reference(data, x)[0]
    np.testing.assert_array_equal(run(tmp_path / "firmware", [x]).outputs[0], expected)
    assert len(np.unique(expected)) > 1


@pytest.mark.parametrize("build", [mlperf_tiny.ds_cnn, mlperf_tiny.autoencoder])
def test_exports_are_bit_exact(build, tmp_path):
    check_export(build, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("build", [mlperf_tiny.resnet_8, mlperf_tiny.mobilenet_v1])
def test_large_exports_are_bit_exact(build, tmp_path):
    check_export(build, tmp_path)


@pytest.mark.parametrize("build", NETWORKS)
def test_the_arena_is_not_larger_than_tflite_micros(build):
    pytest.importorskip("tflite_micro")
    data = int8(build)
    said = subprocess.run([sys.executable, "-c", ALLOCATED], input=data, capture_output=True)
    total = re.search(rb"Arena allocation total (\d+) bytes", said.stdout + said.stderr)
    network = tflite.read(data)
    arena = plan_memory(network, lower(network, find_target("cortex-m4"))).arena
    assert arena <= int(total.group(1))
