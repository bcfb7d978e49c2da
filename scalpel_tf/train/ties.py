"""What the rules of layers do to nodes: make, tie, mix and hold them."""

import numpy as np

from scalpel_tf.train.network import Use, Value


def hold(network, call, reason=None):
    """Keeps whole all that the call reads; its outputs have no nodes."""
    reason = reason or f"{call.path} ({type(call.layer).__name__}) has no rule to be cut by"
    for value in call.inputs:
        hold_axes(network, value, range(len(value.nodes)), reason)
    if not call.weights:
        whole = [(None,) * len(weight.shape) for weight in getattr(call.layer, "weights", ())]
        call.weights = whole


def hold_axes(network, value, axes, reason):
    for axis in axes:
        network.keep_whole(value.nodes[axis], reason)


def make(network, call, count):
    """The nodes that the layer makes, the same in each of its calls; tied to none yet."""
    first = network.of_layer[id(call.layer)][0]
    if first.made is None:
        first.made = network.new_nodes(count)
    call.made = first.made
    return first.made


def mixed_last(network, call, value):
    """The nodes of the last axis, over which the call sums; other axes with nodes are held."""
    reason = f"{call.path} ({type(call.layer).__name__}) works along their axis"
    hold_axes(network, value, range(len(value.nodes) - 1), reason)
    return value.nodes[-1]


def channels_first(layer):
    return getattr(layer, "data_format", None) == "channels_first"


def only(value: Value, nodes):
    """Nodes along the last axis alone."""
    return (*(None,) * (len(value.shape) - 1), nodes)


def hold_mixed(network, call, nodes):
    """An activation that is not computed element by element mixes the nodes that it is put on."""
    function = getattr(call.layer, "activation", None)
    name = getattr(function, "__name__", type(function).__name__)
    if function is not None and name not in ELEMENTWISE:
        network.keep_whole(nodes, f"{call.path} mixes them in its activation {name!r}")


ELEMENTWISE = {
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "swish"),
    *("tanh", "sigmoid", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "log_sigmoid"),
    *("softplus", "softsign", "exponential", "mish", "tanh_shrink", "soft_shrink", "hard_shrink"),
    *("squareplus", "sparse_plus", "threshold"),
    *("ReLU", "LeakyReLU", "ELU", "PReLU"),
}


def tie_groups(network, nodes, groups):
    """The n-th channel of every group shares its fate, so that the groups stay equally large."""
    if nodes is not None and groups > 1:
        by_group = nodes.reshape(groups, -1)
        for other in by_group[1:]:
            network.tie(by_group[0], other)


def join(network, call, axis, size):
    joined, whole = None, False
    for value in call.inputs:
        nodes = value.nodes[axis]
        if value.shape[axis] == 1 and size != 1:
            network.keep_whole(nodes, f"{call.path} spreads one channel over many")
        elif nodes is None:
            whole = True
        elif joined is None:
            joined = nodes
        else:
            network.tie(joined, nodes)
    if joined is not None and (whole or _constant_along(call, axis)):
        reason = f"{call.path} ({type(call.layer).__name__}) joins it with what cannot be cut"
        network.keep_whole(joined, reason)
    return joined


def _constant_along(call, axis):
    """Whether an operand that is no value, an array say, has a size of its own along the axis."""
    rank = len(call.outputs[0].shape)
    others = [np.shape(arg) for arg in call.args if not isinstance(arg, (Value, list, tuple))]
    return any(len(s) >= rank - axis and s[axis - rank] != 1 for s in others)


def contract(network, call, one, two):
    (a, axis), (b, other) = one, two
    if a.nodes[axis] is None or b.nodes[other] is None:
        reason = f"{call.path} sums its products with what cannot be cut"
        network.keep_whole(a.nodes[axis], reason)
        network.keep_whole(b.nodes[other], reason)
    else:
        network.tie(a.nodes[axis], b.nodes[other])
        call.uses = [Use(a.nodes[axis], (one, two))]
