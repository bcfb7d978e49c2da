"""CONV_2D -> C: a kernel for sparse weights where its arithmetic holds, else the plain one."""

import math
from dataclasses import replace

import numpy as np

from scalpel_tf.core.targets import Target
from scalpel_tf.deploy import conv, csr_conv, plain_ops
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.c_text import array, lines, literal
from scalpel_tf.deploy.int8 import POOLS
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.memory import align, tensor_bytes
from scalpel_tf.deploy.quantization import activation_range, conv_multipliers
from scalpel_tf.deploy.tflite import Model, Operator

LARGEST_SHIFT = 22


def candidates(matrix: np.ndarray, shape: conv.Shape) -> list[conv.Packed | csr_conv.Packed]:
    """The weights in every format that can hold them; in CSR where groups waste room, or fail."""
    found = conv.candidates(matrix, shape)
    if not found or fc.has_single_weights(matrix):
        found += csr_conv.candidates(matrix, shape)
    return found


def convolution(
    model: Model,
    operator: Operator,
    symbol: str,
    target: Target,
    formats=candidates,
    pool: Operator | None = None,
    room: int = 0,
    tight: bool = False,
) -> Layer | None:
    """CONV_2D in the fastest format, with the pooling after it if `pool` is given.

    room: bytes of output and scratch that it may use where it would run with less.  tight: whether
    a pooling inside of it, which needs few rows of the output at once, counts for more than speed.
    None where the kernels would not be exact, or cannot hold the weights: filters in groups, scales
    that need a shift outside of 1..22, sums from 2^30 on; and where the fastest format is CSR but
    `pool` is no maximum of 2 x 2.
    """
    x, weights, bias, y = plain_ops.operands(model, operator)
    if weights.shape[3] != x.shape[3]:
        return None
    matrix = weights.data.reshape(len(weights.data), -1)
    rows, used = rows_of(matrix, bias, x, weights, y)
    if rows is None:
        return None
    matrix = np.where(used[:, None], matrix, np.int8(0))
    inside = pool is not None and _in_pairs(pool, y)
    shape = conv.shape_of(operator, x, y, weights.shape[1:3], 2 if inside else 1)
    if pool is not None:  # which needs the rows of the image, not the lines of a pointwise one
        shape = replace(shape, input=x.shape[1:3], output=y.shape[1:3])
    found = formats(matrix, shape)
    if tight and pool is not None and not inside:
        found = [packed for packed in found if not isinstance(packed, csr_conv.Packed)]
    if not found:
        return None
    kept = 0 if pool is None or inside else pool.options["filter"][0] * math.prod(y.shape[2:])
    out = align(tensor_bytes(model.tensors[(pool or operator).outputs[0]]))
    packed = min(found, key=lambda p: p.cost(target).cycles).with_room(room - kept - out)
    single = isinstance(packed, csr_conv.Packed)
    if single and pool is not None and not inside:
        return None
    bounds = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    zero_points = int(x.zero_point[0]), int(y.zero_point[0])
    pooling = None
    if pool is not None:
        y = model.tensors[pool.outputs[0]]
        if inside:
            ends = activation_range(pool.options["activation"], y.scale[0], int(y.zero_point[0]))
            bounds = max(bounds[0], ends[0]), min(bounds[1], ends[1])
        else:
            pooling = plain_ops.pool(model, pool, f"{symbol}_pool", "double")
    kind = "csr_conv" if single else "gcsr_conv" if packed.density < 1 else "conv4"
    constants_of = _csr_constants if single else _constants
    constants = constants_of(symbol, packed, rows, zero_points, bounds)
    kernel = "csr_conv" if single else "gcsr_conv"
    scratch = -(-packed.scratch // 8) * 8

    def call(inputs, y, at):
        if pooling is None:
            return f"scalpel_{kernel}_s8(&{symbol}, {inputs[0]}, {at}, {y});"
        return (
            f"scalpel_gcsr_conv_pool_s8(&{symbol}, &{symbol}_pool, scalpel_{pooling.kernel}_s8,\n"
            f"    {inputs[0]}, {at}, (int8_t *)({at} + {scratch}), {y});"
        )

    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name if pool is None else f"{operator.name} + {pool.name}",
        kernel=kind if pooling is None else f"{kind}, {pooling.kernel}",
        inputs=(x.index,),
        y=y.index,
        constants=constants if pooling is None else constants + pooling.constants,
        call=call,
        scratch=scratch + kept,
        macs=math.prod(shape.output) * matrix.size,
        bytes=packed.cost(target).flash,
        bytes_dense=matrix.size + plain_ops.CHANNEL_BYTES * len(matrix),
        density=packed.density,
    )


def pool_of(model: Model, index: int) -> Operator | None:
    """The pooling that may run inside of CONV_2D number `index`: the only user of its output, which
    never needs all rows of it at once, or is computed with the sums."""
    y = model.operators[index].outputs[0]
    users = [op for op in model.operators if y in op.inputs]
    if len(users) != 1 or users[0].name not in POOLS or y in model.outputs:
        return None
    options = users[0].options
    few = options["stride"][0] <= options["filter"][0] < model.tensors[y].shape[1]
    return users[0] if few or _in_pairs(users[0], model.tensors[y]) else None


def _in_pairs(pool, y):
    """Whether it is the maximum of 2 x 2 outputs, none of which is left alone."""
    options, size = pool.options, y.shape[1:3]
    whole = options["padding"] == "VALID" or not (size[0] % 2 or size[1] % 2)
    pairs = options["filter"] == options["stride"] == (2, 2)
    return pool.name == "MAX_POOL_2D" and pairs and whole and min(size) > 1


def rows_of(matrix, bias, x, weights, y) -> tuple[fc.Rows | None, np.ndarray | None]:
    """(what scales the sums of every row or None where the kernel would not be exact, its use).

    Use: bool, whether the row's weights matter; where its scale is so small that it always gives
    the zero point, they do not.
    """
    out = len(matrix)
    multiplier, shift = (
        np.array(np.broadcast_to(a, out), np.int64)
        for a in conv_multipliers(x.scale[0], weights.scale, y.scale[0])
    )
    wide = matrix.astype(np.int64)
    bias = np.zeros(out, np.int64) if bias is None else bias.data.astype(np.int64).ravel()
    zero_points = int(x.zero_point[0]), int(y.zero_point[0])
    most = np.abs(bias - zero_points[0] * wide.sum(1)) + 128 * np.abs(wide).sum(1)
    # Two roundings: what is half a step of the first below half an output becomes that half.
    largest = np.ldexp(most * multiplier.astype(np.float64), shift - 31)
    nothing = (largest == 0) | (largest < 0.5 - np.ldexp(1.0, shift - 1))
    used = ~nothing & wide.any(1)
    if (most[used] >= 1 << 30).any():
        return None, None
    rows = fc.rows(
        np.where(used[:, None], matrix, np.int8(0)),
        np.where(nothing, 0, bias),
        (multiplier, np.where(multiplier == 0, 1, -shift), np.zeros(out, bool)),
        zero_points,
        "double",
    )
    if not ((rows.right_shift >= 1) & (rows.right_shift <= LARGEST_SHIFT)).all():
        return None, None
    return rows, used


def kernel_of(packed: conv.Packed, zero_point: int, bounds: tuple[int, int]) -> str:
    """The name of the inner kernel."""
    only_above = packed.shape.pool == 1 and bounds[0] >= zero_point
    kind = "_pool2" if packed.shape.pool == 2 else "_relu" if only_above else ""
    return f"conv4{kind}{'_shared' * packed.shared}"


def records(packed: conv.Packed | csr_conv.Packed, rows: fc.Rows, zero_point: int) -> np.ndarray:
    """The numbers of every scalpel_conv_row, (out, 4)."""
    rounding = (1 << rows.right_shift - 1) + (zero_point << rows.right_shift)
    words = packed.words(rows.right_shift)
    return np.stack([rows.bias, rows.multiplier, rounding, words], 1)


def _rows(symbol, packed, rows, zero_point):
    words = records(packed, rows, zero_point)
    texts = (f"{{{literal(b)}, {literal(m)}, {literal(r)}, {w}u}}" for b, m, r, w in words)
    return f"static const scalpel_conv_row {symbol}_rows[{len(words)}] = {{\n{lines(texts)}\n}};\n"


def _window(packed):
    shape = packed.shape
    sizes = (*shape.input, shape.channels, *shape.output, len(packed.counts))
    window = (*sizes, *shape.filter, *shape.stride, *shape.dilation, *shape.pad)
    return f"{{{', '.join(map(str, window))}}}"


def _csr_constants(symbol, packed, rows, zero_points, bounds):
    return (
        array(f"{symbol}_values", packed.values, "static const MODEL_ALIGNED")
        + array(f"{symbol}_columns", packed.columns)
        + _rows(symbol, packed, rows, zero_points[1])
        + plain_ops.params(
            symbol,
            "scalpel_csr_conv",
            window=_window(packed),
            kernel=f"scalpel_{packed.kernel}",
            values=f"{symbol}_values",
            columns=f"{symbol}_columns",
            rows=f"{symbol}_rows",
            pool=packed.shape.pool,
            in_zero_point=zero_points[0],
            lowest=bounds[0],
            highest=bounds[1],
        )
    )


def _constants(symbol, packed, rows, zero_points, bounds):
    zero_in, zero_out = zero_points
    planes = (f"{{{', '.join(map(str, plane))}}}" for plane in packed.planes)
    return (
        array(f"{symbol}_values", packed.values, "static const MODEL_ALIGNED")
        + array(f"{symbol}_steps", packed.steps)
        + _rows(symbol, packed, rows, zero_out)
        + f"static const scalpel_conv_plane {symbol}_planes[{len(packed.planes)}] = {{\n"
        + f"{lines(planes)}\n}};\n"
        + plain_ops.params(
            symbol,
            "scalpel_gcsr_conv",
            window=_window(packed),
            kernel=f"scalpel_{kernel_of(packed, zero_out, bounds)}",
            values=f"{symbol}_values",
            steps=f"{symbol}_steps",
            rows=f"{symbol}_rows",
            planes=f"{symbol}_planes",
            plane_count=len(packed.planes),
            entries=packed.entries,
            band_rows=packed.band_rows,
            line_bytes=packed.line_bytes,
            pool=packed.shape.pool,
            tile=packed.tile,
            tiles=packed.tiles,
            in_zero_point=zero_in,
            lowest=bounds[0],
            highest=bounds[1],
        )
    )
