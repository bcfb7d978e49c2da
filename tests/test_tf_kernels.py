"""The C++ ops refuse malformed arguments with one sentence, and take those of size zero."""

import numpy as np
import pytest
import tensorflow as tf

VALUES = np.ones((3, 4), np.float32)
ARRAYS = {  # 2 x 7
    "columns": np.array([0, 3, 3], np.uint16),
    "offsets": np.array([0, 2, 3], np.uint32),
}
NONE = np.zeros(0, np.float32)
MATRIX = {"values": VALUES, **ARRAYS, "scales": NONE}
IMAGE = {"kernel_size": [1, 7], "strides": [1, 1], "dilations": [1, 1], "padding": "SAME"}
FLOATS = np.ones((5, 7), np.float32)
SUMS = np.ones((5, 2), np.float32)
PIXELS = np.ones((1, 2, 9, 1), np.float32)
OUTPUTS = np.ones((1, 2, 9, 2), np.float32)

MATMUL = ("grouped_csr_mat_mul", {"x": FLOATS, **MATRIX, "bias": NONE})
MATMUL_INPUTS = ("grouped_csr_mat_mul_grad_inputs", {"grad": SUMS, **MATRIX, "cols": 7})
MATMUL_VALUES = (
    "grouped_csr_mat_mul_grad_values",
    {"x": FLOATS, "grad": SUMS, **ARRAYS, "width": 4},
)
CONV = ("grouped_csr_conv2d", {"x": PIXELS, **MATRIX, "bias": NONE, **IMAGE})
CONV_INPUTS = (
    "grouped_csr_conv2d_grad_inputs",
    {"grad": OUTPUTS, **MATRIX, "input_shape": np.array([1, 2, 9, 1], np.int32), **IMAGE},
)
CONV_VALUES = (
    "grouped_csr_conv2d_grad_values",
    {"x": PIXELS, "grad": OUTPUTS, **ARRAYS, "width": 4, **IMAGE},
)
BIAS = ("grouped_csr_bias_grad", {"grad": SUMS})
ALL = [MATMUL, MATMUL_INPUTS, MATMUL_VALUES, CONV, CONV_INPUTS, CONV_VALUES, BIAS]


def zeros(*shape, dtype=tf.float32):
    return tf.zeros(shape, dtype)


MALFORMED = [
    (MATMUL, {"x": np.ones(7, np.float32)}, r"`x` has the shape \(samples, cols\); got \(7,\)."),
    (MATMUL, {"x": FLOATS[:, :6]}, r"Columns lie in \[0, 2\] .*; got 3 in row 0."),
    (MATMUL, {"x": FLOATS[:, :0]}, "at least one column"),
    (MATMUL, {"values": VALUES[0]}, r"`values` has the shape \(groups, width\); got \(4,\)."),
    (MATMUL, {"values": VALUES[:, :3]}, "Groups hold 2, 4, 8 or 16 values; got a width of 3."),
    (MATMUL, {"values": zeros(0, 1 << 33)}, "got a width of 8589934592."),
    (MATMUL, {"values": VALUES[:2]}, r"`columns` has to have the shape \(2,\) here; got \(3,\)."),
    (MATMUL, {"columns": np.zeros((3, 1), np.uint16)}, r"`columns` has the shape \(groups,\)"),
    (MATMUL, {"columns": np.array([0, 4, 3], np.uint16)}, "got 4 in row 0."),
    (MATMUL, {"columns": np.array([0, 3, 2**32 - 1], np.uint32)}, "got 4294967295 in row 1."),
    (MATMUL, {"columns": np.array([3, 0, 3], np.uint16)}, "column 0 follows 3 in row 0."),
    (MATMUL, {"offsets": np.zeros((3, 1), np.uint32)}, r"`offsets` has the shape \(rows \+ 1,\)"),
    (MATMUL, {"offsets": np.zeros(0, np.uint32)}, "`offsets` has rows . 1 entries, at least 1"),
    (MATMUL, {"offsets": np.array([0, 2, 4], np.uint32)}, "number of groups, 3; got 0 to 4."),
    (MATMUL, {"offsets": np.array([1, 2, 3], np.uint32)}, "number of groups, 3; got 1 to 3."),
    (MATMUL, {"offsets": np.array([0, 2**32 - 1, 3], np.uint32)}, "row 1 has 4294967295 to 3."),
    (MATMUL, {"scales": np.ones(2, np.float32)}, r"`scales` has to have the shape \(0,\)"),
    (MATMUL, {"values": VALUES.astype(np.int8)}, r"`scales` has to have the shape \(2,\)"),
    (MATMUL, {"bias": np.ones(3, np.float32)}, r"`bias` has to have the shape \(2,\)"),
    (MATMUL, {"bias": np.ones((1, 2), np.float32)}, r"`bias` has the shape \(rows,\)"),
    (MATMUL, {"x": zeros(1 << 62, 0)}, "at least one column"),
    (MATMUL_INPUTS, {"cols": 6}, "got 3 in row 0."),
    (MATMUL_INPUTS, {"cols": -1}, "at least one column"),
    (MATMUL_INPUTS, {"cols": 1 << 62}, r"fewer than 2\^40 together"),
    (MATMUL_INPUTS, {"grad": SUMS[:, :1]}, r"`grad` has to have the shape \(5, 2\)"),
    (MATMUL_INPUTS, {"grad": SUMS[0]}, r"`grad` has the shape \(samples, rows\)"),
    (MATMUL_VALUES, {"width": 1 << 32 | 4}, "got a width of 4294967300."),
    (MATMUL_VALUES, {"grad": SUMS[:4]}, r"`grad` has to have the shape \(5, 2\)"),
    (CONV, {"x": PIXELS[0]}, r"`x` has the shape \(batch, height, width, channels\)"),
    (CONV, {"x": PIXELS[..., :0]}, "at least 1; got 0."),
    (CONV, {"x": PIXELS[:, :0]}, "at least 1; got 0."),
    (CONV, {"x": zeros(0, 1 << 61, 1, 1)}, r"Images have sizes in \[0, 2\^40\]"),
    (CONV, {"kernel_size": [1, 6]}, "got 3 in row 0."),
    (CONV, {"kernel_size": [1, 2, 3]}, "`kernel_size` is a height and a width; got 3 numbers."),
    (CONV, {"strides": [1, 0]}, r"`strides` has numbers in \[1, 2147483647\]; got 0."),
    (CONV, {"dilations": [-1, 1]}, r"`dilations` has numbers in .*; got -1."),
    (CONV, {"kernel_size": [1 << 31, 1]}, "`kernel_size` has numbers in"),
    (CONV, {"kernel_size": [(1 << 31) - 1] * 2}, "2.40"),
    (CONV_INPUTS, {"input_shape": np.ones(3, np.int32)}, r"`input_shape` has to have the shape"),
    (CONV_INPUTS, {"input_shape": np.array([1, 2, -9, 1], np.int32)}, "Images have sizes in"),
    (CONV_INPUTS, {"input_shape": np.array([1, 2, 8, 1], np.int32)}, r"shape \(1, 2, 8, 2\) here"),
    (CONV_INPUTS, {"input_shape": np.full(4, 2**31 - 1, np.int32)}, r"2\^40|too many"),
    (CONV_VALUES, {"grad": OUTPUTS[:, :1]}, r"`grad` has to have the shape \(1, 2, 9, 2\)"),
    (CONV_VALUES, {"width": 0}, "got a width of 0."),
    (BIAS, {"grad": np.float32(1)}, r"`grad` has the shape \(\.\.\., rows\); got a scalar."),
]


def in_a_function(op, arguments):
    """The op in a graph that knows nothing of its arguments' shapes."""
    tensors = {name: a for name, a in arguments.items() if not isinstance(a, (int, str, list))}
    attributes = {name: a for name, a in arguments.items() if name not in tensors}
    specs = {name: tf.TensorSpec(None, tf.as_dtype(a.dtype)) for name, a in tensors.items()}
    traced = tf.function(lambda tensors: op(**tensors, **attributes), input_signature=[specs])
    return traced({name: tf.convert_to_tensor(a) for name, a in tensors.items()})


@pytest.mark.parametrize("op, wrong, sentence", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_arguments_are_refused(library, op, wrong, sentence):
    name, good = op
    getattr(library, name)(**good)
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        getattr(library, name)(**{**good, **wrong})
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        in_a_function(getattr(library, name), {**good, **wrong})


@pytest.mark.parametrize("wrong", [{"values": VALUES.astype(np.int16)}, {"activation": "TANH"}])
def test_other_types_and_words_are_refused_by_tensorflow(library, wrong):
    name, good = MATMUL
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="is not in the list of allowed values"
    ):
        getattr(library, name)(**{**good, **wrong})


@pytest.mark.parametrize(
    "samples, error, sentence",
    [
        (1 << 20, tf.errors.ResourceExhaustedError, "OOM|memory"),
        (1 << 24, tf.errors.InvalidArgumentError, "has too many elements"),
    ],
)
def test_outputs_that_no_memory_holds(library, samples, error, sentence):
    """2^62 bytes are more than an address space, and 2^66 more than a number of 64 bits."""
    arrays = {"values": VALUES[:0], "columns": np.zeros(0, np.uint16), "scales": NONE}
    with pytest.raises(error, match=sentence):
        library.grouped_csr_mat_mul_grad_inputs(
            grad=zeros(samples, 1), offsets=np.zeros(2, np.uint32), **arrays, cols=1 << 40
        )


@pytest.mark.parametrize(
    "op, empty, expected",
    [
        (MATMUL, {"x": FLOATS[:0]}, (0, 2)),
        (MATMUL_INPUTS, {"grad": SUMS[:0]}, (0, 7)),
        (MATMUL_VALUES, {"x": FLOATS[:0], "grad": SUMS[:0]}, (3, 4)),
        (CONV, {"x": PIXELS[:0]}, (0, 2, 9, 2)),
        (CONV, {"padding": "VALID", "dilations": [1, 2]}, (1, 2, 0, 2)),
        (
            CONV_INPUTS,
            {"grad": OUTPUTS[:0], "input_shape": np.array([0, 2, 9, 1], np.int32)},
            (0, 2, 9, 1),
        ),
        (CONV_VALUES, {"x": PIXELS[:0], "grad": OUTPUTS[:0]}, (3, 4)),
        (BIAS, {"grad": SUMS[:0]}, (2,)),
        (BIAS, {"grad": SUMS[:, :0]}, (0,)),
    ],
)
def test_no_samples_give_no_outputs_and_gradients_of_zero(library, op, empty, expected):
    name, good = op
    for run in (lambda op, arguments: op(**arguments), in_a_function):
        y = run(getattr(library, name), {**good, **empty})
        np.testing.assert_array_equal(y, np.zeros(expected, np.float32))


@pytest.mark.parametrize("op", [MATMUL, MATMUL_INPUTS, CONV, CONV_INPUTS])
def test_no_groups_give_zeros(library, op):
    name, good = op
    nothing = {"values": VALUES[:0], "columns": ARRAYS["columns"][:0]}
    y = getattr(library, name)(**{**good, **nothing, "offsets": np.zeros(3, np.uint32)})
    np.testing.assert_array_equal(y, np.zeros(y.shape, np.float32))


def test_no_rows_give_no_outputs(library):
    nothing = {"values": VALUES[:0], "columns": ARRAYS["columns"][:0]}
    name, good = MATMUL
    y = getattr(library, name)(**{**good, **nothing, "offsets": np.zeros(1, np.uint32)})
    assert y.shape == (5, 0)
