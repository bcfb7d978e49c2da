"""What each Keras layer and operation does to nodes: passes, ties, mixes, makes or holds them.

A layer without a rule is left whole with all that it touches, and `shrink` says so. A rule for
one's own layer is given by `register_rule`:

    register_rule(Swish, POINTWISE)   # every channel by itself; weights lie along the last axis
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from keras import layers

from scalpel_tf.train import channel_rules, constants, kernel_rules, ties
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Call, Network


def _same_config(call, keep):
    return {}


@dataclass(frozen=True)
class Rule:
    """follow(network, call): gives the outputs their nodes, ties, holds, notes weights and uses.

    constants(call, arrays): for each output the values that are the same for every input, NaN where
        there is none; an array has the axes of the value, of size 1 where all positions are alike.
    config(call, keep): changes to the configuration after a cut; keep(nodes) gives what is left.
    arguments(call, args, keep): those of the call after a cut, where they name positions.
    pointwise: every element comes from one element of each operand.
    """

    follow: Callable[[Network, Call], None]
    constants: Callable = constants.unknown
    config: Callable = _same_config
    arguments: Callable | None = None
    pointwise: bool = False


def register_rule(layer_type: type, rule: Rule) -> None:
    """From now on layers of that type and its subclasses are cut by `rule`.

    POINTWISE fits layers that treat every channel by itself: weights whose last axis is as long as
    the channel axis are cut with it. Raises ValueError for what is not a type or not a Rule.
    """
    if not isinstance(layer_type, type) or not isinstance(rule, Rule):
        raise ValueError(
            "register_rule takes a layer's class and a Rule, such as rules.POINTWISE; "
            f"got {layer_type!r} and {rule!r}."
        )
    RULES[layer_type] = rule


def find_rule(layer) -> Rule:
    """The rule of a layer or operation; WHOLE where there is none."""
    for kind in type(layer).__mro__:
        if kind in RULES:
            return RULES[kind]
    if type(layer).__module__.startswith("keras.src.ops."):
        return OPERATIONS.get(type(layer).__name__, WHOLE)
    return WHOLE


def _units(call, keep):
    return {"units": len(keep(call.made))}


def _filters(call, keep):
    nodes = call.outputs[0].nodes[-1]
    if nodes is None:
        return {}
    alone = getattr(call.layer, "groups", 1) > 1 and call.made is None  # a group for each channel
    groups = {"groups": len(keep(call.inputs[0].nodes[-1]))} if alone else {}
    return {"filters": len(keep(nodes)), **groups}


def _target_shape(call, keep):
    out = call.outputs[0]
    sizes = [
        size if nodes is None else len(keep(nodes))
        for size, nodes in zip(out.shape, out.nodes, strict=True)
    ]
    given = call.layer.target_shape
    return {"target_shape": tuple(-1 if g == -1 else s for s, g in zip(sizes, given, strict=True))}


def _newshape(call, keep):
    out = call.outputs[0]
    sizes = list(call.layer.newshape)
    for axis, nodes in enumerate(out.nodes, 1):
        if nodes is not None and sizes[axis] != -1:
            sizes[axis] = len(keep(nodes))
    return {"newshape": tuple(sizes)}


def _listed(call, keep):
    """Rescaling with one number for each channel."""
    nodes = call.outputs[0].nodes[-1]
    config = {}
    for name in ("scale", "offset"):
        given = np.asarray(getattr(call.layer, name))
        if given.ndim and given.shape[-1] > 1 and nodes is not None:
            config[name] = given[..., keep(nodes)].tolist()
    return config


def _sections(call, keep):
    given = call.layer.indices_or_sections
    if isinstance(given, int):
        return {}
    axis = call.layer.axis % (len(call.inputs[0].shape) + 1) - 1
    sizes = [
        out.shape[axis] if out.nodes[axis] is None else len(keep(out.nodes[axis]))
        for out in call.outputs
    ]
    return {"indices_or_sections": np.cumsum(sizes)[:-1].tolist()}


def _groups(call, keep):
    nodes = call.outputs[0].nodes[-1]
    alone = nodes is not None and call.layer.groups == call.outputs[0].shape[-1]
    return {"groups": len(keep(nodes))} if alone else {}


def _key(call, args, keep):
    """The key of a GetItem, counted in the positions that are left."""
    key = list(channel_rules.whole_key(call))
    for axis, nodes in enumerate(call.inputs[0].nodes, 1):
        if nodes is not None and key[axis] != slice(None) and not isinstance(key[axis], int):
            start, stop, _ = key[axis].indices(nodes.size)
            left = keep(nodes)
            key[axis] = slice(int((left < start).sum()), int((left < stop).sum()))
    return args[0], tuple(key)


def _last_size(name):
    def config(call, keep):
        nodes = call.outputs[0].nodes[-1]
        return {} if nodes is None else {name: len(keep(nodes))}

    return config


WHOLE = Rule(ties.hold)
POINTWISE = Rule(channel_rules.pointwise, constants.pointwise, pointwise=True)
# Dropout and noise do nothing at inference.
INERT = Rule(channel_rules.pointwise, constants.same, pointwise=True)
PRODUCT = Rule(channel_rules.pointwise, constants.product, pointwise=True)
POOL = Rule(channel_rules.window, constants.window)


RULES = {
    MaskLayer: Rule(channel_rules.pointwise, constants.mask, pointwise=True),
    layers.Dense: Rule(kernel_rules.dense, constants.kernel, _units),
    layers.Conv1D: Rule(kernel_rules.convolution, constants.kernel, _filters),
    layers.Conv2D: Rule(kernel_rules.convolution, constants.kernel, _filters),
    layers.Conv3D: Rule(kernel_rules.convolution, constants.kernel, _filters),
    layers.Conv1DTranspose: Rule(kernel_rules.transposed, constants.kernel, _filters),
    layers.Conv2DTranspose: Rule(kernel_rules.transposed, constants.kernel, _filters),
    layers.Conv3DTranspose: Rule(kernel_rules.transposed, constants.kernel, _filters),
    layers.DepthwiseConv1D: Rule(kernel_rules.depthwise, constants.depthwise),
    layers.DepthwiseConv2D: Rule(kernel_rules.depthwise, constants.depthwise),
    layers.SeparableConv1D: Rule(kernel_rules.separable, constants.kernel, _filters),
    layers.SeparableConv2D: Rule(kernel_rules.separable, constants.kernel, _filters),
    layers.Embedding: Rule(kernel_rules.embedding, config=_last_size("output_dim")),
    layers.MultiHeadAttention: Rule(
        kernel_rules.attention_heads, config=_last_size("output_shape")
    ),
    layers.RNN: Rule(kernel_rules.recurrent),
    layers.Dot: Rule(channel_rules.product),
    layers.Attention: Rule(channel_rules.attention, constants.attention),
    layers.BatchNormalization: Rule(
        channel_rules.normalisation, constants.normalisation, pointwise=True
    ),
    layers.LayerNormalization: Rule(channel_rules.layer_normalisation),
    layers.GroupNormalization: Rule(channel_rules.alone_or_grouped, constants.alone, _groups),
    layers.Softmax: Rule(channel_rules.softmax),
    layers.Activation: Rule(channel_rules.activation, constants.pointwise, pointwise=True),
    layers.Rescaling: Rule(channel_rules.pointwise, constants.pointwise, _listed, pointwise=True),
    layers.Concatenate: Rule(channel_rules.concatenate, constants.concatenate),
    layers.Flatten: Rule(channel_rules.flatten, constants.reshape),
    layers.Reshape: Rule(channel_rules.reshape, constants.reshape, _target_shape),
    layers.Permute: Rule(channel_rules.permute, constants.permute),
    layers.RepeatVector: Rule(channel_rules.repeat_vector, constants.repeat_vector),
    layers.Multiply: PRODUCT,
    **dict.fromkeys(
        [
            *(layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum),
            *(layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU),
        ],
        POINTWISE,
    ),
    **dict.fromkeys(
        [
            *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D),
            *(layers.SpatialDropout3D, layers.GaussianDropout, layers.GaussianNoise),
            *(layers.AlphaDropout, layers.ActivityRegularization, layers.Identity),
        ],
        INERT,
    ),
    **dict.fromkeys(
        [
            *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
            *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
            *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
            *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
        ],
        POOL,
    ),
    **dict.fromkeys(
        [layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D],
        Rule(channel_rules.window, constants.padding),
    ),
    **dict.fromkeys(
        [
            *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
            *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
            layers.GlobalAveragePooling3D,
        ],
        Rule(channel_rules.global_pool, constants.global_pool),
    ),
}


# By name: keras.ops has functions, and the classes behind them are not public.


OPERATIONS = {
    **dict.fromkeys(
        [
            *("Add", "Subtract", "Divide", "TrueDivide", "Maximum", "Minimum", "Negative"),
            *("Absolute", "Square", "Sqrt", "Exp", "Tanh", "Sigmoid", "Relu", "Relu6", "Silu"),
            *("Elu", "Selu", "Gelu", "LeakyRelu", "HardSigmoid", "HardSilu", "Softplus"),
            *("Softsign", "Clip", "Cast", "Power"),
        ],
        POINTWISE,
    ),
    "Multiply": PRODUCT,
    "Concatenate": Rule(channel_rules.concatenate, constants.concatenate),
    "Reshape": Rule(channel_rules.reshape, constants.reshape, _newshape),
    "Split": Rule(channel_rules.split, constants.split, _sections),
    "GetItem": Rule(channel_rules.slices, constants.slices, arguments=_key),
    "Transpose": Rule(channel_rules.transpose, constants.transpose),
    "Matmul": Rule(channel_rules.matmul),
    "Mean": Rule(channel_rules.reduction, constants.mean),
    "Max": Rule(channel_rules.reduction, constants.mean),
    "Sum": Rule(channel_rules.reduction, constants.total),
}


def _register_applications():
    """The two layers that keras.applications has of its own."""
    from keras.src.applications.convnext import LayerScale
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    RULES[LayerScale] = Rule(
        channel_rules.pointwise, constants.pointwise, _last_size("projection_dim"), pointwise=True
    )
    RULES[CustomScaleLayer] = POINTWISE


_register_applications()
