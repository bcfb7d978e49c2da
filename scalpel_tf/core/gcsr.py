"""Grouped CSR, the sparse format of Yu et al., Scalpel, ISCA 2017, section 4: A', JA', IA'.

A matrix of `rows` x `cols` is cut, row by row, into groups of `width` neighbours; groups that hold
a weight other than zero are stored.  Little endian.

values   (n_groups, width)  A'   row-major; lanes outside the group's own columns are 0
columns  uint16 (n_groups,) JA'  first input of the group; uint32 where a row is longer than 65,536
offsets  uint32 (rows + 1,) IA'  row r owns groups offsets[r] : offsets[r + 1]

The last, short group of a row starts early ("slides left") so that no kernel has a tail loop or
reads past its input.  A row shorter than a group is padded with zeros instead.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GroupedCSR:
    """A sparse matrix; the module's docstring has the layout of its arrays."""

    values: np.ndarray
    columns: np.ndarray
    offsets: np.ndarray
    shape: tuple[int, int]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def size_bytes(self) -> int:
        """Bytes of the three arrays."""
        return self.values.nbytes + self.columns.nbytes + self.offsets.nbytes


def group_starts(cols: int, width: int) -> np.ndarray:
    """First column of every group of a row of `cols` columns; the last one has slid left."""
    return np.minimum(np.arange(0, cols, width), max(cols - width, 0))


def encode(matrix: np.ndarray, width: int) -> GroupedCSR:
    """The groups of a (rows, cols) matrix that are not all zero, as GroupedCSR.

    width: weights per group, at least 1.  Keeps the matrix' dtype.
    """
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise ValueError(
            f"Grouped CSR encodes a matrix with rows and columns; got shape {matrix.shape}."
        )
    if width < 1:
        raise ValueError(f"`width` is the number of weights per group, at least 1; got {width}.")
    rows, cols = matrix.shape
    padded = np.zeros((rows, max(cols, width)), matrix.dtype)
    padded[:, :cols] = matrix
    starts = group_starts(cols, width)
    lanes = starts[:, None] + np.arange(width)
    own = lanes >= np.arange(0, cols, width)[:, None]
    groups = np.where(own, padded[:, lanes], matrix.dtype.type(0))
    row, group = np.nonzero(groups.any(-1))
    return GroupedCSR(
        values=np.ascontiguousarray(groups[row, group]),
        columns=starts[group].astype(np.uint16 if cols <= 1 << 16 else np.uint32),
        offsets=np.searchsorted(row, np.arange(rows + 1)).astype(np.uint32),
        shape=(rows, cols),
    )


def decode(sparse: GroupedCSR) -> np.ndarray:
    """The (rows, cols) matrix of a valid GroupedCSR."""
    rows, cols = sparse.shape
    matrix = np.zeros((rows, max(cols, sparse.width)), sparse.values.dtype)
    row = np.repeat(np.arange(rows), np.diff(sparse.offsets.astype(np.int64)))
    lanes = sparse.columns.astype(np.int64)[:, None] + np.arange(sparse.width)
    np.add.at(matrix, (row[:, None], lanes), sparse.values)
    return matrix[:, :cols]


def validate(sparse: GroupedCSR) -> None:
    """Raises ValueError unless a kernel may trust these arrays."""
    rows, cols = sparse.shape
    values, columns, offsets = sparse.values, sparse.columns, sparse.offsets
    if values.ndim != 2 or columns.shape != values.shape[:1]:
        raise ValueError(
            f"Grouped CSR needs one column per group of values; got {columns.shape} columns for "
            f"values of shape {values.shape}."
        )
    if offsets.shape != (rows + 1,) or offsets[0] != 0 or offsets[-1] != len(values):
        raise ValueError(
            f"Grouped CSR offsets run from 0 to {len(values)} groups in {rows + 1} steps; got "
            f"shape {offsets.shape} from {offsets[:1]} to {offsets[-1:]}."
        )
    if (np.diff(offsets.astype(np.int64)) < 0).any():
        raise ValueError("Grouped CSR offsets never fall from one row to the next; these do.")
    last = max(cols - values.shape[1], 0)
    if columns.size and columns.max() > last:
        raise ValueError(
            f"Grouped CSR columns lie in [0, {last}] so that a group ends within its row; got "
            f"{columns.max()}."
        )
