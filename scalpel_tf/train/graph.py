"""A Keras functional model, read as a network of calls, values and tied nodes; what a cut saves."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import keras
import numpy as np

from scalpel_tf.models import check_model
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Call, Network, Part, Value
from scalpel_tf.train.rules import find_rule

OUTPUT = "it is an output of the model"


class LayerCost(NamedTuple):
    nodes: int
    parameters: int
    macs: int


def read(model: keras.Model) -> Network:
    """The network of a built functional or Sequential model; nested models are read as one.

    Raises ValueError, with a sentence, for any other model.
    """
    check_model(model, "graph.read")
    network = Network()
    inputs = [
        Value(id(tensor), tuple(tensor.shape[1:]), (None,) * (len(tensor.shape) - 1))
        for tensor in functional(model).inputs
    ]
    for value in _follow_model(network, model, inputs, ""):
        network.output_keys.add(value.key)
        for nodes in value.nodes:
            network.keep_whole(nodes, OUTPUT)
    for call in network.makers():
        if np.unique(network.roots(call.made)).size == 1:
            alone = call.made.size == 1
            reason = (
                "it is the only node of its layer" if alone else "all its nodes are tied to one"
            )
            network.keep_whole(call.made, reason)
    return network


def nodes_in_order(model: keras.Model) -> list:
    """The Keras nodes (calls) of a functional or Sequential model, each after what it needs."""
    by_depth = functional(model)._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def functional(model: keras.Model) -> keras.Model:
    """The functional model inside a Sequential one, or the model itself."""
    return model._functional if isinstance(model, keras.Sequential) else model


def _follow_model(network, model, inputs, prefix):
    part = Part(inputs, {})
    network.parts.setdefault(id(model), part)
    values = {id(t): value for t, value in zip(functional(model).inputs, inputs, strict=True)}

    def resolve(structure):
        return keras.tree.map_structure(
            lambda leaf: values[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf,
            structure,
        )

    for node in nodes_in_order(model):
        if node.is_input:
            continue
        operation = node.operation
        args, kwargs = resolve(node.arguments.args), resolve(node.arguments.kwargs)
        read = [leaf for leaf in keras.tree.flatten([args, kwargs]) if isinstance(leaf, Value)]
        if isinstance(operation, keras.Model):
            outputs = _follow_model(network, operation, read, f"{prefix}{operation.name}/")
        else:
            outputs = [
                Value(id(tensor), tuple(tensor.shape[1:]), (None,) * (len(tensor.shape) - 1))
                for tensor in node.output_tensors
            ]
            path = prefix + operation.name
            call = part.calls[id(node)] = Call(operation, path, args, kwargs, outputs, read)
            _follow_call(network, call)
        values |= {id(t): v for t, v in zip(node.output_tensors, outputs, strict=True)}
    return [values[id(tensor)] for tensor in functional(model).outputs]


def _follow_call(network, call):
    network.calls.append(call)
    before = network.of_layer.setdefault(id(call.layer), [])
    before.append(call)
    for value in call.inputs:
        value.consumers.append(call)
    for value in call.outputs:
        value.producer = call
    if len(before) > 1 and _has_own_channels(call.layer):
        _tie_calls(network, before[0], call)
    find_rule(call.layer).follow(network, call)


def _tie_calls(network, first, call):
    """A shared layer has one kernel: what feeds its calls is tied."""
    for value, other in zip(first.inputs, call.inputs, strict=True):
        for one, two in zip(value.nodes, other.nodes, strict=True):
            if one is None or two is None:
                reason = f"{call.path} is shared and also reads channels that cannot be cut"
                network.keep_whole(one, reason)
                network.keep_whole(two, reason)
            else:
                network.tie(one, two)


def _has_own_channels(layer):
    """Whether a layer has something for each channel; masks disappear, and name theirs by index."""
    if isinstance(layer, MaskLayer):
        return False
    return bool(getattr(layer, "weights", ())) or isinstance(layer, keras.layers.Reshape)


def is_cut(network: Network, cut: Iterable[int]):
    """A function: nodes -> True where they, or what they are tied to, are in `cut`."""
    cut = np.unique(network.roots(np.fromiter(cut, int)))
    return lambda nodes: np.isin(network.roots(nodes), cut)


def costs(network: Network, cut: Iterable[int] = ()) -> dict[str, LayerCost]:
    """{path: nodes, parameters and MACs of one example} of each layer with weights, after a cut.

    MACs are those of kernels; a layer that is called twice counts its MACs twice, its parameters
    once. MaskLayers do not count: they disappear.
    """
    gone = is_cut(network, cut)

    def left(nodes, size):
        return size if nodes is None else int(np.count_nonzero(~gone(nodes)))

    result = {}
    for calls in network.of_layer.values():
        weights = getattr(calls[0].layer, "weights", ())
        if not weights or isinstance(calls[0].layer, MaskLayer):
            continue
        sizes = [
            math.prod(left(n, size) for n, size in zip(nodes, weight.shape, strict=True))
            for nodes, weight in zip(calls[0].weights, weights, strict=False)
        ]
        macs = sum(
            size * each for call in calls for size, each in zip(sizes, call.macs, strict=False)
        )
        nodes = left(calls[0].made, 0)
        result[calls[0].path] = LayerCost(nodes, sum(sizes), macs)
    return result
