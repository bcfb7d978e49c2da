"""FULLY_CONNECTED and CONV_2D in float32: dense, or in groups where that is modelled to be faster.

Zeros are the message: a group is stored where a weight in it is not zero.
"""

import math

import numpy as np

from scalpel_tf.deploy import float_formats as formats
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_geometry import Geometry, geometry
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.plain_ops import operands
from scalpel_tf.deploy.tflite import Model, Operator

LIMITS = {
    "NONE": ("-INFINITY", "INFINITY"),
    "RELU": ("0", "INFINITY"),
    "RELU6": ("0", "6"),
    "RELU_N1_TO_1": ("-1", "1"),
}
# Modelled cycles of a core that starts two FMAs of eight lanes a cycle, good enough to choose.
DENSE_LANES = 14.5  # multiplications a cycle
GROUP = 0.56  # cycles of eight weights of a group and one pixel
ROW = 4.5  # to add up the lanes of one output of a convolution
SLICE = 30  # the same, of eight outputs of a vector
STEPS = {4: 10.5, 8: 8.5, 16: 8.4}  # of eight times eight weights of a slice
BYTES = 12  # of weights a cycle, from behind the second-level cache
CACHE = 1 << 20
WINDOW = 8  # weights of a group of a convolution; groups of 16 are two of them


def fully_connected(
    model: Model, operator: Operator, symbol: str, constants: Constants, formats_of=None
) -> Layer:
    """FULLY_CONNECTED."""
    x, weights, bias, y = operands(model, operator)
    matrix = np.asarray(weights.data, np.float32)
    rows, cols = matrix.shape
    batch = math.prod(x.shape) // cols
    bias = _bias(bias, rows)
    candidates = [(_fc_dense_cycles(matrix, batch), 0)]
    candidates += [
        (_slices_cycles(matrix, width, batch), width) for width in (16, 8, 4) if cols >= width
    ]
    width = _chosen(candidates, formats_of)
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
        text = _dense(symbol, packed, shape, rows, operator, constants)
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


def convolution(
    model: Model, operator: Operator, symbol: str, constants: Constants, formats_of=None
) -> Layer:
    """CONV_2D, in groups or not."""
    x, weights, bias, y = operands(model, operator)
    name = layer_name(symbol, weights, y)
    data = np.asarray(weights.data, np.float32)
    return convolve(operator, x, data, bias, y, symbol, name, constants, formats_of)


def convolve(operator, x, weights, bias, y, symbol, name, constants, formats_of=None) -> Layer:
    """A convolution with (out, height, width, channels seen) weights."""
    rows, *filter, seen = weights.shape
    conv_groups = x.shape[3] // seen
    shape = geometry(operator, x, filter, seen)
    matrix, bias = weights.reshape(rows, -1), _bias(bias, rows)
    runs = weights.reshape(rows, len(shape.taps), shape.run)
    pixels = shape.pixels.size
    candidates = [(_dense_cycles(matrix, conv_groups, pixels), 0)]
    strips, length = shape.strips()
    if shape.run >= WINDOW and np.count_nonzero(matrix) < 0.8 * matrix.size:
        packed = formats.windows(runs, shape.taps, WINDOW)
        cost = len(packed.values) * GROUP + rows * ROW
        candidates.append((cost * len(strips) * length, WINDOW))
    width = _chosen(candidates, formats_of)
    if width:
        first = np.repeat(np.arange(rows) // (rows // conv_groups) * seen, np.diff(packed.rows))
        text = _groups_conv(symbol, packed, first, bias, strips, length, shape, operator, constants)
        kernel, stored = "groups_conv", packed.values.nbytes + packed.columns.nbytes
        density = packed.values.size / matrix.size
    else:
        packed = formats.dense(matrix, bias, conv_groups, seen)
        text = _dense(symbol, packed, shape, rows, operator, constants)
        kernel, stored, density = "dense", packed.weights.nbytes, 1.0
    return Layer(
        name=name,
        op=operator.name,
        kernel=f"groups of {width}" if width else "dense",
        inputs=(x.index,),
        y=y.index,
        constants=text,
        call=lambda inputs, y, scratch: (
            f"m->kernels->{kernel}(&{symbol}, {inputs[0]}, (float *)({scratch}), {y});"
        ),
        scratch=shape.scratch,
        macs=pixels * matrix.size,
        bytes=stored + 4 * rows,
        bytes_dense=matrix.nbytes + 4 * rows,
        density=min(density, 1.0),
    )


def border(symbol: str, shape: Geometry) -> tuple[str, str]:
    """(definition of the scalpel_border, expression of its address)."""
    if shape.border is None:
        return "", "0"
    numbers = ", ".join(map(str, shape.border))
    return f"static const scalpel_border {symbol}_border = {{{numbers}}};\n", f"&{symbol}_border"


def _dense(symbol, packed, shape, channels, operator, constants):
    depth = 1 + shape.run * len(shape.taps)
    ends = np.cumsum([0, *(panel.width * depth for panel in packed.panels)])
    rows = "".join(
        f"    {{{at}, {p.first}, {p.channels}, {p.width}, {p.x}}},\n"
        for at, p in zip(ends, packed.panels, strict=False)
    )
    text, address = border(symbol, shape)
    text += f"static const scalpel_panel {symbol}_panels[] = {{\n{rows}}};\n"
    low, high = LIMITS[operator.options["activation"]]
    return text + params(
        symbol,
        "scalpel_dense",
        weights=constants.add(packed.weights),
        panels=f"{symbol}_panels",
        taps=constants.add(shape.taps),
        pixels=constants.add(shape.pixels),
        border=address,
        panel_count=len(packed.panels),
        tap_count=len(shape.taps),
        run=shape.run,
        pixel_count=shape.pixels.size,
        channels=channels,
        low=low,
        high=high,
    )


def _groups_conv(symbol, packed, first, bias, strips, length, shape, operator, constants):
    text, address = border(symbol, shape)
    low, high = LIMITS[operator.options["activation"]]
    return text + params(
        symbol,
        "scalpel_groups_conv",
        values=constants.add(packed.values),
        columns=constants.add((packed.columns + first).astype(np.int32)),
        rows=constants.add(packed.rows),
        bias=constants.add(bias),
        strips=constants.add(strips),
        border=address,
        strip_count=len(strips),
        strip=length,
        step=shape.step,
        channels=len(bias),
        low=low,
        high=high,
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


def _bias(bias, rows):
    return np.zeros(rows, np.float32) if bias is None else np.asarray(bias.data, np.float32).ravel()


def _chosen(candidates, formats_of):
    """The width of the fastest candidate, 0 for dense; formats_of: width -> may it be taken."""
    allowed = [c for c in candidates if formats_of is None or formats_of(c[1])]
    return min(allowed or candidates[:1])[1]


def _fc_dense_cycles(matrix, batch):
    if batch > 1:
        return _dense_cycles(matrix, 1, batch)
    lanes = matrix.shape[1] * sum(formats.panel_widths(len(matrix)))
    return max(lanes / DENSE_LANES, _bytes_cycles(4 * lanes)) + 10


def _dense_cycles(matrix, groups, pixels):
    lanes = groups * sum(formats.panel_widths(len(matrix) // groups))
    return max(matrix.shape[1] * lanes * pixels / DENSE_LANES, _bytes_cycles(4 * matrix.size))


def _slices_cycles(matrix, width, batch):
    per_step, parts = max(8 // width, 1), max(width // 8, 1)
    steps = -(-np.sort(_group_counts(matrix, width))[::-1] // per_step)
    steps = int(steps[::8].sum())
    compute = batch * (steps * parts * STEPS[width] + -(-len(matrix) // 8) * SLICE)
    return max(compute, _bytes_cycles(steps * 8 * (32 * parts + 2 * per_step)))


def _bytes_cycles(size):
    return size / BYTES if size > CACHE else 0


def _group_counts(matrix, width):
    starts = np.arange(0, matrix.shape[1], width)
    return np.logical_or.reduceat(matrix != 0, starts, axis=1).sum(1)


def _stored(matrix, width):
    return float(_group_counts(matrix, width).sum() / (len(matrix) * -(-matrix.shape[1] // width)))
