"""The pure-TensorFlow products against numpy in float64."""

import math

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from scalpel_tf.core.gcsr import decode, encode
from scalpel_tf.deploy import py_ops

EPS = float(np.finfo(np.float32).eps)
ACTIVATIONS = {
    "linear": lambda y: y,
    "relu": lambda y: np.maximum(y, 0),
    "relu6": lambda y: y.clip(0, 6),
}


def matrix(rows, cols, width, density, seed=0):
    """Random rows x cols; groups of `width` survive with probability `density`; row 1 is empty."""
    rng = np.random.default_rng(seed)
    keep = np.repeat(rng.random((rows, -(-cols // width))) < density, width, axis=1)[:, :cols]
    keep[1:2] = False
    return (rng.normal(size=(rows, cols)) * keep).astype(np.float32)


def arrays(sparse):
    return sparse.values, sparse.columns, sparse.offsets


def assert_product(y, x, weight, bias=0.0, activation="linear", eps=EPS):
    """|y - x w^T - bias| <= terms x eps x the sum of their sizes."""
    x, weight = x.astype(np.float64), weight.astype(np.float64)
    exact = ACTIVATIONS[activation](x @ weight.T + bias)
    size = np.abs(x) @ np.abs(weight).T + np.abs(bias)
    bound = (weight.shape[1] + 2) * eps * size
    assert y.shape == exact.shape
    assert (np.abs(y - exact) <= bound).all(), np.abs(y - exact).max()


def patches(x, kernel_size, strides, padding, dilation):
    """im2col in float64 by loops: (batch, out_height, out_width, height * width * channels)."""
    span = [(k - 1) * d + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    if padding == "same":
        out = [-(-n // s) for n, s in zip(x.shape[1:3], strides, strict=True)]
        pads = [
            max((o - 1) * s + k - n, 0)
            for o, s, k, n in zip(out, strides, span, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    else:
        out = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], span, strides, strict=True)]
    rows = np.empty((len(x), *out, math.prod(kernel_size) * x.shape[-1]))
    for i in range(out[0]):
        for j in range(out[1]):
            top, left = i * strides[0], j * strides[1]
            window = x[:, top : top + span[0] : dilation[0], left : left + span[1] : dilation[1]]
            rows[:, i, j] = window.reshape(rows.shape[0], rows.shape[-1])
    return rows


def test_assert_product_sees_a_wrong_answer():
    x, weight = np.ones((1, 3), np.float32), np.ones((2, 3), np.float32)
    assert_product(np.array([[3.0, 3.0]]), x, weight)
    with pytest.raises(AssertionError):
        assert_product(np.array([[3.0, 3.0001]]), x, weight)


def test_literal():
    """Row 0 holds groups at 0 and, slid left, at 3; row 1 none; row 2 the last one only."""
    values = [[1.0, 2, 3, 4], [0, 5, 6, 7], [0, 0, 0, 8]]
    columns, offsets = np.array([0, 3, 3], np.uint16), np.array([0, 2, 2, 3], np.uint32)
    x = [[1.0, 10, 100, 1000, 10000, 100000, 1000000]]
    y = py_ops.grouped_csr_matmul(tf.constant(x), tf.constant(values), columns, offsets)
    np.testing.assert_array_equal(y, [[7654321, 0, 8000000]])


@pytest.mark.parametrize("width", [2, 4, 8, 16])
@pytest.mark.parametrize("cols", [1, 3, 4, 5, 16, 17, 31])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_matmul(width, cols, density):
    weight = matrix(5, cols, width, density)
    x = np.random.default_rng(1).normal(size=(3, cols)).astype(np.float32)
    y = py_ops.grouped_csr_matmul(x, *arrays(encode(weight, width)))
    assert_product(y.numpy(), x, weight)


def test_lanes_past_a_short_row_are_dropped():
    sparse = encode(matrix(5, 3, 8, 1.0), 8)
    values = np.where(np.arange(8) < 3, sparse.values, np.float32(np.nan))
    x = np.ones((2, 3), np.float32)
    y = py_ops.grouped_csr_matmul(x, values, sparse.columns, sparse.offsets)
    assert_product(y.numpy(), x, decode(sparse))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_activation_and_rank(activation):
    weight = 4 * matrix(6, 13, 4, 0.5)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(2, 3, 13)).astype(np.float32)
    bias = rng.normal(size=6).astype(np.float32)
    y = py_ops.grouped_csr_matmul(x, *arrays(encode(weight, 4)), bias=bias, activation=activation)
    assert_product(y.numpy(), x, weight, bias, activation)


def test_values_of_other_types():
    weight = matrix(7, 21, 4, 0.6)
    x = np.random.default_rng(3).normal(size=(4, 21)).astype(np.float32)
    sparse = encode(weight.astype(ml_dtypes.bfloat16), 4)
    y = py_ops.grouped_csr_matmul(x, *arrays(sparse))
    assert_product(y.numpy(), x, decode(sparse))
    scales = np.linspace(0.01, 0.07, 7, dtype=np.float32)
    sparse = encode((weight * 40).round().clip(-127, 127).astype(np.int8), 4)
    y = py_ops.grouped_csr_matmul(x, *arrays(sparse), scales=scales)
    assert_product(y.numpy(), x, decode(sparse) * scales[:, None].astype(np.float64), eps=2 * EPS)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_the_result_has_the_dtype_of_x(dtype):
    weight = matrix(4, 64, 8, 0.5)
    x = tf.cast(np.random.default_rng(4).normal(size=(2, 64)), dtype)
    y = py_ops.grouped_csr_matmul(x, *arrays(encode(weight, 8)))
    assert y.dtype == dtype
    exact = tf.cast(tf.cast(x, tf.float32) @ weight.T, dtype)
    rounding = 2 * float(np.finfo(dtype.as_numpy_dtype).eps) if dtype != tf.bfloat16 else 2**-6
    np.testing.assert_allclose(
        tf.cast(y, tf.float32), tf.cast(exact, tf.float32), rtol=max(rounding, 64 * EPS), atol=1e-5
    )


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "kernel_size, strides, dilation, channels",
    [
        ((1, 1), (1, 1), (1, 1), 5),
        ((3, 3), (1, 1), (1, 1), 3),
        ((3, 2), (2, 3), (1, 1), 1),
        ((2, 3), (1, 1), (3, 2), 2),
        ((3, 3), (2, 2), (2, 2), 4),
    ],
)
def test_conv2d(kernel_size, strides, dilation, channels, padding):
    weight = matrix(6, math.prod(kernel_size) * channels, 4, 0.5)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, 9, 11, channels)).astype(np.float32)
    bias = rng.normal(size=6).astype(np.float32)
    y = py_ops.grouped_csr_conv2d(
        x,
        *arrays(encode(weight, 4)),
        kernel_size=kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        bias=bias,
        activation="relu",
    )
    assert_product(
        y.numpy(), patches(x, kernel_size, strides, padding, dilation), weight, bias, "relu"
    )


def test_gradients():
    """The products are linear in each argument: their gradients are known exactly."""
    weight = matrix(5, 13, 4, 0.6)
    sparse = encode(weight, 4)
    rng = np.random.default_rng(6)
    x = tf.constant(rng.normal(size=(3, 13)), tf.float32)
    upstream = rng.normal(size=(3, 5)).astype(np.float32)
    values, bias = tf.constant(sparse.values), tf.zeros(5)
    with tf.GradientTape() as tape:
        tape.watch([x, values, bias])
        y = py_ops.grouped_csr_matmul(x, values, sparse.columns, sparse.offsets, bias=bias)
        loss = tf.reduce_sum(y * upstream)
    dx, dvalues, dbias = tape.gradient(loss, [x, values, bias])
    assert_product(dx.numpy(), upstream, weight.T)
    np.testing.assert_allclose(dbias, upstream.sum(0), rtol=5 * EPS, atol=5 * EPS)
    full = upstream.T.astype(np.float64) @ x.numpy()
    row = np.repeat(np.arange(5), np.diff(sparse.offsets.astype(int)))
    expected = full[row[:, None], sparse.columns.astype(int)[:, None] + np.arange(4)]
    np.testing.assert_allclose(dvalues, expected, rtol=0, atol=20 * EPS * np.abs(full).max())


def test_in_a_function_of_any_batch():
    weight = matrix(5, 12, 4, 0.5)
    sparse = encode(weight, 4)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 12])])
    def product(x):
        y = py_ops.grouped_csr_matmul(x, *arrays(sparse))
        assert y.shape.as_list() == [None, None, 5]
        return y

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def convolution(x):
        y = py_ops.grouped_csr_conv2d(x, *arrays(sparse), kernel_size=(2, 2))
        assert y.shape.as_list() == [None, None, None, 5]
        return y

    for batch in (0, 1, 3):
        x = np.random.default_rng(7).normal(size=(batch, 2, 12)).astype(np.float32)
        assert_product(product(x).numpy(), x, weight)
    for batch in (1, 3):  # TensorFlow's own conv2d, on oneDNN, gives a batch of 0 the wrong shape
        x = np.random.default_rng(8).normal(size=(batch, 3, 4, 3)).astype(np.float32)
        exact = patches(x, (2, 2), (1, 1), "valid", (1, 1))
        assert_product(convolution(x).numpy(), exact, weight)


def test_in_a_function_of_any_groups():
    """As when a SavedModel is traced with nothing known but the ranks."""
    specs = [
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None, None]),
        tf.TensorSpec([None], tf.uint16),
        tf.TensorSpec([None], tf.uint32),
    ]
    product = tf.function(py_ops.grouped_csr_matmul, input_signature=specs)
    for rows, cols, width in [(5, 12, 4), (2, 3, 8)]:
        weight = matrix(rows, cols, width, 0.5)
        x = np.ones((2, cols), np.float32)
        assert_product(product(x, *arrays(encode(weight, width))).numpy(), x, weight)


GOOD = {
    "x": np.ones((2, 7), np.float32),
    "values": np.ones((2, 4), np.float32),
    "columns": np.array([0, 3], np.uint16),
    "offsets": np.array([0, 1, 2], np.uint32),
}


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"x": np.ones((2, 7), np.int32)}, "`x` is a tensor of floats"),
        ({"x": np.float32(1)}, "`x` has the shape"),
        ({"values": np.ones((2, 4), np.float64)}, "`values` is a .groups, width. matrix"),
        ({"values": np.ones(4, np.float32)}, "`values` is a"),
        ({"columns": np.zeros(3, np.uint16)}, "`columns` has one"),
        ({"columns": np.zeros(2, np.int32)}, "`columns` has one"),
        ({"offsets": np.zeros(3, np.int32)}, "`offsets` is a uint32 vector"),
        ({"offsets": np.zeros(1, np.uint32)}, "`offsets` is a uint32 vector"),
        ({"bias": np.zeros(3, np.float32)}, "`bias` has one float per row"),
        ({"scales": np.zeros(2, np.float32)}, "`scales` belong to int8"),
        ({"values": np.ones((2, 4), np.int8)}, "int8 values need `scales`"),
        ({"activation": "tanh"}, "`activation` is one of"),
        ({"columns": np.array([0, 4], np.uint16)}, "starts too late"),
        ({"offsets": np.array([0, 1, 1], np.uint32)}, "run from 0 to"),
        ({"offsets": np.array([1, 1, 2], np.uint32)}, "run from 0 to"),
        ({"offsets": np.array([0, 3, 2], np.uint32)}, "never fall"),
    ],
)
def test_refuses(wrong, sentence):
    py_ops.grouped_csr_matmul(**GOOD)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=sentence):
        py_ops.grouped_csr_matmul(**{**GOOD, **wrong})
    specs = tf.nest.map_structure(
        lambda array: tf.TensorSpec(np.shape(array), array.dtype),
        {name: wrong.get(name, array) for name, array in GOOD.items()},
    )
    if not {*wrong} <= {*GOOD}:
        return
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=sentence):
        traced = tf.function(lambda a: py_ops.grouped_csr_matmul(**a), input_signature=[specs])
        traced({**GOOD, **wrong})


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        ({"x": np.ones((2, 7), np.float32)}, "batch, height, width, channels"),
        ({"padding": "causal"}, "`padding` is"),
        ({"activation": "gelu"}, "`activation` is"),
        ({"kernel_size": (1, 1)}, "starts too late"),
    ],
)
def test_conv2d_refuses(wrong, sentence):
    good = {
        **GOOD,
        "x": np.ones((1, 4, 4, 1), np.float32),
        "kernel_size": (1, 7),
        "padding": "same",
    }
    py_ops.grouped_csr_conv2d(**good)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match=sentence):
        py_ops.grouped_csr_conv2d(**{**good, **wrong})
