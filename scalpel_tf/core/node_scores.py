"""How much a node matters: one score per output of a layer, higher survives; and pools of nodes.

A node is a neuron or a feature map. Weights are (out, taps, in), as core/layout.py makes them;
what is measured on data comes as sums, so that nothing here ever sees a batch.
"""

from typing import NamedTuple

import numpy as np


def l1(w: np.ndarray) -> np.ndarray:
    """Sum of the absolute weights of each node (Li et al., ICLR 2017, section 3.1)."""
    return np.abs(_float64(w)).sum(axis=(1, 2))


def l2(w: np.ndarray) -> np.ndarray:
    """Root of the sum of the squared weights of each node: the rival of l1 in Li et al."""
    return np.sqrt(np.square(_float64(w)).sum(axis=(1, 2)))


def scale(gamma: np.ndarray) -> np.ndarray:
    """Absolute scale of each channel's batch normalization (Liu et al., ICCV 2017, section 3)."""
    return np.abs(_float64(gamma))


def alive(zeros: np.ndarray, positions: int) -> np.ndarray:
    """1 - APoZ: the fraction of a node's activations that are not 0 (Hu et al., 2016, section 3).

    zeros: how many of its `positions` activations, over data and space, were 0, for each node.
    """
    return 1 - _float64(zeros) / positions


def taylor(magnitudes: np.ndarray, examples: int) -> np.ndarray:
    """First-order change of the cost if a node is cut (Molchanov et al., ICLR 2017, section 2.2).

    magnitudes: |mean over the node's positions of dC/dz * z|, added over the `examples`.
    """
    return _float64(magnitudes) / examples


def by_mean(score: np.ndarray) -> np.ndarray:
    """The scores of one layer in units of their mean, or as they are where that is 0.

    A norm grows with the number of inputs and falls with the scale that later layers make good:
    in a pool of several layers raw norms would empty the layers with few inputs first.
    """
    return _over(score, np.mean(score))


def by_l2(score: np.ndarray) -> np.ndarray:
    """The scores of one layer over their L2 norm (Molchanov et al., ICLR 2017, section 2.2).

    Gradients differ by layer in scale; a layer of 0 stays 0.
    """
    return _over(score, np.sqrt(np.square(score).sum()))


def as_is(score: np.ndarray) -> np.ndarray:
    """The scores themselves: those that all layers have in one unit (a share, a BN's scale)."""
    return score


def tied(nodes: int, parts: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """One score for each of `nodes` nodes that several layers share, as a residual sum does.

    parts: per layer, the indices of the nodes that its scores belong to, and these scores. The
    answer is the mean over what speaks of a node: a sum would keep a node for the number of its
    layers, a maximum for the loudest one. NaN where no part speaks of a node.
    """
    total, count = np.zeros(nodes), np.zeros(nodes)
    for index, score in parts:
        np.add.at(total, index, score)
        np.add.at(count, index, 1)
    return np.divide(total, count, out=np.full(nodes, np.nan), where=count > 0)


class Cut(NamedTuple):
    """A node that may go, and the ratio of its pool, in (0, 1], from which on it does."""

    ratio: float
    group: int
    node: int


class Pool(NamedTuple):
    """Nodes that compete: how many there were at first, and how many of them are gone."""

    size: int
    gone: int = 0


def order(
    scores: list[np.ndarray],
    layers: list[list[np.ndarray]],
    names: list[str],
    pools: dict[str, Pool],
    min_nodes: int = 1,
) -> list[Cut]:
    """The nodes in the order in which they are to be cut, the least important first.

    scores: per group of nodes, one score per node. layers: per group, the indices of the nodes of
    each of its layers. names: per group, the pool in which its nodes compete.

    Within a pool the lowest score goes first; of equal scores the earlier node. Pools are emptied
    side by side, each in proportion to its size: every beginning of the answer is a fair cut, and
    the nodes up to a `ratio` are floor(ratio * size) of each pool. The best `min_nodes` of each
    layer are not in the answer; others of the pool take their turns.
    """
    free = {name: [] for name in pools}
    for group, (score, name) in enumerate(zip(scores, names, strict=True)):
        stays = [node for layer in layers[group] for node in _best(score, layer, min_nodes)]
        goes = np.setdiff1d(np.arange(len(score)), stays)
        free[name] += [(score[node], group, int(node)) for node in goes]
    cuts = [
        Cut((pools[name].gone + rank) / pools[name].size, group, node)
        for name, nodes in free.items()
        for rank, (_, group, node) in enumerate(sorted(nodes), 1)
    ]
    return sorted(cuts, key=lambda cut: cut.ratio)


def give_back(
    cut: np.ndarray, score: np.ndarray, layer: np.ndarray, others: int, round_to: int
) -> np.ndarray:
    """`cut` without the best nodes of `layer`, until what is left of it is a multiple.

    cut: True for the nodes of a group that go. layer: the indices of those that the layer has, next
    to `others` that cannot go. All nodes come back where the multiple is more than there are.
    """
    goes = layer[cut[layer]]
    left = len(layer) - len(goes) + others
    back = cut.copy()
    back[_best(score, goes, -left % round_to)] = False
    return back


def _best(score, nodes, count):
    """The `count` of `nodes` that are cut last."""
    ranked = nodes[np.argsort(score[nodes], kind="stable")]
    return ranked[max(0, len(ranked) - count) :]


def _over(score, size):
    score = _float64(score)
    return score / size if size > 0 else score


def _float64(x):
    return np.asarray(x).astype(np.float64)
