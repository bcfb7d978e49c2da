"""Criteria for nodes: of a model and its groups of tied nodes, one score per node of each group."""

from collections.abc import Callable

import keras
import numpy as np

from scalpel_tf.core import node_scores
from scalpel_tf.core.layout import to_matrix
from scalpel_tf.train import evidence
from scalpel_tf.train.evidence import Evidence
from scalpel_tf.train.layers import kernels
from scalpel_tf.train.masks import Point
from scalpel_tf.train.network import Call, Network

# What makes the scores of different layers comparable; the reasons are in core/node_scores.py.
NORMALISE = {
    "l1": node_scores.by_mean,
    "l2": node_scores.by_mean,
    "bn_scale": node_scores.as_is,
    "apoz": node_scores.as_is,
    "taylor": node_scores.by_l2,
    "random": node_scores.as_is,
}


class Criterion:
    """A criterion, and what it needs beside the model: data, a cost, random numbers.

    criterion: one of NORMALISE, or a function (layer, w) -> one score per output, normalised by
    its mean. data: a function without arguments that gives batches, or None.

    Raises ValueError for an unknown criterion, and for one whose data or cost is missing.
    """

    def __init__(self, criterion: str | Callable, model: keras.Model, data, loss, seed: int):
        if not callable(criterion) and criterion not in NORMALISE:
            raise ValueError(
                f"`criterion` is one of {', '.join(NORMALISE)}, or a function (layer, w) -> "
                f"scores; got {criterion!r}."
            )
        if criterion in ("apoz", "taylor") and data is None:
            raise ValueError(f"The criterion {criterion!r} is measured on data: give `data`.")
        self.criterion = criterion
        self.data = data
        self.cost = evidence.cost_of(model, loss) if criterion == "taylor" else None
        self.random = np.random.default_rng(seed)
        self.why_none = (
            "it has no batch normalisation with a scale"
            if criterion == "bn_scale"
            else "the criterion says nothing about its nodes"
        )

    def scores(
        self, model: keras.Model, network: Network, places: list[Point], groups: list
    ) -> list[np.ndarray]:
        """Per group one score per node, in the order of its nodes; NaN: it says nothing of it.

        Raises ValueError for scores that are not finite, or not one per output.
        """
        if self.criterion == "random":
            return [self.random.random(group.nodes.size) for group in groups]
        normalise = NORMALISE.get(self.criterion, node_scores.by_mean)
        parts = []
        for path, nodes, score in self._evidence(model, network, places):
            if np.shape(score) != nodes.shape or not np.isfinite(score).all():
                raise ValueError(
                    f"Scores are {nodes.size} finite numbers for {path!r}, one per output; got "
                    f"shape {np.shape(score)} with {np.count_nonzero(~np.isfinite(score))} that "
                    "are not finite: has training diverged?"
                )
            parts.append((network.roots(nodes), normalise(score)))
        return [_of_group(group.nodes, parts) for group in groups]

    def _evidence(self, model, network, places):
        if self.criterion == "apoz":
            return evidence.alive(network, model, places, self.data())
        if self.criterion == "taylor":
            return evidence.taylor(network, model, places, self.data(), self.cost)
        first_calls = [calls[0] for calls in network.of_layer.values()]
        if self.criterion == "bn_scale":
            return [
                Evidence(call.path, nodes, node_scores.scale(_numpy(call.layer.gamma)))
                for call in first_calls
                if isinstance(call.layer, keras.layers.BatchNormalization)
                and call.layer.scale
                and (nodes := call.outputs[0].nodes[-1]) is not None
            ]
        return [
            Evidence(call.path, nodes, self._of_weight(call.layer, w))
            for call in first_calls
            if (found := _matrix(call)) is not None
            for nodes, w in [found]
        ]

    def _of_weight(self, layer, w):
        if callable(self.criterion):
            return np.asarray(self.criterion(layer, w))
        return {"l1": node_scores.l1, "l2": node_scores.l2}[self.criterion](w)


def _matrix(call: Call):
    """(nodes of the outputs, kernel as (out, taps, in)) of a layer, or None.

    Depthwise layers speak of the nodes that they pass on; of a separable one the last kernel does.
    """
    nodes = call.outputs[0].nodes[-1] if call.outputs[0].nodes else None
    if nodes is None:
        return None
    found = kernels(call.layer)
    if found:
        variable, kind = found[-1]
        kind = "dense" if kind == "embedding" else kind  # its nodes are the columns
        return nodes, to_matrix(_numpy(variable), kind)
    if call.made is None:
        return None
    made = [
        np.moveaxis(_numpy(weight), axis, 0).reshape(nodes.size, 1, -1)
        for weight, axes in zip(call.layer.weights, call.weights, strict=False)
        for axis, of_axis in enumerate(axes)
        if of_axis is call.made
    ]
    return (nodes, max(made, key=np.size)) if made else None


def _of_group(nodes, parts):
    own = []
    for roots, score in parts:
        here = np.isin(roots, nodes)
        own.append((np.searchsorted(nodes, roots[here]), score[here]))
    return node_scores.tied(nodes.size, own)


def _numpy(variable):
    return keras.ops.convert_to_numpy(variable)
