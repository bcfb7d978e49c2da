"""Which elements of a value are the same for every input, and what they are.

A function here takes a call and one array for each of its inputs, and returns one for each output.
An array has the axes of its value, of size 1 where all positions are alike; NaN means that nothing
is known. The arithmetic is that of inference.
"""

import math

import keras
import numpy as np

from scalpel_tf.train import channel_rules
from scalpel_tf.train.network import Value


def unknown(call, arrays):
    return [blank(value) for value in call.outputs]


def blank(value: Value) -> np.ndarray:
    """Nothing is known of the value."""
    return np.full((1,) * len(value.shape), np.nan, np.float32)


def per_channel(array: np.ndarray) -> np.ndarray:
    """One number for each position of the last axis, with all axes; NaN where it varies."""
    if array.size == array.shape[-1]:
        return array
    lines = array.reshape(-1, array.shape[-1])
    with np.errstate(invalid="ignore"):
        same = (lines == lines[0]).all(0)
    return np.where(same, lines[0], np.nan).reshape((1,) * (array.ndim - 1) + (-1,))


def kernel(call, arrays):
    """An output whose kernel is all zero is its bias, after the activation."""
    layer, value = call.layer, call.outputs[0]
    if value.nodes[-1] is None:
        return [blank(value)]
    if call.made is None:
        return depthwise(call, arrays)
    index = max(i for i, axes in enumerate(call.weights) if len(axes) > 1)
    axes = call.weights[index]
    matrix = keras.ops.convert_to_numpy(layer.weights[index])
    made = next(axis for axis, nodes in enumerate(axes) if nodes is call.made)
    zero = ~matrix.any(axis=tuple(axis for axis in range(matrix.ndim) if axis != made))
    if not zero.any():
        return [blank(value)]
    bias = keras.ops.convert_to_numpy(layer.bias) if layer.use_bias else np.zeros(zero.size)
    result = np.where(zero, _activate(layer, bias), np.nan).astype(np.float32)
    return [result.reshape((1,) * (len(value.shape) - 1) + (-1,))]


def depthwise(call, arrays):
    """A channel that is constant stays so, where no padding puts zeros beside it."""
    layer, value = call.layer, call.outputs[0]
    if value.nodes[-1] is None:
        return [blank(value)]
    array = per_channel(arrays[0]).reshape(-1)
    weight = keras.ops.convert_to_numpy(layer.kernel)
    taps = weight.reshape(math.prod(layer.kernel_size), call.inputs[0].shape[-1], -1)
    if layer.padding != "valid" and any(n > 1 for n in layer.kernel_size):
        array = np.where(array == 0, array, np.nan)
    array = np.broadcast_to(array, taps.shape[1:2])[:, None]
    result = np.where(taps.any(0), array * taps.sum(0), 0).reshape(-1)
    if np.isnan(result).all():
        return [blank(value)]
    if layer.use_bias:
        result = result + keras.ops.convert_to_numpy(layer.bias)
    return [_activate(layer, result).reshape((1,) * (len(value.shape) - 1) + (-1,))]


def same(call, arrays):
    return [arrays[0]]


def pointwise(call, arrays):
    """What the layer makes of the constants among its operands."""
    if any(np.isnan(array).all() for array in arrays):
        return [blank(call.outputs[0])]
    known = {id(v): np.nan_to_num(a)[None] for v, a in zip(call.inputs, arrays, strict=True)}
    lost = np.isnan(sum(np.broadcast_arrays(*arrays)))

    def resolve(structure):
        return keras.tree.map_structure(
            lambda leaf: known[id(leaf)] if isinstance(leaf, Value) else leaf, structure
        )

    result = call.layer(*resolve(call.args), **resolve(call.kwargs))
    result = np.asarray(keras.ops.convert_to_numpy(result), np.float32)[0]
    return [np.where(lost, np.nan, result)]


def product(call, arrays):
    """One factor that is zero is enough."""
    zero = np.zeros(np.broadcast_shapes(*(array.shape for array in arrays)), bool)
    for array in arrays:
        zero = zero | (array == 0)
    return [np.where(zero, np.float32(0), pointwise(call, arrays)[0])]


def normalisation(call, arrays):
    """Batch normalisation by its moving statistics."""
    layer, array = call.layer, arrays[0]
    if np.isnan(array).all():
        return [blank(call.outputs[0])]
    mean, variance, gamma, beta = (
        None if weight is None else keras.ops.convert_to_numpy(weight).astype(np.float64)
        for weight in (layer.moving_mean, layer.moving_variance, layer.gamma, layer.beta)
    )
    scale = (1 if gamma is None else gamma) / np.sqrt(variance + layer.epsilon)
    result = (array - mean) * scale + (0 if beta is None else beta)
    return [result.astype(np.float32)]


def alone(call, arrays):
    """A channel of zeros, normalised by itself, is its offset."""
    if call.outputs[0].nodes[-1] is None:
        return unknown(call, arrays)
    array, beta = per_channel(arrays[0]), call.layer.beta
    offset = np.float32(0) if beta is None else keras.ops.convert_to_numpy(beta)
    return [np.where(array == 0, offset, np.nan).astype(np.float32)]


def mask(call, arrays):
    """A masked channel is zero."""
    keep = spread_mask(call)
    return [np.where(keep, arrays[0], np.float32(0))]


def spread_mask(call) -> np.ndarray:
    """True for the channels that a MaskLayer keeps, with the axes of its value."""
    keep = call.layer.keep
    index = call.kwargs.get("index", call.args[1] if len(call.args) > 1 else None)
    keep = keep if index is None else keep[np.asarray(index)]
    rank = len(call.outputs[0].shape)
    axis = call.layer.axis
    axis = axis + rank if axis < 0 else axis - 1
    return keep.reshape([-1 if other == axis else 1 for other in range(rank)])


def window(call, arrays):
    return [per_channel(arrays[0])]


def padding(call, arrays):
    """Zeros beside a constant that is not zero make it vary."""
    array = per_channel(arrays[0])
    return [np.where(array == 0, array, np.nan)]


def global_pool(call, arrays):
    array = per_channel(arrays[0])
    return [array.reshape((1,) * (len(call.outputs[0].shape) - 1) + (-1,))]


def concatenate(call, arrays):
    rank, axis = len(call.outputs[0].shape), call.layer.axis
    axis = axis + rank if axis < 0 else axis - 1
    sizes = [1] * rank
    for array in arrays:
        sizes = [max(a, b) for a, b in zip(sizes, array.shape, strict=True)]
    full = []
    for value, array in zip(call.inputs, arrays, strict=True):
        sizes[axis] = value.shape[axis]
        full.append(np.broadcast_to(array, sizes))
    return [np.concatenate(full, axis)]


def reshape(call, arrays):
    value, out, array = call.inputs[0], call.outputs[0], arrays[0]
    if array.size == 1:
        return [array.reshape((1,) * len(out.shape))]
    if None not in value.shape and None not in out.shape:
        return [np.broadcast_to(array, value.shape).reshape(out.shape)]
    if array.size == array.shape[-1] == out.shape[-1]:
        return [array.reshape((1,) * (len(out.shape) - 1) + (-1,))]
    return [blank(out)]


def permute(call, arrays):
    return [arrays[0].transpose([axis - 1 for axis in call.layer.dims])]


def transpose(call, arrays):
    rank = arrays[0].ndim
    axes = call.layer.axes or tuple(reversed(range(rank + 1)))
    if axes[0] != 0:
        return unknown(call, arrays)
    return [arrays[0].transpose([axis - 1 for axis in axes[1:]])]


def repeat_vector(call, arrays):
    return [arrays[0][None]]


def attention(call, arrays):
    """A mean of values that are all zero is zero."""
    values = per_channel(arrays[1])
    return [np.where(values == 0, values, np.nan)]


def split(call, arrays):
    axis = call.layer.axis % (arrays[0].ndim + 1) - 1
    if arrays[0].shape[axis] == 1:
        return [arrays[0] for _ in call.outputs]
    ends = np.cumsum([out.shape[axis] for out in call.outputs])[:-1]
    return np.split(arrays[0], ends, axis)


def slices(call, arrays):
    key, array = channel_rules.whole_key(call), arrays[0]
    if key is None:
        return unknown(call, arrays)
    parts = []
    for part, size in zip(key[1:], array.shape, strict=True):
        if size > 1:
            parts.append(part)
        else:
            parts.append(0 if isinstance(part, int) else slice(None))
    return [array[tuple(parts)]]


def mean(call, arrays):
    """The mean, or the largest, of equals is what they are."""
    layer, array = call.layer, arrays[0]
    over = range(array.ndim + 1) if layer.axis is None else np.atleast_1d(layer.axis)
    over = [axis % (array.ndim + 1) - 1 for axis in over]
    if -1 in over or any(array.shape[axis] > 1 for axis in over):
        return unknown(call, arrays)
    return [array if layer.keepdims else array.squeeze(tuple(over))]


def total(call, arrays):
    """A sum of zeros is zero."""
    return [np.where(array == 0, array, np.nan) for array in mean(call, arrays)]


def _activate(layer, array):
    if layer.activation is None:
        return array
    known = np.nan_to_num(np.asarray(array, np.float32))
    result = np.asarray(keras.ops.convert_to_numpy(layer.activation(known[None])))[0]
    return np.where(np.isnan(array), np.nan, result)
