import numpy as np
import pytest

from scalpel_tf.core.layout import from_matrix, to_matrix

SHAPES = {
    "dense": (5, 3),
    "conv": (2, 3, 5, 4),
    "depthwise": (3, 2, 5, 2),
    "transposed": (2, 3, 4, 5),
    "embedding": (7, 3),
}


@pytest.mark.parametrize(
    "kind, kernel, expected",
    [
        ("dense", [[1, 2], [3, 4], [5, 6]], [[[1, 3, 5]], [[2, 4, 6]]]),
        ("embedding", [[1, 2, 3], [4, 5, 6]], [[[1, 2, 3]], [[4, 5, 6]]]),
        # two taps, two inputs, one output
        ("conv", [[[1], [2]], [[3], [4]]], [[[1, 2], [3, 4]]]),
        # two taps, one input, two outputs
        ("conv", [[[1, 2]], [[3, 4]]], [[[1], [3]], [[2], [4]]]),
        # two taps, two inputs, multiplier 2: output = input * multiplier + m
        (
            "depthwise",
            [[[1, 2], [3, 4]], [[5, 6], [7, 8]]],
            [[[1], [5]], [[2], [6]], [[3], [7]], [[4], [8]]],
        ),
        # two taps, one output, two inputs
        ("transposed", [[[1, 2]], [[3, 4]]], [[[1, 2], [3, 4]]]),
    ],
)
def test_to_matrix_orders_out_taps_in(kind, kernel, expected):
    np.testing.assert_array_equal(to_matrix(np.array(kernel), kind), expected)


@pytest.mark.parametrize("kind, shape", SHAPES.items())
def test_from_matrix_inverts_to_matrix(kind, shape):
    kernel = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(from_matrix(to_matrix(kernel, kind), kind, shape), kernel)


@pytest.mark.parametrize("kind, shape", SHAPES.items())
def test_to_matrix_is_a_view(kind, shape):
    kernel = np.zeros(shape)
    assert np.shares_memory(to_matrix(kernel, kind), kernel)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_a_conv_row_runs_in_im2col_order(rank):
    """Row 0, flattened, meets a patch of NHWC input flattened as it lies in memory."""
    kernel = np.arange(2**rank * 3 * 2).reshape(*[2] * rank, 3, 2)
    np.testing.assert_array_equal(
        to_matrix(kernel, "conv").reshape(2, -1)[0], kernel[..., 0].ravel()
    )


@pytest.mark.parametrize(
    "kind, shape", [("dense", (2, 3, 4)), ("conv", (3, 4)), ("embedding", (3,)), ("rows", (3, 4))]
)
def test_wrong_kind_or_rank_is_an_error(kind, shape):
    with pytest.raises(ValueError, match="kernel has|is one of"):
        to_matrix(np.zeros(shape), kind)
    with pytest.raises(ValueError, match="kernel has|is one of"):
        from_matrix(np.zeros((2, 2, 2)), kind, shape)
