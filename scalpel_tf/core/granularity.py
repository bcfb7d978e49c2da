"""What lives or dies together, and against whom it competes: two block shapes, both data.

A block has one entry per axis: a length, or ALL for the whole axis. A 2-D block reads a weight
(out, taps, in) as rows (out, taps * in); a 3-D block reads it as it is. Where a length does not
divide its axis, the last block is short.
"""

from dataclasses import dataclass

import numpy as np

ALL = None
Block = tuple[int | None, ...]

ELEMENT: Block = (1, 1)
NODE: Block = (1, ALL)
COLUMN: Block = (ALL, 1)
LAYER: Block = (ALL, ALL)
KERNEL2D: Block = (1, ALL, 1)
INPUT: Block = (ALL, ALL, 1)


def simd(width: int) -> Block:
    """The unit of `width` neighbours in a row (Yu et al., Scalpel, ISCA 2017, section 4.1)."""
    return (1, width)


@dataclass(frozen=True)
class Granularity:
    """A unit of elements that live or die together, and the pool of units that share a budget.

    `unit` counts weights, `pool` counts units: N:M sparsity is Granularity(ELEMENT, (1, M)).
    """

    unit: Block
    pool: Block = LAYER

    def __post_init__(self):
        for block in (self.unit, self.pool):
            if len(block) not in (2, 3) or any(b is not ALL and b < 1 for b in block):
                raise ValueError(
                    f"A block is 2 or 3 lengths from 1 on, or ALL for a whole axis; got {block}."
                )
        if len(self.pool) != len(self.unit) and self.pool != LAYER:
            raise ValueError(
                f"`unit` and `pool` have the same number of axes; got {self.unit} and {self.pool}."
            )


def view(w: np.ndarray, block: Block) -> np.ndarray:
    """`w` (out, taps, in) with as many axes as `block`: (out, taps * in) for a 2-D one."""
    return w.reshape(w.shape[0], -1) if len(block) == 2 else w


def unit_sum(x: np.ndarray, block: Block) -> np.ndarray:
    """The sum of every block of `x`: one number per unit, in the memory order of `x`."""
    for axis, length in enumerate(_lengths(block, x.shape)):
        if length > 1:
            whole, tail = _split(np.moveaxis(x, axis, -1), length)
            sums = whole.sum(axis=-1)
            if tail.shape[-1]:
                sums = np.concatenate([sums, tail.sum(axis=-1, keepdims=True)], axis=-1)
            x = np.moveaxis(sums, -1, axis)
    return x


def unit_size(shape: tuple[int, ...], block: Block) -> np.ndarray:
    """The number of elements of every unit: an array that broadcasts against `unit_sum`."""
    size = np.ones((1,) * len(shape), int)
    for axis, (length, n) in enumerate(zip(_lengths(block, shape), shape, strict=True)):
        sizes = np.full(-(-n // length) if n % length else 1, length)
        sizes[-1] = n % length or length
        size = size * np.expand_dims(sizes, [other for other in range(len(shape)) if other != axis])
    return size


def spread(units: np.ndarray, block: Block, shape: tuple[int, ...]) -> np.ndarray:
    """One value per unit, repeated over the unit's elements: the inverse of taking a `view`."""
    for axis, (length, size) in enumerate(zip(_lengths(block, shape), shape, strict=True)):
        if length > 1:
            wider = (*units.shape[:axis], size, *units.shape[axis + 1 :])
            wide = np.empty_like(units, shape=wider)
            whole, tail = _split(np.moveaxis(wide, axis, -1), length)
            source = np.moveaxis(units, axis, -1)
            whole[...] = source[..., : whole.shape[-2], None]
            tail[...] = source[..., -1:]
            units = wide
    return units


def _lengths(block, shape):
    return [n if b is ALL else min(b, n) for b, n in zip(block, shape, strict=True)]


def _split(x, length):
    """Views of the last axis: the whole blocks as (..., blocks, length), and the short rest."""
    size = x.shape[-1] - x.shape[-1] % length
    return x[..., :size].reshape(*x.shape[:-1], -1, length), x[..., size:]
