"""int8 fully connected layers on x86-64 that skip zeros, a word of four weights at a time.

Sixteen rows with about as many words go together, a row in each lane (int8_rows.h): sliced ELLPACK
with sorted rows (Kreutzer et al., SIAM Journal on Scientific Computing, 2014, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants

STEP, LANES = 4, 16  # weights in a word; rows or channels, and pixels, at a time
MOST_COLUMNS = 1 << 16


@dataclass(frozen=True)
class Rows:
    """The words of a matrix that are not 0, sixteen rows together.

    words: (steps, 16, 4) int8.  columns: (steps, 16) uint16, in words of x.  ends: of the steps of
    every sixteen rows.  order: the rows.  total: words with those of zeros.
    """

    words: np.ndarray
    columns: np.ndarray
    ends: np.ndarray
    order: np.ndarray
    kept: int
    total: int

    @classmethod
    def of(cls, matrix: np.ndarray) -> Rows | None:
        """matrix: (rows, cols) int8. None where a column would not fit its index."""
        rows, cols = matrix.shape
        steps = -(-cols // STEP)
        if steps > MOST_COLUMNS:
            return None
        padded = np.zeros((rows, steps * STEP), np.int8)
        padded[:, :cols] = matrix
        words = padded.reshape(rows, steps, STEP)
        kept = words.any(-1)
        counts = kept.sum(1)
        order = np.argsort(-counts, kind="stable")
        blocks, columns, ends = [], [], [0]
        for first in range(0, rows, LANES):
            own = order[first : first + LANES]
            most = int(counts[own].max())
            block = np.zeros((most, LANES, STEP), np.int8)
            column = np.zeros((most, LANES), np.uint16)
            for lane, row in enumerate(own):
                found = np.flatnonzero(kept[row])
                block[: found.size, lane] = words[row, found]
                column[: found.size, lane] = found
            blocks.append(block)
            columns.append(column)
            ends.append(ends[-1] + most)
        return cls(
            words=np.concatenate(blocks),
            columns=np.concatenate(columns),
            ends=np.array(ends[1:], np.int32),
            order=order.astype(np.int32),
            kept=int(kept.sum()),
            total=kept.size,
        )

    @property
    def density(self) -> float:
        return self.kept / self.total

    @property
    def size(self) -> int:
        """Bytes of what is stored of the weights."""
        return sum(a.nbytes for a in (self.words, self.columns, self.ends, self.order))

    @property
    def cost(self) -> float:
        """Cycles with AVX-512."""
        return 24 * len(self.words) + 60 * len(self.ends)

    def text(self, symbol: str, constants: Constants, fields: dict, by_row: dict) -> str:
        """The definition of its parameters.

        fields: those of a dense kernel too.  by_row: the arrays of them with a value for each row.
        """
        sorted_by_length = {
            name: constants.add(padded_to_lanes(values[self.order]))
            for name, values in by_row.items()
        }
        return params(
            symbol,
            "scalpel_int8_rows",
            weights=constants.add(self.words),
            columns=constants.add(self.columns),
            ends=constants.add(self.ends),
            order=constants.add(self.order),
            rows=len(self.order),
            **fields,
            **sorted_by_length,
        )


def padded_to_lanes(values: np.ndarray) -> np.ndarray:
    """With zeros up to a multiple of sixteen."""
    return np.concatenate([values, np.zeros(-len(values) % LANES, values.dtype)])
