"""Modelled cycles of float32 products, good enough to choose a form; of a core that starts two FMAs
of eight lanes a cycle."""

import numpy as np

from scalpel_tf.deploy import float_formats as formats

DENSE_LANES = 14.5  # multiplications a cycle
VECTOR_LANES = 9  # the same with one vector, of weights that are not in the first-level cache
GROUP = 0.56  # cycles of eight weights of a group and one pixel
ROW = 4.5  # to add up the lanes of one output of a convolution
SLICE = 30  # the same, of eight outputs of a vector
STEPS = {4: 10.5, 8: 8.5, 16: 8.4}  # of eight times eight weights of a slice
BYTES = 12  # of weights a cycle, from behind the second-level cache
CACHE = 1 << 20
NEAR = 1 << 14
TILE_IN, TILE_OUT = 6.5, 4.5  # of a vector of channels of a tile at one point
START = 4  # multiplications that beginning and storing each sum of a short product is worth


def dense_vector(matrix: np.ndarray) -> float:
    """A (rows, cols) matrix times one vector."""
    lanes = matrix.shape[1] * sum(formats.panel_widths(len(matrix)))
    rate = DENSE_LANES if 4 * lanes <= NEAR else VECTOR_LANES
    return max(lanes / rate, _far(4 * lanes)) + 10


def dense(matrix: np.ndarray, groups: int, pixels: int) -> float:
    """A (rows, cols) matrix at so many pixels."""
    lanes = _lanes(len(matrix), groups)
    return max(matrix.shape[1] * lanes * pixels / DENSE_LANES, _far(4 * matrix.size))


def tiles(rows: int, run: int, groups: int, points: int, count: int, inputs: int) -> float:
    """A convolution by `count` tiles, products of `run` at so many points of each.

    inputs: vectors of sixteen channels that are brought to a point.
    """
    lanes = _lanes(rows, groups)
    products = count * lanes * ((run + START) / DENSE_LANES + TILE_OUT / 16)
    return max(points * (products + TILE_IN * inputs), _far(4 * points * run * lanes))


def windows(stored: int, rows: int, pixels: int) -> float:
    """A convolution with so many stored groups of eight."""
    return (stored * GROUP + rows * ROW) * pixels


def slices(matrix: np.ndarray, width: int, batch: int) -> float:
    """A matrix in groups of `width` times so many vectors."""
    per_step, parts = max(8 // width, 1), max(width // 8, 1)
    steps = -(-np.sort(group_counts(matrix, width))[::-1] // per_step)
    steps = int(steps[::8].sum())
    compute = batch * (steps * parts * STEPS[width] + -(-len(matrix) // 8) * SLICE)
    return max(compute, _far(steps * 8 * (32 * parts + 2 * per_step)))


def group_counts(matrix: np.ndarray, width: int) -> np.ndarray:
    """(rows,): groups of each that cover its weights."""
    return np.bincount(formats.cover(matrix, width)[0], minlength=len(matrix))


def _lanes(rows, groups):
    return groups * sum(formats.panel_widths(rows // groups))


def _far(size):
    return size / BYTES if size > CACHE else 0
