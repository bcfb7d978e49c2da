"""Fully connected weights in the formats of runtime/scalpel_runtime.h, which describes them."""

from dataclasses import dataclass

import numpy as np

from scalpel_tf.core import gcsr
from scalpel_tf.core.cost import ROW_BYTES

STEPS_UNROLLED = 8
LONGEST_STEP = 255
LONGEST_ROW = 65536  # of single weights


@dataclass(frozen=True)
class Rows:
    """What scales a row's sum: int64 arrays with one entry per output.

    bias: with - zero_point_in * sum(weights) added.  right_shift: TensorFlow Lite's, negated.
    exact: bool, whether multiplier / 2^(31 + right_shift) is the real scale, not rounded.
    """

    bias: np.ndarray
    multiplier: np.ndarray
    right_shift: np.ndarray
    exact: np.ndarray


@dataclass(frozen=True)
class Packed:
    """One layer in one format: the arrays that go to flash.

    kernel: "fc", "gcsr_fc4", "gcsr_fc8", "gcsr_fc4_delta", "csr_fc" or "csr_fc_wide".
    values: int8, flat.  indices: uint8, or uint16 if wide, empty if dense.  counts: uint32, the
    bits of scalpel_row.packed above the shift, one per row.  groups: stored groups, fillers
    included.
    """

    kernel: str
    values: np.ndarray
    indices: np.ndarray
    counts: np.ndarray
    groups: int

    @property
    def flash(self) -> int:
        """Bytes of values, indices and rows."""
        return self.values.nbytes + self.indices.nbytes + ROW_BYTES * len(self.counts)


def rows(weights, bias, scales, zero_points, rounding) -> Rows:
    """The Rows of an int8 (out, in) matrix.

    scales: (multiplier, right_shift, exact), see Rows.  zero_points: of input and output.
    rounding: see `requantize`.  A row without weights is a
    constant, whatever its scale: it gets one that every kernel can take.
    ValueError if an accumulator could leave int32: TensorFlow Lite's result is undefined there.
    """
    wide = weights.astype(np.int64)
    folded = np.asarray(bias, np.int64) - zero_points[0] * wide.sum(1)
    if (np.abs(folded) + 128 * np.abs(wide).sum(1) >= 1 << 31).any():
        raise ValueError(
            "A fully connected row can exceed its 32-bit accumulator; expected a bias and weights "
            "whose sum stays below 2^31. Quantise the model again."
        )
    multiplier, right_shift = (np.array(a, np.int64) for a in scales[:2])
    exact = np.array(scales[2], bool)
    for row in np.flatnonzero(~wide.any(1)):
        scaled = requantize(folded[row], multiplier[row], right_shift[row], rounding)
        value = min(max(scaled + zero_points[1], -128), 127)
        folded[row], multiplier[row], right_shift[row] = 4 * (value - zero_points[1]), 1 << 30, 1
        exact[row] = False  # the sum is known, and is no tie
    return Rows(folded, multiplier, right_shift, exact)


def requantize(acc, multiplier, right_shift, rounding: str) -> int:
    """acc * multiplier / 2^(31 + right_shift), exactly as scalpel_requantize.h has it.

    rounding: "single" or "double", how often a product is rounded (see scalpel_rounding.h).
    """
    acc, multiplier, right_shift = int(acc), int(multiplier), int(right_shift)
    if rounding == "single":
        half = (1 << 30 + right_shift) - (acc < 0)
        return (acc * multiplier + half) >> 31 + right_shift
    left = max(-right_shift, 0)
    high = (_int32(acc << left) * multiplier + (1 << 30)) >> 31
    right = max(right_shift, 0)
    mask = (1 << right) - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def _int32(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def fits_int8_kernel(weights, rows: Rows, rounding: str) -> bool:
    """Whether the fused int8 kernels are exact for every row (see scalpel_runtime.h)."""
    sums = np.abs(rows.bias) + 128 * np.abs(weights.astype(np.int64)).sum(1)
    shifts = (rows.right_shift >= 1) & (rows.right_shift <= 22)
    if not shifts.all() or (sums >= 1 << 30).any():
        return False
    if rounding == "double":
        return True
    # acc * multiplier is an odd multiple of 2^(30 + shift) for some |acc| <= sum only where
    # 2^(30 + shift) / (the power of two in the multiplier) <= sum.
    powers = rows.multiplier & -rows.multiplier
    return not (rows.exact & ((1 << 30 + rows.right_shift) <= sums * powers)).any()


def step_counts(groups: np.ndarray, groups_per_step: int) -> np.ndarray:
    """scalpel_row.packed above bit 7 for rows of that many groups."""
    steps, odd = np.divmod(groups.astype(np.uint32), groups_per_step)
    loops, rest = np.divmod(steps, STEPS_UNROLLED)
    return (loops << 16 | odd << 12 | (STEPS_UNROLLED - rest) << 8).astype(np.uint32)


def pack_dense(weights: np.ndarray) -> Packed:
    """The int8 (out, in) matrix as rows of whole groups of 4."""
    out, cols = weights.shape
    groups = -(-cols // 4)
    values = np.zeros((out, 4 * groups), np.int8)
    whole = cols if cols < 4 else cols // 4 * 4
    values[:, :whole] = weights[:, :whole]
    if whole < cols:
        values[:, whole - cols :] = weights[:, whole:]
    return Packed("fc", values.ravel(), np.zeros(0, np.uint8), np.zeros(out, np.uint32), 0)


def pack_sparse(weights: np.ndarray, width: int) -> Packed:
    """The int8 (out, in) matrix, in >= width, as kept groups with one-byte absolute indices.

    width: 4 or 8.  ValueError where a row has more than 256 groups.
    """
    sparse = gcsr.encode(weights, width)
    index = _group_index(sparse)
    if -(-weights.shape[1] // width) > 256:
        raise ValueError(f"A row of {weights.shape[1]} inputs has more than 256 groups of {width}.")
    groups = np.diff(sparse.offsets.astype(np.int64))
    return Packed(
        f"gcsr_fc{width}",
        sparse.values.ravel(),
        index.astype(np.uint8),
        step_counts(groups, 8 // width),
        len(index),
    )


def pack_sparse_delta(weights: np.ndarray) -> Packed:
    """The int8 (out, in) matrix, in >= 4, as kept groups of 4 with one-byte distances.

    A distance over 255 is bridged by groups of zeros.
    """
    sparse = gcsr.encode(weights, 4)
    index = _group_index(sparse)
    row_of = np.repeat(np.arange(len(weights)), np.diff(sparse.offsets.astype(np.int64)))
    first = np.r_[True, row_of[1:] != row_of[:-1]][: len(index)]
    distance = np.where(first, index, index - np.r_[0, index[:-1]][: len(index)])
    fillers = np.maximum(distance - 1, 0) // LONGEST_STEP
    last = np.cumsum(fillers + 1) - 1
    total = int(last[-1]) + 1 if len(last) else 0
    values = np.zeros((total, 4), np.int8)
    steps = np.full(total, LONGEST_STEP, np.uint8)
    values[last] = sparse.values
    steps[last] = distance - LONGEST_STEP * fillers
    groups = np.bincount(row_of, weights=fillers + 1, minlength=len(weights)).astype(np.int64)
    return Packed("gcsr_fc4_delta", values.ravel(), steps, step_counts(groups, 2), total)


def pack_csr(weights: np.ndarray) -> Packed:
    """The int8 (out, in) matrix, in <= 65536, as plain CSR: a column for every kept weight.

    Columns take one byte where a row has at most 256 inputs, else two.  ValueError for longer rows.
    """
    if weights.shape[1] > LONGEST_ROW:
        raise ValueError(f"A row of {weights.shape[1]} inputs has more than {LONGEST_ROW} columns.")
    values, columns, groups = single_weights(weights)
    kernel = "csr_fc" if columns.dtype == np.uint8 else "csr_fc_wide"
    return Packed(kernel, values, columns, step_counts(groups, 1), len(values) // 4)


def single_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int8 values, uint8 or uint16 columns, groups of four of each row) of an (out, in) matrix."""
    out, cols = weights.shape
    row, column = np.nonzero(weights)
    kept = np.bincount(row, minlength=out)
    groups = -(-kept // 4)
    first = 4 * np.cumsum(groups) - 4 * groups
    at = np.arange(len(row)) + np.repeat(first - np.cumsum(kept) + kept, kept)
    values = np.zeros(4 * groups.sum(), np.int8)
    columns = np.zeros(len(values), np.uint16 if cols > 256 else np.uint8)
    values[at] = weights[row, column]
    columns[at] = column
    return values, columns, groups


def _group_index(sparse: gcsr.GroupedCSR) -> np.ndarray:
    """Which group of its row each kept group is; one that has slid left counts as the last."""
    return -(-sparse.columns.astype(np.int64) // sparse.width)


def grouped(weights: np.ndarray) -> list[Packed]:
    """The layer dense and in every grouped format that can hold it, dense first."""
    cols = weights.shape[1]
    found = [pack_dense(weights)]
    for width in (4, 8):
        if width <= cols <= 256 * width:
            found.append(pack_sparse(weights, width))
    if cols > 256 * 4:
        found.append(pack_sparse_delta(weights))
    return found


def candidates(weights: np.ndarray) -> list[Packed]:
    """The layer in every format that can hold it, dense first; in CSR where groups waste room."""
    found = grouped(weights)
    if weights.shape[1] <= LONGEST_ROW and has_single_weights(weights):
        found.append(pack_csr(weights))
    return found


def has_single_weights(weights: np.ndarray) -> bool:
    """Whether a quarter of what groups of 4 would keep is zero: weights were pruned one by one."""
    lanes = gcsr.encode(weights, 4).values
    return np.count_nonzero(lanes) < 0.75 * lanes.size
