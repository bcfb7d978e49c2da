"""Whole networks on MKL: im2col and sgemm, sgemv, or its sparse products, layer by layer in C.

Normalisations are folded into the convolutions before them, weights are laid out and packed
beforehand, and bias, ReLU and pooling are in networks.c.
"""

from __future__ import annotations

import ctypes
import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import keras
import numpy as np
import paired
from cpu_libraries import mkl
from keras import layers

from scalpel_tf.deploy import toolchain

DENSE, CONV, MAX_POOL, AVERAGE_POOL, SPARSE_DENSE, SPARSE_CONV = range(6)
PLAIN, ROW_MAJOR, COLUMN_MAJOR, B_MATRIX, CALLS = 111, 101, 102, 162, 1000
FUNCTIONS = (
    *("cblas_sgemv_64", "cblas_sgemm_64", "cblas_sgemm_compute_64"),
    *("mkl_sparse_s_mv", "mkl_sparse_s_mm"),
)


class Step(ctypes.Structure):
    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in (
                *("kind", "relu", "variant", "groups", "in_height", "in_width", "in_"),
                *("out_height", "out_width", "out", "kernel_height", "kernel_width"),
                *("stride_height", "stride_width", "pad_top", "pad_left"),
            )
        ),
        *((name, ctypes.c_void_p) for name in ("w", "bias", "y")),
    ]


class Chain(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in (*FUNCTIONS, "x", "columns", "seconds", "steps")),
        ("count", ctypes.c_int64),
    ]


class Description(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("type", "mode", "diagonal")]


@dataclass(frozen=True)
class Plain:
    """A layer with all that follows it and can be folded into it.

    kernel: (kh, kw, in of a group, out), or None for a pool.  size, strides, pads: height, width;
    pads above and to the left.
    """

    name: str
    kind: int
    input: tuple[int, int, int]
    output: tuple[int, int, int]
    kernel: np.ndarray | None = None
    bias: np.ndarray | None = None
    relu: bool = False
    groups: int = 1
    size: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int] = (0, 0)


@lru_cache
def library() -> ctypes.CDLL:
    """networks.c, built for this very machine."""
    with tempfile.TemporaryDirectory() as scratch:
        source = paired.HERE / "networks.c"
        arguments = ["-O3", "-march=native", "-shared", "-fPIC", source]
        out = Path(scratch) / "libnetworks.so"
        return ctypes.CDLL(str(toolchain.compile_c(toolchain.host(), arguments, out)))


def plain(model: keras.Model) -> list[Plain]:
    """The chain of a model's layers. ValueError for one that has no place in it."""
    found, shape = [], model.input_shape[1:]
    for layer in model.layers[1:]:
        before, shape = shape, layer.output.shape[1:]
        if isinstance(layer, layers.Dropout | layers.Flatten):
            continue
        if isinstance(layer, layers.ReLU):
            found[-1] = replace(found[-1], relu=True)
        elif isinstance(layer, layers.BatchNormalization):
            found[-1] = fold(found[-1], layer)
        else:
            found.append(one(layer, before, shape))
    return found


def one(layer, before, after) -> Plain:
    """A convolution, fully connected layer or pool."""
    relu = getattr(layer, "activation", None) is keras.activations.relu
    if isinstance(layer, layers.Dense):
        kernel, bias = (np.asarray(w, np.float32) for w in (layer.kernel, layer.bias))
        rows = (1, 1, len(kernel))
        return Plain(layer.name, DENSE, rows, (1, 1, len(bias)), kernel[None, None], bias, relu)
    if isinstance(layer, layers.GlobalAveragePooling2D):
        return Plain(layer.name, AVERAGE_POOL, before, (1, 1, *after), size=tuple(before[:2]))
    kinds = {
        layers.Conv2D: CONV,
        layers.MaxPooling2D: MAX_POOL,
        layers.AveragePooling2D: AVERAGE_POOL,
    }
    if type(layer) not in kinds:
        raise ValueError(f"{layer.name} is a {type(layer).__name__}, which has no place here.")
    kind = kinds[type(layer)]
    size = layer.kernel_size if kind == CONV else layer.pool_size
    pads = [0, 0]
    if layer.padding == "same":
        for axis in (0, 1):
            span = (after[axis] - 1) * layer.strides[axis] + size[axis]
            pads[axis] = max(span - before[axis], 0) // 2
    geometry = {"size": tuple(size), "strides": tuple(layer.strides), "pads": tuple(pads)}
    if kind != CONV:
        return Plain(layer.name, kind, before, after, **geometry)
    kernel = np.asarray(layer.kernel, np.float32)
    bias = np.asarray(layer.bias, np.float32) if layer.use_bias else np.zeros(after[-1], np.float32)
    return Plain(layer.name, kind, before, after, kernel, bias, relu, layer.groups, **geometry)


def fold(layer: Plain, norm) -> Plain:
    """The convolution with the normalisation after it inside."""
    gamma, beta, mean, variance = (np.asarray(w, np.float32) for w in norm.weights)
    scale = gamma / np.sqrt(variance + np.float32(norm.epsilon))
    return replace(layer, kernel=layer.kernel * scale, bias=(layer.bias - mean) * scale + beta)


def alternative(name: str, chain: list[Plain], x: np.ndarray, variants: int, sparse=()):
    """The chain in C. variants: 1 has the convolutions packed, 2 the dense weights transposed, 3
    both.  sparse: names of the layers that run as CSR."""
    state, y, alive = build(chain, x, variants, sparse)
    # ctypes functions of one library are shared objects; each alternative holds its own state.
    function, set_threads = library().scalpel_chain, mkl().MKL_Set_Num_Threads
    made = paired.in_c(name, 1, set_threads, "product", function, ctypes.byref(state), y=y)
    return paired.keeping(made, state, alive)


def fastest(name: str, chain: list[Plain], x: np.ndarray, sparse=()):
    """The alternative with the layouts of the dense weights that are fastest in a few calls."""
    dense = {layer.kind for layer in chain if layer.kernel is not None and layer.name not in sparse}
    best, least = None, np.inf
    for variants in (
        0,
        *(CONV in dense) * (1,),
        *(DENSE in dense) * (2,),
        *(len(dense) > 1) * (3,),
    ):
        found = alternative(name, chain, x, variants, sparse)
        found.run(1)
        taken = min(found.run(1) for _ in range(5))
        if taken < least:
            best, least = found, taken
    return best


def seconds(chain: list[Plain], x: np.ndarray, variants: int, sparse=(), calls: int = 30):
    """The seconds of one call by layer name, the median of some calls, after a warm one."""
    state, _, alive = build(chain, x, variants, sparse)
    sums = np.zeros(len(chain))
    mkl().MKL_Set_Num_Threads(1)
    state.seconds, rounds = sums.ctypes.data, []
    for _ in range(calls + 1):
        sums.fill(0)
        library().scalpel_chain(ctypes.byref(state))
        rounds.append(sums.copy())
    del alive
    return dict(zip([layer.name for layer in chain], np.median(rounds[1:], 0), strict=True))


def build(chain, x, variants, sparse):
    """(the C struct, its output, what it points at)."""
    alive, steps = [x], (Step * len(chain))()
    largest = 1
    for step, layer in zip(steps, chain, strict=True):
        (height, width, channels), (rows, columns, out) = layer.input, layer.output
        y = paired.aligned(np.empty(rows * columns * out, np.float32))
        alive.append(y)
        step.kind, step.relu, step.groups = layer.kind, layer.relu, layer.groups
        step.in_height, step.in_width, step.in_ = height, width, channels
        step.out_height, step.out_width, step.out = rows, columns, out
        step.kernel_height, step.kernel_width = layer.size
        step.stride_height, step.stride_width = layer.strides
        step.pad_top, step.pad_left = layer.pads
        step.y = y.ctypes.data
        if layer.kernel is None:
            continue
        bias = paired.aligned(layer.bias)
        taps = layer.kernel.size // out
        matrices = np.split(layer.kernel.reshape(taps, out), layer.groups, axis=1)
        step.bias, positions = bias.ctypes.data, rows * columns
        if layer.name in sparse:
            step.kind += SPARSE_DENSE - DENSE if layer.kind == DENSE else SPARSE_CONV - CONV
            weights = [csr(matrix.T, positions, out) for matrix in matrices]
        elif layer.kind == CONV and variants & 1:
            step.variant = 1
            weights = [pack(matrix, positions) for matrix in matrices]
        else:
            step.variant = int(layer.kind == DENSE and bool(variants & 2))
            across = layer.kind == DENSE and not step.variant
            weights = [paired.aligned(m.T if across else m) for m in matrices]
        addresses = (ctypes.c_void_p * len(weights))(*(address(w) for w in weights))
        step.w = ctypes.addressof(addresses)
        alive += [bias, weights, addresses]
        largest = max(largest, taps * positions)
    room = paired.aligned(np.empty(largest, np.float32))
    functions = [ctypes.cast(getattr(mkl(), name), ctypes.c_void_p).value for name in FUNCTIONS]
    fixed = (x.ctypes.data, room.ctypes.data, None, ctypes.addressof(steps), len(steps))
    return Chain(*functions, *fixed), y, [*alive, room, steps]


def address(weights):
    return weights[0].value if isinstance(weights, tuple) else weights.ctypes.data


def pack(matrix, positions):
    """MKL's own layout of a (taps, out) right-hand matrix."""
    taps, out = matrix.shape
    matrix = np.ascontiguousarray(matrix)
    sizes = [ctypes.c_int64(size) for size in (positions, out, taps)]
    size = mkl().cblas_sgemm_pack_get_size_64
    size.restype = ctypes.c_size_t
    packed = paired.aligned(np.empty(size(ctypes.c_int(B_MATRIX), *sizes), np.uint8))
    mkl().cblas_sgemm_pack_64(
        *(ctypes.c_int(ROW_MAJOR), ctypes.c_int(B_MATRIX), ctypes.c_int(PLAIN), *sizes),
        *(ctypes.c_float(1), ctypes.c_void_p(matrix.ctypes.data), sizes[1]),
        ctypes.c_void_p(packed.ctypes.data),
    )
    return packed


def csr(matrix, positions, leading):
    """MKL's handle of an (out, taps) matrix, hinted and optimised, and what it points at."""
    import scipy.sparse

    found = scipy.sparse.csr_matrix(matrix)
    indices, starts = found.indices.astype(np.int32), found.indptr.astype(np.int32)
    values, handle = np.asarray(found.data, np.float32), ctypes.c_void_p()
    arrays = [ctypes.c_void_p(a.ctypes.data) for a in (starts, starts[1:], indices, values)]
    status = [mkl().mkl_sparse_s_create_csr(ctypes.byref(handle), 0, *matrix.shape, *arrays)]
    general = Description(20, 0, 0)
    if positions == 1:
        status.append(mkl().mkl_sparse_set_mv_hint(handle, 10, general, CALLS))
    else:
        order = ctypes.c_int(COLUMN_MAJOR)
        hint = (handle, 10, general, order, positions, CALLS)
        status.append(mkl().mkl_sparse_set_mm_hint(*hint))
    status.append(mkl().mkl_sparse_optimize(handle))
    if any(status):
        raise RuntimeError(f"MKL refused the matrix with status {max(status)}")
    return handle, starts, indices, values
