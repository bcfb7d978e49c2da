import numpy as np
import pytest
from float_sums import assert_sums, gathered

from scalpel_tf.core.gcsr import encode


@pytest.mark.parametrize("wrong", [1e-5, -1e-5, np.nan, np.inf])
def test_one_wrong_sum_is_seen(wrong):
    random = np.random.default_rng(0)
    a, b = random.uniform(-2, 2, (3, 5)), random.uniform(-2, 2, (5, 4))
    y = (a @ b).astype(np.float32)
    assert_sums(y, np.matmul, a, b, 5)
    y[2, 3] += wrong
    with pytest.raises(AssertionError):
        assert_sums(y, np.matmul, a, b, 5)


def test_another_shape_or_dtype_is_seen():
    one = np.ones((1, 1))
    for y in (np.ones((1, 1), np.float64), np.ones((1, 1, 1), np.float32)):
        with pytest.raises(AssertionError):
            assert_sums(y, np.matmul, one, one, 1)


def test_gathered():
    sparse = encode(np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0]]), 2)
    gradient = np.arange(9.0).reshape(3, 3)
    np.testing.assert_array_equal(gathered(sparse, gradient), [[1, 2], [3, 4], [4, 5]])
    short = encode(np.ones((1, 3)), 4)
    np.testing.assert_array_equal(gathered(short, gradient[:1]), [[0, 1, 2, 0]])
