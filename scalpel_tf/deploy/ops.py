"""Products with a matrix in grouped CSR, as TensorFlow ops that TensorFlow differentiates.

They are computed by the library of custom_ops where it is built (`scalpel-tf build`), and by
py_ops.py where it is not or where SCALPEL_TF_PY_OPS=1 asks for that. Otherwise importing this
module registers the C++ ops, so that a SavedModel that uses them can be loaded.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
import tensorflow as tf

from scalpel_tf.deploy import op_library, py_ops

FORCED = "SCALPEL_TF_PY_OPS"
NONE = np.zeros(0, np.float32)


def grouped_csr_matmul(
    x, values, columns, offsets, *, scales=None, bias=None, activation="linear"
) -> tf.Tensor:
    """activation(x W^T + bias) of shape (..., rows), in x's dtype, for floating x (..., cols).

    values, columns, offsets: W, as in core/gcsr.py, float32, bfloat16, or int8 with scales (rows,).
    activation: "linear", "relu" or "relu6".  Differentiable for x, values and bias, but not for
    int8 values.  ValueError or InvalidArgumentError for arrays that are no grouped CSR.
    """
    library = _library()
    if library is None:
        return py_ops.grouped_csr_matmul(
            x, values, columns, offsets, scales=scales, bias=bias, activation=activation
        )
    x = _floating(x)
    if not x.shape.rank:
        raise ValueError(f"`x` has the shape (..., cols); got {x.shape}.")
    cols = tf.shape(x)[-1] if x.shape[-1] is None else x.shape[-1]
    samples = tf.cast(x if x.shape.rank == 2 else tf.reshape(x, [-1, cols]), tf.float32)
    y = library.grouped_csr_mat_mul(
        samples,
        *_matrix(values, columns, offsets, scales),
        NONE if bias is None else tf.cast(bias, tf.float32),
        activation=activation.upper(),
    )
    if x.shape.rank != 2:
        y = tf.reshape(y, tf.concat([tf.shape(x)[:-1], tf.shape(y)[-1:]], 0))
        y.set_shape([*x.shape[:-1], _rows(offsets)])
    return tf.cast(y, x.dtype)


def grouped_csr_conv2d(
    x,
    values,
    columns,
    offsets,
    *,
    kernel_size,
    strides=(1, 1),
    padding="valid",
    dilation_rate=(1, 1),
    scales=None,
    bias=None,
    activation="linear",
) -> tf.Tensor:
    """activation(conv(x, W) + bias), (batch, out_height, out_width, rows), for NHWC images x.

    The rows of W run in the order (height, width, channels).  kernel_size, strides, dilation_rate:
    (height, width).  padding: "valid" or "same".  The rest as in `grouped_csr_matmul`.
    """
    library = _library()
    if library is None:
        return py_ops.grouped_csr_conv2d(
            x,
            values,
            columns,
            offsets,
            kernel_size=kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation_rate,
            scales=scales,
            bias=bias,
            activation=activation,
        )
    x = _floating(x)
    y = library.grouped_csr_conv2d(
        tf.cast(x, tf.float32),
        *_matrix(values, columns, offsets, scales),
        NONE if bias is None else tf.cast(bias, tf.float32),
        kernel_size=list(kernel_size),
        strides=list(strides),
        dilations=list(dilation_rate),
        padding=padding.upper(),
        activation=activation.upper(),
    )
    if x.shape.rank == 4:
        axes = zip(x.shape[1:3], kernel_size, strides, dilation_rate, strict=True)
        y.set_shape([x.shape[0], *(_places(padding, *axis) for axis in axes), _rows(offsets)])
    return tf.cast(y, x.dtype)


def available() -> bool:
    """Whether products are computed by the C++ ops."""
    return why_not() is None


def why_not() -> str | None:
    """The reason why products are not computed by the C++ ops, or None where they are."""
    if os.environ.get(FORCED) == "1":
        return f"{FORCED}=1 asks for products in plain TensorFlow."
    return _load()[1]


def build(out: Path | str | None = None) -> Path:
    """Build the library of the C++ ops, which this process uses from now on unless it has one.

    Arguments and errors as in `op_library.build`.
    """
    library = op_library.build(out)
    if _load()[1]:
        _load.cache_clear()
    return library


@lru_cache
def _load():
    """The library, or the reason why there is none."""
    try:
        return op_library.load(), None
    except RuntimeError as error:
        return None, str(error)


def _library():
    """The C++ ops, or None where py_ops.py has to stand in."""
    reason = why_not()
    if reason is None:
        library = _load()[0]
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        if threads:
            library.kernels.set_threads(threads)
        return library.ops
    if os.environ.get(FORCED) != "1":
        _warn(reason)
    return None


@lru_cache
def _warn(reason):
    warnings.warn(
        f"{reason} Until then products run in plain TensorFlow, without the gain of sparsity.",
        RuntimeWarning,
        stacklevel=4,
    )


def _floating(x):
    x = tf.convert_to_tensor(x)
    if not x.dtype.is_floating:
        raise ValueError(f"`x` is a tensor of floats; got {x.dtype.name}.")
    return x


def _matrix(values, columns, offsets, scales):
    values, columns = tf.convert_to_tensor(values), tf.convert_to_tensor(columns)
    if values.dtype in (tf.float16, tf.float64):
        values = tf.cast(values, tf.float32)
    scales = NONE if scales is None else tf.cast(scales, tf.float32)
    return values, columns, tf.convert_to_tensor(offsets), scales


def _rows(offsets):
    """The number of rows where it is known while tracing, else None."""
    return None if offsets.shape[0] is None else offsets.shape[0] - 1


def _known(tensor, axis):
    size = tensor.shape[axis]
    if size is None:
        raise ValueError(
            f"Gradients of grouped CSR need the number of columns and the width of a group while "
            f"tracing; got an array of shape {tensor.shape}."
        )
    return size


def _places(padding, size, taps, stride, rate):
    """How many places a kernel has along one axis, None where the image's size is unknown."""
    if size is None:
        return None
    span = 1 if padding.lower() == "same" else (taps - 1) * rate + 1
    return max((size - span) // stride + 1, 0)


@tf.RegisterGradient("GroupedCsrMatMul")
def _matmul_gradient(op, grad):
    x, values, columns, offsets, scales, bias = op.inputs
    library, grad = _load()[0].ops, _before_activation(op, grad)
    x_grad = library.grouped_csr_mat_mul_grad_inputs(
        grad, values, columns, offsets, scales, cols=_known(x, 1)
    )
    values_grad = None
    if values.dtype != tf.int8:
        values_grad = library.grouped_csr_mat_mul_grad_values(
            x, grad, columns, offsets, width=_known(values, 1)
        )
    return _gradients(op, grad, x_grad, values_grad)


@tf.RegisterGradient("GroupedCsrConv2D")
def _conv2d_gradient(op, grad):
    x, values, columns, offsets, scales, bias = op.inputs
    library, grad = _load()[0].ops, _before_activation(op, grad)
    names = ("kernel_size", "strides", "dilations", "padding")
    geometry = {name: op.get_attr(name) for name in names}
    x_grad = library.grouped_csr_conv2d_grad_inputs(
        grad, values, columns, offsets, scales, tf.shape(x), **geometry
    )
    values_grad = None
    if values.dtype != tf.int8:
        values_grad = library.grouped_csr_conv2d_grad_values(
            x, grad, columns, offsets, width=_known(values, 1), **geometry
        )
    return _gradients(op, grad, x_grad, values_grad)


def _before_activation(op, grad):
    """The gradient of the sums that the activation was applied to."""
    activation = tf.compat.as_str(op.get_attr("activation"))
    if activation == "LINEAR":
        return grad
    gradient = tf.raw_ops.ReluGrad if activation == "RELU" else tf.raw_ops.Relu6Grad
    return gradient(gradients=grad, features=op.outputs[0])


def _gradients(op, grad, x_grad, values_grad):
    x, values, _, _, _, bias = op.inputs
    x_grad.set_shape(x.shape)
    if values_grad is not None:
        values_grad.set_shape(values.shape)
        values_grad = tf.cast(values_grad, values.dtype)
    bias_grad = None
    if bias.shape[0] != 0:
        bias_grad = _load()[0].ops.grouped_csr_bias_grad(grad)
    return x_grad, values_grad, None, None, None, bias_grad


if os.environ.get(FORCED) != "1":
    _load()
