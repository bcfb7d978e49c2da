"""int8_aware: a model that trains as int8 kernels will run it, its zeros kept. plain: the way back.

What pruning left is fine-tuned under the rounding of TensorFlow Lite, so that the weights make up
for it (Jacob et al., Quantization and Training of Neural Networks, CVPR 2018, section 3).

A kernel is rounded before batch normalisation, not after it as in that paper: the converter folds
the normalisation into the kernel as one factor per output channel, the kernel has one scale per
output channel, and so the factor goes into the scale and the integers are the same.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from scalpel_tf.models import check_model, copy_model, same_layer, same_weights, walk
from scalpel_tf.train import batches as data_batches
from scalpel_tf.train import graph
from scalpel_tf.train.int8_layers import FakeInt8, FakeInt8Operation, is_fused, ranges
from scalpel_tf.train.layers import PruneWrapper, kernels, refusal
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Call, Network, Value
from scalpel_tf.train.selectors import Selector, selectors, selects

NOTHING = (  # in inference
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
    *(layers.GaussianDropout, layers.GaussianNoise, layers.AlphaDropout),
    *(layers.ActivityRegularization, layers.Identity),
)
SAME_SCALE = (  # input and output share their steps
    *NOTHING,
    *(layers.Flatten, layers.Reshape, layers.Permute, layers.RepeatVector),
    *(layers.MaxPooling1D, layers.MaxPooling2D, layers.GlobalMaxPooling1D),
    *(layers.AveragePooling1D, layers.AveragePooling2D, layers.GlobalMaxPooling2D),
    *(layers.ZeroPadding1D, layers.ZeroPadding2D, layers.Cropping1D, layers.Cropping2D),
    *(layers.UpSampling1D, layers.UpSampling2D),
)
ARITHMETIC = (layers.BatchNormalization, layers.Add, layers.Subtract, layers.Multiply)
OWN_SCALE = (
    *ARITHMETIC,
    *(layers.Average, layers.Maximum, layers.Minimum, layers.Concatenate),
    *(layers.Activation, layers.ReLU, layers.LeakyReLU, layers.PReLU, layers.ELU, layers.Softmax),
    *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D),
    *(layers.Rescaling, layers.Normalization),
)
OPERATIONS = {
    *("Add", "Subtract", "Multiply", "Maximum", "Minimum", "Concatenate", "Mean"),
    *("Relu", "Relu6", "LeakyRelu", "Elu", "Gelu", "Silu", "HardSilu", "Sigmoid", "Tanh"),
}
PROBABILITIES = (keras.activations.softmax, keras.activations.sigmoid)


def int8_aware(
    model: keras.Model,
    data,
    *,
    skip: Selector | list[Selector] | None = None,
    batch_size: int = 128,
) -> keras.Model:
    """A copy of a plain `model` that computes as its int8 conversion will, for fine-tuning.

    Kernels and activations are rounded where TensorFlow Lite rounds them: after a batch
    normalisation and a ReLU that run inside the kernel before them, not in between. Weights that
    are zero now stay zero under any optimizer. Compile the copy as the model was, `fit` it for some
    epochs at a low learning rate, and turn it back by `plain`. It may be saved and loaded.

    Left in float32: layers of other kinds (attention, recurrent layers, one's own without
    `get_prunable_weights()`), tables of embeddings, what lies between the two halves of a
    SeparableConv, and a softmax or sigmoid at the end, whose zeros no loss could learn from.

    model: a built functional or Sequential model; models nested in it are followed. A layer that
        stands at several places has one range for all of them.
    data: what sets the ranges of activations, in any form that `fit` takes; y is not used. In
        training the ranges move (see ActivationRange). `batch_size` is for arrays.
    skip: layers that are not rounded, as in `prune`; their zeros are kept all the same.

    Raises ValueError for a model that is wrapped or masked, for what cannot be copied, and for data
    that drive an activation to NaN or infinity.
    """
    check_model(model, "int8_aware")
    for path, layer in walk(model):
        if isinstance(layer, (PruneWrapper, MaskLayer, FakeInt8, FakeInt8Operation)):
            raise ValueError(
                f"int8_aware takes a plain model, but {path!r} is a {type(layer).__name__}: call "
                "strip, shrink or plain first."
            )
    skipped = selectors(model, "skip", skip)
    left = {
        id(layer)
        for path, layer in walk(model)
        if any(selects(selector, path, layer) for selector in skipped)
    }
    network = graph.read(model)

    def wrap(layer):
        calls = network.of_layer.get(id(layer), [])
        if not isinstance(layer, layers.Layer):
            rounds = calls and not _absorbed(network, calls[0]) and _is_rounded_operation(calls[0])
            return FakeInt8Operation(same_layer(layer)) if rounds else same_layer(layer)
        rounds = () if id(layer) in left else _rounds(network, layer, calls)
        if not rounds and (not kernels(layer) or refusal(layer)):
            return same_layer(layer)
        return FakeInt8(same_layer(layer), rounds)

    aware = copy_model(model, wrap, _hold)
    _calibrate(aware, data, batch_size)
    return aware


def plain(model: keras.Model) -> keras.Model:
    """The model that `int8_aware` was given, with the weights of now and the zeros of then.

    It is not compiled. Raises ValueError for a model without a layer of `int8_aware`.
    """
    check_model(model, "plain")
    wrappers = [layer for _, layer in walk(model) if isinstance(layer, FakeInt8)]
    if not wrappers:
        raise ValueError(
            f"Model {model.name!r} has no FakeInt8 layer: build it with int8_aware(model, data)."
        )
    for wrapper in wrappers:
        wrapper.apply_masks()  # an optimizer with use_ema overwrites the weights at the end
    return copy_model(model, lambda layer: same_layer(_inside(layer)), _release)


def _inside(layer):
    if isinstance(layer, FakeInt8Operation):
        return layer.operation
    return layer.layer if isinstance(layer, FakeInt8) else layer


def _hold(layer, new):
    same_weights(layer, new.layer if isinstance(new, FakeInt8) else new)
    if isinstance(new, FakeInt8):
        new.hold_zeros()


def _release(layer, new):
    if isinstance(new, layers.Layer):
        same_weights(_inside(layer), new)


def _rounds(network: Network, layer, calls: list[Call]) -> tuple[str, ...]:
    """What FakeInt8 rounds of this layer."""
    has_kernels = _has_kernels(layer)
    if not calls or not (has_kernels or isinstance(layer, OWN_SCALE)):
        return ()
    found = ["kernels"] if has_kernels else []
    if any(len(call.inputs) == 1 and _is_raw(call.inputs[0]) for call in calls):
        found.append("inputs")
    if has_kernels and not is_fused(getattr(layer, "activation", None)):
        found.append("sums")
    ends = _is_probability(layer) and any(c.outputs[0].key in network.output_keys for c in calls)
    if not ends and not all(_absorbed(network, call) for call in calls):
        found.append("outputs")
    return tuple(found)


def _has_kernels(layer):
    return bool(kernels(layer)) and not refusal(layer) and not isinstance(layer, layers.Embedding)


def _is_raw(value: Value) -> bool:
    """Whether it is an input of the model, which nothing has rounded yet."""
    if value.producer is None:
        return True
    return isinstance(value.producer.layer, SAME_SCALE) and _is_raw(value.producer.inputs[0])


def _is_probability(layer):
    if isinstance(layer, layers.Softmax):
        return True
    return getattr(layer, "activation", None) in PROBABILITIES


def _absorbed(network: Network, call: Call) -> bool:
    """Whether the operator of this call goes on with the next layer before it rounds."""
    value = call.outputs[0]
    while True:
        if len(value.consumers) != 1 or value.key in network.output_keys:
            return False
        after = value.consumers[0]
        if not isinstance(after.layer, NOTHING):
            break
        value = after.outputs[0]
    linear = _has_kernels(call.layer) and (
        getattr(call.layer, "activation", None) in (None, keras.activations.linear)
    )
    if linear and isinstance(after.layer, layers.BatchNormalization):
        return True
    adds = isinstance(call.layer, ARITHMETIC) or type(call.layer).__name__ in ("Add", "Multiply")
    return (linear or adds) and _is_relu(after.layer)


def _is_relu(layer):
    if isinstance(layer, layers.ReLU):
        known = (layer.negative_slope, layer.threshold) == (0, 0)
        return known and layer.max_value in (None, 6)
    if isinstance(layer, layers.Activation):
        return is_fused(layer.activation)
    return type(layer).__name__ in ("Relu", "Relu6")


def _is_rounded_operation(call):
    values = keras.tree.flatten([call.args, call.kwargs])
    return type(call.layer).__name__ in OPERATIONS and all(isinstance(v, Value) for v in values)


def _calibrate(model, data, batch_size):
    """Sets every range to what the float model shows on the data."""
    found = [(layer.name, r) for _, layer in walk(model) for r in ranges(layer)]
    for _, activation_range in found:
        activation_range.observing = True
    forward = tf.function(
        lambda x: model(x, training=False), reduce_retracing=True, autograph=False
    )
    for x, _, _ in data_batches.batches(data, batch_size=batch_size):
        forward(data_batches.as_tensors(x))
    for name, activation_range in found:
        activation_range.observing = False
        ends = [float(variable.numpy()) for variable in activation_range.weights]
        if not np.isfinite(ends).all():
            raise ValueError(
                f"The activations of {name!r} go from {ends[0]} to {ends[1]} over this data, which "
                "no int8 scale can express: are the weights or the data not finite?"
            )
