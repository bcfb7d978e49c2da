"""Operators whose constants or scales make no sense are refused in one sentence."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from operator_models import (
    elementwise,
    integers,
    mean,
    moved,
    pad_v2,
    rescale,
    single,
    strands,
    strided_slice,
    tensor,
)

from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.shapes import reduction

SHAPE, SCALED = (1, 4, 6), ((1, 4, 6), 0.1, 3)


def constant():
    return tensor(SHAPE, 0.1, 3), np.zeros(SHAPE, np.int8)


def sum_of_constants():
    """Beside an operator that has an input."""
    y = tensor(SHAPE, 0.1, 3)
    total = ("ADD", [constant(), constant()], y, schema.AddOptionsT(), 2)
    return strands([[total], [("RELU", [tensor(SHAPE, 0.1, 3)], tensor(SHAPE, 0.1, 3), None, 2)]])


def constant_joined():
    operands = [tensor(SHAPE, 0.1, 3), constant()]
    options = schema.ConcatenationOptionsT(axis=1)
    return single("CONCATENATION", operands, tensor((1, 8, 6), 0.1, 3), options)


def with_variable(name):
    """A transposition by an order that is an activation."""
    order = tensor((1, 3), None, kind="INT32")
    return single(name, [tensor(SHAPE, 0.1, 3), order], tensor(SHAPE, 0.1, 3))


def pad_by(value):
    """PADV2 with anything as its value."""
    operands = [tensor(SHAPE, 0.1, 3), integers([[0, 0], [1, 0], [0, 0]]), value]
    return single("PADV2", operands, tensor((1, 5, 6), 0.1, 3), schema.PadV2OptionsT())


JOINED_ELSEWHERE = single(
    "CONCATENATION",
    [tensor(SHAPE, 0.1, 3), tensor(SHAPE, 0.2, 3)],
    tensor((1, 8, 6), 0.1, 3),
    schema.ConcatenationOptionsT(axis=1),
)
JOINED_AND_CUT = single(
    "CONCATENATION",
    [tensor(SHAPE, 0.1, 3), tensor(SHAPE, 0.1, 3)],
    tensor((1, 8, 6), 0.1, 3),
    schema.ConcatenationOptionsT(axis=1, fusedActivationFunction=1),
)


@pytest.mark.parametrize(
    "data, sentence",
    [
        (
            elementwise("ADD", SCALED, ((1, 4, 5), 0.1, 3), SCALED),
            "cannot broadcast .1, 4, 6. and .1, 4, 5.",
        ),
        (
            elementwise("MUL", SCALED, SCALED, ((1, 6, 4), 0.1, 3)),
            "cannot make .1, 6, 4.; it makes",
        ),
        (elementwise("ADD", SCALED, SCALED, (SHAPE, 1e-8, 3)), "too small for its inputs'"),
        (elementwise("SUB", SCALED, SCALED, (SHAPE, 1e-8, 3)), "too small for its inputs'"),
        (elementwise("ADD", SCALED, ((), [0.1, 0.2], 3, 1), SCALED), "2 scales"),
        (sum_of_constants(), "works on a constant"),
        (constant_joined(), "joins activations"),
        (JOINED_ELSEWHERE, "activations of one scale only"),
        (JOINED_AND_CUT, "fused activation"),
        (moved("PAD", SHAPE, SHAPE, [[0, 0], [-1, 1], [0, 0]]), "pads .1, 4, 6. by"),
        (moved("PAD", SHAPE, SHAPE, [[0, 0], [0, 0]]), "pads .1, 4, 6. by"),
        (moved("PAD", SHAPE, SHAPE, [[0, 0], [0, 1], [0, 0]]), "cannot make"),
        (pad_by(tensor((), 0.1, 3)), "one constant to pad with"),
        (pad_by((tensor((2,), 0.1, 3), np.zeros(2, np.int8))), "one constant to pad with"),
        (moved("TRANSPOSE", SHAPE, SHAPE, [0, 1, 1]), "permutes"),
        (moved("TRANSPOSE", SHAPE, SHAPE, [0, 1]), "permutes"),
        (moved("TILE", SHAPE, SHAPE, [1, 0, 2]), "repeats"),
        (moved("SLICE", SHAPE, (1, 4, 2), [0, 0, 5], [1, 4, 2]), "takes"),
        (moved("SLICE", SHAPE, (1, 4, 6), [0, -1, 0], [1, 4, 6]), "takes"),
        (strided_slice(SHAPE, SHAPE, [0, 0, 0], [1, 4, 6], [1, 0, 1]), "takes"),
        (strided_slice(SHAPE, SHAPE, [0, 3, 0], [1, 2, 6], [1, 1, 1]), "takes"),
        (
            strided_slice(SHAPE, SHAPE, [0, 0, 0], [1, 4, 6], [1, 1, 1], ellipsisMask=1),
            "has an ellipsis",
        ),
        (mean((1, 4, 5, 6), [1, 3]), "no neighbours"),
        (mean((1, 4, 6), [5]), "reduces the axes"),
        (with_variable("TRANSPOSE"), "int32 activations|constant integers"),
        (rescale("LOGISTIC", (0.1, 0, "INT8"), (0.1, 0, "INT8")), "1/256 and a zero point of -128"),
        (rescale("TANH", (0.1, 0, "INT8"), (1 / 128, 1, "INT8")), "1/128 and a zero point of 0"),
        (rescale("HARD_SWISH", (1.0, 0, "INT8"), (0.001, 0, "INT8")), "below 1/128 of its input's"),
    ],
)
def test_refuses(data, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        tflite.require_int8(tflite.read(data))
    assert "\n" not in str(refused.value)


def test_accepts_what_is_whole():
    for data in (pad_v2(SHAPE, [[0, 0], [1, 0], [0, 2]], 5), mean((1, 4, 5, 6), [1, 2])):
        tflite.require_int8(tflite.read(data))


@pytest.mark.parametrize(
    "shape, axes, expected",
    [
        ((1, 4, 5, 6), [1, 2], (1, 20, 6)),
        ((1, 4, 5, 6), [-2, 1], (1, 20, 6)),
        ((1, 4, 5, 6), [3], (20, 6, 1)),
        ((1, 4, 1, 6), [1, 3], (1, 24, 1)),  # the axis between them has one place
        ((1, 4, 5, 1), [3], (1, 1, 1)),
        ((2, 4, 5), [0, 1, 2], (1, 40, 1)),
    ],
)
def test_reduction(shape, axes, expected):
    outer, reduced, inner = reduction(shape, np.array(axes))
    kept = int(np.prod(shape)) // expected[1]
    assert reduced == expected[1] and outer * inner == kept
    if reduced > 1:
        assert (outer, reduced, inner) == expected
