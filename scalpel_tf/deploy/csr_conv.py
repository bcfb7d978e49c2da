"""CONV_2D with single weights kept, in the format of runtime/scalpel_csr_conv.h."""

import math
from dataclasses import dataclass

import numpy as np

from scalpel_tf.core import cost
from scalpel_tf.core.targets import Target
from scalpel_tf.deploy import fully_connected as fc
from scalpel_tf.deploy.conv import Shape

UNROLLED, GROUP_CODE = 8, 124  # groups in the kernel's loop, bytes of code each
MOST_GROUPS = 256 * UNROLLED - 1  # of a row


@dataclass(frozen=True)
class Packed:
    """A convolution's kept weights and their columns.

    counts: stored groups of four of every row.  density: kept fraction of the weights.
    """

    shape: Shape
    values: np.ndarray
    columns: np.ndarray
    counts: np.ndarray
    density: float

    @property
    def inputs(self) -> int:
        """Weights of a filter."""
        return math.prod(self.shape.filter) * self.shape.channels

    @property
    def blocks(self) -> int:
        """Calls of the kernel, for four places each."""
        outputs = math.prod(size // self.shape.pool for size in self.shape.output)
        return outputs if self.shape.pool == 2 else -(-outputs // 4)

    @property
    def scratch(self) -> int:
        """Bytes that a call works in."""
        narrow = self.shape.pool == 1 and math.prod(self.shape.output) < 4
        return 8 * self.inputs + self.shape.channels + 4 * len(self.counts) * narrow

    @property
    def kernel(self) -> str:
        """The name of the inner kernel."""
        wide = "_wide" * (self.columns.dtype == np.uint16)
        return f"csr_conv4{wide}{'_pool2' * (self.shape.pool == 2)}"

    def with_room(self, room: int) -> "Packed":
        """The same: more room makes it no faster."""
        return self

    def words(self, right_shift: np.ndarray) -> np.ndarray:
        """scalpel_conv_row.packed."""
        loops, rest = np.divmod(self.counts, UNROLLED)
        return GROUP_CODE * (UNROLLED - rest) << 16 | loops << 8 | right_shift & 255

    def cost(self, target: Target) -> cost.LayerCost:
        """Modelled cycles, flash and RAM."""
        return cost.csr_conv(
            rows=len(self.counts),
            groups=int(self.counts.sum()),
            blocks=self.blocks,
            pool=self.shape.pool,
            runs=self.shape.filter[0],
            inputs=self.inputs,
            index_bytes=self.columns.itemsize,
            ram=self.scratch,
            target=target,
        )


def candidates(matrix: np.ndarray, shape: Shape) -> list[Packed]:
    """The int8 (out, rows * columns * channels) weights as CSR; empty where a row is too long."""
    if matrix.shape[1] > fc.LONGEST_ROW:
        return []
    values, columns, counts = fc.single_weights(matrix)
    if counts.max() > MOST_GROUPS:
        return []
    density = np.count_nonzero(matrix) / matrix.size
    return [Packed(shape, values, columns, counts, density)]
