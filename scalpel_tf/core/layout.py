"""Where each axis of a Keras kernel lies. No other file knows.

A weight is canonical as (out, taps, in). Flattened, a row runs in NHWC im2col order (*taps, in),
so that neighbours in a row are neighbours in memory when the kernel executes.

kind        Keras shape          out        taps      in
dense       (in, out)            out        1         in
conv        (*k, in, out)        out        prod(k)   in (of one group)
depthwise   (*k, in, multiplier) in * mult  prod(k)   1
transposed  (*k, out, in)        out        prod(k)   in
embedding   (vocabulary, dim)    vocabulary 1         dim
"""

import math

import numpy as np

KINDS = ("dense", "conv", "depthwise", "transposed", "embedding")


def to_matrix(kernel: np.ndarray, kind: str) -> np.ndarray:
    """The kernel as (out, taps, in): a view wherever numpy can make one.

    Raises ValueError for an unknown kind or a rank that the kind cannot have.
    """
    kernel = np.asarray(kernel)
    _check(kernel.shape, kind)
    if kind == "dense":
        return kernel.T[:, None, :]
    if kind == "embedding":
        return kernel[:, None, :]
    taps = math.prod(kernel.shape[:-2])
    if kind == "depthwise":
        return kernel.reshape(taps, -1, 1).transpose(1, 0, 2)
    by_tap = kernel.reshape(taps, *kernel.shape[-2:])
    return by_tap.transpose((2, 0, 1) if kind == "conv" else (1, 0, 2))


def from_matrix(matrix: np.ndarray, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array of Keras shape `shape` whose `to_matrix` is `matrix` (out, taps, in)."""
    _check(shape, kind)
    if kind == "dense":
        return matrix[:, 0, :].T
    if kind == "embedding":
        return matrix[:, 0, :]
    return matrix.transpose((1, 2, 0) if kind == "conv" else (1, 0, 2)).reshape(shape)


def _check(shape, kind):
    if kind not in KINDS:
        raise ValueError(f"`kind` is one of {', '.join(KINDS)}; got {kind!r}.")
    flat = kind in ("dense", "embedding")
    if (len(shape) != 2) if flat else (len(shape) < 3):
        expected = "2 axes" if flat else "at least 3 axes"
        raise ValueError(f"A {kind} kernel has {expected}; got shape {tuple(shape)}.")
