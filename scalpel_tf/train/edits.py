"""Zeros in place of masks whose nodes cannot be cut, and constants in place of nodes that are."""

from typing import NamedTuple

import keras
import numpy as np

from scalpel_tf.train import zeros
from scalpel_tf.train.network import Value
from scalpel_tf.train.rebuild import cut_weights
from scalpel_tf.train.rules import find_rule


class Place(NamedTuple):
    """Where nodes are silenced: `keep` is True for those that are not, along `axis`."""

    path: str
    before: Value
    after: Value
    axis: int
    keep: np.ndarray


class Edits:
    """The zeros that stand for nodes which masks drop and which cannot be cut."""

    def __init__(self, network):
        self.network = network
        self.zeros = {}  # id(layer) -> [(index of the weight, axis, True where it is zeroed)]
        self.after = {}

    def close(self, place, keep, known) -> tuple[str, int]:
        """Silences what is still heard of the nodes that `place` drops; how many those are."""
        nodes, count = place.before.nodes[place.axis], place.keep.size
        left = np.ones(count, bool)
        if nodes is not None:
            left = np.isin(np.arange(count), keep(nodes))
        dead = left & ~place.keep
        if place.before is not place.after:
            dead &= zeros.along(known[id(place.before)], place.axis, count) != 0
        if dead.any():
            last = place.axis == len(place.before.shape) - 1
            found = None
            if last:
                found = self._at_source(place.before, dead, place.after) or self._at_readers(
                    place.after, dead
                )
            if found:
                for layer, *edit in found:
                    self.zeros.setdefault(id(layer), []).append(edit)
            else:
                self.after[place.after.key] = _rescaling(place, np.flatnonzero(left), dead)
        return place.path, int(dead.sum())

    def weights(self, call, keep, bias) -> list[np.ndarray] | None:
        """The new weights of a layer; None: those that it has."""
        values = [keras.ops.convert_to_numpy(w) for w in getattr(call.layer, "weights", ())]
        if not values:
            return None
        for index, axis, dead in self.zeros.get(id(call.layer), ()):
            if index < len(values):
                values[index] = values[index].copy()
                values[index][(slice(None),) * axis + (dead,)] = 0
        if bias is not None:
            made = values[-1] if call.layer.use_bias else np.zeros_like(bias)
            values = [*values[: 1 if len(values) < 3 else 2], made + bias]
        return cut_weights(call, keep, values)

    def _at_source(self, value, dead, place_after):
        """Edits that make a value zero in the layer that computes it, or None."""
        call = value.producer
        if call is None:
            return None
        layer, rule = call.layer, find_rule(call.layer)
        shared = len(self.network.of_layer[id(layer)]) > 1
        if value is not place_after and len(value.consumers) != 1:
            return None  # others than the mask would hear it
        if isinstance(layer, keras.layers.BatchNormalization):
            if shared or layer.gamma is None or layer.beta is None:
                return None
            return [(layer, 0, 0, dead), (layer, 1, 0, dead)]
        if call.made is not None:
            if shared or value.nodes[-1] is not call.made or not _keeps_zero(layer):
                return None
            return [
                (layer, index, axis, dead)
                for index, axes in enumerate(call.weights)
                for axis, nodes in enumerate(axes)
                if nodes is call.made
            ]
        one = rule.pointwise and len(call.inputs) == 1 and not getattr(layer, "weights", ())
        if one and call.inputs[0].consumers == [call]:
            zero = np.zeros((1,) * len(value.shape), np.float32)
            if (rule.constants(call, [zero])[0] == 0).all():
                return self._at_source(call.inputs[0], dead, call.inputs[0])
        return None

    def _at_readers(self, value, dead):
        """Edits after which nobody hears these positions of a value, or None."""
        found = []
        for call in value.consumers:
            use = call.uses[0] if len(call.uses) == 1 else None
            shared = len(self.network.of_layer[id(call.layer)]) > 1
            if shared or use is None or use.kernel is None or use.nodes is not value.nodes[-1]:
                return None
            found.append((call.layer, *use.kernel, dead))
        return found


def _keeps_zero(layer):
    activation = getattr(layer, "activation", None)
    if activation is None:
        return True
    zero = np.zeros((1, 2), np.float32)
    return not keras.ops.convert_to_numpy(activation(zero)).any()


def _rescaling(place, left, dead):
    scale = np.where(dead, 0.0, 1.0)[left]
    around = [1] * (len(place.after.shape) - 1 - place.axis)
    return keras.layers.Rescaling(scale.reshape(-1, *around).tolist(), name=f"{_stem(place)}_zeros")


def _stem(place):
    return place.path.rsplit("/", 1)[-1]


def folded(network, cut, known):
    """{id(layer): what the constants of cut nodes add to its bias}."""
    biases = {}
    for call in network.calls:
        for use in call.uses:
            if not use.foldable or len(network.of_layer[id(call.layer)]) > 1:
                continue
            value, axis = use.factors[0]
            line = zeros.along(known[id(value)], axis, use.nodes.size).astype(np.float64)
            line = np.where(np.isin(network.roots(use.nodes), cut), np.nan_to_num(line), 0)
            if line.any():
                index, along = use.kernel
                kernel = keras.ops.convert_to_numpy(call.layer.weights[index])
                total = np.tensordot(line, kernel.astype(np.float64), (0, along))
                total = total.reshape(-1, total.shape[-1]).sum(0)
                if total.any():
                    biases[id(call.layer)] = total.astype(np.float32)
    return biases
