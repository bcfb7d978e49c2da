"""A model built anew, layer by layer, with nodes cut, values masked and MaskLayers left out."""

import contextlib
import sys
from collections.abc import Callable

import keras
import numpy as np

from scalpel_tf.models import same_layer, same_weights
from scalpel_tf.train.graph import functional, nodes_in_order
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Call, Network
from scalpel_tf.train.rules import find_rule


def rebuild(
    network: Network,
    model: keras.Model,
    *,
    keep: Callable[[np.ndarray], np.ndarray] | None = None,
    after: dict[int, Callable] | None = None,
    weights: Callable | None = None,
    config: Callable | None = None,
    without_masks: bool = False,
) -> keras.Model:
    """A copy of `model`, not compiled; nested models stay nested, names stay.

    keep(nodes): the positions that stay along an axis of those nodes; None: all.
    after: {key of a value: function of the new tensor}, what stands between it and who reads it.
    weights(call): the weights of the new layer, cut already; None: those of the layer.
    config(call): changes to the layer's configuration.
    """
    work = _Work(network, keep, after or {}, weights, config, without_masks)
    with _deep_enough(len(network.calls) + len(after or {})):
        copy = work.model(model)
    for call, layer in work.layers.values():
        values = weights and weights(call)
        if values is None:
            same_weights(call.layer, layer)
        elif values:
            layer.set_weights(values)
    return copy


@contextlib.contextmanager
def _deep_enough(calls):
    """Keras follows a chain of layers by recursion; EfficientNetV2L with masks has over 1,000."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 2 * calls + 1000))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class _Work:
    """One run of `rebuild`: what is built already."""

    def __init__(self, network, keep, after, weights, config, without_masks):
        self.network = network
        self.keep = keep
        self.after = after
        self.config = config
        self.without_masks = without_masks
        self.layers = {}  # id(old layer) -> (its first call, new layer)
        self.models = {}

    def model(self, model) -> keras.Model:
        if id(model) not in self.models:
            self.models[id(model)] = self._model(model)
        return self.models[id(model)]

    def _model(self, model):
        part, source = self.network.parts[id(model)], functional(model)
        tensors = {}
        for tensor, value in zip(source.inputs, part.inputs, strict=True):
            tensors[id(tensor)] = self._input(tensor, value)
        inputs = keras.tree.map_structure(lambda t: tensors[id(t)], source._inputs_struct)
        plain = True

        def resolve(structure):
            return keras.tree.map_structure(
                lambda leaf: tensors[id(leaf)] if isinstance(leaf, keras.KerasTensor) else leaf,
                structure,
            )

        for node in nodes_in_order(model):
            if node.is_input:
                continue
            args, kwargs = resolve(node.arguments.args), resolve(node.arguments.kwargs)
            operation = node.operation
            if isinstance(operation, keras.Model):
                results = keras.tree.flatten(self.model(operation)(*args, **kwargs))
                plain = False
            else:
                call = part.calls[id(node)]
                results = keras.tree.flatten(self._call(call, args, kwargs))
                for index, value in enumerate(call.outputs):
                    if value.key in self.after:
                        results[index] = self.after[value.key](results[index])
                        plain = False
            for tensor, result in zip(node.output_tensors, results, strict=True):
                tensors[id(tensor)] = result
        outputs = keras.tree.map_structure(lambda t: tensors[id(t)], source._outputs_struct)
        copy = keras.Model(inputs, outputs, name=model.name)
        if plain and isinstance(model, keras.Sequential):
            return keras.Sequential(copy.layers, name=model.name)
        return copy

    def _input(self, tensor, value):
        layer = tensor._keras_history.operation
        shape = [
            size if nodes is None or self.keep is None else len(self.keep(nodes))
            for size, nodes in zip(value.shape, value.nodes, strict=True)
        ]
        settings = {"batch_shape": (tensor.shape[0], *shape)}
        return keras.layers.InputLayer.from_config({**layer.get_config(), **settings}).output

    def _call(self, call: Call, args, kwargs):
        if self.without_masks and isinstance(call.layer, MaskLayer):
            return args[0]
        rule = find_rule(call.layer)
        if rule.arguments and self.keep:
            args = rule.arguments(call, args, self.keep)
        if not isinstance(call.layer, keras.layers.Layer):
            return self._new(call)(*args, **kwargs)
        if id(call.layer) not in self.layers:
            self.layers[id(call.layer)] = call, self._new(call)
        return self.layers[id(call.layer)][1](*args, **kwargs)

    def _new(self, call):
        changes = dict(self.config(call)) if self.config else {}
        if self.keep:
            changes |= find_rule(call.layer).config(call, self.keep)
        if not changes:
            return same_layer(call.layer)
        return type(call.layer).from_config({**call.layer.get_config(), **changes})


def positions(network: Network, cut: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """keep(nodes) for `rebuild`: the positions whose nodes are not in `cut`."""
    return lambda nodes: np.flatnonzero(~np.isin(network.roots(nodes), cut))


def cut_weights(call: Call, keep, values: list[np.ndarray]) -> list[np.ndarray]:
    """The weights of a layer after a cut of the nodes along their axes."""
    return [
        value[
            np.ix_(
                *(
                    np.arange(n) if axis is None else keep(axis)
                    for axis, n in zip(axes, value.shape, strict=True)
                )
            )
        ]
        if axes
        else value
        for axes, value in zip(call.weights, values, strict=False)
    ] + values[len(call.weights) :]
