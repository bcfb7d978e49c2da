"""add_masks: a model in, a copy with a MaskLayer after every hidden layer out."""

from dataclasses import dataclass
from typing import NamedTuple

import keras
import numpy as np

from scalpel_tf.train import graph, zeros
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.network import Call, Network, Value
from scalpel_tf.train.rebuild import rebuild
from scalpel_tf.train.rules import find_rule
from scalpel_tf.train.selectors import Selector, selectors, selects


class Point(NamedTuple):
    """A place for a mask: a value, the axis of its nodes, and the call of the layer before it."""

    value: Value
    axis: int
    call: Call

    @property
    def nodes(self) -> np.ndarray:
        return self.value.nodes[self.axis]


class Masked(NamedTuple):
    name: str
    nodes: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class MaskReport:
    """Whose nodes each MaskLayer masks, and which layers are left whole, and why."""

    masked: tuple[Masked, ...]
    whole: tuple[tuple[str, str], ...]

    def __str__(self):
        lines = [f"{sum(mask.nodes for mask in self.masked):,} nodes under masks"]
        for name, nodes, layers in self.masked:
            lines.append(f"  {name:32} {nodes:6,} nodes of {', '.join(layers)}")
        lines += [f"  {path:32} left whole: {reason}" for path, reason in self.whole]
        return "\n".join(lines)


def add_masks(
    model: keras.Model,
    *,
    threshold: float = 0.8,
    epsilon: float = 1e-4,
    initial: float = 0.8002,
    limit: float = 0.802,
    l1: float = 2e-4,
    gain: float = 1.0,
    layers: Selector | list[Selector] | None = None,
    skip: Selector | list[Selector] | None = None,
) -> keras.Model:
    """A copy of `model` with masks that learn which nodes to drop; `.report` says where.

    A MaskLayer follows every hidden layer with a kernel, behind its batch normalisation and
    activation and the additions that these feed; more of them where a node would otherwise still be
    heard. Layers whose channels are tied (residual additions, depthwise, gates, shared layers,
    groups) share one. Inputs and outputs get none. Train the copy with callbacks.TrainMasks, then
    cut what it dropped with `shrink` (Yu et al., Scalpel, ISCA 2017, section 4.2).

    model: a built functional or Sequential model; models nested in it are masked too.
    threshold, epsilon, initial, limit, l1, gain: see MaskLayer, PUBLISHED and UNIT.
    layers, skip: whose nodes are masked, whose not: names, paths, regular expressions, types or
        callables, as in `prune`; what is tied to a layer that is not masked is not masked either.

    Raises ValueError for a model that cannot be copied, and where no layer can be masked.
    """
    network = graph.read(model)
    leave_out(network, model, layers, skip)
    places = points(network)
    whole = tuple(reasons_whole(network))
    if not places:
        why = "; ".join(f"{path}: {reason}" for path, reason in whole) or "it has no kernels"
        raise ValueError(f"Model {model.name!r} has no nodes that can be masked ({why}).")
    settings = {
        "threshold": threshold,
        "epsilon": epsilon,
        "initial": initial,
        "limit": limit,
        "l1": l1,
        "gain": gain,
    }
    after, masked = {}, []
    for name, group, members in _shared(network, places):
        makers = tuple(
            call.path for call in network.makers() if np.isin(network.roots(call.made), group).any()
        )
        layer = MaskLayer(len(group), axis=-1, name=name, **settings)
        masked.append(Masked(name, len(group), makers))
        for point in members:
            index = np.searchsorted(group, network.roots(point.nodes))
            after[point.value.key] = _masking(layer, point, index)
    copy = rebuild(network, model, after=after)
    copy.report = MaskReport(tuple(masked), whole)
    return copy


def points(network: Network) -> list[Point]:
    """Where masks have to stand, so that every node that can be cut is silent when they close.

    One after every layer with nodes, behind the batch normalisation, the activation and the sums
    that follow it, unless it is silent there already; another one in front of every layer that
    would still hear it. Holds whole the nodes for which no mask can be placed.
    """
    found = None
    while found is None:
        found = _try_points(network)
    return found


def _try_points(network):
    """The points, or None where nodes had to be held: the next try does without them."""
    wanted = {}
    for call in network.makers():
        value = end_of_layer(call.outputs[0])
        axes = [axis for axis, nodes in enumerate(value.nodes) if nodes is not None]
        if axes and network.cuttable(value.nodes[axes[-1]]).any():
            wanted.setdefault(value.key, Point(value, axes[-1], call))
    known, found = zeros.start(network), {}
    for call in network.calls:
        for use in call.uses:
            heard = ~zeros.idle(network, call, use, known, structural=True)
            heard &= network.cuttable(use.nodes)
            if heard.any():
                value, axis = use.factors[0]
                point = Point(value, axis % len(value.shape), value.producer)
                if not _placeable(network, point):
                    reason = "no mask can be put beside channels that cannot be cut"
                    network.keep_whole(use.nodes[heard], reason)
                    return None
                found[value.key] = point
                known[id(value)] = np.zeros_like(known[id(value)])
        arrays = [known[id(value)] for value in call.inputs]
        for value, array in zip(call.outputs, zeros.follow_any(call, arrays), strict=True):
            point = wanted.get(value.key)
            if point and not (array == 0).all():
                if not _placeable(network, point):
                    reason = "no mask can be put beside channels that cannot be cut"
                    network.keep_whole(point.nodes, reason)
                    return None
                found[value.key] = point
                array = np.zeros_like(array)
            known[id(value)] = array
    return list(found.values())


def reasons_whole(network: Network):
    """(path, why) of each layer with a kernel of which no node can be cut."""
    whole = network.whole
    for calls in network.of_layer.values():
        call = calls[0]
        kernel = any(len(weight.shape) > 1 for weight in getattr(call.layer, "weights", ()))
        named = [nodes for axes in call.weights for nodes in axes if nodes is not None]
        own = named if call.made is None else [call.made]
        if not kernel or any(network.cuttable(nodes).any() for nodes in own):
            continue
        if own:
            yield call.path, whole[int(network.roots(own[0])[0])]
        else:
            yield call.path, f"{type(call.layer).__name__} has no nodes that can be cut"


def end_of_layer(value: Value, sums: bool = True) -> Value:
    """Behind what follows a layer element by element, as long as nobody else reads it.

    sums: whether additions and other operations with several operands belong to it.
    """
    while len(value.consumers) == 1:
        call = value.consumers[0]
        stops = isinstance(call.layer, (MaskLayer, keras.layers.Dropout))
        if stops or not find_rule(call.layer).pointwise or (len(call.inputs) > 1 and not sums):
            break
        value = call.outputs[0]
    return value


def _placeable(network, point):
    return point.value.producer is not None and network.cuttable(point.nodes).all()


def _shared(network, places):
    """(name, roots, points) of each MaskLayer; points of one model that share nodes share it."""
    part_of = {
        value.key: number
        for number, part in enumerate(network.parts.values())
        for call in part.calls.values()
        for value in call.outputs
    }
    groups = []
    for point in places:
        roots, part = set(network.roots(point.nodes).tolist()), part_of[point.value.key]
        joined = [g for g in groups if g[0] == part and g[1] & roots]
        merged = (part, roots.union(*(g[1] for g in joined)), [*sum((g[2] for g in joined), [])])
        merged[2].append(point)
        groups = [g for g in groups if not any(g is j for j in joined)] + [merged]
    taken = {name for call in network.calls for name in [getattr(call.layer, "name", "")]}
    for _, roots, members in groups:
        members.sort(key=lambda point: network.calls.index(point.call))
        stem = name = f"mask_{members[0].call.layer.name}"
        number = 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        taken.add(name)
        yield name, np.array(sorted(roots)), members


def _masking(layer, point, index):
    plain = np.array_equal(index, np.arange(len(index)))
    last = point.axis == len(point.value.shape) - 1
    if not last:
        order = [k for k in range(len(point.value.shape)) if k != point.axis] + [point.axis]
        there = keras.layers.Permute([k + 1 for k in order])
        back = keras.layers.Permute((np.argsort(order) + 1).tolist())
        return lambda tensor: back(_apply(layer, there(tensor), index, plain))
    return lambda tensor: _apply(layer, tensor, index, plain)


def _apply(layer, tensor, index, plain):
    whole = plain and layer.nodes == tensor.shape[-1]
    return layer(tensor) if whole else layer(tensor, index=index.tolist())


def leave_out(network: Network, model: keras.Model, layers, skip) -> None:
    """Holds whole what `layers` does not select, or `skip` does, and all that is tied to it."""
    included = None if layers is None else selectors(model, "layers", layers)
    excluded = selectors(model, "skip", skip)
    for call in network.makers():
        name = call.path
        if included is not None and not any(selects(s, name, call.layer) for s in included):
            network.keep_whole(call.made, "`layers` does not select it")
        if any(selects(s, name, call.layer) for s in excluded):
            network.keep_whole(call.made, "`skip` selects it")
