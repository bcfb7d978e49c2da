"""The nodes of a network: which channels belong to them, and what ties or holds them.

A *node* is an output of a layer with a kernel: a neuron, a filter. Every axis of a value names the
node of each of its positions, or None where the axis has no nodes (space, time, inputs). Calls tie
nodes (an addition ties those of its operands, position by position) or hold them whole, with a
reason; `rules.py` says what each layer does. What is tied is cut together or not at all.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Nodes = tuple  # one entry per axis but the batch's: an int array of nodes, or None


@dataclass(eq=False)
class Value:
    """A tensor: `shape` without the batch, `nodes` along each axis, who made it and who reads it.

    key: that of the Keras tensor; a nested model that is called twice has two values for each.
    """

    key: int
    shape: tuple[int | None, ...]
    nodes: Nodes
    producer: "Call | None" = None
    consumers: list["Call"] = field(default_factory=list)


@dataclass(eq=False)
class Use:
    """Where nodes are mixed: a sum over them, in which a node may be left out if it adds nothing.

    factors: (value, axis) of what is multiplied and summed; one that is zero is enough.
    kernel: (index of the weight, its axis along the nodes), or None where no weight is involved.
    foldable: a constant that is not zero can go into the bias.
    """

    nodes: np.ndarray
    factors: tuple[tuple[Value, int], ...]
    kernel: tuple[int, int] | None = None
    foldable: bool = False


@dataclass(eq=False)
class Call:
    """One call of a layer or operation; values stand in `args` and `kwargs` for its tensors.

    weights: for each weight of the layer the nodes along each of its axes, or None.
    made: the nodes that the layer itself makes, one per output channel, or None.
    macs: multiply-accumulates of one element of each weight, per example.
    """

    layer: object
    path: str
    args: tuple
    kwargs: dict
    outputs: list[Value]
    inputs: list[Value]
    weights: list[Nodes] = field(default_factory=list)
    uses: list[Use] = field(default_factory=list)
    made: np.ndarray | None = None
    macs: list[int] = field(default_factory=list)


class Group(NamedTuple):
    """Nodes that are cut one by one, made by layers that are tied to each other."""

    name: str
    nodes: np.ndarray
    layers: tuple[str, ...]


@dataclass
class Part:
    """A model, the outer one or a nested one: its inputs and the call of each of its nodes."""

    inputs: list[Value]
    calls: dict[int, Call]


class Network:
    """The calls of a model in order, those of nested models among them, and its nodes."""

    def __init__(self):
        self.calls: list[Call] = []
        self.parts: dict[int, Part] = {}
        self.of_layer: dict[int, list[Call]] = {}
        self.output_keys: set[int] = set()
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}
        self._flat: np.ndarray | None = None

    def new_nodes(self, count: int) -> np.ndarray:
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        self._flat = None
        return np.arange(start, start + count)

    def tie(self, one: np.ndarray, other: np.ndarray) -> None:
        """Node by node, what is cut from `one` is cut from `other`."""
        for a, b in zip(*(x[one != other].tolist() for x in (one, other)), strict=True):
            a, b = self._root(a), self._root(b)
            if a != b:
                self._parents[b] = a
                self._flat = None
                if b in self._reasons:
                    self._reasons.setdefault(a, self._reasons.pop(b))

    def keep_whole(self, nodes: np.ndarray | None, reason: str) -> None:
        """These nodes cannot be cut; the first reason is the one that is told."""
        for node in set() if nodes is None else {self._root(n) for n in nodes.tolist()}:
            self._reasons.setdefault(node, reason)

    def roots(self, nodes: np.ndarray) -> np.ndarray:
        """The one node that stands for all that are tied to each of `nodes`."""
        if self._flat is None:
            self._flat = np.array([self._root(n) for n in range(len(self._parents))], int)
        return self._flat[nodes]

    @property
    def whole(self) -> dict[int, str]:
        """Root -> why it cannot be cut."""
        return {self._root(node): reason for node, reason in self._reasons.items()}

    def cuttable(self, nodes: np.ndarray) -> np.ndarray:
        """True where a node may be cut."""
        return ~np.isin(self.roots(nodes), list(self.whole))

    def makers(self) -> list[Call]:
        """The first call of every layer that makes nodes."""
        return [calls[0] for calls in self.of_layer.values() if calls[0].made is not None]

    def groups(self) -> list[Group]:
        """The nodes that can be cut, by the layers that make them; tied layers share a group."""
        makers = self.makers()
        owner = {}
        team = list(range(len(makers)))

        def lead(index):
            while team[index] != index:
                index = team[index]
            return index

        for index, call in enumerate(makers):
            for root in np.unique(self.roots(call.made)).tolist():
                team[lead(index)] = lead(owner.setdefault(root, index))
        groups = {}
        for index, call in enumerate(makers):
            groups.setdefault(lead(index), []).append(call)
        whole = list(self.whole)
        found = []
        for calls in groups.values():
            nodes = np.unique(np.concatenate([self.roots(call.made) for call in calls]))
            nodes = nodes[~np.isin(nodes, whole)]
            if nodes.size:
                paths = tuple(call.path for call in calls)
                found.append(Group(paths[0], nodes, paths))
        return found

    def _root(self, node):
        while self._parents[node] != node:
            self._parents[node] = self._parents[self._parents[node]]
            node = self._parents[node]
        return node
