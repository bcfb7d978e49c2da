"""How much a unit matters: (w, unit) -> one score per unit; higher survives."""

import numpy as np

from scalpel_tf.core.granularity import Block, unit_size, unit_sum


def rms(w: np.ndarray, unit: Block) -> np.ndarray:
    """Root mean square of each unit (Yu et al., Scalpel, ISCA 2017, section 4.1).

    w is (out, k) or (out, taps, in), like `unit`. The score is in the units of w.
    A short unit at the end of a row is scored by the mean over its own elements.
    """
    return np.sqrt(_unit_mean(np.square(_at_least_float32(w)), unit))


def magnitude(w: np.ndarray, unit: Block) -> np.ndarray:
    """Mean absolute value of each unit (Han et al., NIPS 2015, section 3)."""
    return _unit_mean(np.abs(_at_least_float32(w)), unit)


def _unit_mean(x, unit):
    total = unit_sum(x, unit)
    size = unit_size(x.shape, unit).astype(total.dtype)
    return np.divide(total, size, out=np.empty_like(total))


def _at_least_float32(w):
    w = np.asarray(w)
    return w.astype(np.promote_types(w.dtype, np.float32), copy=False)
