"""The kernels of custom_ops from Python: their sources, a library of them, and calls through it."""

from __future__ import annotations

import ctypes
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from scalpel_tf.core.gcsr import GroupedCSR
from scalpel_tf.deploy import toolchain

VALUE_TYPES = {"float32": 0, "bfloat16": 1, "int8": 2}
ACTIVATIONS = {"linear": 0, "relu": 1, "relu6": 2}
NOT_KERNELS = ("tf_", "_test", "_main")


def sources() -> Path:
    """The folder of the C++ sources: inside an installed package, beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    for folder in (package / "custom_ops", package.parent / "custom_ops"):
        if (folder / "scalpel_kernels.h").exists():
            return folder
    raise RuntimeError(
        f"The C++ sources of the kernels are missing beside {package}; install scalpel_tf again."
    )


def files() -> list[Path]:
    """The C++ files that any program can be linked with; TensorFlow is not among their needs."""
    return [
        file
        for file in sorted(sources().glob("*.cc"))
        if not file.name.startswith(NOT_KERNELS[0]) and not file.stem.endswith(NOT_KERNELS[1:])
    ]


def build(out: Path | str) -> Path:
    """Build out/libscalpel_kernels.so; returns its path. RuntimeError as in `toolchain`."""
    library = Path(out) / "libscalpel_kernels.so"
    return toolchain.link_cxx(toolchain.host_cxx(), flags(), files(), ["-shared"], library)


def flags() -> list[str]:
    """What `files` are compiled with, besides what every C++ file is."""
    return ["-O3", "-fPIC", "-pthread", f"-I{sources()}"]


class _Matrix(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("values", "columns", "offsets", "scales")),
        *((name, ctypes.c_int64) for name in ("rows", "cols")),
        *((name, ctypes.c_int32) for name in ("value_type", "width", "column_bytes")),
    ]


class _Conv2D(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            *("batch", "in_height", "in_width", "channels", "out_height", "out_width"),
            *("kernel_height", "kernel_width", "stride_height", "stride_width"),
            *("dilation_height", "dilation_width", "pad_top", "pad_left"),
        )
    ]


class Kernels:
    """A library of `build`, or any that exports the same functions, called with numpy arrays.

    Matrices are GroupedCSR with float32, bfloat16 or int8 values, and scales (rows,) with int8;
    activations are float32. ValueError for arrays that are no grouped CSR or do not fit.
    """

    def __init__(self, library: Path | str):
        self.library = ctypes.CDLL(str(library))
        for name in ("scalpel_isa", "scalpel_isa_name"):
            getattr(self.library, name).restype = ctypes.c_char_p

    def isas(self) -> list[str]:
        """The instruction sets that this machine has kernels for, best first."""
        names, name = [], self.library.scalpel_isa_name(0)
        while name:
            names.append(name.decode())
            name = self.library.scalpel_isa_name(len(names))
        return names

    @property
    def isa(self) -> str:
        return self.library.scalpel_isa().decode()

    def use_isa(self, name: str) -> None:
        if self.library.scalpel_use_isa(name.encode()):
            raise ValueError(f"This machine has {', '.join(self.isas())}; got {name!r}.")

    @property
    def threads(self) -> int:
        return self.library.scalpel_threads()

    def set_threads(self, threads: int) -> None:
        self.library.scalpel_set_threads(threads)

    def check(self, sparse: GroupedCSR, scales: np.ndarray | None = None) -> None:
        """ValueError with the library's sentence unless its kernels may trust these arrays."""
        message = ctypes.create_string_buffer(512)
        w = matrix(sparse, scales)
        groups, count = ctypes.c_int64(len(sparse.values)), ctypes.c_int64(len(sparse.offsets))
        if self.library.scalpel_gcsr_check(ctypes.byref(w), groups, count, message, 512):
            raise ValueError(message.value.decode())

    def matmul(self, sparse, x, *, bias=None, activation="linear", scales=None, out=None):
        """activation(x W^T + bias): x (n, cols) -> (n, rows)."""
        return self._product("scalpel_gcsr_matmul", sparse, x, 0, bias, activation, scales, out)

    def matmul_columns(self, sparse, x, *, bias=None, activation="linear", scales=None, out=None):
        """activation(W x + bias): x (cols, n) -> (rows, n)."""
        name = "scalpel_gcsr_matmul_columns"
        return self._product(name, sparse, x, 1, bias, activation, scales, out)

    def _product(self, name, sparse, x, axis, bias, activation, scales, out):
        x, (rows, cols) = _float32(x), sparse.shape
        if x.ndim != 2 or x.shape[1 - axis] != cols:
            raise ValueError(f"The matrix has {cols} columns; got inputs of shape {x.shape}.")
        n = x.shape[axis]
        shape = (rows, n) if axis else (n, rows)
        out = np.empty(shape, np.float32) if out is None else _checked("out", out, shape)
        bias = None if bias is None else _checked("bias", _float32(bias), (rows,))
        code = ACTIVATIONS[activation]
        self._call(name, sparse, scales, ctypes.c_int64(n), x, bias, code, out)
        return out

    def conv2d(self, sparse, x, *, bias=None, activation="linear", scales=None, **geometry):
        """x (n, height, width, channels) -> (n, out_height, out_width, rows); see `conv`."""
        x = _float32(x)
        shape = conv(sparse, x.shape, **geometry)
        y = np.empty((shape.batch, shape.out_height, shape.out_width, sparse.shape[0]), np.float32)
        bias = None if bias is None else _checked("bias", _float32(bias), sparse.shape[:1])
        name, code = "scalpel_gcsr_conv2d", ACTIVATIONS[activation]
        self._call(name, sparse, scales, ctypes.byref(shape), x, bias, code, y)
        return y

    def matmul_grad_inputs(self, sparse, dy, *, scales=None):
        """dy (n, rows) -> dx (n, cols)."""
        dy = _checked("dy", _float32(dy), (len(dy), sparse.shape[0]))
        dx = np.empty((len(dy), sparse.shape[1]), np.float32)
        n = ctypes.c_int64(len(dy))
        self._call("scalpel_gcsr_matmul_grad_inputs", sparse, scales, n, dy, dx)
        return dx

    def matmul_grad_values(self, sparse, x, dy):
        """x (n, cols), dy (n, rows) -> dvalues float32 (groups, width)."""
        x = _checked("x", _float32(x), (len(x), sparse.shape[1]))
        dy = _checked("dy", _float32(dy), (len(x), sparse.shape[0]))
        dvalues, n = np.empty(sparse.values.shape, np.float32), ctypes.c_int64(len(x))
        self._call("scalpel_gcsr_matmul_grad_values", _pattern(sparse), None, n, x, dy, dvalues)
        return dvalues

    def conv2d_grad_inputs(self, sparse, dy, input_shape, *, scales=None, **geometry):
        """dy (n, out_height, out_width, rows) -> dx of shape `input_shape`."""
        dy, dx = _float32(dy), np.empty(input_shape, np.float32)
        shape = conv(sparse, input_shape, **geometry)
        _checked("dy", dy, (shape.batch, shape.out_height, shape.out_width, sparse.shape[0]))
        arguments = ctypes.byref(shape), dy, dx
        self._call("scalpel_gcsr_conv2d_grad_inputs", sparse, scales, *arguments)
        return dx

    def conv2d_grad_values(self, sparse, x, dy, **geometry):
        """x (n, height, width, channels), dy -> dvalues float32 (groups, width)."""
        x, dy, dvalues = _float32(x), _float32(dy), np.empty(sparse.values.shape, np.float32)
        shape = conv(sparse, x.shape, **geometry)
        _checked("dy", dy, (shape.batch, shape.out_height, shape.out_width, sparse.shape[0]))
        arguments = ctypes.byref(shape), x, dy, dvalues
        self._call("scalpel_gcsr_conv2d_grad_values", _pattern(sparse), None, *arguments)
        return dvalues

    def bias_grad(self, dy):
        """dy (n, rows) -> dbias (rows,)."""
        dy = _float32(dy)
        dbias = np.empty(dy.shape[1], np.float32)
        n, rows = map(ctypes.c_int64, dy.shape)
        _succeed(self.library.scalpel_bias_grad(rows, n, _address(dy), _address(dbias)))
        return dbias

    def _call(self, name, sparse, scales, *arguments):
        w = matrix(sparse, scales)
        arguments = [_address(a) if isinstance(a, np.ndarray) else a for a in arguments]
        _succeed(getattr(self.library, name)(ctypes.byref(w), *arguments))


def load(library: Path | str) -> Kernels:
    """The kernels in a library of `build`."""
    return Kernels(library)


def matrix(sparse: GroupedCSR, scales: np.ndarray | None = None) -> _Matrix:
    """The C struct that points at these arrays; they have to outlive it."""
    kind = sparse.values.dtype.name
    if kind not in VALUE_TYPES:
        raise ValueError(f"Values are {', '.join(VALUE_TYPES)}; got {kind}.")
    if (kind == "int8") != (scales is not None):
        raise ValueError(f"`scales`, one per row, belong to int8 values; got {kind} values.")
    if scales is not None:
        _checked("scales", scales, sparse.shape[:1])
    arrays = (sparse.values, sparse.columns, sparse.offsets)
    return _Matrix(
        *map(_address, arrays),
        None if scales is None else _address(scales),
        *sparse.shape,
        VALUE_TYPES[kind],
        sparse.width,
        sparse.columns.itemsize,
    )


def conv(
    sparse: GroupedCSR,
    input_shape: tuple[int, ...],
    *,
    kernel_size: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: str = "valid",
    dilation_rate: tuple[int, int] = (1, 1),
) -> _Conv2D:
    """The C struct of a convolution of NHWC `input_shape`; padding as in Keras."""
    batch, *image, channels = input_shape
    if sparse.shape[1] != math.prod(kernel_size) * channels:
        raise ValueError(
            f"A {kernel_size} kernel on {channels} channels has "
            f"{math.prod(kernel_size) * channels} columns; got a matrix of shape {sparse.shape}."
        )
    out, before = [], []
    for size, taps, stride, rate in zip(image, kernel_size, strides, dilation_rate, strict=True):
        span = (taps - 1) * rate + 1
        if padding == "same":
            out.append(-(-size // stride))
            before.append(max((out[-1] - 1) * stride + span - size, 0) // 2)
        else:
            out.append(max((size - span) // stride + 1, 0))
            before.append(0)
    return _Conv2D(batch, *image, channels, *out, *kernel_size, *strides, *dilation_rate, *before)


def _float32(array):
    return np.ascontiguousarray(array, np.float32)


def _checked(name, array, shape):
    if array.dtype != np.float32 or array.shape != tuple(shape):
        raise ValueError(
            f"`{name}` is float32 of shape {tuple(shape)} here; "
            f"got {array.dtype} of shape {array.shape}."
        )
    return array


def _pattern(sparse):
    """The same groups with values of a type that needs no scales; they are not read."""
    return replace(sparse, values=np.empty(sparse.values.shape, np.float32))


def _address(array):
    if not array.flags.c_contiguous:
        raise ValueError(f"Kernels read C-contiguous arrays; got strides {array.strides}.")
    return array.ctypes.data_as(ctypes.c_void_p)


def _succeed(status):
    if status:
        raise MemoryError("The kernels could not allocate their scratch memory.")
