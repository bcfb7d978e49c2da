"""CONV_2D in float32: dense, by tiles, or in groups, whichever is modelled to be the fastest.

Zeros are the message: a group is stored where a weight in it is not zero.
"""

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy import float_costs as costs
from scalpel_tf.deploy import float_formats as formats
from scalpel_tf.deploy import float_winograd as winograd
from scalpel_tf.deploy import float_winograd_lines as winograd_lines
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_geometry import geometry
from scalpel_tf.deploy.float_params import LIMITS, bias_of, border, chosen, dense
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.plain_ops import operands
from scalpel_tf.deploy.tflite import Model, Operator

TILES, LINES = "winograd 2x2", "winograd 1x4"  # kernels
WINDOW = 8  # weights of a group; groups of 16 are two of them
SPARSE = 0.8  # of the weights; with more, groups are not looked for


@dataclass(frozen=True)
class Form:
    """function: of the kernels.  scratch, stored: bytes, the latter without biases."""

    name: str
    function: str
    constants: str
    scratch: int
    stored: int
    density: float = 1.0


def convolution(
    model: Model, operator: Operator, symbol: str, constants: Constants, formats_of=None
) -> Layer:
    """CONV_2D."""
    x, weights, bias, y = operands(model, operator)
    name = layer_name(symbol, weights, y)
    data = np.asarray(weights.data, np.float32)
    return convolve(operator, x, data, bias, y, symbol, name, constants, formats_of)


def convolve(operator, x, weights, bias, y, symbol, name, constants, formats_of=None) -> Layer:
    """A convolution with (out, height, width, channels seen) weights."""
    rows, seen = len(weights), weights.shape[3]
    groups = x.shape[3] // seen
    shape = geometry(operator, x, weights.shape[1:3], seen)
    matrix, bias = weights.reshape(rows, -1), bias_of(bias, rows)
    given = symbol, weights, bias, shape, groups, operator, constants
    candidates = [(costs.dense(matrix, groups, shape.pixels.size), 0, lambda: _dense(*given))]
    if winograd.fits(operator.options, weights.shape[1:3], shape):
        tiles = winograd.tiles(shape, x.shape[3], weights.shape[1])
        count, vectors = len(tiles.tiles), -(-x.shape[3] // 16)
        cycles = costs.tiles(rows, seen, groups, tiles.size**2, count, count * vectors)
        candidates.append((cycles, 0, lambda: _by_tiles(*given, tiles)))
    if winograd_lines.fits(operator.options, weights.shape[1:3], groups, shape):
        lines = winograd_lines.lines(shape, seen, weights.shape[1])
        count, vectors = len(lines.tiles) * len(shape.pixels), -(-seen // 16)
        inputs = len(lines.tiles) * lines.lines * vectors
        cycles = costs.tiles(rows, weights.shape[1] * seen, 1, lines.size, count, inputs)
        candidates.append((cycles, 0, lambda: _by_lines(*given, lines)))
    if shape.run >= WINDOW and np.count_nonzero(matrix) < SPARSE * matrix.size:
        runs = weights.reshape(rows, len(shape.taps), shape.run)
        packed = formats.windows(runs, shape.taps, WINDOW)
        strips, length = shape.strips()
        cycles = costs.windows(len(packed.values), rows, len(strips) * length)
        candidates.append((cycles, WINDOW, lambda: _groups(*given, packed, strips, length)))
    form = chosen(candidates, formats_of)[2]()
    return Layer(
        name=name,
        op=operator.name,
        kernel=form.name,
        inputs=(x.index,),
        y=y.index,
        constants=form.constants,
        call=lambda inputs, y, scratch: (
            f"m->kernels->{form.function}(&{symbol}, {inputs[0]}, (float *)({scratch}), {y});"
        ),
        scratch=form.scratch,
        macs=shape.pixels.size * matrix.size,
        bytes=form.stored + 4 * rows,
        bytes_dense=matrix.nbytes + 4 * rows,
        density=form.density,
    )


def products(kernel: str | None, filter: int) -> float:
    """Multiplications for each multiply-accumulate of a layer with filters of so many taps along
    each axis, by the name of its kernel; without those that bring tiles to their points."""
    if kernel == TILES:
        return ((filter + winograd.OUTPUTS - 1) / (winograd.OUTPUTS * filter)) ** 2
    if kernel == LINES:
        return (filter + winograd_lines.OUTPUTS - 1) / (winograd_lines.OUTPUTS * filter)
    return 1.0


def _dense(symbol, weights, bias, shape, groups, operator, constants):
    packed = formats.dense(weights.reshape(len(weights), -1), bias, groups, weights.shape[3])
    text = dense(symbol, packed, shape, len(weights), operator, constants)
    return Form("dense", "dense", text, shape.scratch, packed.weights.nbytes)


def _by_tiles(symbol, weights, bias, shape, groups, operator, constants, tiles):
    packed = winograd.weights(weights, bias, groups)
    text = winograd.definition(symbol, packed, tiles, weights, shape, operator, constants)
    scratch = 4 * (tiles.padded + tiles.scratch)
    return Form(TILES, "winograd", text, scratch, packed.weights.nbytes)


def _by_lines(symbol, weights, bias, shape, groups, operator, constants, lines):
    packed = winograd_lines.weights(weights, bias)
    text = winograd_lines.definition(symbol, packed, lines, weights, shape, operator, constants)
    scratch = 4 * (lines.padded + lines.scratch)
    return Form(LINES, "winograd_lines", text, scratch, packed.weights.nbytes)


def _groups(symbol, weights, bias, shape, groups, operator, constants, packed, strips, length):
    rows, seen = len(weights), weights.shape[3]
    first = np.repeat(np.arange(rows) // (rows // groups) * seen, np.diff(packed.rows))
    text, address = border(symbol, shape)
    low, high = LIMITS[operator.options["activation"]]
    text += params(
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
        channels=rows,
        low=low,
        high=high,
    )
    stored = packed.values.nbytes + packed.columns.nbytes
    density = min(packed.values.size / weights.size, 1.0)
    return Form(f"groups of {WINDOW}", "groups_conv", text, shape.scratch, stored, density)
