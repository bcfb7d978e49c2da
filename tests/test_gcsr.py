"""Grouped CSR: literal arrays, round trips, and what `validate` refuses."""

from dataclasses import replace

import numpy as np
import pytest

from scalpel_tf.core.gcsr import GroupedCSR, decode, encode, validate


@pytest.mark.parametrize(
    "matrix, width, values, columns, offsets",
    [
        ([[1, 2, 0, 0], [0, 0, 0, 3]], 2, [[1, 2], [0, 3]], [0, 2], [0, 1, 2]),
        # the last group of 5 columns starts at 3, and the lane of its neighbour is 0
        ([[0, 0, 1, 2, 3]], 2, [[1, 2], [0, 3]], [2, 3], [0, 2]),
        ([[0, 0, 0, 9, 3]], 4, [[0, 0, 0, 9], [0, 0, 0, 3]], [0, 1], [0, 2]),
        ([[7, 0, 8]], 4, [[7, 0, 8, 0]], [0], [0, 1]),  # a row shorter than a group is padded
        ([[0, 0], [0, 0], [0, 1]], 2, [[0, 1]], [0], [0, 0, 0, 1]),  # empty rows
        ([[5, 6, 7]], 1, [[5], [6], [7]], [0, 1, 2], [0, 3]),
    ],
)
def test_encode(matrix, width, values, columns, offsets):
    sparse = encode(np.array(matrix, np.int8), width)
    np.testing.assert_array_equal(sparse.values, np.array(values, np.int8))
    np.testing.assert_array_equal(sparse.columns, columns)
    np.testing.assert_array_equal(sparse.offsets, offsets)
    assert sparse.values.dtype == np.int8
    assert sparse.columns.dtype == np.uint16 and sparse.offsets.dtype == np.uint32


def test_encode_of_nothing():
    sparse = encode(np.zeros((2, 5), np.float32), 4)
    assert sparse.values.shape == (0, 4) and sparse.values.dtype == np.float32
    np.testing.assert_array_equal(sparse.offsets, [0, 0, 0])


@pytest.mark.parametrize("cols, dtype", [(65536, np.uint16), (65537, np.uint32)])
def test_columns_widen_where_a_row_is_longer_than_65536(cols, dtype):
    matrix = np.zeros((1, cols), np.int8)
    matrix[0, -1] = 1
    sparse = encode(matrix, 4)
    assert sparse.columns.dtype == dtype
    np.testing.assert_array_equal(sparse.columns, [cols - 4])


@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("cols", [1, 3, 4, 5, 7, 8, 9, 61])
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
def test_decode_is_the_inverse_and_no_group_leaves_its_row(width, cols, density):
    rng = np.random.default_rng(cols * width)
    matrix = rng.normal(size=(7, cols)) * (rng.random((7, cols)) < density)
    sparse = encode(matrix, width)
    np.testing.assert_array_equal(decode(sparse), matrix)
    validate(sparse)
    assert (sparse.columns.astype(int) + width <= max(cols, width)).all()


@pytest.mark.parametrize("width", [4, 8])
def test_size_is_that_of_the_paper(width):
    """Bytes relative to dense float32: (1 + 2 / (4 g)) d + (rows + 1) 4 / dense, 2-byte columns."""
    rng = np.random.default_rng(0)
    keep = np.repeat(rng.random((30, 64 // width)) < 0.25, width, 1)
    matrix = np.where(keep, 1, 0).astype(np.float32)
    density = keep.mean()
    expected = matrix.nbytes * density * (1 + 2 / (4 * width)) + 4 * 31
    assert encode(matrix, width).size_bytes == pytest.approx(expected)


GOOD = GroupedCSR(
    np.ones((3, 2), np.int8), np.array([0, 2, 1], np.uint16), np.array([0, 2, 3], np.uint32), (2, 4)
)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"columns": np.array([0, 2], np.uint16)}, "one column per group"),
        ({"columns": np.array([0, 3, 1], np.uint16)}, r"columns lie in \[0, 2\]"),
        ({"offsets": np.array([0, 3, 2], np.uint32)}, "run from 0 to 3"),
        ({"offsets": np.array([1, 2, 3], np.uint32)}, "run from 0 to 3"),
        ({"offsets": np.array([0, 3], np.uint32)}, "in 3 steps"),
        ({"offsets": np.array([0, 4, 3], np.uint32)}, "never fall"),
        ({"values": np.ones(3, np.int8)}, "one column per group"),
    ],
)
def test_validate_refuses(change, message):
    validate(GOOD)
    with pytest.raises(ValueError, match=message):
        validate(replace(GOOD, **change))


@pytest.mark.parametrize(
    "matrix, width, message",
    [
        (np.zeros(3), 2, "a matrix"),
        (np.zeros((0, 3)), 2, "rows and columns"),
        (np.zeros((2, 3)), 0, "at least 1; got 0"),
    ],
)
def test_encode_refuses(matrix, width, message):
    with pytest.raises(ValueError, match=message):
        encode(matrix, width)
