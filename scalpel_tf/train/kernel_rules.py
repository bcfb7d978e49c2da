"""The rules of layers with kernels, which mix the nodes that they read and make nodes."""

import math

import numpy as np
from keras import layers

from scalpel_tf.train.network import Use, Value
from scalpel_tf.train.ties import (
    channels_first,
    hold,
    hold_axes,
    hold_mixed,
    make,
    mixed_last,
    only,
    tie_groups,
)


def dense(network, call):
    value, layer = call.inputs[0], call.layer
    inputs, made = value.nodes[-1], make(network, call, layer.units)
    hold_mixed(network, call, made)
    call.weights = [(inputs, made), (made,)]
    call.macs = [math.prod(n or 1 for n in value.shape[:-1])]
    call.outputs[0].nodes = (*value.nodes[:-1], made)
    if inputs is not None:
        kernel = (0, 0)
        call.uses = [Use(inputs, ((value, -1),), kernel, foldable=True)]


def convolution(network, call):
    value, layer = call.inputs[0], call.layer
    if channels_first(layer):
        return hold(network, call, f"{call.path} has its channels first")
    if layer.groups == value.shape[-1] > 1:
        return one_by_one(network, call)
    inputs, made = mixed_last(network, call, value), make(network, call, layer.filters)
    hold_mixed(network, call, made)
    tie_groups(network, inputs, layer.groups)
    tie_groups(network, made, layer.groups)
    of_one = None if inputs is None else inputs[: inputs.size // layer.groups]
    call.weights = [(*(None,) * layer.rank, of_one, made), (made,)]
    call.macs = [math.prod(n or 1 for n in call.outputs[0].shape[:-1])]
    call.outputs[0].nodes = only(call.outputs[0], made)
    if inputs is not None:
        unpadded = layer.padding == "valid" or all(n == 1 for n in layer.kernel_size)
        foldable = unpadded and layer.groups == 1
        kernel = (0, layer.rank) if layer.groups == 1 else None
        call.uses = [Use(inputs, ((value, -1),), kernel, foldable)]


def one_by_one(network, call):
    """A convolution with a group for each channel is a depthwise one."""
    value, layer = call.inputs[0], call.layer
    inputs = mixed_last(network, call, value)
    outputs = None if inputs is None else np.repeat(inputs, layer.filters // layer.groups)
    hold_mixed(network, call, outputs)
    call.weights = [(*(None,) * layer.rank, None, outputs), (outputs,)]
    call.macs = [math.prod(n or 1 for n in call.outputs[0].shape[:-1])]
    call.outputs[0].nodes = only(call.outputs[0], outputs)


def transposed(network, call):
    value, layer = call.inputs[0], call.layer
    if channels_first(layer):
        return hold(network, call, f"{call.path} has its channels first")
    inputs, made = mixed_last(network, call, value), make(network, call, layer.filters)
    hold_mixed(network, call, made)
    call.weights = [(*(None,) * layer.rank, made, inputs), (made,)]
    call.macs = [math.prod(n or 1 for n in value.shape[:-1])]
    call.outputs[0].nodes = only(call.outputs[0], made)
    if inputs is not None:
        call.uses = [Use(inputs, ((value, -1),), (0, layer.rank + 1))]


def depthwise(network, call):
    value, layer = call.inputs[0], call.layer
    if channels_first(layer):
        return hold(network, call, f"{call.path} has its channels first")
    inputs = mixed_last(network, call, value)
    outputs = None if inputs is None else np.repeat(inputs, layer.depth_multiplier)
    hold_mixed(network, call, outputs)
    call.weights = [(*(None,) * layer.rank, inputs, None), (outputs,)]
    call.macs = [math.prod(n or 1 for n in call.outputs[0].shape[:-1])]
    call.outputs[0].nodes = only(call.outputs[0], outputs)


def separable(network, call):
    value, layer = call.inputs[0], call.layer
    if channels_first(layer):
        return hold(network, call, f"{call.path} has its channels first")
    inputs, made = mixed_last(network, call, value), make(network, call, layer.filters)
    hold_mixed(network, call, made)
    between = None if inputs is None else np.repeat(inputs, layer.depth_multiplier)
    spread = (None,) * layer.rank
    call.weights = [(*spread, inputs, None), (*spread, between, made), (made,)]
    call.macs = [math.prod(n or 1 for n in call.outputs[0].shape[:-1])] * 2
    call.outputs[0].nodes = only(call.outputs[0], made)
    if inputs is not None:
        call.uses = [Use(inputs, ((value, -1),), (0, layer.rank))]


def embedding(network, call):
    if call.layer.mask_zero:
        return hold(network, call, f"{call.path} masks its zeros")
    made = make(network, call, call.layer.output_dim)
    call.weights = [(None, made)]
    call.outputs[0].nodes = only(call.outputs[0], made)


def recurrent(network, call):
    """Inputs of LSTM, GRU and SimpleRNN can be cut; what they make is left whole."""
    cell = call.layer.cell
    if type(cell) not in (layers.LSTMCell, layers.GRUCell, layers.SimpleRNNCell):
        return hold(network, call)
    value = call.inputs[0]
    inputs = mixed_last(network, call, value)
    for state in call.inputs[1:]:
        hold_axes(network, state, range(len(state.nodes)), f"{call.path} takes it as its state")
    rest = [(None,) * len(weight.shape) for weight in call.layer.weights[1:]]
    call.weights = [(inputs, None), *rest]
    call.macs = [value.shape[0] or 1] * 2
    if inputs is not None:
        call.uses = [Use(inputs, ((value, -1),), (0, 0))]


def attention_heads(network, call):
    """MultiHeadAttention: its inputs and its outputs can be cut, its heads stay."""
    layer = call.layer
    by_name = {"query": 0, "value": 1, "key": 2}
    arguments = dict(zip(by_name, call.args, strict=False)) | {
        name: call.kwargs[name] for name in by_name if isinstance(call.kwargs.get(name), Value)
    }
    arguments.setdefault("key", arguments["value"])
    sources = arguments["query"], arguments["key"], arguments["value"]
    if len(sources[0].shape) != 2 or layer._output_shape is not None or len(call.outputs) > 1:
        return hold(network, call)
    made = make(network, call, call.outputs[0].shape[-1])
    call.uses, call.weights = [], []
    inputs = {}
    for value, name in zip(sources, ("query", "key", "value"), strict=True):
        inputs[name] = nodes = mixed_last(network, call, value)
        if nodes is not None:
            index = len(call.weights)
            call.uses.append(Use(nodes, ((value, -1),), (index, 0)))
        call.weights += [(nodes, None, None)] + [(None, None)] * layer.use_bias
    call.weights += [(None, None, made)] + [(made,)] * layer.use_bias
    steps = [n for value in sources for n in [value.shape[0] or 1] * (1 + layer.use_bias)]
    call.macs = [0 if i % 2 and layer.use_bias else n for i, n in enumerate(steps)]
    call.macs += [sources[0].shape[0] or 1]
    call.outputs[0].nodes = (None, made)
