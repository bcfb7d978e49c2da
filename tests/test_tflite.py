"""read() on a real file, and on that file with one thing broken."""

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edited_tflite import edited, small_model, weights_of

from scalpel_tf.deploy import tflite


def test_read_gives_operators_and_tensors():
    data = small_model()
    model = tflite.read(data)
    conv, pool, reshape, dense, softmax = model.operators
    assert (conv.name, dense.name) == ("CONV_2D", "FULLY_CONNECTED")
    assert conv.options == {
        "padding": "SAME",
        "stride": (2, 2),
        "dilation": (1, 1),
        "activation": "RELU",
    }
    assert pool.options["filter"] == (2, 3) and pool.options["padding"] == "VALID"
    assert (reshape.name, reshape.options, softmax.options) == ("RESHAPE", {}, {"beta": 1.0})
    assert dense.options["weights_format"] == "DEFAULT"
    weights = model.tensors[conv.inputs[1]]
    assert (weights.shape, weights.dtype, weights.axis) == ((3, 3, 2, 2), np.int8, 0)
    assert weights.data.shape == weights.shape and not weights.data.flags.writeable
    assert len(weights.scale) == 3 and weights.zero_point.tolist() == [0, 0, 0]
    result = model.tensors[softmax.outputs[0]]
    assert (result.scale.tolist(), result.zero_point.tolist()) == ([1 / 256], [-128])
    assert result.data is None and model.outputs == softmax.outputs
    assert model.tensors[model.inputs[0]].shape == (1, 9, 7, 2)
    assert model.size == len(data)
    tflite.require_int8(model)


def test_an_unchanged_tree_is_accepted():
    tflite.require_int8(tflite.read(edited(lambda tree, graph: None)))


def two_subgraphs(tree, graph):
    tree.subgraphs.append(graph)


def outside_buffer(tree, graph):
    tree.buffers[1].offset = 4096


def small_buffer(tree, graph):
    buffer = tree.buffers[weights_of(graph).buffer]
    buffer.data = buffer.data[:-1]


def unknown_buffer(tree, graph):
    weights_of(graph).buffer = 99


def unknown_tensor(tree, graph):
    graph.operators[0].inputs = [99]


def absent_output(tree, graph):
    graph.operators[0].outputs = [-1]


def unknown_code(tree, graph):
    graph.operators[0].opcodeIndex = 99


def no_options(tree, graph):
    graph.operators[0].builtinOptions = None
    graph.operators[0].builtinOptionsType = 0


def dynamic_height(tree, graph):
    graph.tensors[graph.inputs[0]].shapeSignature = [1, -1, 7, 2]


def other_signature(tree, graph):
    graph.tensors[graph.inputs[0]].shapeSignature = [1, 9, 14]


def zero_height(tree, graph):
    graph.tensors[graph.inputs[0]].shape = [1, 0, 7, 2]


def huge(tree, graph):
    graph.tensors[graph.inputs[0]].shape = [1, 2**31 - 1, 2**31 - 1, 2**31 - 1]


def many_dimensions(tree, graph):
    graph.tensors[graph.inputs[0]].shape = [1] * 9


def odd_type(tree, graph):
    weights_of(graph).type = schema.TensorType.INT4


def sparse(tree, graph):
    weights_of(graph).sparsity = schema.SparsityParametersT()


def missing_scale(tree, graph):
    weights_of(graph).quantization.scale = weights_of(graph).quantization.scale[:2]


def wrong_axis(tree, graph):
    weights_of(graph).quantization.quantizedDimension = 3


def backwards(tree, graph):
    graph.operators.reverse()


def twice(tree, graph):
    graph.operators.insert(1, graph.operators[0])


def no_operators(tree, graph):
    graph.operators = []


def constant_output(tree, graph):
    graph.outputs = [graph.operators[0].inputs[1]]


@pytest.mark.parametrize(
    "change, sentence",
    [
        (two_subgraphs, "this one has 2"),
        (outside_buffer, "Buffer 1 lies outside"),
        (small_buffer, "needs 36 bytes; its buffer has 35"),
        (unknown_buffer, "names buffer 99"),
        (unknown_tensor, "names tensor 99"),
        (absent_output, "names tensor -1"),
        (unknown_code, "Operator 0 names code 99"),
        (no_options, r"Operator 0 \(CONV_2D\) does not carry Conv2DOptions"),
        (dynamic_height, "no static shape"),
        (other_signature, "4 dimensions, 3 in its signature"),
        (zero_height, "no static shape"),
        (huge, "larger than 2 GiB"),
        (many_dimensions, "9 dimensions"),
        (odd_type, "type INT4"),
        (sparse, "sparse encoding"),
        (missing_scale, "2 scales but 3 zero points"),
        (wrong_axis, "3 scales along axis 3"),
        (backwards, "before it is made"),
        (twice, "a second time"),
        (no_operators, "No operator makes"),
        (constant_output, "No operator makes"),
    ],
)
def test_read_refuses(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        tflite.read(edited(change))


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\0\0\0\0TFL", b"\xff" * 4 + b"TFL3" + b"\xff" * 9]
)
def test_read_refuses_garbage(content):
    with pytest.raises(ValueError, match="tflite"):
        tflite.read(content)


def test_read_refuses_every_truncation():
    data = small_model()
    for size in range(0, len(data) - 1, 97):
        with pytest.raises(ValueError):
            tflite.read(data[:size])


def bomb(tensors, name_length):
    """A file whose every tensor is one and the same table with a long name."""
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("x" * name_length)
    schema.TensorStart(builder)
    schema.TensorAddName(builder, name)
    tensor = schema.TensorEnd(builder)
    schema.SubGraphStartTensorsVector(builder, tensors)
    for _ in range(tensors):
        builder.PrependUOffsetTRelative(tensor)
    vector = builder.EndVector()
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, vector)
    graph = schema.SubGraphEnd(builder)
    schema.BufferStart(builder)
    buffer = schema.BufferEnd(builder)
    schema.ModelStartSubgraphsVector(builder, 1)
    builder.PrependUOffsetTRelative(graph)
    graphs = builder.EndVector()
    schema.ModelStartBuffersVector(builder, 1)
    builder.PrependUOffsetTRelative(buffer)
    buffers = builder.EndVector()
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize("tensors, sentence", [(1, "at least one input"), (4000, "larger than")])
def test_one_table_named_many_times_runs_out_of_budget(tensors, sentence):
    with pytest.raises(ValueError, match=sentence):
        tflite.read(bomb(tensors, 2000))


@pytest.mark.parametrize("signature", [[-1, 9, 7, 2], [1, 9, 7, 2]])
def test_a_dynamic_batch_is_read_as_one(signature):
    def change(tree, graph):
        graph.tensors[graph.inputs[0]].shapeSignature = signature

    assert tflite.read(edited(change)).tensors[0].shape == (1, 9, 7, 2)


def test_custom_operators_go_by_their_code():
    def change(code):
        def apply(tree, graph):
            softmax = tree.operatorCodes[graph.operators[-1].opcodeIndex]
            softmax.deprecatedBuiltinCode = softmax.builtinCode = schema.BuiltinOperator.CUSTOM
            softmax.customCode = code

        return apply

    assert tflite.read(edited(change("Mine"))).operators[-1].name == "Mine"
    assert tflite.read(edited(change("RELU"))).operators[-1].name == "CUSTOM RELU"
