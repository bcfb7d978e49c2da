"""The memory plan of a model: what lives when, and what may lie over what."""

import numpy as np
import pytest
from fc_model import layer as fc_layer
from fc_model import model as fc_model
from models import conv_model, int8

from scalpel_tf.core.targets import find_target
from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.lower import lower
from scalpel_tf.deploy.memory import operator_peaks, plan_memory, tensor_bytes

M4 = find_target("cortex-m4")


def tensors(*sizes):
    none = np.empty(0)
    return tuple(
        tflite.Tensor(i, f"t{i}", (1, size), np.dtype("i1"), none, none, 0, None)
        for i, size in enumerate(sizes)
    )


def step(inputs, y, in_place=False, scratch=0):
    return Layer(f"to{y}", "OP", "op", inputs, y, "", None, scratch=scratch, in_place=in_place)


@pytest.mark.parametrize(
    "sizes, layers, outputs, arena, alive",
    [
        # a chain of four tensors: two live at once
        ((64, 64, 64, 64), [((0,), 1), ((1,), 2), ((2,), 3)], (3,), 128, [128, 128, 128]),
        # the same in place
        (
            (64, 64, 64, 64),
            [((0,), 1, True), ((1,), 2, True), ((2,), 3, True)],
            (3,),
            64,
            [64, 64, 64],
        ),
        # a pool in place leaves the rest of its input free afterwards
        ((64, 16, 96), [((0,), 1, True), ((1,), 2)], (2,), 112, [64, 112]),
        # not over an input that is needed again, nor over an output of the model
        ((64, 64, 64), [((0,), 1, True), ((1, 0), 2)], (2,), 192, [128, 192]),
        ((64, 64, 64), [((0,), 1), ((1,), 2, True)], (1, 2), 128, [128, 128]),
        # an addition over its first input, its second one apart
        ((64, 64, 64), [((0,), 1), ((1, 0), 2, True)], (2,), 128, [128, 128]),
        # scratch beside both
        ((64, 64), [((0,), 1, False, 40)], (1,), 176, [176]),
    ],
)
def test_a_plan(sizes, layers, outputs, arena, alive):
    model = tflite.Model(tensors(*sizes), (), (0,), outputs, 0)
    plan = plan_memory(model, [step(*entry) for entry in layers])
    assert (plan.arena, plan.alive) == (arena, alive)


def test_layers_in_place_keep_their_address():
    model = tflite.Model(tensors(32, 64, 64), (), (0,), (2,), 0)
    layers = [step((0,), 1), step((1,), 2, in_place=True)]
    plan = plan_memory(model, layers)
    assert plan.tensors == {0: 64, 1: 0, 2: 0}


def test_operator_peaks_name_the_layers():
    network = tflite.read(int8(conv_model))
    layers = lower(network, M4)
    plan = plan_memory(network, layers)
    peaks = operator_peaks(layers, plan)
    assert [name for name, _ in peaks] == [layer.name for layer in layers]
    assert max(size for _, size in peaks) <= plan.arena
    for layer, (_, size) in zip(layers, peaks, strict=True):
        given = max(tensor_bytes(network.tensors[i]) for i in (*layer.inputs, layer.y))
        assert size >= given + layer.scratch


def test_independent_layers_share_their_scratch():
    network = fc_model([fc_layer(4, 100, 0.2, 4, seed) for seed in range(3)])
    layers = lower(network, M4)
    plan = plan_memory(network, layers)
    assert plan.arena < 3 * (112 + 16) + 2 * 208
    assert all(offset + layers[0].scratch <= plan.arena for offset in plan.scratch)
