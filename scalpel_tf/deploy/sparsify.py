"""sparsify: a pruned model in, its copy on the sparse CPU kernels and a report out. densify: back.

The zeros are the message: the groups that hold none but zeros are found in the weights, whoever
pruned them and in groups of whatever width.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import keras
import ml_dtypes
import numpy as np
from keras import layers, regularizers

from scalpel_tf.core import cpu_cost, gcsr
from scalpel_tf.core.layout import from_matrix, to_matrix
from scalpel_tf.core.targets import Target, find_target
from scalpel_tf.deploy.sparse_layers import (
    VALUE_TYPES,
    WIDTHS,
    GroupedCSRConv2D,
    GroupedCSRDense,
)
from scalpel_tf.models import check_model, copy_model, same_layer, same_weights, walk

UNKNOWN_SIZE = 32
KINDS = {layers.Dense: "dense", layers.Conv2D: "conv"}
SPARSE = {GroupedCSRDense: "dense", GroupedCSRConv2D: "conv"}
SHARED = (
    *("name", "trainable", "activation", "use_bias", "bias_initializer", "bias_constraint"),
    *("kernel_regularizer", "bias_regularizer", "activity_regularizer"),
)
GEOMETRY = ("kernel_size", "strides", "padding", "dilation_rate")
ELEMENTWISE = (regularizers.L1, regularizers.L2, regularizers.L1L2)


class Decision(NamedTuple):
    """What became of one layer. density: the fraction of its weights that are not zero; seconds:
    modelled, of one call on one thread. The figures are None where no sparse kernel exists."""

    path: str
    type: str
    replaced: bool
    reason: str
    density: float | None = None
    width: int | None = None
    dense_seconds: float | None = None
    sparse_seconds: float | None = None


@dataclass(frozen=True)
class SparsifyReport:
    """Which layers `sparsify` replaced and which it left, with its reasons."""

    target: str
    dtype: str
    layers: tuple[Decision, ...]

    def __str__(self):
        count = sum(layer.replaced for layer in self.layers) or "no"
        lines = [
            f"Sparse {self.dtype} layers for {self.target}: {count} of {len(self.layers)} layers; "
            "times are modelled"
        ]
        for layer in self.layers:
            figures = " " * 46
            if layer.density is not None:
                dense, sparse = 1e6 * layer.dense_seconds, 1e6 * layer.sparse_seconds
                figures = f"density {layer.density:6.1%}  {dense:10.1f} -> {sparse:10.1f} us  "
            done = "sparse" if layer.replaced else "kept"
            lines.append(f"  {layer.path:24} {layer.type:18} {done:7} {figures}{layer.reason}")
        return "\n".join(lines)


@dataclass(frozen=True)
class _Encoded:
    kernel: gcsr.GroupedCSR
    scales: np.ndarray | None


def sparsify(
    model: keras.Model,
    target: str = "x86-64-avx2",
    *,
    width: int | None = None,
    dtype: str = "float32",
    batch: int = 1,
) -> keras.Model:
    """A copy of `model` that runs its sparse layers on the grouped-CSR op; `.report` says which.

    A Dense or Conv2D layer is replaced where the cost model says that the sparse kernel is faster
    than the dense one; models nested in it are treated too. The original stays as it is. The copy
    is not compiled; it predicts, saves and exports like any other, and in float32 it trains, its
    zeros in place.

    model: a built functional or Sequential model without masks; call `strip` before.
    target: a CPU of `core.targets`.
    width: 2, 4, 8 or 16 weights per group; by default the one that costs least, layer by layer.
    dtype: "float32"; "bfloat16", which rounds the weights; or "int8", which rounds them to 127
        steps of a scale per output. Rounded weights are fixed: fine-tune in float32 before.
    batch: the samples per call that are in the cost model; sizes that the model leaves open count
        as 32.

    Raises ValueError for a model that cannot be copied, and for a target without such kernels.
    """
    check_model(model, "sparsify")
    facts = _cpu(target)
    if width is not None and width not in WIDTHS:
        raise ValueError(f"`width` is None or one of {WIDTHS}; got {width!r}.")
    if dtype not in VALUE_TYPES:
        raise ValueError(f"`dtype` is one of {', '.join(VALUE_TYPES)}; got {dtype!r}.")
    if batch < 1:
        raise ValueError(f"`batch` is a number of samples, at least 1; got {batch!r}.")
    decisions, encoded = [], {}
    for path, layer in walk(model):
        if not layer.weights:
            continue
        reason = _refusal(layer)
        if reason:
            decisions.append(Decision(path, type(layer).__name__, False, reason))
            continue
        matrix, scales = _quantized(_rows(layer), dtype)
        decision = _decide(path, layer, matrix, WIDTHS if width is None else (width,), batch, facts)
        decisions.append(decision)
        if decision.replaced:
            encoded[id(layer)] = _Encoded(gcsr.encode(matrix, decision.width), scales)

    def replace(layer):
        return (
            _sparse_layer(layer, encoded[id(layer)]) if id(layer) in encoded else same_layer(layer)
        )

    def transfer(layer, new):
        if id(layer) not in encoded:
            return same_weights(layer, new)
        new.assign_kernel(encoded[id(layer)].kernel, encoded[id(layer)].scales)
        if layer.bias is not None:
            new.bias.assign(layer.bias)

    sparse = copy_model(model, replace, transfer)
    sparse.report = SparsifyReport(target, dtype, tuple(decisions))
    return sparse


def densify(model: keras.Model) -> keras.Model:
    """An independent plain Keras model of the same outputs: Dense and Conv2D for the sparse layers.

    Names stay, pruned weights are zeros, weights of other types become those of the layer's policy.
    It is not compiled, and saves and loads without scalpel_tf. Raises ValueError for a model that
    has no sparse layer.
    """
    check_model(model, "densify")
    if not any(type(layer) in SPARSE for _, layer in walk(model)):
        raise ValueError(
            f"Model {model.name!r} has no sparse layer: densify is the way back from sparsify."
        )

    def replace(layer):
        if type(layer) not in SPARSE:
            return same_layer(layer)
        shared = {name: getattr(layer, name) for name in SHARED}
        if type(layer) is GroupedCSRDense:
            return layers.Dense(layer.rows, dtype=layer.dtype_policy, **shared)
        return layers.Conv2D(
            layer.rows,
            data_format="channels_last",
            dtype=layer.dtype_policy,
            **layer.geometry,
            **shared,
        )

    def transfer(layer, new):
        if type(layer) not in SPARSE:
            return same_weights(layer, new)
        shape = tuple(new.kernel.shape)
        matrix = layer.kernel_matrix().reshape(layer.rows, -1, shape[-2])
        new.kernel.assign(from_matrix(matrix, SPARSE[type(layer)], shape))
        if layer.bias is not None:
            new.bias.assign(layer.bias)

    return copy_model(model, replace, transfer)


def _cpu(name) -> Target:
    target = find_target(name)
    if target.is_microcontroller:
        raise ValueError(
            f"sparsify makes Keras layers for CPUs; {name!r} is a microcontroller: give the model "
            "to scalpel_tf.export."
        )
    if name not in cpu_cost.COSTS:
        raise ValueError(
            f"There are no sparse kernels for {name!r}, where sparse weights lose: use the plain "
            f"model there, or one of {', '.join(cpu_cost.COSTS)}."
        )
    return target


def _refusal(layer):
    """Why this layer stays as it is, whatever its weights are; None where costs decide."""
    if type(layer) in SPARSE:
        return "it is sparse already"
    if type(layer).__name__ == "PruneWrapper":
        return "its masks are still in a PruneWrapper: call strip first"
    if type(layer) not in KINDS:
        return f"{type(layer).__name__} has no sparse kernel"
    if getattr(layer, "data_format", None) == "channels_first":
        return "the sparse convolution takes channels_last images"
    if getattr(layer, "groups", 1) != 1:
        return "the sparse convolution has no groups of channels"
    if layer.quantization_mode is not None or layer.lora_enabled:
        return "its kernel is not a plain float variable (is it quantised, or under LoRA?)"
    if layer.compute_dtype == "float64":
        return "the sparse kernels compute in float32, this layer in float64"
    if layer.kernel_constraint is not None:
        return "its kernel_constraint would see groups instead of the kernel: build it without"
    if not isinstance(layer.kernel_regularizer, (type(None), *ELEMENTWISE)):
        return "its kernel_regularizer would see groups instead of the kernel: build it without"
    return None


def _rows(layer):
    """The kernel as a float32 (rows, cols) matrix."""
    kernel = keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))
    matrix = to_matrix(kernel, KINDS[type(layer)])
    return matrix.reshape(len(matrix), -1)


def _quantized(matrix, dtype):
    """The matrix in that dtype, and the scale of each of its rows if it is int8."""
    if dtype != "int8":
        return matrix.astype({"bfloat16": ml_dtypes.bfloat16}.get(dtype, dtype)), None
    scales = np.abs(matrix).max(1) / np.float32(127)
    scales[scales == 0] = 1
    return np.rint(matrix / scales[:, None]).clip(-127, 127).astype(np.int8), scales


def _decide(path, layer, matrix, widths, batch, target):
    """The decision for a layer of this (quantized) kernel, with the cheapest of `widths`."""
    nonzero = matrix != 0
    rows, cols = matrix.shape
    n = batch * _positions(layer)
    value_type = matrix.dtype.name

    def seconds(groups, width):
        return cpu_cost.sparse_seconds(
            rows, cols, n, groups=groups, width=width, value_type=value_type, target=target
        )

    counts = {width: _count_groups(nonzero, width) for width in widths}
    width = min(widths, key=lambda width: seconds(counts[width], width))
    dense = cpu_cost.dense_seconds(rows, cols, n, target=target)
    sparse = seconds(counts[width], width)
    stored = counts[width] / (rows * -(-cols // width))
    return Decision(
        path,
        type(layer).__name__,
        sparse < dense,
        f"{'sparse' if sparse < dense else 'dense'} is faster with {stored:.1%} of its groups of "
        f"{width} stored",
        float(nonzero.mean()),
        width,
        dense,
        sparse,
    )


def _positions(layer):
    """Places per sample at which the layer multiplies by its kernel."""
    return math.prod(UNKNOWN_SIZE if size is None else size for size in layer.output.shape[1:-1])


def _count_groups(nonzero, width):
    starts = np.arange(0, nonzero.shape[1], width)
    return int(np.logical_or.reduceat(nonzero, starts, axis=1).sum())


def _sparse_layer(layer, encoded):
    groups, width = encoded.kernel.values.shape
    arguments = {
        **{name: getattr(layer, name) for name in SHARED},
        "value_type": encoded.kernel.values.dtype.name,
        "dtype": layer.dtype_policy,
    }
    if type(layer) is layers.Dense:
        return GroupedCSRDense(layer.units, width, groups, **arguments)
    geometry = {name: getattr(layer, name) for name in GEOMETRY}
    return GroupedCSRConv2D(layer.filters, width=width, groups=groups, **geometry, **arguments)
