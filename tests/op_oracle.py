"""What the TensorFlow ops of custom_ops have to answer: sums in float64, or a refusal."""

import math
from dataclasses import replace

import ml_dtypes
import numpy as np
from float_sums import gathered, tolerance

from scalpel_tf.core.gcsr import GroupedCSR, decode

MOST = 1 << 40
ELEMENTS = 2_000_000  # beyond, a right answer is not computed
VALUE_TYPES = (np.float32, ml_dtypes.bfloat16, np.int8)


class Refused(Exception):
    """The op has to raise."""


class TooLarge(Exception):
    """The op may raise or not; its answer is not known here."""


def require(condition):
    if not condition:
        raise Refused


def expected(op, inputs, attributes):
    """(result, tolerance) of op(*inputs, **attributes); Refused or TooLarge is raised without one.

    op: a name of the C++ library in Python.  inputs: arrays in the order of the op.
    """
    return ORACLES[op](*inputs, **attributes)


def matmul(x, values, columns, offsets, scales, bias, activation):
    require(floats(x) and x.ndim == 2)
    w = matrix(values, columns, offsets, scales, x.shape[1])
    return product(w, bias, activation, x.shape[:1], lambda: x)


def matmul_grad_inputs(grad, values, columns, offsets, scales, cols):
    require(floats(grad) and grad.ndim == 2 and integer(cols))
    w = matrix(values, columns, offsets, scales, cols)
    require(grad.shape[1] == w.shape[0])
    affordable(len(grad) * cols)
    return sums(np.matmul, grad, w, w.shape[0] * w.width)


def matmul_grad_values(x, grad, columns, offsets, width):
    require(floats(x) and x.ndim == 2 and floats(grad) and grad.ndim == 2)
    w = pattern(columns, offsets, width, x.shape[1])
    require(grad.shape == (len(x), w.shape[0]))
    affordable(math.prod(w.shape))
    return sums(lambda a, b: gathered(w, a.T @ b), grad, x, len(x))


def conv2d(x, values, columns, offsets, scales, bias, activation, **geometry):
    require(floats(x) and x.ndim == 4)
    places = Places(x.shape, rows_of(offsets), **geometry)
    w = matrix(values, columns, offsets, scales, places.cols)
    return product(w, bias, activation, places.out, lambda: places.gather(x))


def conv2d_grad_inputs(grad, values, columns, offsets, scales, input_shape, **geometry):
    require(input_shape.dtype == np.int32 and input_shape.shape == (4,) and floats(grad))
    places = Places(tuple(map(int, input_shape)), rows_of(offsets), **geometry)
    w = matrix(values, columns, offsets, scales, places.cols)
    require(grad.shape == (*places.out, w.shape[0]))
    affordable(math.prod(places.shape), math.prod(places.out) * places.cols)
    terms = math.prod(geometry["kernel_size"]) * w.shape[0] * w.width
    return sums(lambda a, b: places.scatter(a @ b), grad, w, terms)


def conv2d_grad_values(x, grad, columns, offsets, width, **geometry):
    require(floats(x) and x.ndim == 4 and floats(grad))
    places = Places(x.shape, rows_of(offsets), **geometry)
    w = pattern(columns, offsets, width, places.cols)
    require(grad.shape == (*places.out, w.shape[0]))
    affordable(math.prod(places.out) * places.cols, math.prod(w.shape))

    def gradient(a, b):
        return gathered(w, np.einsum("nhwr,nhwc->rc", a, places.gather(b)))

    return sums(gradient, grad, x, math.prod(places.out))


def bias_grad(grad):
    require(floats(grad) and grad.ndim >= 1)
    count, rows = math.prod(grad.shape[:-1]), grad.shape[-1]
    affordable(count, rows)
    flat = grad.reshape(count, rows)
    return sums(lambda a, b: b @ a, flat, np.ones(len(flat)), len(flat))


ORACLES = {
    "grouped_csr_mat_mul": matmul,
    "grouped_csr_mat_mul_grad_inputs": matmul_grad_inputs,
    "grouped_csr_mat_mul_grad_values": matmul_grad_values,
    "grouped_csr_conv2d": conv2d,
    "grouped_csr_conv2d_grad_inputs": conv2d_grad_inputs,
    "grouped_csr_conv2d_grad_values": conv2d_grad_values,
    "grouped_csr_bias_grad": bias_grad,
}


class Places:
    """Which pixels the taps of a convolution see; `shape` is that of its NHWC images."""

    def __init__(self, shape, rows, kernel_size, strides, dilations, padding):
        require(padding in ("SAME", "VALID"))
        for pair in (kernel_size, strides, dilations):
            require(isinstance(pair, list) and len(pair) == 2 and all(map(integer, pair)))
            require(all(1 <= size < 1 << 31 for size in pair))
        require(shape[0] >= 0 and min(shape[1:]) >= 1)
        self.shape, self.axes, out, before = shape, [], [], []
        for size, taps, stride, rate in zip(
            shape[1:3], kernel_size, strides, dilations, strict=True
        ):
            span = (taps - 1) * rate + 1
            same = padding == "SAME"
            out.append(-(-size // stride) if same else max((size - span) // stride + 1, 0))
            before.append(max((out[-1] - 1) * stride + span - size, 0) // 2 * same)
            self.axes.append((out[-1], taps, stride, rate, before[-1], size))
        self.out = (shape[0], *out)
        self.cols = math.prod(kernel_size) * shape[3]
        fits(*shape)
        fits(*self.out, rows)
        fits(*kernel_size, shape[3])
        for pair in (*zip(out, strides, strict=True), *zip(kernel_size, dilations, strict=True)):
            fits(*pair)
        fits(before[0])
        fits(before[1])

    def index(self):
        """Pixels within an image, (out_height, out_width, taps), and whether they are inside."""
        affordable(math.prod(self.out) * self.cols, max(self.axes[0][1], self.axes[1][1]))
        seen, inside = [], []
        for count, taps, stride, rate, before, size in self.axes:
            at = np.arange(count)[:, None] * stride - before + np.arange(taps) * rate
            inside.append((at >= 0) & (at < size))
            seen.append(np.clip(at, 0, size - 1))
        taps = (*self.out[1:], self.axes[0][1] * self.axes[1][1])
        grid = seen[0][:, None, :, None] * self.shape[2] + seen[1][None, :, None, :]
        both = inside[0][:, None, :, None] & inside[1][None, :, None, :]
        return grid.reshape(taps), both.reshape(taps)

    def gather(self, x):
        """(batch, out_height, out_width, cols): what every place sees."""
        at, inside = self.index()
        batch, *_, channels = self.shape
        pixels = x.reshape(batch, self.shape[1] * self.shape[2], channels)
        return (pixels[:, at] * inside[..., None]).reshape(*self.out, self.cols)

    def scatter(self, y):
        """The adjoint of `gather`: x's gradient."""
        at, inside = self.index()
        batch, *_, channels = self.shape
        x = np.zeros((batch, self.shape[1] * self.shape[2], channels))
        y = y.reshape(*self.out, self.cols // channels, channels) * inside[..., None]
        np.add.at(x, (slice(None), at), y)
        return x.reshape(self.shape)


def product(w, bias, activation, outer, inputs):
    rows, cols = w.shape
    require(floats(bias) and bias.shape in ((0,), (rows,)))
    require(activation in ("LINEAR", "RELU", "RELU6"))
    affordable(math.prod(outer) * rows, math.prod(outer) * cols, rows * cols)
    bias = np.asarray(bias if bias.size else np.zeros(rows), np.float64)

    def multiply(a, b):
        return a @ b[:, :-1].T + b[:, -1]

    terms = 1 + w.width * int(np.diff(w.offsets.astype(np.int64)).max(initial=0))
    y, bound = sums(multiply, inputs(), w, terms, bias[:, None])
    top = {"LINEAR": np.inf, "RELU": np.inf, "RELU6": 6}[activation]
    return (y if activation == "LINEAR" else np.clip(y, 0, top)), bound


def sums(function, a, b, terms, more=None):
    """function(a, b) and its tolerance.  b may be a GroupedCSR, with `more` columns at its end."""
    a = np.asarray(a, np.float64)
    if not isinstance(b, GroupedCSR):
        return function(a, b), tolerance(function, a, b, terms)
    more = np.zeros((b.shape[0], 0)) if more is None else more
    # Groups may overlap, and cancel.
    magnitudes = decode(replace(b, values=np.abs(b.values)))
    y = function(a, np.concatenate([decode(b), more], 1))
    return y, tolerance(function, a, np.concatenate([magnitudes, more], 1), terms)


def matrix(values, columns, offsets, scales, cols):
    """The GroupedCSR that the op was given, as float64."""
    require(values.ndim == 2 and values.dtype in VALUE_TYPES)
    w = pattern(columns, offsets, values.shape[1], cols)
    int8 = values.dtype == np.int8
    require(len(columns) == len(values) and floats(scales))
    require(scales.shape == (w.shape[0] * int8,))
    affordable(math.prod(w.shape))
    weights = values.astype(np.float64)
    if int8:
        weights *= np.repeat(scales, np.diff(offsets.astype(np.int64)))[:, None]
    return GroupedCSR(weights, w.columns, w.offsets, w.shape)


def pattern(columns, offsets, width, cols):
    rows = rows_of(offsets)
    require(columns.ndim == 1 and columns.dtype in (np.uint16, np.uint32))
    require(integer(width) and width in (2, 4, 8, 16) and cols >= 1)
    fits(rows, cols)
    starts, ends = columns.astype(np.int64), offsets.astype(np.int64)
    require(ends[0] == 0 and ends[-1] == len(columns) and (np.diff(ends) >= 0).all())
    require((starts <= max(cols - width, 0)).all())
    row = np.repeat(np.arange(rows), np.diff(ends))
    require(((np.diff(starts) > 0) | (np.diff(row) > 0)).all())
    return GroupedCSR(np.zeros((len(columns), width)), columns, offsets, (rows, cols))


def rows_of(offsets):
    require(offsets.dtype == np.uint32 and offsets.ndim == 1 and offsets.size)
    return len(offsets) - 1


def floats(array):
    return array.dtype == np.float32


def integer(value):
    return isinstance(value, int) and not isinstance(value, bool)


def fits(*sizes):
    require(math.prod(max(size, 1) for size in sizes) <= MOST)


def affordable(*elements):
    if max(elements) > ELEMENTS:
        raise TooLarge
