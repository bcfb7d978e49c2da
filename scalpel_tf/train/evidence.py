"""What nodes do on a user's data: how often they are 0, and what the cost would miss in them."""

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from scalpel_tf.core import node_scores
from scalpel_tf.train.batches import as_tensors
from scalpel_tf.train.masks import Point
from scalpel_tf.train.network import Network
from scalpel_tf.train.rebuild import rebuild


class Evidence(NamedTuple):
    """One score per channel at a place in the network, higher survives, and the channels' nodes."""

    path: str
    nodes: np.ndarray
    score: np.ndarray


def alive(
    network: Network, model: keras.Model, places: list[Point], data: Iterable[tuple]
) -> list[Evidence]:
    """1 - APoZ at every place: of each channel, the fraction of activations that are not 0.

    APoZ is the average percentage of zeros (Hu et al., Network Trimming, 2016, section 3).
    network: of `model`. places: its `masks.points`, behind batch normalisation and activation.
    data: batches of (x, y, sample_weight), of which x is used.

    Raises ValueError where no activation at any place is ever 0, as with tanh and gelu.
    """
    probed, probes = _probed(network, model, places)

    def count(x, y, weight):
        with _shown(probes) as shown:
            probed(x, training=False)
        return [
            (
                _total([tf.reduce_sum(_by_map(tf.cast(z == 0, tf.float64), p), 0) for z in seen]),
                _total([tf.size(z, tf.int64) // z.shape[p.axis + 1] for z in seen]),
            )
            for seen, p in zip(shown, places, strict=True)
        ]

    sums = _sums(count, data)
    if not any(zeros.any() for zeros, _ in sums):
        raise ValueError(
            f"No activation of {model.name!r} is ever 0 on this data, so APoZ says nothing about "
            "its nodes: it is for networks of ReLUs; take another criterion."
        )
    return [
        Evidence(place.call.path, place.nodes, node_scores.alive(zeros, positions))
        for place, (zeros, positions) in zip(places, sums, strict=True)
    ]


def taylor(
    network: Network,
    model: keras.Model,
    places: list[Point],
    data: Iterable[tuple],
    cost: Callable,
) -> list[Evidence]:
    """What the cost changes to first order without a channel, at every place.

    |mean over the map of dC/dz * z|, for each example by itself, averaged over the examples
    (Molchanov et al., ICLR 2017, section 2.2). Dropout and batch normalisation are as in inference.

    network, places: as for `alive`. data: batches of (x, y, sample_weight).
    cost: (y, y_pred, sample_weight) -> the mean cost of the batch, as `cost_of` gives it.
    """
    probed, probes = _probed(network, model, places)

    def change(x, y, weight):
        with (
            tf.GradientTape(watch_accessed_variables=False) as tape,
            _shown(probes, tape.watch) as shown,
        ):
            mean = cost(y, probed(x, training=False), weight)
        gradients = tape.gradient(mean, shown, unconnected_gradients="zero")
        found = []
        for seen, of_seen, p in zip(shown, gradients, places, strict=True):
            products = [
                _by_map(tf.cast(z, tf.float64) * tf.cast(gradient, tf.float64), p)
                for z, gradient in zip(seen, of_seen, strict=True)
            ]
            examples = tf.shape(products[0], tf.int64)[0]
            of_example = tf.abs(_total(products)) / _map_size(seen[0], p)
            of_example *= tf.cast(examples, tf.float64)  # the mean divided by them
            found.append((tf.reduce_sum(of_example, 0), examples))
        return found

    return [
        Evidence(place.call.path, place.nodes, node_scores.taylor(magnitudes, examples))
        for place, (magnitudes, examples) in zip(places, _sums(change, data), strict=True)
    ]


def cost_of(model: keras.Model, loss=None) -> Callable:
    """(y, y_pred, sample_weight) -> mean cost of a batch, by `loss` or as `model` was compiled.

    loss: a name, a keras.losses.Loss, or a function of (y, y_pred).
    Raises ValueError where there is neither.
    """
    if loss is None:
        compiled = getattr(model, "_compile_loss", None) if model.compiled else None
        if compiled is None:
            raise ValueError(
                f"The criterion 'taylor' needs a cost, and {model.name!r} is not compiled with a "
                "loss: give `loss`, 'sparse_categorical_crossentropy' for one."
            )
        return _needing_targets(compiled)
    function = keras.losses.get(loss)

    def cost(y, y_pred, weight):
        if isinstance(function, keras.losses.Loss):
            return function(y, y_pred, weight)
        values = function(y, keras.tree.map_structure(_at_least_float32, y_pred))
        return tf.reduce_mean(values if weight is None else values * tf.cast(weight, values.dtype))

    return _needing_targets(cost)


def _needing_targets(cost):
    def checked(y, y_pred, weight):
        if y is None:
            raise ValueError("The criterion 'taylor' needs targets: `data` has x without y.")
        return cost(y, y_pred, weight)

    return checked


class _Probe(keras.layers.Layer):
    """Hands its input on, and shows it to `look` where that is set."""

    def __init__(self):
        super().__init__(autocast=False)
        self.look = None

    def call(self, inputs):
        if self.look is not None:
            self.look(inputs)
        return inputs


def _probed(network, model, places):
    probes = [_Probe() for _ in places]
    after = {place.value.key: probe for place, probe in zip(places, probes, strict=True)}
    return rebuild(network, model, after=after), probes


@contextmanager
def _shown(probes, watch=None):
    """For every probe the list of tensors that pass it: several where a nested model is shared."""
    shown = [[] for _ in probes]

    def look(tensor, seen):
        seen.append(tensor)
        if watch is not None:
            watch(tensor)

    try:
        for probe, seen in zip(probes, shown, strict=True):
            probe.look = lambda tensor, seen=seen: look(tensor, seen)
        yield shown
    finally:
        for probe in probes:
            probe.look = None


def _sums(step, data):
    """step(x, y, sample_weight) added up over the batches."""
    traced = tf.function(step, reduce_retracing=True, autograph=False)
    total = None
    for batch in data:
        found = keras.tree.map_structure(lambda part: part.numpy(), traced(*as_tensors(batch)))
        total = found if total is None else keras.tree.map_structure(np.add, total, found)
    return total


def _by_map(z, place):
    """(batch, channels): the sum over all axes but these."""
    axis = place.axis + 1
    return tf.reduce_sum(z, [other for other in range(1, z.shape.rank) if other != axis])


def _map_size(z, place):
    per_example = tf.reduce_prod(tf.shape(z)[1:]) // z.shape[place.axis + 1]
    return tf.cast(per_example, tf.float64)


def _at_least_float32(tensor):
    return tf.cast(tensor, tf.float32) if tensor.dtype in (tf.float16, tf.bfloat16) else tensor


def _total(tensors):
    return sum(tensors[1:], start=tensors[0])
