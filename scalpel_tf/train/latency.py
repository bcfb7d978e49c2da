"""How long a Keras model takes on a CPU: modelled, never to be quoted."""

import keras
import numpy as np

from scalpel_tf.core import cpu_cost
from scalpel_tf.core.layout import to_matrix
from scalpel_tf.core.targets import find_target
from scalpel_tf.train import graph
from scalpel_tf.train.layers import kernels


def modelled_seconds(model: keras.Model, target: str) -> float:
    """Modelled seconds of one example on one thread of `target`: the sum over its kernels.

    Dense and convolution kernels count, as products with dense matrices (core/cpu_cost.py); what
    lies between them does not. Raises ValueError for a target that is no CPU of that model, and
    for a network without kernels.
    """
    processor = find_target(target)
    network = graph.read(model)
    seconds = 0.0
    for call in network.calls:
        for (variable, kind), positions in zip(_products(call), call.macs, strict=False):
            rows, taps, inputs = to_matrix(np.empty(variable.shape, np.bool_), kind).shape
            seconds += cpu_cost.dense_seconds(rows, taps * inputs, positions, target=processor)
    if not seconds:
        raise ValueError(f"Model {model.name!r} has no kernels, so nothing of it is modelled.")
    return seconds


def _products(call):
    return [(variable, kind) for variable, kind in kernels(call.layer) if kind != "embedding"]
