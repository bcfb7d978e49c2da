"""The C++ ops and what stands in for them, through the functions that layers call."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from test_py_ops import ACTIVATIONS, arrays, assert_product, matrix, patches

from scalpel_tf.core.gcsr import decode, encode
from scalpel_tf.deploy import ops

ROOT = Path(__file__).resolve().parent.parent
GEOMETRIES = [  # kernel, strides, dilation, channels
    ((1, 1), (1, 1), (1, 1), 5),
    ((3, 3), (1, 1), (1, 1), 3),
    ((3, 2), (2, 3), (1, 1), 1),
    ((2, 3), (1, 1), (3, 2), 2),
    ((3, 3), (2, 2), (2, 2), 4),
]


pytestmark = pytest.mark.usefixtures("library")


def exact(rng, *shape):
    """Eighths: float32 adds up hundreds of products of three without rounding, in any order."""
    return (rng.integers(-16, 17, shape) / 8).astype(np.float32)


def exact_matrix(rows, cols, width, seed=0, dtype=np.float32):
    sparse = encode(matrix(rows, cols, width, 0.5, seed), width)
    values = np.where(
        sparse.values != 0, exact(np.random.default_rng(seed), *sparse.values.shape), 0
    )
    return values.astype(dtype), sparse.columns, sparse.offsets


def finite_differences(function, argument, upstream):
    """d sum(upstream function(argument)) / d argument, of a function that is linear in it.

    Central differences of a linear function are its slopes; on eighths they are computed exactly.
    """
    slopes = np.empty(argument.shape, np.float64)
    for index in np.ndindex(argument.shape):
        step = np.zeros(argument.shape, argument.dtype)
        step[index] = 1
        above, below = function(argument + step), function(argument - step)
        difference = np.asarray(above, np.float64) - np.asarray(below, np.float64)
        slopes[index] = np.sum(difference * upstream) / 2
    return slopes


def gradients(function, arguments, upstream):
    arguments = [tf.constant(argument) for argument in arguments]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        y = function(*arguments)
    return tape.gradient(y, arguments, upstream)


def test_finite_differences_sees_a_wrong_slope():
    a, upstream = np.float32([[1, 2], [3, 4]]), np.float32([1, 0.5])
    slopes = finite_differences(lambda x: x @ a, np.zeros(2, np.float32), upstream)
    np.testing.assert_array_equal(slopes, a @ upstream)
    assert (slopes != upstream @ a).any()


@pytest.mark.parametrize("width", [2, 4, 8, 16])
@pytest.mark.parametrize("cols", [1, 3, 16, 31])
@pytest.mark.parametrize("density", [0.0, 0.4, 1.0])
def test_matmul(engine, width, cols, density):
    weight = matrix(5, cols, width, density)
    for samples in (0, 1, 3, 17, 64):
        x = np.random.default_rng(1).normal(size=(samples, cols)).astype(np.float32)
        y = ops.grouped_csr_matmul(x, *arrays(encode(weight, width)))
        assert_product(y.numpy(), x, weight)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_bias_activation_and_rank(engine, activation):
    weight = 4 * matrix(6, 13, 4, 0.5)
    rng = np.random.default_rng(2)
    bias = rng.normal(size=6).astype(np.float32)
    for shape in [(13,), (2, 13), (2, 3, 13), (0, 3, 13)]:
        x = rng.normal(size=shape).astype(np.float32)
        sparse = arrays(encode(weight, 4))
        y = ops.grouped_csr_matmul(x, *sparse, bias=bias, activation=activation)
        assert_product(y.numpy(), x, weight, bias, activation)


@pytest.mark.parametrize("columns", [np.uint16, np.uint32])
def test_values_of_other_types(engine, columns):
    weight = matrix(7, 21, 4, 0.6)
    x = np.random.default_rng(3).normal(size=(4, 21)).astype(np.float32)
    for dtype in (ml_dtypes.bfloat16, np.float16, np.float64):
        sparse = encode(weight.astype(dtype), 4)
        values = sparse.values
        if engine == "tensorflow" and dtype != ml_dtypes.bfloat16:
            values = values.astype(np.float32)
        y = ops.grouped_csr_matmul(x, values, sparse.columns.astype(columns), sparse.offsets)
        assert_product(y.numpy(), x, decode(sparse).astype(np.float32))
    scales = np.linspace(0.01, 0.07, 7, dtype=np.float32)
    sparse = encode((weight * 40).round().clip(-127, 127).astype(np.int8), 4)
    y = ops.grouped_csr_matmul(
        x, sparse.values, sparse.columns.astype(columns), sparse.offsets, scales=scales
    )
    assert_product(y.numpy(), x, decode(sparse) * scales[:, None].astype(np.float64))


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float64])
def test_the_result_has_the_dtype_of_x(engine, dtype):
    sparse = exact_matrix(4, 20, 4)
    x = exact(np.random.default_rng(4), 3, 20)
    y = ops.grouped_csr_matmul(tf.cast(x, dtype), *sparse)
    expected = tf.cast(ops.grouped_csr_matmul(x, *sparse), dtype)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel_size, strides, dilation, channels", GEOMETRIES)
def test_conv2d(engine, kernel_size, strides, dilation, channels, padding):
    weight = matrix(6, np.prod(kernel_size) * channels, 4, 0.5)
    rng = np.random.default_rng(5)
    x = rng.normal(size=(2, 9, 11, channels)).astype(np.float32)
    bias = rng.normal(size=6).astype(np.float32)
    geometry = {"strides": strides, "dilation_rate": dilation, "padding": padding}
    y = ops.grouped_csr_conv2d(
        x,
        *arrays(encode(weight, 4)),
        kernel_size=kernel_size,
        **geometry,
        bias=bias,
        activation="relu",
    )
    exact_sum = patches(x, kernel_size, strides, padding, dilation)
    assert_product(y.numpy(), exact_sum, weight, bias, "relu")


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("cols", [3, 13])
def test_gradients_of_matmul(engine, cols, dtype):
    rng = np.random.default_rng(6)
    values, columns, offsets = exact_matrix(5, cols, 4, dtype=dtype)
    x, bias, upstream = exact(rng, 3, cols), exact(rng, 5), exact(rng, 3, 5)

    def product(x, values, bias):
        return ops.grouped_csr_matmul(x, values, columns, offsets, bias=bias)

    dx, dvalues, dbias = gradients(product, (x, values, bias), upstream)
    assert dvalues.dtype == dtype
    expected = finite_differences(lambda a: product(a, values, bias), x, upstream)
    np.testing.assert_array_equal(dx, expected)
    expected = finite_differences(lambda a: product(x, a, bias), values, upstream)
    np.testing.assert_array_equal(dvalues, expected.astype(dtype))
    expected = finite_differences(lambda a: product(x, values, a), bias, upstream)
    np.testing.assert_array_equal(dbias, expected)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel_size, strides, dilation, channels", GEOMETRIES)
def test_gradients_of_conv2d(engine, kernel_size, strides, dilation, channels, padding):
    rng = np.random.default_rng(7)
    values, columns, offsets = exact_matrix(3, np.prod(kernel_size) * channels, 4)
    x, bias = exact(rng, 1, 5, 6, channels), exact(rng, 3)
    geometry = {"strides": strides, "dilation_rate": dilation, "padding": padding}

    def product(x, values, bias):
        return ops.grouped_csr_conv2d(
            x, values, columns, offsets, kernel_size=kernel_size, bias=bias, **geometry
        )

    upstream = exact(rng, *product(x, values, bias).shape)
    dx, dvalues, dbias = gradients(product, (x, values, bias), upstream)
    expected = finite_differences(lambda a: product(a, values, bias), x, upstream)
    np.testing.assert_array_equal(dx, expected)
    expected = finite_differences(lambda a: product(x, a, bias), values, upstream)
    np.testing.assert_array_equal(dvalues, expected)
    expected = finite_differences(lambda a: product(x, values, a), bias, upstream)
    np.testing.assert_array_equal(dbias, expected)


@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_gradients_pass_a_fused_activation(engine, activation):
    """As they pass the activation when it stands outside; some sums are 0, 6 and beyond."""
    rng = np.random.default_rng(8)
    values, columns, offsets = exact_matrix(12, 18, 4)
    x, bias, upstream = exact(rng, 9, 18), exact(rng, 12), exact(rng, 9, 12)

    def fused(x, values, bias):
        return ops.grouped_csr_matmul(x, values, columns, offsets, bias=bias, activation=activation)

    def apart(x, values, bias):
        return getattr(tf.nn, activation)(
            ops.grouped_csr_matmul(x, values, columns, offsets, bias=bias)
        )

    for got, expected in zip(
        gradients(fused, (x, values, bias), upstream),
        gradients(apart, (x, values, bias), upstream),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


def test_gradients_of_int8_reach_the_inputs(engine):
    rng = np.random.default_rng(9)
    values, columns, offsets = exact_matrix(5, 13, 4)
    values, scales = (8 * values).astype(np.int8), np.float32([1, 0.5, 2, 1, 0.25])
    x, upstream = exact(rng, 3, 13), exact(rng, 3, 5)

    def product(x):
        return ops.grouped_csr_matmul(x, values, columns, offsets, scales=scales)

    (dx,) = gradients(product, (x,), upstream)
    np.testing.assert_array_equal(dx, finite_differences(product, x, upstream))


def test_shapes_are_known_while_tracing(engine):
    values, columns, offsets = exact_matrix(5, 12, 4)

    @tf.function(input_signature=[tf.TensorSpec([None, None, 12])])
    def product(x):
        y = ops.grouped_csr_matmul(x, values, columns, offsets)
        assert y.shape.as_list() == [None, None, 5]
        (dx,) = tf.gradients(y, x)
        assert dx.shape.as_list() == [None, None, 12]
        return y

    @tf.function(input_signature=[tf.TensorSpec([None, 9, None, 3])])
    def convolution(x):
        for padding, places in [("valid", 4), ("same", 5)]:
            y = ops.grouped_csr_conv2d(
                x, values, columns, offsets, kernel_size=(2, 2), strides=(2, 2), padding=padding
            )
            assert y.shape.as_list() == [None, places, None, 5]
        (dx,) = tf.gradients(y, x)
        assert dx.shape.as_list() == [None, 9, None, 3]
        return y

    assert product(np.ones((2, 3, 12), np.float32)).shape == (2, 3, 5)
    assert convolution(np.ones((2, 9, 6, 3), np.float32)).shape == (2, 5, 3, 5)


def test_shape_functions_of_the_ops(library):
    """What the C++ library itself infers, from shapes alone."""

    def spec(dtype, *shape):
        return tf.TensorSpec(shape, dtype)

    known = [spec(tf.float32, 7, 4), spec(tf.uint16, 7), spec(tf.uint32, 6)]
    unknown = [spec(tf.float32, None, 4), spec(tf.uint16, None), spec(tf.uint32, None)]
    vector, image = spec(tf.float32, 0), {"kernel_size": [1, 1], "strides": [1, 1]}
    image |= {"dilations": [1, 1], "padding": "SAME"}

    def inferred(op, *specs, **attributes):
        traced = tf.function(lambda *a: op(*a, **attributes), input_signature=specs)
        return traced.get_concrete_function().outputs[0].shape.as_list()

    product = library.grouped_csr_mat_mul
    assert inferred(product, spec(tf.float32, None, 12), *known, vector, vector) == [None, 5]
    assert inferred(product, spec(tf.float32, 3, 12), *unknown, vector, vector) == [3, None]
    x = spec(tf.float32, 2, 8, 8, 3)
    product = library.grouped_csr_conv2d
    assert inferred(product, x, *known, vector, vector, **image) == [2, None, None, 5]
    grad = library.grouped_csr_mat_mul_grad_inputs
    assert inferred(grad, spec(tf.float32, 3, 5), *known, vector, cols=9) == [3, None]
    grad = library.grouped_csr_mat_mul_grad_values
    x, dy = spec(tf.float32, 3, 12), spec(tf.float32, 3, 5)
    assert inferred(grad, x, dy, *known[1:], width=4) == [7, None]
    assert inferred(library.grouped_csr_bias_grad, spec(tf.float32, None, 8, 5)) == [5]
    with pytest.raises(ValueError, match="rank 2 but is rank 1"):
        inferred(library.grouped_csr_mat_mul, vector, *known, vector, vector)


def test_many_callers_get_identical_bits():
    rng = np.random.default_rng(10)
    sparse = [tf.constant(array) for array in arrays(encode(matrix(256, 512, 8, 0.3), 8))]
    xs = [tf.constant(rng.normal(size=(n, 512)), tf.float32) for n in (1, 33)]
    expected = [ops.grouped_csr_matmul(x, *sparse).numpy().tobytes() for x in xs]

    def call(index):
        return ops.grouped_csr_matmul(xs[index % 2], *sparse).numpy().tobytes()

    with ThreadPoolExecutor(16) as pool:
        for index, bits in enumerate(pool.map(call, range(400))):
            assert bits == expected[index % 2]


def test_in_the_workers_of_a_dataset(engine):
    sparse = exact_matrix(5, 12, 4)
    xs = exact(np.random.default_rng(11), 40, 2, 12)
    data = tf.data.Dataset.from_tensor_slices(xs)
    data = data.map(lambda x: ops.grouped_csr_matmul(x, *sparse), num_parallel_calls=4)
    for x, y in zip(xs, data, strict=True):
        np.testing.assert_array_equal(y, ops.grouped_csr_matmul(x, *sparse))


RELOAD = """
import sys
import numpy as np, tensorflow as tf, scalpel_tf
module = tf.saved_model.load(sys.argv[1])
x = tf.constant(np.load(sys.argv[1] + "/x.npy"))
with tf.GradientTape() as tape:
    y = module(x)
dvalues = tape.gradient(y, module.values)
np.savez(sys.argv[1] + "/y.npz", y=y, dvalues=dvalues)
"""


def test_saved_model_in_a_fresh_process(engine, tmp_path):
    class Net(tf.Module):
        def __init__(self):
            values, columns, offsets = exact_matrix(5, 12, 4)
            self.values, self.columns = tf.Variable(values), tf.Variable(columns)
            self.offsets = tf.Variable(offsets)

        @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3])])
        def __call__(self, x):
            y = ops.grouped_csr_conv2d(
                x, self.values, self.columns, self.offsets, kernel_size=(2, 2), activation="relu"
            )
            return ops.grouped_csr_matmul(
                tf.reshape(y, [-1, 15]), *exact_matrix(3, 15, 4), activation="relu6"
            )

    net, x = Net(), exact(np.random.default_rng(12), 2, 4, 4, 3)
    tf.saved_model.save(net, str(tmp_path))
    np.save(tmp_path / "x.npy", x)
    process([sys.executable, "-c", RELOAD, str(tmp_path)])
    with tf.GradientTape() as tape:
        y = net(x)
    result = np.load(tmp_path / "y.npz")
    np.testing.assert_array_equal(result["y"], y)
    np.testing.assert_array_equal(result["dvalues"], tape.gradient(y, net.values))


def process(command):
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


THREADS = """
import numpy as np, tensorflow as tf
from scalpel_tf.deploy import ops
tf.config.threading.set_intra_op_parallelism_threads(3)
ops.grouped_csr_matmul(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32), np.uint16([0]),
                       np.uint32([0, 1]))
print(ops._load()[0].kernels.threads)
"""


def test_threads_are_those_of_tensorflow():
    assert process([sys.executable, "-c", THREADS])[-1] == "3"


TWICE = """
import shutil, sys
import numpy as np, tensorflow as tf
from scalpel_tf.deploy import op_library, ops
assert ops.available(), ops.why_not()
library = next(path for path in op_library.paths() if path.exists())
tf.load_op_library(str(library))
tf.load_op_library(shutil.copy(library, sys.argv[1]))
y = ops.grouped_csr_matmul(np.ones((1, 2), np.float32), np.ones((1, 2), np.float32),
                           np.uint16([0]), np.uint32([0, 1]))
print(y.numpy().tolist())
"""


def test_a_library_may_be_loaded_twice(tmp_path):
    assert process([sys.executable, "-c", TWICE, str(tmp_path / "copy.so")])[-1] == "[[2.0]]"
