"""shrink: a smaller plain Keras model that computes what the masked one does."""

from dataclasses import dataclass, field
from typing import NamedTuple

import keras
import numpy as np

from scalpel_tf.train import constants, graph, masks, zeros
from scalpel_tf.train.dropout import adjusted_rate
from scalpel_tf.train.edits import Edits, Place, folded
from scalpel_tf.train.mask_layer import MaskLayer
from scalpel_tf.train.rebuild import positions, rebuild
from scalpel_tf.train.rules import find_rule


class Cut(NamedTuple):
    """A layer with weights, before and after; MACs of one example."""

    path: str
    type: str
    nodes: tuple[int, int]
    parameters: tuple[int, int]
    macs: tuple[int, int]


@dataclass(frozen=True)
class ShrinkReport:
    """What `shrink` cut, layer by layer, what it left whole, and why.

    zeroed: (where, nodes) of nodes that masks drop but that something tied to them needs: their
        weights are zero now, or a Rescaling layer stands for the mask.
    dropout: path of each Dropout that reads fewer nodes than before -> the rate that fits what is
    left; the layer itself keeps its rate. `callbacks.AdjustDropout(report.dropout)` applies it.
    kept: path of each layer that lost nodes -> the indices of those that are left.
    """

    layers: tuple[Cut, ...]
    whole: tuple[tuple[str, str], ...]
    zeroed: tuple[tuple[str, int], ...]
    dropout: dict[str, float] = field(default_factory=dict)
    kept: dict[str, list[int]] = field(default_factory=dict)

    @property
    def parameters(self) -> tuple[int, int]:
        return _totals(cut.parameters for cut in self.layers)

    @property
    def macs(self) -> tuple[int, int]:
        return _totals(cut.macs for cut in self.layers)

    @property
    def nodes(self) -> tuple[int, int]:
        return _totals(cut.nodes for cut in self.layers)

    def __str__(self):
        lines = ["parameters {:,} -> {:,}, MACs {:,} -> {:,}".format(*self.parameters, *self.macs)]
        for path, kind, nodes, parameters, macs in self.layers:
            lines.append(
                f"  {path:32} {kind:20} nodes {nodes[0]:5} -> {nodes[1]:5}  parameters "
                f"{parameters[0]:10,} -> {parameters[1]:10,}  MACs {macs[0]:12,} -> {macs[1]:12,}"
            )
        lines += [f"  {path:32} left whole: {reason}" for path, reason in self.whole]
        lines += [f"  {path:32} zeros instead of {count} nodes" for path, count in self.zeroed]
        return "\n".join(lines)


class Costs(NamedTuple):
    """What is left of a model: nodes of hidden and output layers, parameters, MACs an example."""

    nodes: int
    parameters: int
    macs: int


def costs(model: keras.Model) -> Costs:
    """What `shrink(model)` would leave; MaskLayers themselves count nothing."""
    network = graph.read(model)
    left = graph.costs(network, zeros.removable(network, zeros.evaluate(network))).values()
    return Costs(*(sum(getattr(cost, name) for cost in left) for name in Costs._fields))


def shrink(
    model: keras.Model, *, keep: dict[str, list[int]] | None = None, round_to: int = 1
) -> keras.Model:
    """A smaller plain Keras model with the same outputs; `.report` says what was cut and why not.

    Cut is every node that adds nothing anywhere: those that closed masks silence, and those whose
    weights are zero. A constant that is left of a node (the offset of its batch normalisation) goes
    into the biases that follow. Where tied masks disagree, what all drop is cut and the rest
    becomes zeros in the weights, or, where no weight can hold them, a Rescaling by 0 and 1.
    Outputs differ from the masked model's by rounding only.

    model: functional or Sequential, nested models included; with MaskLayers or without.
    keep: {name or path of a layer: the output channels that stay}; layers that are tied to it
        follow. The result equals the model in which the others are 0 wherever `add_masks` would
        mask them. Tied layers that are both named and disagree keep what any of them keeps, with
        zeros in the others.
    round_to: the number of nodes left is a multiple of it wherever the layer has enough of them;
        the nodes that fill up are zeros.

    The result is not compiled; its layers have their old names. At least one node of each layer
    stays. Raises ValueError for a model that cannot be read, for masks on an output, and for a
    `keep` that names no layer with nodes, an index out of range, or nothing to keep.
    """
    if not isinstance(round_to, int) or round_to < 1:
        raise ValueError(f"`round_to` is a number of nodes from 1 on; got {round_to!r}.")
    network = graph.read(model)
    _refuse_masked_outputs(network, model)
    closed = _closed_by(network, keep) if keep else {}
    known = zeros.evaluate(network, closed)
    cut = zeros.removable(network, known)
    cut = _rounded(network, cut, round_to)
    return _cut(network, model, cut, closed, known)


def _cut(network, model, cut, closed, known):
    keep = positions(network, cut)
    edits = Edits(network)
    zeroed = [
        (path, count)
        for path, count in (
            *(edits.close(_mask_place(call), keep, known) for call in _mask_calls(network)),
            *(edits.close(place, keep, known) for place in _places(network, closed)),
        )
        if count
    ]
    biases = folded(network, cut, known)

    def weights(call):
        return edits.weights(call, keep, biases.get(id(call.layer)))

    def config(call):
        return {"use_bias": True} if id(call.layer) in biases else {}

    small = rebuild(
        network,
        model,
        keep=keep,
        after=edits.after,
        weights=weights,
        config=config,
        without_masks=True,
    )
    small.report = _report(network, cut, zeroed, biases)
    return small


def _mask_calls(network):
    return [call for call in network.calls if isinstance(call.layer, MaskLayer)]


def _mask_place(call):
    keep = constants.spread_mask(call)
    axis = int(np.argmax(keep.shape))
    return Place(call.path, call.inputs[0], call.outputs[0], axis, keep.reshape(-1))


def _places(network, closed):
    """The places of `keep=`: a value once, though a nested model be called twice."""
    done = set()
    for call in network.calls:
        for value in call.outputs:
            if value.key in closed and value.key not in done:
                done.add(value.key)
                keep = closed[value.key]
                axis = int(np.argmax(keep.shape))
                yield Place(call.path, value, value, axis, keep.reshape(-1))


def _rounded(network, cut, round_to):
    """`cut` without the nodes that fill the rest of each group up to a multiple."""
    if round_to == 1:
        return cut
    columns = {call.path: call.made for call in network.makers()}
    for group in network.groups():
        gone = np.intersect1d(group.nodes, cut)
        made = columns[group.layers[0]]
        each = max(1, made.size // np.unique(network.roots(made)).size)
        step = round_to // np.gcd(round_to, each)
        left = np.unique(network.roots(made)).size - gone.size
        back = min(-left % step, gone.size)
        cut = np.setdiff1d(cut, gone[:back])
    return cut


def _closed_by(network, keep):
    """{key of a value: True for what stays}, from the argument `keep`."""
    makers = {call.path: call for call in network.makers()}
    named = {}
    for name, indices in keep.items():
        found = [makers[name]] if name in makers else []
        found = found or [call for call in makers.values() if call.layer.name == name]
        if not found:
            raise ValueError(
                f"`keep` has {name!r}, which is no layer with nodes: {', '.join(makers)}."
            )
        for call in found:
            named[call.path] = call, _drops(name, call, indices)
    dropped, kept = set(), set()
    for call, drop in named.values():
        if drop.any() and network.whole.get(int(network.roots(call.made)[0])) == graph.OUTPUT:
            raise ValueError(
                f"`keep` drops {int(drop.sum())} of {drop.size} channels of {call.path!r}, which "
                "is an output of the model: it keeps all of its channels."
            )
        roots = network.roots(call.made)
        dropped |= set(roots[drop].tolist())
        kept |= set(roots[~drop].tolist())
    places = masks.points(network)
    agreed = np.array(sorted(dropped - kept), int)
    agreed = agreed[network.cuttable(agreed)]
    closed = {}

    def close(value, axis, stays):
        if not stays.all():
            shape = [-1 if k == axis else 1 for k in range(len(value.shape))]
            closed[value.key] = closed.get(value.key, True) & stays.reshape(shape)

    for point in places:
        close(point.value, point.axis, ~np.isin(network.roots(point.nodes), agreed))
    for call, drop in named.values():
        alone = drop & ~np.isin(network.roots(call.made), agreed)
        if alone.any():
            value = masks.end_of_layer(call.outputs[0], sums=False)
            close(value, len(value.shape) - 1, ~alone)
    return closed


def _drops(name, call, indices):
    indices = np.asarray(indices, int).reshape(-1)
    count = call.made.size
    if indices.size == 0:
        raise ValueError(f"`keep` would empty layer {name!r}: name at least one channel to keep.")
    if indices.min() < 0 or indices.max() >= count:
        raise ValueError(
            f"`keep` names channels of {name!r} in [0, {count}); got {indices.min()} to "
            f"{indices.max()}."
        )
    return ~np.isin(np.arange(count), indices)


def _refuse_masked_outputs(network, model):
    for call in _mask_calls(network):
        value = call.outputs[0]
        while len(value.consumers) == 1 and find_rule(value.consumers[0].layer).pointwise:
            if len(value.consumers[0].inputs) > 1:
                break
            value = value.consumers[0].outputs[0]
        if value.key in network.output_keys and not call.layer.keep.all():
            raise ValueError(
                f"MaskLayer {call.path!r} drops {int((~call.layer.keep).sum())} channels of an "
                f"output of model {model.name!r}: outputs keep all of theirs, so put masks on "
                "hidden layers only, as add_masks does."
            )


def _report(network, cut, zeroed, biases):
    before, after = graph.costs(network), graph.costs(network, cut)
    for call in network.makers():
        if id(call.layer) in biases and not call.layer.use_bias:
            cost = after[call.path]
            after[call.path] = cost._replace(parameters=cost.parameters + cost.nodes)
    kinds = {calls[0].path: type(calls[0].layer).__name__ for calls in network.of_layer.values()}
    layers = tuple(
        Cut(path, kinds[path], *zip(before[path], after[path], strict=True)) for path in before
    )
    whole = list(masks.reasons_whole(network))
    named, kept = {path for path, _ in whole}, {}
    for call in network.makers():
        gone = np.isin(network.roots(call.made), cut)
        if gone.any():
            kept[call.path] = np.flatnonzero(~gone).tolist()
        elif call.path not in named:
            whole.append((call.path, "none of its nodes is silent"))
    return ShrinkReport(layers, tuple(whole), tuple(zeroed), _dropout(network, cut), kept)


def _dropout(network, cut):
    rates = {}
    for call in network.calls:
        nodes = call.inputs[0].nodes[-1] if call.inputs and call.inputs[0].nodes else None
        if isinstance(call.layer, keras.layers.Dropout) and nodes is not None:
            gone = int(np.isin(network.roots(nodes), cut).sum())
            if gone:
                left = nodes.size - gone
                rates[call.path] = adjusted_rate(call.layer.rate, left, nodes.size)
    return rates


def _totals(pairs) -> tuple[int, int]:
    pairs = list(pairs)
    return sum(before for before, _ in pairs), sum(after for _, after in pairs)
