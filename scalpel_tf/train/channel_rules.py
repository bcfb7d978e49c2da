"""The rules of layers and operations that pass the nodes they read on."""

import math

import numpy as np

from scalpel_tf.train.ties import (
    channels_first,
    contract,
    hold,
    hold_axes,
    hold_mixed,
    join,
    mixed_last,
    only,
)


def pointwise(network, call):
    """One operand or several, broadcast against each other; weights along the last axis."""
    out = call.outputs[0]
    axes = [None] * len(out.shape)
    for value in call.inputs:
        if len(value.shape) != len(out.shape):
            return hold(network, call, f"{call.path} joins values of different ranks")
    for axis in range(len(out.shape)):
        axes[axis] = join(network, call, axis, out.shape[axis])
    out.nodes = tuple(axes)
    count = out.shape[-1] if out.shape else None
    call.weights = [
        (*(None,) * (len(weight.shape) - 1), out.nodes[-1] if weight.shape[-1] == count else None)
        if len(weight.shape)
        else ()
        for weight in getattr(call.layer, "weights", ())
    ]


def normalisation(network, call):
    if call.layer.axis not in (-1, len(call.outputs[0].shape)):
        return hold(network, call, f"{call.path} normalises another axis than the last")
    pointwise(network, call)


def activation(network, call):
    pointwise(network, call)
    hold_mixed(network, call, call.outputs[0].nodes[-1])


def softmax(network, call):
    axes = np.atleast_1d(getattr(call.layer, "axis", -1))
    pointwise(network, call)
    for axis in axes:
        reason = f"{call.path} (Softmax) mixes them"
        network.keep_whole(call.outputs[0].nodes[axis if axis < 0 else axis - 1], reason)


def layer_normalisation(network, call):
    pointwise(network, call)
    for axis in np.atleast_1d(call.layer.axis):
        reason = f"{call.path} ({type(call.layer).__name__}) takes a mean over them"
        network.keep_whole(call.outputs[0].nodes[axis if axis < 0 else axis - 1], reason)


def group_normalisation(network, call):
    pointwise(network, call)
    reason = f"{call.path} ({type(call.layer).__name__}) takes a mean over them"
    hold_axes(network, call.outputs[0], [len(call.outputs[0].nodes) - 1], reason)


def alone_or_grouped(network, call):
    """GroupNormalization; with a group for each channel these do not mix."""
    layer, out = call.layer, call.outputs[0]
    alone = layer.groups in (-1, out.shape[-1]) and layer.axis in (-1, len(out.shape))
    (pointwise if alone else group_normalisation)(network, call)


def window(network, call):
    """Pooling, padding, cropping, upsampling: the last axis passes, the others are held."""
    if channels_first(call.layer):
        return hold(network, call, f"{call.path} has its channels first")
    call.outputs[0].nodes = only(call.outputs[0], mixed_last(network, call, call.inputs[0]))


def global_pool(network, call):
    if channels_first(call.layer):
        return hold(network, call, f"{call.path} has its channels first")
    nodes = mixed_last(network, call, call.inputs[0])
    call.outputs[0].nodes = only(call.outputs[0], nodes)


def concatenate(network, call):
    rank = len(call.outputs[0].shape)
    axis = call.layer.axis
    axis = axis + rank if axis < 0 else axis - 1
    reason = f"{call.path} ({type(call.layer).__name__}) joins it with what cannot be cut"
    axes = []
    for other in range(rank):
        if other == axis:
            parts = [v.nodes[axis] for v in call.inputs]
            if all(part is None for part in parts):
                axes.append(None)
                continue
            sizes = [v.shape[axis] for v in call.inputs]
            blank = [
                network.new_nodes(n) if part is None else part
                for part, n in zip(parts, sizes, strict=True)
            ]
            for part, new in zip(parts, blank, strict=True):
                if part is None:
                    network.keep_whole(new, reason)
            axes.append(np.concatenate(blank))
        else:
            axes.append(join(network, call, other, call.outputs[0].shape[other]))
    call.outputs[0].nodes = tuple(axes)


def reshape(network, call):
    value, out = call.inputs[0], call.outputs[0]
    named = [axis for axis, nodes in enumerate(value.nodes) if nodes is not None]
    for axis in named[:-1]:
        reason = f"{call.path} merges two axes of nodes"
        network.keep_whole(value.nodes[axis], reason)
    if not named:
        return
    axis = named[-1]
    nodes = value.nodes[axis]
    before, after = value.shape[:axis], value.shape[axis + 1 :]
    out_sizes = out.shape
    # The axis survives as it is where the sizes before and after it are the same products.
    for other, size in enumerate(out_sizes):
        if size == value.shape[axis] and _same_product(after, out_sizes[other + 1 :]):
            if _same_product(before, out_sizes[:other]):
                out.nodes = (*(None,) * other, nodes, *(None,) * (len(out_sizes) - other - 1))
                return
    if None in value.shape or None in out_sizes:
        return network.keep_whole(nodes, f"{call.path} reshapes an unknown size")
    shape = [1] * len(value.shape)
    shape[axis] = -1
    full = np.broadcast_to(nodes.reshape(shape), value.shape).reshape(out_sizes)
    varying = [k for k in range(full.ndim) if (full != full.take([0], k)).any()]
    if not varying:
        return network.keep_whole(nodes, f"{call.path} leaves no axis for it")
    last = varying[-1]
    lines = np.moveaxis(full, last, -1).reshape(-1, full.shape[last])
    lines = np.unique(lines, axis=0)
    for line in lines[1:]:
        network.tie(lines[0], line)
    out.nodes = (*(None,) * last, lines[0], *(None,) * (full.ndim - last - 1))


def _same_product(one, other):
    unknown = one.count(None), other.count(None)
    known = [math.prod(n for n in sizes if n is not None) for sizes in (one, other)]
    return unknown[0] == unknown[1] <= 1 and known[0] == known[1]


def flatten(network, call):
    if channels_first(call.layer):
        return hold(network, call, f"{call.path} has its channels first")
    value, out = call.inputs[0], call.outputs[0]
    named = [axis for axis, nodes in enumerate(value.nodes) if nodes is not None]
    for axis in named[:-1]:
        network.keep_whole(value.nodes[axis], f"{call.path} merges two axes of nodes")
    if not named:
        return
    axis = named[-1]
    if None in value.shape:
        return network.keep_whole(value.nodes[axis], f"{call.path} flattens an unknown size")
    shape = [1] * len(value.shape)
    shape[axis] = -1
    full = np.broadcast_to(value.nodes[axis].reshape(shape), value.shape)
    out.nodes = (full.reshape(-1),)


def permute(network, call):
    call.outputs[0].nodes = tuple(call.inputs[0].nodes[axis - 1] for axis in call.layer.dims)


def repeat_vector(network, call):
    call.outputs[0].nodes = (None, *call.inputs[0].nodes)


def product(network, call):
    """Dot: a sum of products along one axis of each operand."""
    one, two = call.inputs
    axes = call.layer.axes
    axes = [axes, axes] if isinstance(axes, int) else list(axes)
    first, second = (
        axis % (len(v.shape) + 1) - 1 for axis, v in zip(axes, (one, two), strict=True)
    )
    if call.layer.normalize:
        return hold(network, call)
    contract(network, call, (one, first), (two, second))
    rest = [n for axis, n in enumerate(one.nodes) if axis != first]
    rest += [n for axis, n in enumerate(two.nodes) if axis != second]
    if len(rest) != len(call.outputs[0].shape):
        return hold(network, call)
    call.outputs[0].nodes = tuple(rest)


def attention(network, call):
    """Attention: queries and keys are summed over, the values' last axis passes."""
    layer = call.layer
    listed = call.args[0] if call.args else call.kwargs["inputs"]
    simple = layer.score_mode == "dot" and not layer.weights and len(call.outputs) == 1
    if not simple or len(call.inputs) != len(listed) or len(listed[0].shape) != 2:
        return hold(network, call)
    query, values = listed[:2]
    key = listed[2] if len(listed) > 2 else values
    for value in {id(v): v for v in (query, key, values)}.values():
        network.keep_whole(value.nodes[0], f"{call.path} (Attention) mixes them")
    if key is values:
        reason = f"{call.path} (Attention) both compares and passes them"
        network.keep_whole(values.nodes[-1], reason)
    contract(network, call, (query, 1), (key, 1))
    call.outputs[0].nodes = (None, values.nodes[-1])


def matmul(network, call):
    one, two = call.inputs if len(call.inputs) == 2 else (None, None)
    if one is None or len(one.shape) < 2 or len(one.shape) != len(two.shape):
        return hold(network, call)
    rank = len(one.shape)
    contract(network, call, (one, rank - 1), (two, rank - 2))
    for axis in range(rank - 2):
        network.keep_whole(one.nodes[axis], f"{call.path} works along their axis")
        network.keep_whole(two.nodes[axis], f"{call.path} works along their axis")
    call.outputs[0].nodes = (*(None,) * (rank - 2), one.nodes[-2], two.nodes[-1])


# Operations of keras.ops, which are no layers.


def reduction(network, call):
    value, layer = call.inputs[0], call.layer
    rank = len(value.shape)
    over = range(rank + 1) if layer.axis is None else np.atleast_1d(layer.axis) % (rank + 1)
    reason = f"{call.path} ({type(layer).__name__}) takes them together"
    hold_axes(network, value, [axis - 1 for axis in over if axis], reason)
    if 0 in over:
        return
    if layer.keepdims:
        axes = [None if axis + 1 in over else n for axis, n in enumerate(value.nodes)]
    else:
        axes = [n for axis, n in enumerate(value.nodes) if axis + 1 not in over]
    call.outputs[0].nodes = tuple(axes)


def split(network, call):
    value, rank = call.inputs[0], len(call.inputs[0].shape)
    axis = call.layer.axis % (rank + 1) - 1
    if axis < 0:
        return hold(network, call)
    start = 0
    for out in call.outputs:
        part = value.nodes[axis]
        part = None if part is None else part[start : start + out.shape[axis]]
        start += out.shape[axis]
        out.nodes = (*value.nodes[:axis], part, *value.nodes[axis + 1 :])
    parts = [out.nodes[axis] for out in call.outputs]
    if value.nodes[axis] is not None and isinstance(call.layer.indices_or_sections, int):
        for other in parts[1:]:  # so that the parts stay equally long
            network.tie(parts[0], other)


def transpose(network, call):
    value, axes = call.inputs[0], call.layer.axes
    axes = axes or tuple(reversed(range(len(value.shape) + 1)))
    if axes[0] != 0:
        return hold(network, call)
    call.outputs[0].nodes = tuple(value.nodes[axis - 1] for axis in axes[1:])


def slices(network, call):
    """value[key] with slices of step 1 along axes of nodes; integers drop an axis."""
    value, key = call.inputs[0], whole_key(call)
    if key is None or key[0] != slice(None):
        return hold(network, call)
    axes = []
    for part, nodes in zip(key[1:], value.nodes, strict=True):
        if isinstance(part, int) or part.step not in (None, 1):
            network.keep_whole(nodes, f"{call.path} takes some positions of its axis")
        if not isinstance(part, int):
            axes.append(None if nodes is None or part.step not in (None, 1) else nodes[part])
    call.outputs[0].nodes = tuple(axes)


def whole_key(call):
    """The key of a GetItem, a slice or an integer for every axis; None for any other key."""
    rank = len(call.inputs[0].shape) + 1
    key = call.args[1] if len(call.args) > 1 else call.kwargs.get("key")
    key = key if isinstance(key, tuple) else (key,)
    if not all(part is Ellipsis or isinstance(part, (int, slice)) for part in key):
        return None
    given = [index for index, part in enumerate(key) if part is Ellipsis] or [len(key)]
    rest = key[given[0] + 1 :]
    fill = (slice(None),) * (rank - given[0] - len(rest))
    return (*key[: given[0]], *fill, *rest)
