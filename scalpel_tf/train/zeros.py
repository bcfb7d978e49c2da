"""Which nodes can be cut without a change of any output."""

import keras
import numpy as np

from scalpel_tf.train import constants
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Network
from scalpel_tf.train.rules import find_rule

# Stands for "a constant, whatever the weights are"; any number that no layer maps to zero.
SOME_CONSTANT = np.float32(0.7310586)


def evaluate(network: Network, closed: dict | None = None) -> dict:
    """{id(value): what is constant in it}, arrays as in `constants`.

    closed: {key of a value: True for what is kept}, values that are masked after they are computed.
    """
    closed = closed or {}
    known = start(network)
    for call in network.calls:
        arrays = [known[id(value)] for value in call.inputs]
        results = find_rule(call.layer).constants(call, arrays)
        for value, array in zip(call.outputs, results, strict=True):
            if value.key in closed:
                array = np.where(closed[value.key], array, np.float32(0))
            known[id(value)] = array
    return known


def start(network: Network) -> dict:
    """What is known before the first call: nothing of the inputs."""
    inputs = next(iter(network.parts.values())).inputs
    return {id(value): constants.blank(value) for value in inputs}


def removable(network: Network, known: dict) -> np.ndarray:
    """The roots of all nodes that add nothing anywhere, given what is constant.

    At least one node stays along every axis of every value.
    """
    made = [call.made for call in network.makers()]
    if not made:
        return np.zeros(0, int)
    roots = np.unique(network.roots(np.concatenate(made)))
    roots = roots[network.cuttable(roots)]
    blocked = [
        network.roots(use.nodes[~idle(network, call, use, known)])
        for call in network.calls
        for use in call.uses
    ]
    roots = np.setdiff1d(roots, np.concatenate([*blocked, np.zeros(0, int)]))
    return spare(network, roots)


def spare(network: Network, cut: np.ndarray) -> np.ndarray:
    """`cut` without one node of each axis that would lose all of them."""
    for call in network.calls:
        for value in call.outputs:
            for nodes in value.nodes:
                if nodes is not None and np.isin(network.roots(nodes), cut).all():
                    cut = cut[cut != network.roots(nodes[:1])[0]]
    return cut


def idle(network, call, use, known, structural=False) -> np.ndarray:
    """True for the nodes that the call can do without; `structural`: whatever its kernel is."""
    done = np.zeros(use.nodes.size, bool)
    for value, axis in use.factors:
        done |= along(known[id(value)], axis, use.nodes.size) == 0
    if use.kernel is not None and not structural:
        weight = keras.ops.convert_to_numpy(call.layer.weights[use.kernel[0]])
        axis = use.kernel[1]
        done |= ~weight.any(axis=tuple(k for k in range(weight.ndim) if k != axis))
    if use.foldable and len(network.of_layer[id(call.layer)]) == 1:
        value, axis = use.factors[0]
        done |= np.isfinite(along(known[id(value)], axis, use.nodes.size))
    return done


def along(array: np.ndarray, axis: int, size: int) -> np.ndarray:
    """The constant of each position of one axis, NaN where the other axes do not agree."""
    line = constants.per_channel(np.moveaxis(array, axis, -1)).reshape(-1)
    return np.broadcast_to(line, (size,))


def follow_any(call, arrays):
    """What is constant in the outputs whatever the weights are; masks that are there are open."""
    if isinstance(call.layer, MaskLayer):
        return arrays
    rule = find_rule(call.layer)
    if not getattr(call.layer, "weights", ()):
        return rule.constants(call, arrays)
    if rule.constants in (constants.depthwise, constants.pointwise, constants.normalisation):
        return [_weighted(rule, call, constants.per_channel(arrays[0]))]
    return constants.unknown(call, arrays)


def _weighted(rule, call, array):
    if len(call.inputs) > 1:
        return constants.blank(call.outputs[0])
    if rule.constants is constants.depthwise:
        layer = call.layer
        padded = layer.padding != "valid" and any(n > 1 for n in layer.kernel_size)
        if array.size > 1:
            array = np.repeat(array, layer.depth_multiplier, -1)
        if padded:
            array = np.where(array == 0, array, np.nan)
        if not layer.use_bias:
            return np.where(array == 0, array, array * SOME_CONSTANT)
    return np.where(np.isnan(array), array, SOME_CONSTANT)
