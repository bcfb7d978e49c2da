"""Training in bfloat16, several times as fast where a CPU has instructions for it (AMX).

Weights, the optimizer and the last layer stay float32 (Micikevicius et al., Mixed Precision
Training, ICLR 2018). Keras's batch normalisation, several passes over its input, is TensorFlow's
fused one meanwhile, and nodes are filled up with zeros to multiples that oneDNN has fast kernels
for: a filter of zeros that feeds kernels of zeros gets no gradient.
"""

import math
from contextlib import contextmanager
from unittest.mock import patch

import keras
import numpy as np
import tensorflow as tf

MULTIPLE = 16


@contextmanager
def computing(model):
    """While it lasts, `model` computes in bfloat16, all but its last layer."""
    layers = [getattr(layer, "layer", layer) for layer in model.layers[:-1]]
    before = [layer.dtype_policy for layer in layers]
    for layer in layers:
        layer.dtype_policy = "mixed_bfloat16"
    try:
        with patch.object(keras.layers.BatchNormalization, "call", fused(layers)):
            yield
    finally:
        for layer, policy in zip(layers, before, strict=True):
            layer.dtype_policy = policy


def fused(layers):
    """BatchNormalization.call, for those layers of one pass over its input in training."""
    plain = keras.layers.BatchNormalization.call

    def call(self, inputs, training=None, mask=None):
        if not training or not any(self is layer for layer in layers):
            return plain(self, inputs, training=training, mask=mask)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=True,
        )
        count = tf.size(inputs) // inputs.shape[-1]  # it divides by one less, Keras by all
        variance *= tf.cast(count - 1, variance.dtype) / tf.cast(count, variance.dtype)
        for old, now in ((self.moving_mean, mean), (self.moving_variance, variance)):
            old.assign(old * self.momentum + now * (1 - self.momentum))
        return outputs

    return call


def filled(nodes):
    """Nodes of each layer, up to the next multiple."""
    return {name: -(-count // MULTIPLE) * MULTIPLE for name, count in nodes.items()}


def copy(source, target):
    """Gives `target` the weights of `source`, the same chain with more nodes or fewer.

    What `source` lacks is zero, what `target` lacks is left out.
    """
    for (weight, shape), (other, room) in zip(cubes(source), cubes(target), strict=True):
        array = np.full(room, float(weight.name == "moving_variance"), np.float32)
        corner = tuple(slice(min(pair)) for pair in zip(shape, room, strict=True))
        array[corner] = weight.numpy().reshape(shape)[corner]
        other.assign(array.reshape(other.shape))


def cubes(model):
    """(weight, positions by inputs by nodes) of each weight of a chain; 1 by 1 by n of a vector."""
    inputs = model.input_shape[-1]
    for layer in model.layers:
        for weight in layer.weights:
            nodes, rows = weight.shape[-1], 1 if len(weight.shape) == 1 else inputs
            yield weight, (math.prod(weight.shape) // (rows * nodes), rows, nodes)
        if getattr(layer, "kernel", None) is not None:
            inputs = layer.kernel.shape[-1]
