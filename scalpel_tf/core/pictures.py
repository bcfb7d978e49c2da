"""Matrices that are too big for a screen, as pictures."""

import numpy as np


def downsample(matrix: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """At most (rows, columns) means of blocks of `matrix`, whose sizes differ by one at most."""
    matrix = np.asarray(matrix, np.float64)
    for axis, most in enumerate((rows, columns)):
        size = matrix.shape[axis]
        if size > most:
            begins = np.arange(most) * size // most
            counts = np.diff([*begins, size])
            sums = np.add.reduceat(matrix, begins, axis=axis)
            matrix = sums / np.expand_dims(counts, 1 - axis)
    return matrix
