"""From operators to C: the choice of formats, the names, the memory of the emitted project."""

from dataclasses import replace

import numpy as np
import pytest
from fc_model import layer, model
from models import conv_model, dense_model, int8

from scalpel_tf.core import cost
from scalpel_tf.core.targets import TARGETS, find_target
from scalpel_tf.deploy import c_source, tflite
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import plan_memory

M4 = find_target("cortex-m4")


@pytest.mark.parametrize(
    "density, width, cols, kernel",
    [
        (1.0, 4, 256, "fc"),
        (0.9, 4, 256, "fc"),
        (0.3, 4, 256, "gcsr_fc4"),
        (0.3, 8, 2048, "gcsr_fc8"),
        (0.1, 4, 4096, "gcsr_fc4_delta"),
        (0.1, 1, 256, "csr_fc"),
        (0.1, 1, 4096, "csr_fc_wide"),
    ],
)
@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
def test_the_fastest_format_is_chosen(density, width, cols, kernel, target):
    network = model([layer(20, cols, density, width, 0)])
    assert lower(network, find_target(target))[0].kernel == kernel


def test_names_are_those_of_the_keras_layers():
    names = [entry.name for entry in lower(tflite.read(int8(dense_model)), M4)]
    assert names == ["fc1", "fc2"]


def test_every_operator_of_a_convolutional_network():
    layers = lower(tflite.read(int8(conv_model)), M4)
    assert [entry.kernel for entry in layers] == [
        *("requantize", "conv4", "depthwise_conv", "max_pool", "average_pool", "fc", "softmax")
    ]
    assert layers[1].macs == 5 * 4 * 6 * 27 and layers[2].macs == 5 * 4 * 12 * 9


def test_activations_share_the_arena_and_reshapes_cost_nothing():
    network = tflite.read(int8(conv_model))
    layers = [replace(entry, scratch=0) for entry in lower(network, M4)]
    plan = plan_memory(network, layers)
    sizes = {t.index: int(np.prod(t.shape)) for t in network.tensors if t.data is None}
    assert (
        max(plan.alive) <= plan.arena < sum({entry.y: sizes[entry.y] for entry in layers}.values())
    )
    (reshape,) = (op for op in network.operators if op.name == "RESHAPE")
    assert plan.tensors[reshape.inputs[0]] == plan.tensors[reshape.outputs[0]]


def test_only_the_dsp_extension_needs_scratch():
    network = model([layer(4, 100, 0.2, 4, 0)])
    assert lower(network, M4)[0].scratch == 2 * 104
    assert lower(network, find_target("cortex-m3"))[0].scratch == 0


@pytest.mark.parametrize("target", [t for t in TARGETS.values() if t.is_microcontroller])
def test_the_cost_of_a_sparse_layer_grows_with_its_groups(target):
    costs = [
        cost.fully_connected("gcsr_fc4", 300, 784, groups, target) for groups in (0, 1000, 50000)
    ]
    assert costs[0].cycles < costs[1].cycles < costs[2].cycles
    assert [c.flash for c in costs] == [3600, 3600 + 5000, 3600 + 250000]


def test_the_cost_of_flash_is_what_is_packed():
    weights = layer(30, 100, 0.3, 4, 0)["weights"]
    for packed in fc.candidates(weights):
        entry = cost.fully_connected(packed.kernel, 30, 100, packed.groups, M4)
        assert entry.flash == packed.flash


def test_a_project_has_the_kernels_that_it_calls_and_no_others():
    files = [p.name for p in c_source.runtime_files("scalpel_fc_s8(&l, x, s, y);")]
    assert [name for name in files if not name.endswith(".h")] == [
        *("scalpel_fc.c", "scalpel_fc_dsp.S", "scalpel_widen_dsp.S")
    ]
    files = [p.name for p in c_source.runtime_files("scalpel_max_pool_s8(&l, x, y);")]
    assert [name for name in files if not name.endswith(".h")] == [
        *("scalpel_clamp_s8.c", "scalpel_max_pool_s8.c", "scalpel_pool3_dsp.S")
    ]
