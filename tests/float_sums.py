"""Whether float32 sums are right, by a bound on their rounding that holds in any order of terms."""

import numpy as np

EPSILON = np.finfo(np.float32).eps  # twice the unit roundoff


def tolerance(product, a, b, terms):
    """How far `product`, bilinear, may be off in float32: Higham, Accuracy and Stability, 3.1.

    terms: of one sum.  Two roundings are added, for a scale and a bias.
    """
    a, b = np.abs(np.asarray(a, np.float64)), np.abs(np.asarray(b, np.float64))
    return (terms + 2) * EPSILON * np.asarray(product(a, b))


def assert_sums(got, product, a, b, terms, activation=lambda y: y):
    """got is activation(product(a, b)) within `tolerance`; activation is 1-Lipschitz."""
    expected = np.asarray(product(np.asarray(a, np.float64), np.asarray(b, np.float64)))
    assert_within(got, activation(expected), tolerance(product, a, b, terms))


def assert_within(got, expected, bound):
    assert got.dtype == np.float32 and got.shape == expected.shape
    assert np.isfinite(got).all()
    excess = np.abs(got - expected) - bound
    assert (excess <= 0).all(), f"{excess.max()} beyond the tolerance, {(excess > 0).sum()} times"


def gathered(sparse, gradient):
    """The entries of a dense (rows, cols) gradient at the lanes of the groups, 0 past a row."""
    row = np.repeat(np.arange(sparse.shape[0]), np.diff(sparse.offsets.astype(int)))
    lanes = sparse.columns.astype(int)[:, None] + np.arange(sparse.width)
    room = np.zeros((len(gradient), sparse.width))
    return np.concatenate([gradient, room], 1)[row[:, None], lanes]
