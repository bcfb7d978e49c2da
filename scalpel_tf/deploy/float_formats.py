"""The forms of a float32 matrix that the kernels of custom_ops/native take; scalpel_float.h has
their layouts."""

from dataclasses import dataclass

import numpy as np

from scalpel_tf.core import gcsr

LANES = 8
ROWS = 8  # of a slice
PANEL = 32  # lanes, at most


@dataclass(frozen=True)
class Panel:
    """Output channels [first, first + channels), in `width` lanes.

    x: floats from a pixel to the first that they see.
    """

    first: int
    channels: int
    width: int
    x: int = 0


@dataclass(frozen=True)
class Dense:
    """weights: the panels' (1 + depth, width), one after another, the biases first."""

    weights: np.ndarray
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Slices:
    """Groups of a matrix for products with vectors: eight rows at a time, in equally many steps.

    values: (steps, 8, groups per step, width).  columns: (steps, 8, groups per step).
    steps: first step of every slice, and their number.  order: the row behind each place.
    """

    values: np.ndarray
    columns: np.ndarray
    steps: np.ndarray
    order: np.ndarray
    bias: np.ndarray


@dataclass(frozen=True)
class Windows:
    """Groups of a convolution: those of row r are rows[r] : rows[r + 1].

    values: (groups, width).  columns: floats from a pixel to the first that a group meets.
    """

    values: np.ndarray
    columns: np.ndarray
    rows: np.ndarray


def panel_widths(channels: int) -> list[int]:
    """Lanes of each panel: PANEL, and at the end what is left, which is seldom only 8."""
    vectors = -(-channels // LANES)
    widths = [PANEL] * (vectors // 4)
    if vectors % 4:
        widths.append(LANES * (vectors % 4))
    if len(widths) > 1 and widths[-1] == LANES:
        widths[-2:] = [24, 16]
    return widths


def dense(matrix: np.ndarray, bias: np.ndarray, groups: int = 1, x: int = 0) -> Dense:
    """The panels of a (rows, cols) matrix.

    groups: of a grouped convolution, each of as many rows.  x: floats of a pixel that one sees.
    """
    rows, cols = matrix.shape
    panels, weights, size = [], [], rows // groups
    for group in range(groups):
        first, end = group * size, (group + 1) * size
        for width in panel_widths(size):
            live = min(width, end - first)
            panel = np.zeros((1 + cols, width), np.float32)
            panel[0, :live] = bias[first : first + live]
            panel[1:, :live] = matrix[first : first + live].T
            panels.append(Panel(first, live, width, group * x))
            weights.append(panel.ravel())
            first += live
    return Dense(np.concatenate(weights), tuple(panels))


def slices(matrix: np.ndarray, bias: np.ndarray, width: int) -> Slices:
    """The groups of `width` of a matrix with at least as many columns, as few as cover it."""
    row, first, groups = cover(matrix, width)
    rows, per_step = len(matrix), max(LANES // width, 1)
    counts = np.bincount(row, minlength=rows)
    order = np.argsort(-counts, kind="stable")
    count = -(-rows // ROWS)
    padded = np.zeros(count * ROWS, np.int64)
    padded[:rows] = -(-counts[order] // per_step)
    steps = np.concatenate([[0], np.cumsum(padded.reshape(count, ROWS).max(1))])
    place = np.empty(rows, np.int64)
    place[order] = np.arange(rows)

    index = np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    at = steps[place[row] // ROWS] + index // per_step, place[row] % ROWS, index % per_step
    values = np.zeros((steps[-1], ROWS, per_step, width), np.float32)
    columns = np.zeros(values.shape[:3], np.uint16 if matrix.shape[1] <= 1 << 16 else np.int32)
    values[at], columns[at] = groups, first
    biases = np.zeros(count * ROWS, np.float32)
    biases[:rows] = bias[order]
    return Slices(values, columns, steps.astype(np.int32), order.astype(np.int32), biases)


def windows(matrix: np.ndarray, taps: np.ndarray, width: int) -> Windows:
    """The nonzero weights of a convolution in as few windows of `width` as cover them.

    matrix: (rows, taps, run).  taps: floats from a pixel to each run.  A window ends within its
    run, which has to be at least as long.
    """
    rows, count, run = matrix.shape
    line, first, values = cover(matrix.reshape(-1, run), width)
    return Windows(
        values,
        (taps[line % count] + first).astype(np.int32),
        np.searchsorted(line // count, np.arange(rows + 1)).astype(np.int32),
    )


def cover(matrix: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, first columns, (windows, width) values) of as few windows as cover the nonzeros.

    In the order of rows and columns, none past the end of a row, which has to be at least as long.
    Of equally few, those at multiples of the width are taken, since their loads seldom cross a
    cache line.
    """
    nonzero = matrix != 0
    row, first = min(_aligned(nonzero, width), _fewest(nonzero, width), key=lambda at: len(at[0]))
    lanes = first[:, None] + np.arange(width)
    values = matrix[row[:, None], lanes]
    # What the window before it, in the same row, has already.
    end = np.where(np.diff(row, prepend=-1) == 0, np.roll(first, 1) + width, 0)
    values = np.where(lanes >= end[:, None], values, np.float32(0))
    return row, first, np.ascontiguousarray(values, np.float32)


def _aligned(nonzero, width):
    run = nonzero.shape[1]
    starts = gcsr.group_starts(run, width)
    own = np.arange(0, run, width)
    line, group = np.nonzero(np.logical_or.reduceat(nonzero, own, axis=1))
    return line, starts[group]


def _fewest(nonzero, width):
    """Greedy from the left, which is optimal, for all rows at once."""
    run = nonzero.shape[1]
    rows, columns = np.nonzero(nonzero)
    places = rows * (run + width) + columns
    beyond = np.searchsorted(places, places + width)  # the first that a window leaves over
    here = np.searchsorted(rows, np.unique(rows))
    found = [np.empty(0, np.int64)]
    while here.size:
        found.append(here)
        after = beyond[here]
        inside = after < len(rows)
        here = after[inside][rows[after[inside]] == rows[here[inside]]]
    starts = np.sort(np.concatenate(found))
    return rows[starts], np.minimum(columns[starts], run - width)
