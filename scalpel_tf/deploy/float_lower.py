"""Operators of a float32 model -> C: constants and a call of a kernel of custom_ops/native."""

from scalpel_tf.deploy import float_ops
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_convolution import convolution
from scalpel_tf.deploy.float_matrix import fully_connected
from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.layer import Layer
from scalpel_tf.deploy.tflite import Model

MATRICES = {"FULLY_CONNECTED": fully_connected, "CONV_2D": convolution}


def lower(model: Model, constants: Constants, *, formats=None) -> list[Layer]:
    """The layers of a model that `require_float32` accepts, in order; RESHAPE vanishes.

    formats: which widths of groups (0 is dense) the cost model may choose from, a function of the
    width; all by default.
    """
    layers = []
    for operator in model.operators:
        if operator.name in ALIASES:
            continue
        symbol = f"layer_{len(layers)}"
        if operator.name in MATRICES:
            lower_matrix = MATRICES[operator.name]
            layers.append(lower_matrix(model, operator, symbol, constants, formats))
        else:
            layers.append(float_ops.LOWER[operator.name](model, operator, symbol, constants))
    return layers
