"""prune_nodes: a model in, a smaller dense one out, by a score for each node and a budget."""

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import keras
import numpy as np

from scalpel_tf.core import left_nodes, node_scores
from scalpel_tf.models import check_model
from scalpel_tf.train import graph, masks
from scalpel_tf.train.batches import batches as batches_of
from scalpel_tf.train.network import Group, Network
from scalpel_tf.train.node_budgets import Ratio, budget_of
from scalpel_tf.train.node_criteria import Criterion
from scalpel_tf.train.selectors import Selector, selects
from scalpel_tf.train.surgery import ShrinkReport, shrink

SCOPES = ("layer", "global", "block")
BLOCK = re.compile(r".*?block_?\d+(?:[a-z](?![a-z]))?")


def prune_nodes(
    model: keras.Model,
    criterion: str | Callable = "l1",
    *,
    ratio: float | dict[str, float] | None = None,
    macs: float | None = None,
    params: float | None = None,
    latency: float | None = None,
    measure: str | Callable | None = None,
    data=None,
    loss=None,
    batch_size: int = 128,
    batches: int | None = None,
    scope: str = "layer",
    steps: int = 1,
    finetune: Callable | None = None,
    min_nodes: int = 1,
    round_to: int = 1,
    layers: Selector | list[Selector] | None = None,
    skip: Selector | list[Selector] | None = None,
    seed: int = 0,
) -> keras.Model:
    """A smaller copy of `model` without its least important nodes; `.report` says what went.

    A node is a neuron or a feature map. Nodes that are tied to each other, as by a residual sum, go
    together, by the mean of their scores. The copy is plain and not compiled; fine-tune it, and
    `recalibrate` it where it has batch normalisation. Outputs keep all their nodes.

    criterion: what a node is worth.
        "l1", "l2"   norm of its weights (Li et al., ICLR 2017)
        "bn_scale"   |scale| of its batch normalisation (Liu et al., ICCV 2017; train with
                     penalize_scales before); layers without one are left whole
        "apoz"       how often it is not 0 on `data` (Hu et al., 2016)
        "taylor"     what the cost on `data` changes without it (Molchanov et al., ICLR 2017)
        "random"     nothing: the rival that a criterion must beat; `seed` decides
        a function   (layer, w) -> one score per output; w is the kernel as (out, taps, in)

    One budget must be given:
    ratio: the fraction of nodes removed, in [0, 1), or a dict from layer name, path or regular
        expression to it; the first entry that selects one of the tied layers counts, others are
        left whole. Of n nodes floor(ratio * n) go.
    macs, params: what may be left of multiply-accumulates or parameters, up to 1 as a fraction of
        what `model` has, above 1 as a number. It is met, and one node (or `round_to`) more would
        exceed it.
    latency: the fraction of the seconds of `model` that may be left, in (0, 1], by `measure`: a
        function of a model that returns its seconds, or a CPU of `targets`, whose seconds are
        modelled. For a budget in seconds give budget / measure(model).

    data: for "apoz" and "taylor": arrays (x, y), a tf.data.Dataset, a PyDataset or an iterable of
        batches, cut by `batch_size`, no more than `batches` of them.
    loss: for "taylor": a name or function; the compiled one where None.
    scope: who competes: the nodes of a "layer", of a "block", or all of them ("global"; scores are
        normalised by layer: l1 and l2 by their mean, taylor by its L2 norm). A block is a nested
        model, or what has one name up to a number of a block, as "conv2_block1_1_conv" of
        keras.applications; a layer outside of any is a block of its own. By macs, params and
        latency, pools lose their nodes in proportion to their sizes.
    steps, finetune: cuts in equal steps, scores each anew, and calls finetune(model) between them.
    min_nodes: what every layer keeps, whatever its ratio.
    round_to: layers keep multiples of it, or all of their nodes, and so lose less, never more.
    layers, skip: whose nodes may go, whose not, as in `prune`.

    Raises ValueError for a model that cannot be read, no budget or two, a budget that cannot be
    met or cuts nothing, a criterion whose data is missing, and scores that are not finite.
    """
    check_model(model, "prune_nodes")
    for name, value in (("steps", steps), ("min_nodes", min_nodes), ("round_to", round_to)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"`{name}` is a whole number from 1 on; got {value!r}.")
    if scope not in SCOPES:
        raise ValueError(f"`scope` is one of {', '.join(SCOPES)}; got {scope!r}.")
    if finetune is not None and steps == 1:
        raise ValueError(
            "`finetune` is called between steps, and 1 step has no between: give `steps`, or "
            "fine-tune what prune_nodes returns."
        )
    given = {"ratio": ratio, "macs": macs, "params": params, "latency": latency}
    budget = budget_of(model, given, measure, scope)
    if isinstance(data, Iterator) and steps > 1:
        data = list(batches_of(data, limit=batches))  # an iterator can be read only once

    def evidence():
        return batches_of(data, batch_size=batch_size, limit=batches)

    worth = Criterion(criterion, model, None if data is None else evidence, loss, seed)
    small, report, sizes, gone = model, None, {}, {}
    for step in range(1, steps + 1):
        nodes = _read(small, worth, budget, scope, layers, skip, round_to)
        if step == 1:
            _check_entries(nodes, budget)
        cuts = nodes.order(sizes, gone, min_nodes)
        cut = nodes.gone(budget.choose(nodes, cuts, step / steps))
        for name, group in zip(nodes.pools, nodes.groups, strict=True):
            gone[name] = gone.get(name, 0) + int(np.isin(group.nodes, cut).sum())
        small = shrink(small, keep=nodes.keep(cut))
        report = _merged(report, small.report, nodes.reasons)
        if step < steps and finetune is not None:
            finetune(small)
    if isinstance(budget, Ratio) and any(budget.ratios.values()) and not any(gone.values()):
        raise ValueError(
            f"`ratio` {ratio!r} cuts no node of {model.name!r}: it is less than one node of each "
            f"pool, or min_nodes {min_nodes} and round_to {round_to} forbid it; nodes by pool: "
            f"{', '.join(f'{name} {size}' for name, size in sizes.items())}."
        )
    small.report = report
    return small


@dataclass(frozen=True)
class _Nodes:
    """The groups of a model that lose nodes, their scores and pools.

    layers: per group, its layers as (path, layer). members: per group and layer, the indices of its
    nodes in the group, how many nodes it has beside them, and the multiple that is to be left.
    """

    model: keras.Model
    network: Network
    groups: list[Group]
    scores: list[np.ndarray]
    pools: list[str]
    layers: list[list[tuple]]
    members: list[list[tuple]]
    reasons: dict[str, str]

    def order(self, sizes, gone, min_nodes):
        """The order of the cut; `sizes` and `gone` are by pool, and learn of new pools."""
        count = {}
        for name, group in zip(self.pools, self.groups, strict=True):
            count[name] = count.get(name, 0) + group.nodes.size
        for name, size in count.items():
            sizes.setdefault(name, size)
        pools = {name: node_scores.Pool(sizes[name], gone.get(name, 0)) for name in count}
        layers = [[index for index, _, _ in members] for members in self.members]
        return node_scores.order(self.scores, layers, self.pools, pools, min_nodes)

    def gone(self, cuts) -> np.ndarray:
        """The nodes of `cuts`, without those that come back so that layers keep multiples."""
        cut = [np.zeros(group.nodes.size, bool) for group in self.groups]
        for _, group, node in cuts:
            cut[group][node] = True
        for group, members in enumerate(self.members):
            for index, others, multiple in members:
                cut[group] = node_scores.give_back(
                    cut[group], self.scores[group], index, others, multiple
                )
        found = [group.nodes[away] for group, away in zip(self.groups, cut, strict=True)]
        return np.concatenate([np.zeros(0, int), *found])

    def keep(self, cut) -> dict[str, np.ndarray]:
        """What `shrink` is to keep: {path: indices of the outputs}."""
        return {
            call.path: np.flatnonzero(~np.isin(self.network.roots(call.made), cut))
            for call in self.network.makers()
        }


def _read(model, criterion, budget, scope, layers, skip, round_to):
    network = graph.read(model)
    masks.leave_out(network, model, layers, skip)
    places = masks.points(network)
    reasons = dict(masks.reasons_whole(network))
    groups = network.groups()
    if not groups:
        why = "; ".join(f"{path}: {reason}" for path, reason in reasons.items())
        raise ValueError(
            f"Model {model.name!r} has no nodes that can be cut ({why or 'no kernels'})."
        )
    makers = {call.path: call for call in network.makers()}
    nodes = _Nodes(model, network, [], [], [], [], [], reasons)
    scores = criterion.scores(model, network, places, groups)
    for group, score in zip(groups, scores, strict=True):
        own = [(path, makers[path].layer) for path in group.layers]
        reason = "its nodes are worth more than others"
        if np.isnan(score).any():
            reason = criterion.why_none
        elif budget.of(own) is None:
            reason = "`ratio` has no entry for it"
        else:
            nodes.groups.append(group)
            nodes.scores.append(score)
            nodes.pools.append(_pool(scope, group))
            nodes.layers.append(own)
            nodes.members.append([_member(network, group, makers[p], round_to) for p, _ in own])
        for path in group.layers:
            reasons.setdefault(path, reason)
    if not nodes.groups:
        why = "; ".join(f"{path}: {reason}" for path, reason in reasons.items())
        raise ValueError(f"No layer of {model.name!r} may lose nodes ({why}).")
    return nodes


def _member(network, group, call, round_to):
    roots = np.unique(network.roots(call.made))
    own = np.flatnonzero(np.isin(group.nodes, roots))
    channels = max(1, call.made.size // roots.size)  # of grouped convolutions, one in each group
    return own, roots.size - own.size, round_to // math.gcd(round_to, channels)


def _pool(scope, group):
    if scope == "global":
        return "all layers"
    if scope == "layer":
        return group.name
    folder, _, name = group.name.rpartition("/")
    block = BLOCK.match(name)
    return folder or (block.group() if block else name)


def _check_entries(nodes, budget):
    """An entry of `ratio` by name that no layer follows is a wish that would not come true."""
    for selector, ratio in getattr(budget, "ratios", {}).items():
        used = any(selects(selector, *layer) for layers in nodes.layers for layer in layers)
        if isinstance(selector, str) and ratio > 0 and not used:
            whole = [
                f"{call.path}: {nodes.reasons.get(call.path, 'it has no nodes of its own')}"
                for call in nodes.network.calls
                if selects(selector, call.path, call.layer)
            ]
            raise ValueError(
                f"`ratio` has {ratio} for {selector!r}, which loses no nodes ({'; '.join(whole)})."
            )


def _merged(first: ShrinkReport | None, last: ShrinkReport, reasons) -> ShrinkReport:
    """One report of several steps, with the reasons of prune_nodes for what stayed whole."""
    before = {cut.path: cut for cut in (first or last).layers}
    kept = left_nodes.compose(first.kept if first else {}, last.kept)
    layers = tuple(
        cut._replace(
            nodes=(before[cut.path].nodes[0], cut.nodes[1]),
            parameters=(before[cut.path].parameters[0], cut.parameters[1]),
            macs=(before[cut.path].macs[0], cut.macs[1]),
        )
        for cut in last.layers
    )
    smaller = {cut.path for cut in layers if cut.nodes[0] != cut.nodes[1]}
    whole = tuple(
        (path, reasons.get(path, reason)) for path, reason in last.whole if path not in smaller
    )
    return replace(last, layers=layers, whole=whole, kept=kept)
