"""The kernels of custom_ops through their Python face, against float64; custom_ops/kernels_test.cc
has the same in C++, between guard pages.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from float_sums import assert_sums, gathered

from scalpel_tf.core.gcsr import GroupedCSR, decode, encode

WIDTHS = (2, 4, 8, 16)
DTYPES = ("float32", "bfloat16", "int8")


def random_matrix(seed, rows, cols, width, density, dtype, wide_columns=False):
    """(GroupedCSR, scales or None, the float64 matrix that it stands for)."""
    random = np.random.default_rng(seed)
    matrix = random.uniform(-1, 1, (rows, cols)).astype(np.float32)
    matrix *= np.repeat(random.random((rows, -(-cols // width))) < density, width, 1)[:, :cols]
    scales = None
    if dtype == "int8":
        scales = random.uniform(0.01, 1, rows).astype(np.float32)
        sparse = encode(np.round(matrix * 127).astype(np.int8), width)
        dense = decode(replace(sparse, values=sparse.values.astype(np.float64)))
        dense *= scales.astype(np.float64)[:, None]
    else:
        kind = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32
        sparse = encode(matrix.astype(kind), width)
        dense = decode(replace(sparse, values=sparse.values.astype(np.float64)))
    if wide_columns:
        sparse = replace(sparse, columns=sparse.columns.astype(np.uint32))
    return sparse, scales, dense


def uniform(seed, *shape):
    return np.random.default_rng(seed).uniform(-2, 2, shape).astype(np.float32)


def pattern(sparse):
    """The matrix of a gradient for values, which does not look at the values."""
    return replace(sparse, values=np.full(sparse.values.shape, np.nan, np.float32))


def test_this_machine_has_the_kernels_that_its_processor_can_run(kernels):
    information = Path("/proc/cpuinfo")
    if not information.exists():
        pytest.skip("Only Linux tells what its processor can do in /proc/cpuinfo.")
    has = set(information.read_text().split())
    wanted = ["scalar"]
    wanted += ["avx2"] * has.issuperset({"avx2", "fma"})
    wanted += ["avx512"] * has.issuperset({"avx512f", "avx512bw", "avx512vl", "avx512dq"})
    wanted += ["neon"] * has.issuperset({"asimd"})
    assert kernels.isas() == wanted[::-1]


SHAPES = [
    # rows, cols, n
    *((5, 24, n) for n in range(18)),
    *((7, cols, 3) for cols in (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 63, 97, 193)),
    *((17, 100, n) for n in (31, 32, 33, 64, 65)),
    *((rows, 65, 9) for rows in (1, 2, 3, 4, 13, 33, 70)),
    (33, 100, 729),
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_and_their_gradients(any_isa, width, dtype):
    for seed, (rows, cols, n) in enumerate(SHAPES):
        density = (0.3, 0.7, 1.0, 0.05)[seed % 4]
        sparse, scales, dense = random_matrix(
            seed, rows, cols, width, density, dtype, wide_columns=seed % 3 == 0
        )
        x, bias, dy = uniform(seed, n, cols), uniform(seed + 1, rows), uniform(seed + 2, n, rows)
        # A bias is one more weight, of an input that is 1.
        w = np.concatenate([dense, bias[:, None]], 1).T
        ones = np.concatenate([x, np.ones((n, 1))], 1)

        y = any_isa.matmul(sparse, x, bias=bias, scales=scales, activation="relu")
        assert_sums(y, np.matmul, ones, w, cols + 1, lambda y: np.maximum(y, 0))
        y = any_isa.matmul_columns(sparse, x.T, bias=bias, scales=scales, activation="relu6")
        assert_sums(y, np.matmul, w.T, ones.T, cols + 1, lambda y: np.clip(y, 0, 6))
        dx = any_isa.matmul_grad_inputs(sparse, dy, scales=scales)
        assert_sums(dx, np.matmul, dy, dense, rows)
        dvalues = any_isa.matmul_grad_values(pattern(sparse), x, dy)
        assert_sums(dvalues, lambda a, b, s=sparse: gathered(s, a.T @ b), dy, x, n)
        assert_sums(any_isa.bias_grad(dy), lambda a, b: b @ a, dy, np.ones(n), n)


@pytest.mark.parametrize("density", [0.0, 1.0])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_and_everything_is_kept(any_isa, width, density):
    sparse, _, dense = random_matrix(width, 9, 45, width, density, "float32")
    assert len(sparse.values) == 9 * -(-45 // width) * density
    for n in (1, 5, 40):
        x = uniform(n, n, 45)
        assert_sums(any_isa.matmul(sparse, x), np.matmul, x, dense.T, 45)


def test_empty_rows_give_their_bias(any_isa):
    matrix = np.zeros((6, 33), np.float32)
    matrix[[1, 4]] = 1
    bias = np.arange(6, dtype=np.float32)
    for n in (1, 3, 70):
        y = any_isa.matmul(encode(matrix, 8), np.ones((n, 33), np.float32), bias=bias)
        np.testing.assert_array_equal(y, np.tile([0, 34, 2, 3, 37, 5], (n, 1)))


GEOMETRIES = [
    # batch, height, width, channels, kernel_size, strides, dilation_rate
    (1, 5, 7, 1, (3, 3), (1, 1), (1, 1)),
    (3, 8, 5, 3, (3, 3), (2, 1), (1, 1)),
    (0, 8, 5, 3, (3, 3), (1, 1), (1, 1)),
    (1, 13, 13, 7, (5, 5), (1, 1), (1, 1)),
    (2, 9, 11, 16, (3, 2), (1, 1), (2, 3)),
    (1, 14, 14, 32, (1, 1), (1, 1), (1, 1)),
    (3, 7, 6, 17, (1, 1), (2, 3), (1, 1)),
    (2, 2, 3, 5, (3, 5), (1, 1), (1, 1)),  # a kernel larger than its image
    (1, 1, 1, 8, (3, 3), (2, 2), (1, 1)),
    (1, 30, 28, 3, (11, 11), (4, 4), (1, 1)),
]


def convolution(geometry, padding):
    *_, channels, kernel_size, strides, (down, right) = geometry
    height, width = kernel_size

    def product(x, matrix):
        # TensorFlow has no gradient of a dilated convolution on a CPU: zeros between the taps.
        kernel = tf.reshape(tf.transpose(matrix), [height, 1, width, 1, channels, -1])
        kernel = tf.pad(kernel, [[0, 0], [0, down - 1], [0, 0], [0, right - 1], [0, 0], [0, 0]])
        kernel = tf.reshape(kernel, [height * down, width * right, channels, -1])
        kernel = kernel[: (height - 1) * down + 1, : (width - 1) * right + 1]
        return tf.nn.conv2d(x, kernel, strides, padding.upper())

    return product


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_convolutions_and_their_gradients(any_isa, width, dtype, padding):
    for seed, geometry in enumerate(GEOMETRIES):
        *shape, kernel_size, strides, dilation_rate = geometry
        if padding == "valid" and np.any(np.array(kernel_size) > shape[1:3]):
            continue
        rows, cols = (1, 5, 32, 33)[seed % 4], int(np.prod(kernel_size)) * shape[3]
        sparse, scales, dense = random_matrix(seed, rows, cols, width, 0.5, dtype)
        product = convolution(geometry, padding)
        form = {"kernel_size": kernel_size, "strides": strides, "padding": padding}
        form["dilation_rate"] = dilation_rate
        x = uniform(seed, *shape)

        y = any_isa.conv2d(sparse, x, scales=scales, **form)
        assert_sums(y, product, x, dense, cols)
        dy = uniform(seed + 1, *y.shape)

        def grad(which, x, dense, dy, product=product):
            x, dense = tf.constant(x, tf.float64), tf.constant(dense)
            with tf.GradientTape() as tape:
                tape.watch((x, dense))
                y = product(x, dense)
            return tape.gradient(y, (x, dense), tf.constant(dy, tf.float64))[which].numpy()

        dx = any_isa.conv2d_grad_inputs(sparse, dy, x.shape, scales=scales, **form)
        assert_sums(dx, lambda a, b, x=x: grad(0, x, b, a), dy, dense, rows * cols)
        dvalues = any_isa.conv2d_grad_values(pattern(sparse), x, dy, **form)
        positions = y.size // rows
        assert_sums(
            dvalues,
            lambda a, b, s=sparse, w=dense: gathered(s, grad(1, b, w, a)),
            *(dy, x, positions),
        )


def test_the_bits_are_those_of_one_thread_whoever_else_is_calling(any_isa):
    problems = [random_matrix(seed, 64, 257, 8, 0.4, DTYPES[seed % 3]) for seed in range(6)]
    inputs = [uniform(seed, n, 257) for seed, n in enumerate((1, 2, 5, 17, 65, 200))]

    def run(i):
        sparse, scales, _ = problems[i]
        return any_isa.matmul(sparse, inputs[i], scales=scales).tobytes()

    any_isa.set_threads(1)
    alone = [run(i) for i in range(6)]
    for threads in (2, 5):
        any_isa.set_threads(threads)
        assert [run(i) for i in range(6)] == alone
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(run, [i % 6 for i in range(240)])) == alone * 40


def valid():
    """Two rows of 20 in groups of 8: columns 0 and 12, then 8."""
    values = np.ones((3, 8), np.float32)
    columns, offsets = np.array([0, 12, 8], np.uint16), np.array([0, 2, 3], np.uint32)
    return GroupedCSR(values, columns, offsets, (2, 20))


def changed(**arrays):
    original = valid()
    kinds = {name: getattr(original, name).dtype for name in arrays if name != "shape"}
    return replace(
        original,
        **{name: np.array(a, kinds[name]) if name in kinds else a for name, a in arrays.items()},
    )


@pytest.mark.parametrize(
    "sparse, sentence",
    [
        (changed(columns=[0, 13, 8]), r"\[0, 12\].*a row of 20; got 13 in row 0"),
        (changed(columns=[12, 0, 8]), "ascend within a row; column 0 follows 12 in row 0"),
        (changed(columns=[4, 4, 8]), "ascend within a row; column 4 follows 4 in row 0"),
        (changed(columns=[0, 12, 65535]), "got 65535 in row 1"),
        (changed(offsets=[1, 2, 3]), "from 0 to the number of groups, 3; got 1 to 3"),
        (changed(offsets=[0, 2, 2]), "got 0 to 2"),
        (changed(offsets=[0, 4, 3]), "never fall.*row 1 has 4 to 3"),
        (changed(offsets=[0, 3]), "2 rows has 3 offsets; got 2"),
        (changed(shape=(1, 20)), "1 rows has 2 offsets; got 3"),
        (changed(shape=(2, 0)), "at least one column.*got 2 x 0"),
        (changed(shape=(-1, 20)), "got -1 x 20"),
        (changed(shape=(2, 1 << 40)), "2\\^40"),
        (changed(values=np.ones((3, 3))), "2, 4, 8 or 16 values; got values of width 3"),
    ],
)
def test_what_is_no_grouped_csr_is_refused_with_a_sentence(kernels, sparse, sentence):
    kernels.check(valid())
    with pytest.raises(ValueError, match=sentence):
        kernels.check(sparse)


IMAGE = {"kernel_size": (1, 1)}


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.int8])
def test_gradients_for_values_do_not_ask_what_the_values_are(kernels, dtype):
    x, dy = uniform(0, 6, 20), uniform(1, 6, 2)
    image, dy_image = x.reshape(2, 3, 1, 20), dy.reshape(2, 3, 1, 2)
    typed = replace(valid(), values=valid().values.astype(dtype))
    expected = kernels.matmul_grad_values(valid(), x, dy)
    np.testing.assert_array_equal(kernels.matmul_grad_values(typed, x, dy), expected)
    images = kernels.conv2d_grad_values(typed, image, dy_image, **IMAGE)
    np.testing.assert_allclose(images, expected, rtol=0, atol=6 * 2**-23 * 6 * 4)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda k, w: k.matmul(w, ones(3, 19)), r"has 20 columns; got inputs of shape \(3, 19\)"),
        (
            lambda k, w: k.matmul(w, ones(3, 20), bias=ones(3)),
            r"`bias` is .* \(2,\) here; .* \(3,\)",
        ),
        (
            lambda k, w: k.matmul(w, ones(3, 20), out=ones(2, 3)),
            r"`out` is float32 of shape \(3, 2\)",
        ),
        (lambda k, w: k.matmul_columns(w, ones(20, 3), out=ones(3, 2)), r"`out` .* \(2, 3\) here"),
        (lambda k, w: k.matmul(w, ones(3, 20), out=np.ones((3, 2))), "`out` .* got float64"),
        (lambda k, w: k.matmul(w, ones(2, 20), out=ones(2, 2).T), "C-contiguous"),
        (
            lambda k, w: k.matmul(w, ones(3, 20), scales=ones(2)),
            "belong to int8 values; got float32",
        ),
        (lambda k, w: k.matmul(int8(w), ones(3, 20)), "belong to int8 values; got int8"),
        (lambda k, w: k.matmul(int8(w), ones(3, 20), scales=ones(3)), r"`scales` .* \(2,\) here"),
        (lambda k, w: k.matmul(int8(w), ones(3, 20), scales=np.ones(2)), "`scales` .* got float64"),
        (lambda k, w: k.matmul_grad_inputs(w, ones(3, 3)), r"`dy` .* \(3, 2\) here"),
        (lambda k, w: k.matmul_grad_values(w, ones(3, 20), ones(2, 2)), r"`dy` .* \(3, 2\) here"),
        (lambda k, w: k.matmul_grad_values(w, ones(3, 19), ones(3, 2)), r"`x` .* \(3, 20\) here"),
        (lambda k, w: k.conv2d(w, ones(1, 3, 3, 19), **IMAGE), "on 19 channels has 19 columns"),
        (
            lambda k, w: k.conv2d_grad_inputs(w, ones(1, 3, 2, 2), (1, 3, 3, 20), **IMAGE),
            r"`dy` .* \(1, 3, 3, 2\) here",
        ),
        (
            lambda k, w: k.conv2d_grad_values(w, ones(1, 3, 3, 20), ones(1, 3, 3, 1), **IMAGE),
            r"`dy` .* \(1, 3, 3, 2\) here",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(kernels, call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(kernels, valid())


def ones(*shape):
    return np.ones(shape, np.float32)


def int8(sparse):
    return replace(sparse, values=sparse.values.astype(np.int8))
