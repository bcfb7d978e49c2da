"""Operators of an int8 model -> C: constants for flash and a call of the runtime."""

import math

import numpy as np

from scalpel_tf.core import cost, gcsr
from scalpel_tf.core.targets import Target
from scalpel_tf.deploy import depthwise, elementwise, lookup, movement, plain_ops
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.c_text import array, lines, literal
from scalpel_tf.deploy.int8 import ALIASES
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.lower_conv import candidates as conv_candidates
from scalpel_tf.deploy.lower_conv import convolution, pool_of
from scalpel_tf.deploy.memory import rooms
from scalpel_tf.deploy.quantization import activation_range, conv_multipliers, dense_multipliers
from scalpel_tf.deploy.tflite import Model, Operator


def lower(
    model: Model,
    target: Target,
    *,
    rounding: str = "single",
    formats=fc.candidates,
    conv_formats=conv_candidates,
    tight: bool = False,
) -> list[Layer]:
    """The layers of a model that `require_int8` accepts, in order; RESHAPE vanishes.

    rounding: "single" or "double" (see runtime/scalpel_rounding.h).
    formats, conv_formats: of fully connected layers and of convolutions, weights -> the packed
    forms that the cost model may choose from.
    tight: whether every operator works in as few bytes as it can; else a convolution may use what
    a runtime without fusion would need anyway, and is some per cent faster.
    Raises ValueError naming the first operator that has no kernel.
    """
    layers, done = [], []
    room = [0] * len(model.operators) if tight else rooms(model)
    for index, operator in enumerate(model.operators):
        if operator.name in ALIASES or operator in done:
            continue
        symbol = f"layer_{len(layers)}"
        if operator.name == "CONV_2D":
            for pool in (pool_of(model, index), None):
                layer = convolution(
                    model, operator, symbol, target, conv_formats, pool, room[index], tight
                )
                if layer is not None:
                    break
            if layer is not None:
                layers.append(layer)
                done.append(pool)
                continue
        if operator.name == "FULLY_CONNECTED":
            layers.append(fully_connected(model, operator, symbol, target, rounding, formats))
        elif operator.name in LOWER:
            layers.append(LOWER[operator.name](model, operator, symbol, rounding))
        else:
            known = sorted(["FULLY_CONNECTED", *ALIASES, *LOWER])
            raise ValueError(
                f"Operator {index} is {operator.name}, which has no kernel yet; expected one of "
                f"{', '.join(known)}. Replace it in the model."
            )
    return layers


def fully_connected(
    model: Model, operator: Operator, symbol: str, target: Target, rounding: str, formats
) -> Layer:
    """FULLY_CONNECTED in the format that the cost model finds fastest on the target."""
    x, weights, bias, y = plain_ops.operands(model, operator)
    matrix = weights.data
    out, cols = matrix.shape
    rows = rows_of(matrix, bias, x, weights, y, rounding)
    packed, estimate = fastest(matrix, target, formats)
    fused = fc.fits_int8_kernel(matrix, rows, rounding)
    zero_point = int(y.zero_point[0])
    low, high = activation_range(operator.options["activation"], y.scale[0], zero_point)
    batches = math.prod(x.shape) // cols

    def call(inputs, y, scratch):
        (x,) = inputs
        if batches > 1:
            x, y = f"{x} + {cols} * b", f"{y} + {out} * b"
        widened = f"(int16_t *)({scratch})"
        if fused:
            text = f"scalpel_{packed.kernel}_s8(&{symbol}, {x}, {widened}, {y});"
        else:
            sums = f"(int32_t *)({scratch} + {estimate.ram})"
            text = (
                f"scalpel_{packed.kernel}_s32(&{symbol}, {x}, {widened}, {sums});\n"
                f"scalpel_requantize_rows_s8({symbol}_rows, {out}, {sums}, {zero_point}, {y});"
            )
        if (low, high) != (-128, 127):
            text += f"\nscalpel_clamp_s8({y}, {out}, {low}, {high});"
        return f"for (uint32_t b = 0; b < {batches}; ++b) {{\n{text}\n}}" if batches > 1 else text

    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name,
        kernel=packed.kernel if fused else f"{packed.kernel}_s32",
        inputs=(x.index,),
        y=y.index,
        constants=_fully_connected_constants(symbol, packed, rows, out, cols, zero_point),
        call=call,
        scratch=estimate.ram + (0 if fused else 4 * out),
        macs=batches * matrix.size,
        bytes=packed.flash,
        bytes_dense=matrix.size + cost.ROW_BYTES * out,
        density=density_of(packed, matrix),
    )


def fastest(matrix: np.ndarray, target: Target, formats) -> tuple[fc.Packed, cost.LayerCost]:
    """The form of an int8 matrix that the cost model finds fastest, and its cost."""
    costs = [
        (packed, cost.fully_connected(packed.kernel, *matrix.shape, packed.groups, target))
        for packed in formats(matrix)
    ]
    return min(costs, key=lambda pair: pair[1].cycles)


def _fully_connected_constants(symbol, packed, rows, out, cols, zero_point):
    words = packed.counts.astype(np.int64) | (rows.right_shift & 255)
    records = (
        f"{{{literal(b)}, {literal(m)}, {w}u}}"
        for b, m, w in zip(rows.bias, rows.multiplier, words, strict=True)
    )
    text = array(f"{symbol}_values", packed.values, "static const MODEL_ALIGNED")
    fields = [f"{symbol}_values"]
    if packed.kernel != "fc":
        text += array(f"{symbol}_indices", packed.indices)
        fields.append(f"{symbol}_indices")
    fields += [f"{symbol}_rows", str(cols), str(out), str(zero_point)]
    kind = f"scalpel_{packed.kernel if packed.kernel in OWN_TYPE else 'gcsr_fc'}"
    return (
        f"{text}static const scalpel_row {symbol}_rows[{out}] = {{\n{lines(records)}\n}};\n"
        f"static const {kind} {symbol} = {{{', '.join(fields)}}};\n"
    )


def density_of(packed: fc.Packed, matrix: np.ndarray) -> float:
    """Kept fraction of the weights, in whole groups of grouped formats."""
    if packed.kernel == "fc":
        return 1.0
    if packed.kernel.startswith("csr"):
        return np.count_nonzero(matrix) / matrix.size
    width = 8 if packed.kernel == "gcsr_fc8" else 4
    kept = len(gcsr.encode(matrix, width).columns)
    return kept / (matrix.shape[0] * len(gcsr.group_starts(matrix.shape[1], width)))


def rows_of(matrix, bias, x, weights, y, rounding: str) -> fc.Rows:
    """What scales the sums of a FULLY_CONNECTED operator with these tensors."""
    multipliers = conv_multipliers if rounding == "single" else dense_multipliers
    multiplier, shift = multipliers(x.scale[0], weights.scale, y.scale[0])
    real = float(x.scale[0]) * weights.scale.astype(np.float64) / float(y.scale[0])
    exact = np.ldexp(multiplier.astype(np.float64), shift - 31) == real
    scales = (multiplier, np.where(multiplier == 0, 1, -shift.astype(np.int64)), exact)
    out = len(matrix)
    return fc.rows(
        matrix,
        np.zeros(out, np.int64) if bias is None else bias.data,
        [np.broadcast_to(array, out) for array in scales],
        (int(x.zero_point[0]), int(y.zero_point[0])),
        rounding,
    )


OWN_TYPE = ("fc", "csr_fc", "csr_fc_wide")
LOWER = {
    "DEPTHWISE_CONV_2D": depthwise.depthwise_conv,
    **plain_ops.LOWER,
    **elementwise.LOWER,
    **lookup.LOWER,
    **movement.LOWER,
}
