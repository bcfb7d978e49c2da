"""Random int8 operators in the corners of the quantisation, as chains for `operator_models`.

Each function takes a numpy Generator. Scales are chosen by the shift of the requantisation that
they make, -31 to 8, a third of them powers of two, so that products are exact rounding ties; zero
points lie at the ends of int8 as often as between them.
"""

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from operator_models import ACTIVATION, PADDING, integers, tensor, windows

from scalpel_tf.deploy.int8 import window

ACTIVATIONS = ("NONE", "NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")
CHANNELS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 20)
DENSITIES = (0.0, 0.05, 0.1, 0.3, 0.5, 1.0)


def conv_2d(rng):
    x, out = (*_pair(rng, 13), _one(rng, CHANNELS)), int(rng.integers(1, 13))
    filter = (1, 1) if rng.random() < 0.2 else _pair(rng, 5)
    groups = 2 if x[2] % 2 == 0 and out % 2 == 0 and rng.random() < 0.05 else 1
    return [_conv("CONV_2D", rng, x, out, filter, (out, *filter, x[2] // groups), 0)]


def pooled_conv_2d(rng):
    """A convolution with a pool behind it, which may be fused."""
    (first,) = conv_2d(rng)
    return [first, _pool(rng, str(rng.choice(["MAX", "AVERAGE"])), first[2], rng.random() < 0.2)]


def depthwise_conv_2d(rng):
    x, multiplier = (*_pair(rng, 13), _one(rng, CHANNELS)), _one(rng, (1, 1, 1, 2, 4))
    filter, out = _pair(rng, 5), x[2] * multiplier
    return [_conv("DEPTHWISE_CONV_2D", rng, x, out, filter, (1, *filter, out), 3, multiplier)]


def fully_connected(rng):
    columns, out = int(rng.choice([1, 3, 4, 7, 8, 31, 64, 130, 257])), int(rng.integers(1, 20))
    lead = (1, int(rng.integers(1, 5))) if rng.random() < 0.2 else (1,)
    x, weights, bias, y = _weighted(rng, (*lead, columns), (out, columns), 0, out, (*lead, out))
    options = schema.FullyConnectedOptionsT(keepNumDims=len(lead) > 1)
    options.fusedActivationFunction = _activation(rng)
    return [("FULLY_CONNECTED", [x, weights, *bias], y, options, 5)]


def max_pool_2d(rng):
    return [_pool(rng, "MAX", tensor((1, *_pair(rng, 14), _one(rng, CHANNELS)), *_quantized(rng)))]


def average_pool_2d(rng):
    size = _pair(rng, 24 if rng.random() < 0.2 else 12)
    x = tensor((1, *size, _one(rng, CHANNELS)), *_quantized(rng))
    return [_pool(rng, "AVERAGE", x, whole=rng.random() < 0.3)]


def add(rng, name="ADD"):
    """The output's scale is at least 2^-18 of the inputs' larger one: below, TFLite aborts."""
    shapes, made = _broadcast(rng)
    scales = [_scale(rng, -6, 2), _scale(rng, -6, 2)]
    if rng.random() < 0.2:
        scales[1] = scales[0]
    y = max(scales) * _scale(rng, -10, 9)
    return [_elementwise(rng, name, shapes, made, scales, y)]


def sub(rng):
    return add(rng, "SUB")


def mul(rng):
    """Two scales whose product over the output's is the factor that was drawn."""
    shapes, made = _broadcast(rng)
    scales = [_scale(rng, -8, 0), _scale(rng, -8, 0)]
    y = scales[0] * scales[1] / _factor(rng)
    return [_elementwise(rng, "MUL", shapes, made, scales, y)]


def mean(rng):
    shape = (1, *_pair(rng, 20), _one(rng, CHANNELS))
    axes = [[1, 2], [2, 1], [1], [2], [3], [-1], [2, 3], [1, 2, 3]][rng.integers(8)]
    keep = bool(rng.random() < 0.5)
    resolved = {axis % 4 for axis in axes}
    made = [1 if i in resolved else n for i, n in enumerate(shape) if keep or i not in resolved]
    x, y = _quantized(rng), _quantized(rng)
    options = schema.ReducerOptionsT(keepDims=keep)
    return [("MEAN", [tensor(shape, *x), integers(axes)], tensor(made, *y), options, 2)]


def concatenation(rng):
    shape, axis = [1, *_pair(rng, 6), _one(rng, CHANNELS)], int(rng.integers(1, 4))
    quantized, shapes = _quantized(rng), []
    for _ in range(rng.integers(2, 5)):
        shapes.append([*shape[:axis], int(rng.integers(1, 9)), *shape[axis + 1 :]])
    made = [*shape[:axis], sum(s[axis] for s in shapes), *shape[axis + 1 :]]
    options = schema.ConcatenationOptionsT(axis=axis - (4 if rng.random() < 0.5 else 0))
    operands = [tensor(s, *quantized) for s in shapes]
    return [("CONCATENATION", operands, tensor(made, *quantized), options, 2)]


def pad(rng, name="PAD"):
    shape = (1, *(int(n) for n in rng.integers(1, 7, rng.integers(1, 4))))
    amounts = [[0, 0], *rng.integers(0, 4, (len(shape) - 1, 2)).tolist()]
    quantized = _quantized(rng)
    made = [size + sum(both) for size, both in zip(shape, amounts, strict=True)]
    operands = [tensor(shape, *quantized), integers(amounts)]
    if name == "PADV2":
        value = np.array(rng.integers(-128, 128), np.int8)
        operands.append((tensor((), *quantized), value))
    options = schema.PadOptionsT() if name == "PAD" else schema.PadV2OptionsT()
    return [(name, operands, tensor(made, *quantized), options, 2)]


def pad_v2(rng):
    return pad(rng, "PADV2")


def transpose(rng):
    shape = (1, *(int(n) for n in rng.integers(1, 7, rng.integers(1, 4))))
    order = [0, *(1 + rng.permutation(len(shape) - 1)).tolist()]
    return _moved(rng, "TRANSPOSE", shape, [shape[i] for i in order], order)


def slice_(rng):
    shape = (1, *(int(n) for n in rng.integers(1, 9, rng.integers(1, 4))))
    begin = [int(rng.integers(size)) for size in shape]
    counts = [int(rng.integers(1, n - b + 1)) for n, b in zip(shape, begin, strict=True)]
    given = [-1 if b + c == n else c for b, c, n in zip(begin, counts, shape, strict=True)]
    return _moved(rng, "SLICE", shape, counts, begin, given)


def strided_slice(rng):
    shape = (1, *(int(n) for n in rng.integers(1, 9, rng.integers(1, 4))))
    begin, end, step, made = [0], [1], [1], [1]
    for size in shape[1:]:
        first, last = sorted(int(n) for n in rng.integers(0, size, 2))
        stride = int(rng.integers(1, 4))
        backwards = rng.random() < 0.3 and first > 0
        begin.append(last if backwards else first)
        end.append(first - 1 if backwards else last + 1)
        step.append(-stride if backwards else stride)
        made.append((last - first) // stride + 1)
    options = schema.StridedSliceOptionsT(beginMask=int(rng.random() < 0.5))
    return _moved(rng, "STRIDED_SLICE", shape, made, begin, end, step, options=options)


def tile(rng):
    shape = (1, *(int(n) for n in rng.integers(1, 6, rng.integers(1, 4))))
    times = [1, *(int(n) for n in rng.integers(1, 4, len(shape) - 1))]
    made = [size * n for size, n in zip(shape, times, strict=True)]
    return _moved(rng, "TILE", shape, made, times)


def reshape(rng):
    """Between two operators that can do without it."""
    shape = (1, *_pair(rng, 6), _one(rng, CHANNELS))
    quantized, flat = _quantized(rng), (1, int(np.prod(shape)))
    chain = _moved(rng, "TRANSPOSE", shape, (1, shape[2], shape[1], shape[3]), [0, 2, 1, 3])
    y = chain[0][2]
    name = str(rng.choice(["RESHAPE", "SQUEEZE"]))
    options, constants = schema.ReshapeOptionsT(newShape=list(flat)), [integers(flat)]
    if name == "SQUEEZE":
        kept = [n for n in y.shape if n > 1]
        flat = (1, *kept)
        squeezed = [i for i, n in enumerate(y.shape) if n == 1 and i]
        options, constants = schema.SqueezeOptionsT(squeezeDims=squeezed), []
    made = tensor(flat, y.quantization.scale[0], int(y.quantization.zeroPoint[0]))
    chain.append((name, [None, *constants], made, options, 1))
    return [*chain, ("QUANTIZE", [None], tensor(flat, *quantized), schema.QuantizeOptionsT(), 2)]


def softmax(rng):
    shape = (1, int(rng.integers(1, 40))) if rng.random() < 0.5 else (1, *_pair(rng, 6), 9)
    options = schema.SoftmaxOptionsT(beta=float(rng.choice([1.0, 1.0, 0.3, 2.5])))
    x = tensor(shape, _scale(rng, -14, 4), _zero_point(rng))
    return [("SOFTMAX", [x], tensor(shape, 1 / 256, -128), options, 2)]


def logistic(rng):
    return [_single(rng, "LOGISTIC", None, (_scale(rng, -10, 1), None), (1 / 256, -128))]


def tanh(rng):
    return [_single(rng, "TANH", None, (_scale(rng, -10, 1), None), (1 / 128, 0))]


def hard_swish(rng):
    """The output's scale is at least 1/128 of the input's: below, TFLite refuses."""
    x = _scale(rng, -10, 3)
    y = x * _scale(rng, -6, 4)
    return [_single(rng, "HARD_SWISH", schema.HardSwishOptionsT(), (x, None), (y, None), 1)]


def leaky_relu(rng):
    options = schema.LeakyReluOptionsT(alpha=float(rng.choice([0.1, 0.3, 0.01, 1.5])))
    return [_single(rng, "LEAKY_RELU", options, *_rescaled(rng))]


def relu(rng):
    name, version = [("RELU", 2), ("RELU6", 2), ("RELU_N1_TO_1", 1)][rng.integers(3)]
    return [_single(rng, name, None, *_rescaled(rng), version)]


def quantize(rng):
    return [_single(rng, "QUANTIZE", schema.QuantizeOptionsT(), *_rescaled(rng))]


def quantize_ends(rng):
    """From and to uint8 and float32, which stand at the ends of a model."""
    shape, scale = (1, int(rng.integers(1, 60))), _scale(rng, -8, 0)
    real, unsigned = tensor(shape, None, kind="FLOAT32"), int(rng.integers(0, 256))
    integer = tensor(shape, scale, _zero_point(rng))
    byte = tensor(shape, scale * _scale(rng, -3, 3), unsigned, "UINT8")
    if rng.random() < 0.25:
        return [("DEQUANTIZE", [integer], real, schema.DequantizeOptionsT(), 2)]
    x, y = [(real, integer), (byte, integer), (integer, byte)][rng.integers(3)]
    return [("QUANTIZE", [x], y, schema.QuantizeOptionsT(), 2)]


OPERATORS = {
    "CONV_2D": conv_2d,
    "CONV_2D + pool": pooled_conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "MAX_POOL_2D": max_pool_2d,
    "AVERAGE_POOL_2D": average_pool_2d,
    "ADD": add,
    "SUB": sub,
    "MUL": mul,
    "MEAN": mean,
    "CONCATENATION": concatenation,
    "PAD": pad,
    "PADV2": pad_v2,
    "TRANSPOSE": transpose,
    "SLICE": slice_,
    "STRIDED_SLICE": strided_slice,
    "TILE": tile,
    "RESHAPE, SQUEEZE": reshape,
    "SOFTMAX": softmax,
    "LOGISTIC": logistic,
    "TANH": tanh,
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": leaky_relu,
    "RELU, RELU6, RELU_N1_TO_1": relu,
    "QUANTIZE": quantize,
    "QUANTIZE, DEQUANTIZE at an end": quantize_ends,
}


def _conv(name, rng, x, out, filter, shape, axis, multiplier=None):
    stride = _pair(rng, 3) if rng.random() < 0.5 else (1, 1)
    dilation = _pair(rng, 3) if rng.random() < 0.25 else (1, 1)
    padding, sizes = _fitting(rng, x[:2], filter, stride, dilation)
    if padding is None:
        filter, dilation, shape = (1, 1), (1, 1), (shape[0], 1, 1, shape[3])
        padding, sizes = _fitting(rng, x[:2], filter, stride, dilation)
    given, weights, bias, y = _weighted(
        rng, (1, *x), shape, axis, out, (1, *sizes, out), biased=multiplier is None
    )
    kind = schema.Conv2DOptionsT if multiplier is None else schema.DepthwiseConv2DOptionsT
    activation = str(rng.choice(ACTIVATIONS))
    options = windows(kind(), filter, stride, dilation, padding, activation)
    if multiplier is not None:
        options.depthMultiplier = multiplier
    return (name, [given, weights, *bias], y, options, 3)


def _pool(rng, name, x, whole=False):
    """A pool of a tensor; behind another operator where that makes the tensor."""
    size = tuple(x.shape[1:3])
    filter = size if whole else tuple(int(rng.integers(1, n + 1)) for n in np.minimum(size, 5))
    stride = filter if whole or rng.random() < 0.3 else _pair(rng, 3)
    padding, sizes = _fitting(rng, size, filter, stride, (1, 1))
    scale, zero_point = x.quantization.scale[0], int(x.quantization.zeroPoint[0])
    activation = str(rng.choice(ACTIVATIONS))
    options = windows(schema.Pool2DOptionsT(), filter, stride, None, padding, activation)
    y = tensor((1, *sizes, x.shape[3]), scale, zero_point)
    return (f"{name}_POOL_2D", [x], y, options, 2)


def _fitting(rng, size, filter, stride, dilation):
    """(padding, output size); None where a window does not fit even in the padding."""
    for padding in rng.permutation(list(PADDING)).tolist():
        try:
            spans = zip(size, filter, stride, dilation, strict=True)
            return padding, [window(*span, padding)[0] for span in spans]
        except ValueError:
            continue
    return None, None


def _weighted(rng, x_shape, shape, axis, out, y_shape, biased=False):
    """Input, weights, bias or none, output; the sums' scale is a random factor of the output's."""
    count = 1 if rng.random() < 0.3 else out
    x_scale, y_scale = _scale(rng, -6, 0), _scale(rng, -6, 0)
    factor = _factor(rng)
    factors = [factor if rng.random() < 0.3 else factor * rng.uniform(0.3, 1) for _ in range(count)]
    scale = (np.array(factors) * y_scale / x_scale).astype(np.float32)
    values = rng.integers(-127, 128, shape).astype(np.int8)
    if rng.random() < 0.2:
        values = np.where(rng.random(shape) < 0.5, -127, 127).astype(np.int8)
    values = _sparse(rng, values, axis)
    weights = tensor(shape, scale, axis=axis), values
    bias = []
    if biased or rng.random() < 0.8:
        most = int(rng.choice([1, 100, 30_000, 1 << 20]))
        numbers = rng.integers(-most, most + 1, out).astype(np.int32)
        product = (np.float32(x_scale) * scale).astype(np.float32)
        bias = [(tensor((out,), product, kind="INT32"), numbers)]
    x = tensor(x_shape, x_scale, _zero_point(rng))
    return x, weights, bias, tensor(y_shape, y_scale, _zero_point(rng))


def _sparse(rng, values, axis):
    """Some weights are dropped: one by one, or in groups of four neighbours of a filter."""
    rows = np.moveaxis(values, axis, 0)
    flat, width = rows.reshape(len(rows), -1), int(rng.choice([1, 4, 8]))
    groups = -(-flat.shape[1] // width)
    keep = rng.random((len(flat), groups)) < rng.choice(DENSITIES)
    if rng.random() < 0.2:
        keep[:] = keep[:1]  # the same columns of every row
    keep = np.repeat(keep, width, 1)[:, : flat.shape[1]].reshape(rows.shape)
    return np.ascontiguousarray(np.where(np.moveaxis(keep, 0, axis), values, 0).astype(np.int8))


def _elementwise(rng, name, shapes, made, scales, y_scale):
    options = getattr(schema, f"{name.capitalize()}OptionsT")()
    options.fusedActivationFunction = _activation(rng)
    constant = rng.choice([-1, -1, 0, 1])
    operands = []
    for position, (shape, scale) in enumerate(zip(shapes, scales, strict=True)):
        if position == constant:
            values = rng.integers(-128, 128, shape).astype(np.int8)
            operands.append((tensor(shape, scale, _zero_point(rng)), values))
        else:  # an input has a batch
            whole = (1,) * (len(made) - len(shape)) + tuple(shape)
            operands.append(tensor(whole, scale, _zero_point(rng)))
    return (name, operands, tensor(made, y_scale, _zero_point(rng)), options, 2)


def _broadcast(rng):
    """Two shapes and what they make; a half is equal, else axes of one of them are 1 or missing."""
    made = (1, *(int(n) for n in rng.integers(1, 8, rng.integers(1, 4))))
    shapes = [made, made]
    if rng.random() < 0.5:
        kept = rng.random(len(made)) < 0.5
        small = tuple(n if keep else 1 for n, keep in zip(made, kept, strict=True))
        shapes[rng.integers(2)] = small[int(rng.integers(len(made))) :] if kept[0] else small
    if rng.random() < 0.1:
        shapes = [made, (1,)]
    return shapes, np.broadcast_shapes(*shapes)


def _moved(rng, name, shape, made, *constants, options=None):
    quantized = _quantized(rng)
    operands = [tensor(shape, *quantized), *map(integers, constants)]
    return [(name, operands, tensor(made, *quantized), options, 2)]


def _single(rng, name, options, x, y, version=2):
    shape = (1, int(rng.integers(1, 7)), int(rng.integers(1, 50)))
    points = [_zero_point(rng) if point is None else point for _, point in (x, y)]
    return (
        name,
        [tensor(shape, x[0], points[0])],
        tensor(shape, y[0], points[1]),
        options,
        version,
    )


def _rescaled(rng):
    scale = _scale(rng, -10, 0)
    return (scale, None), (scale / _factor(rng), None)


def _quantized(rng):
    return _scale(rng, -8, 0), _zero_point(rng)


def _scale(rng, low, high):
    """2^low .. 2^high as float32; a third are powers of two."""
    exponent = rng.uniform(low, high)
    return np.float32(2.0 ** (round(exponent) if rng.random() < 0.33 else exponent))


def _factor(rng):
    """What sums are multiplied by; a half of the factors make outputs between 0 and saturation."""
    low, high = (-12, -4) if rng.random() < 0.5 else (-32, 8)
    return float(_scale(rng, low, high))


def _zero_point(rng):
    return int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 3)]))


def _activation(rng):
    return ACTIVATION[str(rng.choice(ACTIVATIONS))]


def _pair(rng, most):
    return tuple(int(n) for n in rng.integers(1, most + 1, 2))


def _one(rng, choices):
    return int(rng.choice(choices))
