"""FULLY_CONNECTED in float32: dense, or in groups where that is modelled to be faster.

Zeros are the message: a group is stored where a weight in it is not zero.
"""

import math

import numpy as np

from scalpel_tf.deploy import float_costs as costs
from scalpel_tf.deploy import float_formats as formats
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_geometry import Geometry
from scalpel_tf.deploy.float_params import LIMITS, bias_of, chosen, dense
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.plain_ops import operands
from scalpel_tf.deploy.tflite import Model, Operator


def fully_connected(
    model: Model, operator: Operator, symbol: str, constants: Constants, formats_of=None
) -> Layer:
    """FULLY_CONNECTED."""
    x, weights, bias, y = operands(model, operator)
    matrix = np.asarray(weights.data, np.float32)
    rows, cols = matrix.shape
    batch = math.prod(x.shape) // cols
    bias = bias_of(bias, rows)
    by_pixels = costs.dense(matrix, 1, batch)
    candidates = [(costs.dense_vector(matrix) if batch == 1 else by_pixels, 0)]
    candidates += [
        (costs.slices(matrix, width, batch), width) for width in (16, 8, 4) if cols >= width
    ]
    _, width = chosen(candidates, formats_of)
    if width:
        packed = formats.slices(matrix, bias, width)
        stored = packed.values.nbytes + packed.columns.nbytes
        text = _groups_fc(symbol, packed, width, cols, batch, operator, constants)
        call = "m->kernels->groups_fc(&{symbol}, {x}, {y});"
        density = _stored(matrix, width)
    else:
        packed = formats.dense(matrix, bias)
        stored, density = packed.weights.nbytes, 1.0
        pixels = np.arange(batch, dtype=np.int32)[None] * cols
        shape = Geometry(None, np.zeros(1, np.int32), cols, pixels, cols)
        text = dense(symbol, packed, shape, rows, operator, constants)
        call = "m->kernels->dense(&{symbol}, {x}, 0, {y});"
        if batch == 1:
            call = "m->kernels->dense_vector(&{symbol}, {x}, {y});"
    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name,
        kernel=f"groups of {width}" if width else "dense",
        inputs=(x.index,),
        y=y.index,
        constants=text,
        call=lambda inputs, y, _: call.format(symbol=symbol, x=inputs[0], y=y),
        macs=batch * matrix.size,
        bytes=stored + 4 * rows,
        bytes_dense=matrix.nbytes + 4 * rows,
        density=density,
    )


def _groups_fc(symbol, packed, width, cols, batch, operator, constants):
    low, high = LIMITS[operator.options["activation"]]
    return params(
        symbol,
        "scalpel_groups_fc",
        values=constants.add(packed.values),
        columns=constants.add(packed.columns),
        steps=constants.add(packed.steps),
        order=constants.add(packed.order),
        bias=constants.add(packed.bias),
        width=width,
        column_bytes=packed.columns.itemsize,
        slice_count=len(packed.steps) - 1,
        rows=len(packed.order),
        columns_of_x=cols,
        batch=batch,
        low=low,
        high=high,
    )


def _stored(matrix, width):
    counts = costs.group_counts(matrix, width)
    return float(counts.sum() / (len(matrix) * -(-matrix.shape[1] // width)))
