import numpy as np
import pytest

from scalpel_tf.core.granularity import (
    ALL,
    COLUMN,
    ELEMENT,
    INPUT,
    KERNEL2D,
    LAYER,
    NODE,
    Granularity,
    simd,
    spread,
    unit_size,
    unit_sum,
    view,
)

W = np.array([[[1, 2], [3, 4], [5, 6]], [[7, 8], [9, 10], [11, 12]]])  # 2 out, 3 taps, 2 in


@pytest.mark.parametrize(
    "block, expected",
    [
        (ELEMENT, [[1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12]]),
        (NODE, [[21], [57]]),
        (COLUMN, [[8, 10, 12, 14, 16, 18]]),
        (LAYER, [[78]]),
        (simd(2), [[3, 7, 11], [15, 19, 23]]),
        (simd(4), [[10, 11], [34, 23]]),  # the last group is short
        (simd(5), [[15, 6], [45, 12]]),
        (simd(6), [[21], [57]]),
        (simd(7), [[21], [57]]),  # wider than the row
        ((2, 4), [[44, 34]]),
        (KERNEL2D, [[[9, 12]], [[27, 30]]]),
        (INPUT, [[[36, 42]]]),
        ((1, 2, 1), [[[4, 6], [5, 6]], [[16, 18], [11, 12]]]),
    ],
)
def test_unit_sum_adds_each_block(block, expected):
    np.testing.assert_array_equal(unit_sum(view(W, block), block), expected)


@pytest.mark.parametrize(
    "shape, block, expected",
    [
        ((2, 6), simd(4), [[4, 2]]),
        ((2, 6), simd(3), [[3]]),
        ((3, 5), (2, 4), [[8, 2], [4, 1]]),
        ((2, 3, 2), (1, 2, ALL), [[[4], [2]]]),
    ],
)
def test_unit_size_counts_elements(shape, block, expected):
    np.testing.assert_array_equal(unit_size(shape, block), expected)


@pytest.mark.parametrize("block", [ELEMENT, NODE, COLUMN, LAYER, simd(2), simd(4), (3, 5), (2, 7)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 7), (5, 11), (4, 8)])
def test_spread_gives_every_element_its_unit(shape, block):
    units = unit_sum(np.ones(shape, int), block)
    numbered = np.arange(units.size).reshape(units.shape)
    wide = spread(numbered, block, shape)
    assert wide.shape == shape
    np.testing.assert_array_equal(np.bincount(wide.ravel()), units.ravel())
    np.testing.assert_array_equal(unit_sum(wide, block), numbered * units)


def test_spread_repeats_along_three_axes():
    np.testing.assert_array_equal(
        spread(np.array([[[1, 2]]]), INPUT, (2, 2, 2)), [[[1, 2], [1, 2]], [[1, 2], [1, 2]]]
    )


def test_memory_order_is_kept():
    """A transposed kernel is worked on as it lies, without a copy to row-major order."""
    kernel = np.ones((8, 6)).T
    sums = unit_sum(kernel, simd(4))
    assert sums.flags.f_contiguous and spread(sums, simd(4), kernel.shape).flags.f_contiguous


@pytest.mark.parametrize(
    "unit, pool",
    [((1,), LAYER), ((1, 0), LAYER), ((1, 2, 3, 4), LAYER), (KERNEL2D, (1, 4)), (ELEMENT, (-1, 4))],
)
def test_impossible_blocks_are_refused(unit, pool):
    with pytest.raises(ValueError, match="block is|same number of axes"):
        Granularity(unit, pool)
