"""recalibrate: the statistics of batch normalization, measured anew on data."""

import warnings
from contextlib import ExitStack, contextmanager

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.models import check_backend, refuse_tf_keras
from scalpel_tf.train import batches as data_batches


def recalibrate(
    model: keras.Model, data, *, batch_size: int = 128, batches: int | None = None
) -> keras.Model:
    """`model` itself, with new moving statistics in every BatchNormalization; nothing else changes.

    After nodes are cut or weights pruned, moving means and variances are those of activations that
    are no more. Here every batch of `data` runs through the model once, batch normalization by the
    batch's own statistics and all else (dropout, masks) as in inference. A layer then gets the mean
    and the variance over all its inputs of all batches together, whatever their order and size,
    not an average that fades by momentum. Frozen layers get theirs too; a layer that is called at
    several places, one for all of them; layers within others (TimeDistributed) as well.

    data: arrays x or (x, y), a tf.data.Dataset, a PyDataset, or an iterable of batches; y is not
        used. `batch_size` is for arrays; take 32 or more, since each batch normalizes itself.
    batches: how many of them to run; all where None. Some thousand images do.

    Warns, and does nothing, where no layer is a BatchNormalization. Raises ValueError for data
    without batches and, the old statistics kept, for new ones that are not finite.
    """
    check_backend()
    refuse_tf_keras(model)
    layers = [
        layer
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.built
    ]
    if not layers:
        warnings.warn(
            f"recalibrate has nothing to do: {model.name!r} has no BatchNormalization.",
            stacklevel=2,
        )
        return model
    with ExitStack() as stack:
        sums = [stack.enter_context(_measured(layer)) for layer in layers]
        forward = tf.function(
            lambda x: model(x, training=False), reduce_retracing=True, autograph=False
        )
        for x, _, _ in data_batches.batches(data, batch_size=batch_size, limit=batches):
            forward(data_batches.as_tensors(x))
    for layer, sum_ in zip(layers, sums, strict=True):
        if not all(np.isfinite(part).all() for part in sum_.mean_and_variance()):
            raise ValueError(
                f"The inputs of {layer.name!r} have no finite mean and variance over this data, "
                "so no statistics were changed: are the weights or the data not finite?"
            )
    for layer, sum_ in zip(layers, sums, strict=True):
        if sum_.positions.numpy():
            _set(layer, *sum_.mean_and_variance())
    return model


class _Sums:
    """The number, mean and squares of all that a layer saw, in double precision."""

    def __init__(self, channels):
        self.positions = tf.Variable(0.0, dtype=tf.float64)
        self.total = tf.Variable(tf.zeros(channels, tf.float64))
        self.squares = tf.Variable(tf.zeros(channels, tf.float64))

    def add(self, positions, mean, variance):
        positions, mean, variance = (tf.cast(x, tf.float64) for x in (positions, mean, variance))
        self.positions.assign_add(positions)
        self.total.assign_add(positions * mean)
        self.squares.assign_add(positions * (variance + tf.square(mean)))

    def mean_and_variance(self):
        positions = max(self.positions.numpy(), 1)
        mean = self.total.numpy() / positions
        return mean, np.maximum(self.squares.numpy() / positions - mean**2, 0)


@contextmanager
def _measured(layer):
    """Within, `layer` normalizes by the batch and its sums are kept; then it is as it was."""
    sums = _Sums(layer.moving_mean.shape[0])
    statistics = [(v, v.value.numpy()) for v in (layer.moving_mean, layer.moving_variance)]
    settings = {
        name: getattr(layer, name)
        for name in ("momentum", "trainable", "renorm")
        if hasattr(layer, name)
    }
    call = layer.call

    def by_batch(inputs, training=None, mask=None):
        for variable, _ in statistics:  # momentum 0 would keep a NaN: 0 * NaN is NaN
            variable.assign(tf.zeros_like(variable.value))
        outputs = call(inputs, training=True, mask=mask)
        seen = tf.size(inputs) / inputs.shape[layer.axis]
        if mask is not None:
            seen = tf.reduce_sum(tf.cast(mask, tf.float64))
        sums.add(seen, layer.moving_mean.value, layer.moving_variance.value)
        return outputs

    try:
        _configure(layer, {**settings, "momentum": 0.0, "trainable": True, "renorm": False})
        layer.call = by_batch
        yield sums
    finally:
        del layer.call  # the class's own again
        _configure(layer, settings)
        for variable, value in statistics:
            variable.assign(value)


def _configure(layer, settings):
    for name, value in settings.items():
        if hasattr(layer, name) and getattr(layer, name) != value:
            setattr(layer, name, value)


def _set(layer, mean, variance):
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    if getattr(layer, "renorm", False):
        layer.moving_stddev.assign(np.sqrt(variance + layer.epsilon))
