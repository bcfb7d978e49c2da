"""Random sparse matrices, and this package's kernels on them through their C ABI."""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import paired
from paired import Alternative, in_c, keeping

from scalpel_tf.core import gcsr
from scalpel_tf.core.gcsr import GroupedCSR
from scalpel_tf.deploy import kernels as scalpel


def load(library: Path | None, isa: str | None) -> scalpel.Kernels:
    """The kernels of a library, or built from this checkout; and of one instruction set, or the
    machine's best."""
    with tempfile.TemporaryDirectory() as folder:
        kernels = scalpel.load(library or scalpel.build(folder))
    if isa:
        kernels.use_isa(isa)
    return kernels


def random_mask(rows: int, cols: int, density: float, width: int, rng) -> np.ndarray:
    """(rows, cols) of bool: whole groups of `width` neighbours, exactly `density` of them (to the
    nearest group, at least one), anywhere in the matrix; the paper's own harness draws them so."""
    groups = -(-cols // width)
    keep = np.zeros(rows * groups, bool)
    keep[rng.permutation(keep.size)[: max(1, round(density * keep.size))]] = True
    return np.repeat(keep.reshape(rows, groups), width, 1)[:, :cols]


def random_matrix(rows: int, cols: int, density: float, width: int, rng) -> np.ndarray:
    """Uniform float32 values in [-1, 1) under a random mask."""
    values = rng.random((rows, cols), np.float32) * 2 - 1
    return np.where(random_mask(rows, cols, density, width, rng), values, np.float32(0))


def narrow(sparse: GroupedCSR, dtype: str) -> tuple[GroupedCSR, np.ndarray | None]:
    """The matrix with values of another dtype, and the scales of its rows if that is int8."""
    if dtype == "float32":
        return sparse, None
    if dtype == "bfloat16":
        return replace(sparse, values=sparse.values.astype(ml_dtypes.bfloat16)), None
    row = np.repeat(np.arange(sparse.shape[0]), np.diff(sparse.offsets.astype(np.int64)))
    largest = np.zeros(sparse.shape[0], np.float32)
    np.maximum.at(largest, row, np.abs(sparse.values).max(-1))
    scales = np.where(largest, largest, 1).astype(np.float32) / np.float32(127)
    values = np.rint(sparse.values / scales[row][:, None]).astype(np.int8)
    return replace(sparse, values=values), scales


def at_cache_lines(sparse: GroupedCSR) -> GroupedCSR:
    arrays = {name: getattr(sparse, name) for name in ("values", "columns", "offsets")}
    return replace(sparse, **{name: paired.aligned(array) for name, array in arrays.items()})


def widen(sparse: GroupedCSR, scales: np.ndarray | None) -> np.ndarray:
    """The matrix that a narrow GroupedCSR stands for."""
    matrix = gcsr.decode(replace(sparse, values=sparse.values.astype(np.float32)))
    return matrix if scales is None else matrix * scales[:, None]


@dataclass(frozen=True)
class Product:
    """A (rows, cols) float32 matrix with zeros in it, and what it multiplies.

    kind "rows": x is (n, cols) and y is (n, rows), as in a Dense layer.  kind "columns": x is
    (cols, n) and y is (rows, n), as in a convolution that went through im2col.
    """

    matrix: np.ndarray
    x: np.ndarray
    kind: str

    def __post_init__(self):
        for name in ("matrix", "x"):
            object.__setattr__(self, name, paired.aligned(getattr(self, name)))

    @property
    def n(self) -> int:
        return self.x.shape[self.kind == "columns"]

    def empty(self) -> np.ndarray:
        rows = len(self.matrix)
        shape = (self.n, rows) if self.kind == "rows" else (rows, self.n)
        return paired.aligned(np.full(shape, np.nan, np.float32))

    def expected(self) -> tuple[np.ndarray, np.ndarray]:
        """The result in float64, and how far float32 sums may be from it."""
        y, magnitude = (
            w @ x if self.kind == "columns" else x @ w.T
            for w, x in (
                (self.matrix.astype(np.float64), self.x.astype(np.float64)),
                (np.abs(self.matrix, dtype=np.float64), np.abs(self.x, dtype=np.float64)),
            )
        )
        return y, paired.rounding(self.matrix.shape[1], magnitude)


def multiply(
    kernels: scalpel.Kernels,
    sparse: GroupedCSR,
    scales: np.ndarray | None,
    product: Product,
    *,
    threads: int,
    name: str,
) -> Alternative:
    """The sparse product."""
    sparse = at_cache_lines(sparse)
    w, y = scalpel.matrix(sparse, scales), product.empty()
    functions = {"rows": "scalpel_gcsr_matmul", "columns": "scalpel_gcsr_matmul_columns"}
    function = getattr(kernels.library, functions[product.kind])
    arguments = (function, ctypes.byref(w), product.n, product.x, None, ctypes.c_int(0), y)
    alternative = in_c(name, threads, kernels.set_threads, "matmul", *arguments, y=y)
    return keeping(alternative, w, sparse, scales)


def convolve(
    kernels: scalpel.Kernels,
    sparse: GroupedCSR,
    x: np.ndarray,
    bias: np.ndarray,
    *,
    threads: int,
    name: str,
    **geometry,
) -> Alternative:
    """The sparse convolution of NHWC float32 images, with bias and ReLU; geometry as in
    `kernels.conv`."""
    sparse, x = at_cache_lines(sparse), paired.aligned(x)
    w, shape = scalpel.matrix(sparse), scalpel.conv(sparse, x.shape, **geometry)
    size = (shape.batch, shape.out_height, shape.out_width, sparse.shape[0])
    y, function = paired.aligned(np.empty(size, np.float32)), kernels.library.scalpel_gcsr_conv2d
    arguments = (function, ctypes.byref(w), ctypes.byref(shape), x, bias, ctypes.c_int(1), y)
    alternative = in_c(name, threads, kernels.set_threads, "conv2d", *arguments, y=y)
    return keeping(alternative, w, shape, sparse)
