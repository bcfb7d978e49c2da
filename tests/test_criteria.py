import numpy as np
import pytest

from scalpel_tf.core.criteria import magnitude, rms
from scalpel_tf.core.granularity import ELEMENT, KERNEL2D, LAYER, NODE, simd, view

W = np.array([[3.0, 4.0, 0.0, 0.0, -2.0], [1.0, -1.0, 6.0, 8.0, 0.0]])


@pytest.mark.parametrize(
    "criterion, unit, expected",
    [
        (rms, ELEMENT, np.abs(W)),
        (rms, simd(2), np.sqrt([[12.5, 0, 4], [1, 50, 0]])),  # a short tail: its own mean
        (rms, simd(4), np.sqrt([[6.25, 4], [25.5, 0]])),
        (rms, NODE, np.sqrt([[29 / 5], [102 / 5]])),
        (rms, LAYER, np.sqrt([[131 / 10]])),
        (magnitude, ELEMENT, np.abs(W)),
        (magnitude, simd(2), [[3.5, 0, 2], [1, 7, 0]]),
        (magnitude, simd(4), [[1.75, 2], [4, 0]]),
    ],
)
def test_scores(criterion, unit, expected):
    np.testing.assert_allclose(criterion(W, unit), expected, rtol=1e-15)


def test_scores_of_three_axes():
    w = np.array([[[1.0, 2.0], [7.0, 2.0]]])
    np.testing.assert_allclose(rms(view(w, KERNEL2D), KERNEL2D), [[[5.0, 2.0]]], rtol=1e-15)


@pytest.mark.parametrize("criterion", [rms, magnitude])
def test_half_precision_does_not_overflow(criterion):
    w = np.full((2, 4), 60000, np.float16)
    np.testing.assert_allclose(criterion(w, simd(4)), np.float32(w[:, :1]), rtol=1e-6)


@pytest.mark.parametrize("criterion", [rms, magnitude])
def test_the_weights_are_not_changed(criterion):
    w = W.copy()
    criterion(w, ELEMENT)
    np.testing.assert_array_equal(w, W)
