"""A Keras network as an ONNX graph, for the networks of the zoo: chains, images in NCHW there."""

import keras
import numpy as np
from keras import layers
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 9


class Graph:
    """Nodes in a row; `shape` is the Keras shape, without batch, that the last of them has made."""

    def __init__(self, shape):
        self.nodes, self.constants, self.shape, self.last = [], {}, shape, "x"
        self.flattened = None  # the image that a row of values was, height, width, channels

    def add(self, operator, *constants, **attributes):
        """One more node, whose other inputs are these arrays."""
        names = [f"{operator}{len(self.nodes)}_{index}" for index in range(len(constants))]
        self.constants.update(zip(names, constants, strict=True))
        output = f"y{len(self.nodes)}"
        inputs = [self.last, *names]
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        self.last = output


def from_keras(model: keras.Model) -> bytes:
    """The ONNX model of a chain of layers, batch 1, from "x" to "y".

    ValueError for a layer without a rule.
    """
    height_width_channels = model.input_shape[1:]
    graph = Graph(height_width_channels)
    for layer in model.layers[1:]:
        if type(layer) not in RULES:
            raise ValueError(f"{layer.name} is a {type(layer).__name__}, which has no rule here.")
        RULES[type(layer)](graph, layer)
        activation = getattr(layer, "activation", keras.activations.linear)
        if activation is keras.activations.relu:
            graph.add("Relu")
        graph.shape = layer.output.shape[1:]
    graph.nodes[-1].output[0] = "y"
    sizes = [1, height_width_channels[2], *height_width_channels[:2]]
    made = helper.make_graph(
        graph.nodes,
        model.name,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, *graph.shape])],
        [
            numpy_helper.from_array(np.ascontiguousarray(array, np.float32), name)
            for name, array in graph.constants.items()
        ],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION).SerializeToString()


def convolution(graph, layer):
    arrays = [layer.kernel.numpy().transpose(3, 2, 0, 1)]
    if layer.use_bias:
        arrays.append(layer.bias.numpy())
    graph.add("Conv", *arrays, group=layer.groups, **window(graph, layer, layer.kernel_size))


def pooling(operator):
    def rule(graph, layer):
        geometry = window(graph, layer, layer.pool_size)
        graph.add(operator, kernel_shape=list(layer.pool_size), **geometry)

    return rule


def window(graph, layer, size):
    """strides and pads; Keras' "same" has the odd pixel below and to the right."""
    pads = [0, 0, 0, 0]
    if layer.padding == "same":
        for axis in (0, 1):
            length, step = graph.shape[axis], layer.strides[axis]
            total = max((-(-length // step) - 1) * step + size[axis] - length, 0)
            pads[axis], pads[axis + 2] = total // 2, total - total // 2
    return {"strides": list(layer.strides), "pads": pads}


def normalisation(graph, layer):
    arrays = layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance
    graph.add("BatchNormalization", *(a.numpy() for a in arrays), epsilon=float(layer.epsilon))


def flatten(graph, layer):
    graph.flattened = graph.shape
    graph.add("Flatten")


def dense(graph, layer):
    kernel = layer.kernel.numpy()
    if graph.flattened:
        by_pixel = kernel.reshape(*graph.flattened, -1)
        kernel, graph.flattened = by_pixel.transpose(2, 0, 1, 3).reshape(kernel.shape), None
    graph.add("Gemm", kernel, layer.bias.numpy())


def average(graph, layer):
    graph.add("GlobalAveragePool")
    graph.add("Flatten")


RULES = {
    layers.Conv2D: convolution,
    layers.Dense: dense,
    layers.BatchNormalization: normalisation,
    layers.MaxPooling2D: pooling("MaxPool"),
    layers.AveragePooling2D: pooling("AveragePool"),
    layers.GlobalAveragePooling2D: average,
    layers.Flatten: flatten,
    layers.ReLU: lambda graph, layer: graph.add("Relu"),
    layers.Dropout: lambda graph, layer: None,
}
