import numpy as np
import pytest

from scalpel_tf.core.criteria import rms
from scalpel_tf.core.granularity import ALL, ELEMENT, LAYER, Granularity, simd
from scalpel_tf.core.selection import hysteresis, keep_above, keep_top, mask


@pytest.mark.parametrize(
    "ratio, expected",
    [
        (0.0, [1, 1, 1, 1]),
        (0.24, [1, 1, 1, 1]),
        (0.25, [0, 1, 1, 1]),
        (0.5, [0, 0, 1, 1]),  # three tie: the lower index is dropped first
        (0.75, [0, 0, 0, 1]),
        (0.999, [0, 0, 0, 1]),
    ],
)
def test_keep_top_drops_lowest(ratio, expected):
    np.testing.assert_array_equal(keep_top(np.array([[1, 1, 1, 3]]), LAYER, ratio)[0], expected)


@pytest.mark.parametrize(
    "score, pool, ratio, expected",
    [
        ([[5, 2, 9], [1, 7, 3]], LAYER, 0.5, [[1, 0, 1], [0, 1, 0]]),
        ([[5, 2, 9], [1, 7, 3]], (1, ALL), 0.34, [[1, 0, 1], [0, 1, 1]]),
        ([[5, 2, 9], [1, 7, 3]], (ALL, 1), 0.5, [[1, 0, 1], [0, 1, 0]]),
        ([[4, 3, 2, 1, 9]], (1, 2), 0.5, [[1, 0, 1, 0, 1]]),  # half of a pool of one is none
        ([[4, 3, 2, 1, 9]], (1, 4), 0.5, [[1, 1, 0, 0, 1]]),
        ([[1, 1, 1, 1], [1, 1, 1, 1]], (1, 4), 0.5, [[0, 0, 1, 1], [0, 0, 1, 1]]),
        ([[2, 2], [2, 2]], LAYER, 0.75, [[0, 0], [0, 1]]),
        ([[7]], LAYER, 0.9, [[1]]),
    ],
)
def test_units_compete_within_their_pool(score, pool, ratio, expected):
    np.testing.assert_array_equal(keep_top(np.array(score), pool, ratio), expected)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("size", [1, 2, 7, 97])
@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.29, 0.5, 0.9, 0.999])
def test_one_pool_equals_a_stable_sort(size, ratio, layout):
    """Many ties, any memory order: the count is exact and ties break by row-major index."""
    rng = np.random.default_rng(size)
    score = np.asarray(rng.integers(0, 5, (size, 3)).astype(np.float32), order=layout)
    dropped = int(np.floor(ratio * score.size + 1e-9))
    expected = np.ones(score.size, bool)
    expected[np.argsort(score.ravel(), kind="stable")[:dropped]] = False
    np.testing.assert_array_equal(keep_top(score, LAYER, ratio).ravel(), expected)
    np.testing.assert_array_equal(keep_top(score, (size, 3), ratio).ravel(), expected)


def test_the_count_is_not_lost_to_rounding():
    assert 0.29 * 100 < 29
    assert np.count_nonzero(keep_top(np.arange(100.0)[None], LAYER, 0.29)) == 71


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan"), "most", None])
def test_a_ratio_outside_the_range_is_refused(ratio):
    with pytest.raises(ValueError, match=r"in \[0, 1\); got"):
        keep_top(np.ones((2, 2)), LAYER, ratio)


def test_nan_scores_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        keep_top(np.array([[1.0, np.nan]]), LAYER, 0.5)


def test_keep_above_prunes_strictly_below():
    np.testing.assert_array_equal(keep_above(np.array([0.4, 0.5, 0.6]), 0.5), [0, 1, 1])


def test_hysteresis_keeps_its_state_between_the_thresholds():
    previous = np.array([1, 1, 0, 0, 0, 1], bool)
    score = np.array([0.55, 0.4, 0.55, 0.7, 0.6, 0.5])
    np.testing.assert_array_equal(hysteresis(previous, score, 0.5, 0.6), [1, 0, 0, 1, 1, 1])


@pytest.mark.parametrize(
    "width, ratio, expected",
    [
        (2, 0.5, [[[1, 1, 0]], [[0, 0, 1]]]),  # 4 groups; scores 1, 0.5 | 0, 3
        (1, 0.5, [[[1, 1, 0]], [[0, 0, 1]]]),
        (3, 0.5, [[[0, 0, 0]], [[1, 1, 1]]]),
    ],
)
def test_mask_has_the_shape_of_the_weights(width, ratio, expected):
    w = np.array([[[1.0, 1.0, 0.5]], [[0.0, 0.0, 3.0]]])
    np.testing.assert_array_equal(mask(w, Granularity(simd(width)), rms, ratio), expected)


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 7), (5, 9, 1), (4, 9, 8), (2, 25, 13)])
@pytest.mark.parametrize("width", [1, 2, 3, 4, 8])
def test_groups_live_and_die_together(shape, width):
    w = np.random.default_rng(0).normal(size=shape)
    keep = mask(w, Granularity(simd(width)), rms, 0.5).reshape(shape[0], -1)
    groups = [keep[:, start : start + width] for start in range(0, keep.shape[1], width)]
    assert all((group == group[:, :1]).all() for group in groups)
    dropped = sum(np.count_nonzero(~group[:, 0]) for group in groups)
    assert dropped == len(groups) * shape[0] // 2


def test_n_of_m_sparsity():
    w = np.random.default_rng(0).normal(size=(6, 1, 12))
    keep = mask(w, Granularity(ELEMENT, (1, 4)), rms, 0.5).reshape(6, 3, 4)
    np.testing.assert_array_equal(keep.sum(-1), 2)


def test_masks_shrink_while_the_ratio_rises():
    """Zeroed groups score lowest, so that what is dropped stays dropped."""
    w = np.random.default_rng(0).normal(size=(7, 3, 5))
    for ratio in (0.2, 0.5, 0.8):
        keep = mask(w, Granularity(simd(4)), rms, ratio)
        assert not (keep & (w == 0)).any()
        w = w * keep
