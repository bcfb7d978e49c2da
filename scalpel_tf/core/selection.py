"""Which units stay: (scores, ...) -> keep, True where the unit survives."""

import math
from collections.abc import Callable

import numpy as np

from scalpel_tf.core.granularity import LAYER, Block, Granularity, spread, view


def check_ratio(ratio: float, owner: str = "") -> float:
    """`ratio` as a float; raises ValueError, naming `owner`, unless it is in [0, 1)."""
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        value = math.nan
    if not 0 <= value < 1:
        got = f"{ratio!r} for {owner}" if owner else repr(ratio)
        raise ValueError(f"`ratio` is the fraction of units removed, in [0, 1); got {got}.")
    return value


def keep_top(score: np.ndarray, pool: Block, ratio: float) -> np.ndarray:
    """True for the units that survive: each pool loses floor(ratio * n) of its n units.

    The lowest scores go first; of equal scores the lower index, in row-major order.
    Raises ValueError for a ratio outside [0, 1) and for a NaN score.
    """
    ratio = check_ratio(ratio)
    if np.isnan(score).any():
        raise ValueError("A score is NaN: the weights are not finite, has training diverged?")
    if pool == LAYER:
        return _drop_lowest(score, _count(ratio, score.size))
    grid = [-(-n // (length or n)) for length, n in zip(pool, score.shape, strict=True)]
    label = spread(np.arange(math.prod(grid)).reshape(grid), pool, score.shape).ravel()
    order = np.lexsort((score.ravel(), label))
    size = np.bincount(label)
    rank = np.arange(label.size) - np.repeat(np.cumsum(size) - size, size)
    keep = np.empty(label.size, bool)
    keep[order] = rank >= np.repeat(_count(ratio, size), size)
    return keep.reshape(score.shape)


def keep_above(score: np.ndarray, threshold: float) -> np.ndarray:
    """True where the score reaches the threshold: pruned if and only if score < threshold."""
    return score >= threshold


def hysteresis(previous, score, low: float, high: float):
    """Kept at `high` and above, dropped below `low`, unchanged between (Scalpel, section 4.2).

    `previous` is boolean; works on numpy arrays and on tensors.
    """
    return (score >= high) | (previous & (score >= low))


def mask(w: np.ndarray, granularity: Granularity, criterion: Callable, ratio: float) -> np.ndarray:
    """True where a weight survives: the shape and memory order of `w` (out, taps, in).

    `criterion(w, unit)` scores the units, `ratio` is the fraction of every pool's units removed.
    """
    ratio = check_ratio(ratio)
    viewed = view(np.asarray(w), granularity.unit)
    keep = keep_top(criterion(viewed, granularity.unit), granularity.pool, ratio)
    return spread(keep, granularity.unit, viewed.shape).reshape(w.shape)


def _count(ratio, size):
    """Units to drop of `size`; the slack keeps 0.29 * 100 at 29."""
    return np.floor(ratio * size + 1e-9).astype(int)


def _drop_lowest(score, count):
    if count == 0:
        return np.ones_like(score, bool)
    threshold = np.partition(score.ravel(order="K"), count - 1)[count - 1]
    keep = score > threshold
    surplus = score.size - count - np.count_nonzero(keep)
    if surplus:
        keep.flat[np.flatnonzero(score == threshold)[-surplus:]] = True
    return keep
