"""require_int8() on a real file with one thing broken, and the windows of its operators."""

import pytest
from ai_edge_litert import schema_py_generated as schema
from edited_tflite import edited, weights_of

from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.int8 import window


def retyped(tensor_of, kind):
    def change(tree, graph):
        tensor_of(graph).type = getattr(schema.TensorType, kind)
        tensor_of(graph).quantization = None

    return change


def conv_input(graph):
    return graph.tensors[graph.inputs[0]]


def conv_output(graph):
    return graph.tensors[graph.operators[0].outputs[0]]


def bias_of(graph):
    return graph.tensors[graph.operators[0].inputs[2]]


def with_scale(tensor_of, scale):
    def change(tree, graph):
        quantization = tensor_of(graph).quantization
        quantization.scale = [scale] * len(quantization.scale)

    return change


def without_scale(tensor_of):
    def change(tree, graph):
        tensor_of(graph).quantization = None

    return change


def with_zero_point(tensor_of, zero_point):
    def change(tree, graph):
        quantization = tensor_of(graph).quantization
        quantization.zeroPoint = [zero_point] * len(quantization.zeroPoint)

    return change


def with_option(operator, name, value):
    def change(tree, graph):
        setattr(graph.operators[operator].builtinOptions, name, value)

    return change


def with_shape(tensor_of, shape):
    def change(tree, graph):
        tensor_of(graph).shape = shape
        tensor_of(graph).shapeSignature = None

    return change


def output_of(operator):
    return lambda graph: graph.tensors[graph.operators[operator].outputs[0]]


def float_everywhere(tree, graph):
    for tensor in graph.tensors:
        if tensor.type == schema.TensorType.INT8 and tree.buffers[tensor.buffer].data is None:
            tensor.type = schema.TensorType.FLOAT32


def variable_weights(tree, graph):
    weights_of(graph).buffer = 0
    weights_of(graph).isVariable = True
    weights_of(graph).quantization = conv_input(graph).quantization


def per_tensor_asymmetric(tree, graph):
    quantization = weights_of(graph).quantization
    quantization.scale, quantization.zeroPoint = quantization.scale[:1], [3]


def short_bias(tree, graph):
    bias_of(graph).shape = [1, 3]
    bias_of(graph).quantization = None


def pool_on_a_constant(tree, graph):
    graph.operators[1].inputs = [graph.operators[0].inputs[1]]


def pool_of_two_outputs(tree, graph):
    graph.operators[1].outputs = [*graph.operators[1].outputs, len(graph.tensors)]
    graph.tensors.append(output_of(1)(graph))


@pytest.mark.parametrize(
    "change, sentence",
    [
        (float_everywhere, r"Operator 0 \(CONV_2D\) has int8 weights but float32 activations"),
        (retyped(conv_output, "INT16"), r"Operator 0 \(CONV_2D\) works on int16 activations"),
        (retyped(conv_output, "UINT8"), "works on uint8"),
        (retyped(output_of(1), "FLOAT32"), r"Operator 1 \(MAX_POOL_2D\) works in float32"),
        (without_scale(conv_output), "has 0 scales"),
        (with_scale(conv_output, float("nan")), "not a positive number"),
        (with_scale(weights_of, float("inf")), "not a positive number"),
        (with_scale(weights_of, 0.0), "not a positive number"),
        (with_scale(weights_of, -1.0), "not a positive number"),
        (with_zero_point(conv_output, 128), "has the zero point 128"),
        (with_zero_point(weights_of, 1), "asymmetric weights"),
        (per_tensor_asymmetric, "asymmetric weights"),
        (without_scale(weights_of), "without a scale"),
        (without_scale(bias_of), "bias without the scale"),
        (short_bias, "bias without the scale"),
        (with_scale(bias_of, 10.0), "bias whose scale"),
        (with_scale(bias_of, float("nan")), "bias whose scale"),
        (with_zero_point(bias_of, 1), "bias without the scale"),
        (variable_weights, "constant int8 weights"),
        (with_option(3, "weightsFormat", 1), "shuffled"),
        (with_option(0, "strideH", 0), "positive size"),
        (with_option(0, "strideW", 1), "cannot make"),
        (with_option(0, "padding", 7), "SAME or VALID"),
        (with_option(0, "dilationHFactor", 2**30), "too large"),
        (with_option(1, "filterHeight", 6), "does not fit"),
        (with_option(1, "filterWidth", 2), "cannot make"),
        (with_shape(conv_input, [2, 9, 7, 2]), "batch above 1"),
        (with_shape(conv_input, [1, 9, 7, 3]), "cannot make"),
        (with_shape(conv_output, [1, 5, 4, 4]), "cannot make"),
        (with_shape(output_of(2), [1, 25]), "cannot make"),
        (with_shape(output_of(3), [1, 5]), "cannot make"),
        (with_shape(output_of(4), [4, 1]), "cannot make"),
        (with_scale(output_of(4), 0.5), "output scale of 1/256"),
        (pool_on_a_constant, "works on a constant"),
        (pool_of_two_outputs, "one output"),
    ],
)
def test_require_int8_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        tflite.require_int8(tflite.read(edited(change)))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "size, filter, stride, dilation, padding, expected",
    [
        (5, 3, 1, 1, "VALID", (3, 0)),
        (5, 3, 2, 1, "VALID", (2, 0)),
        (5, 3, 1, 2, "VALID", (1, 0)),
        (5, 3, 1, 1, "SAME", (5, 1)),
        (6, 3, 2, 1, "SAME", (3, 0)),  # one zero in all: it goes behind
        (5, 3, 2, 1, "SAME", (3, 1)),
        (5, 3, 1, 2, "SAME", (5, 2)),
        (5, 1, 3, 1, "SAME", (2, 0)),  # strides past the end
        (2, 5, 1, 1, "SAME", (2, 2)),
    ],
)
def test_window(size, filter, stride, dilation, padding, expected):
    assert window(size, filter, stride, dilation, padding) == expected
