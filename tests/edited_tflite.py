"""A small int8 file and a way to break one thing in it."""

import functools

import flatbuffers
import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scalpel_tf.deploy import convert


@functools.cache
def small_model():
    """Bytes of conv (SAME, stride 2, RELU) -> max pool -> reshape -> dense -> softmax."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((9, 7, 2)),
            layers.Conv2D(3, (3, 2), strides=2, padding="same", activation="relu"),
            layers.MaxPooling2D((2, 3), strides=1),
            layers.Flatten(),
            layers.Dense(4),
            layers.Softmax(),
        ]
    )
    samples = np.random.default_rng(0).normal(size=(20, 9, 7, 2)).astype(np.float32)
    return convert.convert(model, samples)


def edited(change):
    """The small model with `change(tree, subgraph)` applied to its object tree."""
    data = small_model()
    tree = schema.ModelT.InitFromPackedBuf(data, 0)
    change(tree, tree.subgraphs[0])
    builder = flatbuffers.Builder(len(data))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def weights_of(graph):
    """The convolution's weights."""
    return graph.tensors[graph.operators[0].inputs[1]]
