"""How many nodes go: by ratio, or by what may be left of multiplications, parameters or seconds."""

from collections.abc import Callable
from dataclasses import dataclass

import keras

from scalpel_tf.core.node_scores import Cut
from scalpel_tf.core.selection import check_ratio
from scalpel_tf.train import graph
from scalpel_tf.train.latency import modelled_seconds
from scalpel_tf.train.selectors import Selector, selectors, selects
from scalpel_tf.train.surgery import shrink

SLACK = 1e-9  # 0.29 * 100 is 29


@dataclass(frozen=True)
class Ratio:
    """The fraction of the nodes of each pool that goes: the first selector that fits decides."""

    ratios: dict[Selector, float]

    def of(self, layers: list[tuple]) -> float | None:
        """The ratio of tied layers, (path, layer) each; None where no selector has one."""
        found = (
            ratio
            for selector, ratio in self.ratios.items()
            if any(selects(selector, path, layer) for path, layer in layers)
        )
        return next(found, None)

    def choose(self, nodes, cuts: list[Cut], share: float) -> list[Cut]:
        """Those of `cuts` that go at this `share` of the budget."""
        ratios = [self.of(layers) for layers in nodes.layers]
        return [cut for cut in cuts if cut.ratio <= ratios[cut.group] * share + SLACK]


@dataclass(frozen=True)
class Cost:
    """The fraction `left` of a cost that was `first` at first.

    cost(nodes, cuts): what is left of it. checked(nodes, cuts): the same of the model that `shrink`
    makes, where that can be more: a bias that stands for a node is a parameter.
    """

    name: str
    left: float
    first: float
    cost: Callable
    checked: Callable | None = None

    def of(self, layers: list[tuple]) -> float:
        return 1.0

    def choose(self, nodes, cuts: list[Cut], share: float) -> list[Cut]:
        """The first of `cuts`, as few as meet the budget at this `share` of it.

        Raises ValueError where all of them are not enough.
        """
        allowed = budget = self.first * (1 - (1 - self.left) * share) * (1 + SLACK)
        chosen = self._fewest(nodes, cuts, allowed)
        while chosen and self.checked and (excess := self.checked(nodes, chosen) - budget) > 0:
            allowed -= excess
            chosen = self._fewest(nodes, cuts, allowed)
        return chosen

    def _fewest(self, nodes, cuts, budget):
        if self.cost(nodes, []) <= budget:
            return []
        least = self.cost(nodes, cuts)
        if least > budget:
            raise ValueError(
                f"`{self.name}` cannot be {self.left:.4g} of the model's: with every node gone "
                f"that may go it is {least / self.first:.4g}; lower min_nodes or round_to, or let "
                "more layers lose nodes."
            )
        exceeds, meets = 0, len(cuts)
        while meets - exceeds > 1:
            middle = (exceeds + meets) // 2
            if self.cost(nodes, cuts[:middle]) <= budget:
                meets = middle
            else:
                exceeds = middle
        return cuts[:meets]


def budget_of(model: keras.Model, given: dict, measure, scope: str) -> Ratio | Cost:
    """The one budget of `given` that is not None; ValueError for none, several, or a wrong one."""
    named = {name: value for name, value in given.items() if value is not None}
    if len(named) != 1:
        got = " and ".join(named) or "none"
        raise ValueError(f"prune_nodes takes one budget of {', '.join(given)}; got {got}.")
    [(name, value)] = named.items()
    if (measure is not None) != (name == "latency"):
        raise ValueError(
            "`latency` and `measure` go together: measure is a function of a model that returns "
            "its seconds, or the name of a CPU, 'x86-64-avx2' for one."
        )
    if name == "ratio":
        return _ratio(model, value, scope)
    if not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise ValueError(f"`{name}` is what may be left, from above 0 on; got {value!r}.")
    if name == "latency":
        return _latency(model, value, measure)
    field = {"macs": "macs", "params": "parameters"}[name]

    def total(network, cut=()):
        return sum(getattr(cost, field) for cost in graph.costs(network, cut).values())

    def cost(nodes, cuts):
        return total(nodes.network, nodes.gone(cuts))

    def checked(nodes, cuts):
        return _shrunk(nodes, cuts).report.parameters[1]

    first = total(graph.read(model))
    left = value if value <= 1 else min(1.0, value / first)
    return Cost(name, left, first, cost, checked if name == "params" else None)


def _shrunk(nodes, cuts):
    return shrink(nodes.model, keep=nodes.keep(nodes.gone(cuts)))


def _ratio(model, ratio, scope):
    if not isinstance(ratio, dict):
        return Ratio({keras.layers.Layer: check_ratio(ratio)})
    if scope != "layer":
        raise ValueError(
            f"A dict of ratios is by layer; got `scope` {scope!r} with it: give one number."
        )
    selectors(model, "ratio", ratio)
    return Ratio({selector: check_ratio(r, repr(selector)) for selector, r in ratio.items()})


def _latency(model, left, measure):
    if left > 1:
        raise ValueError(
            f"`latency` is a fraction of the model's own seconds, up to 1; got {left}: for a "
            "budget in seconds give budget / measure(model)."
        )
    seconds = measure
    if not callable(measure):

        def seconds(small):
            return modelled_seconds(small, measure)

    def cost(nodes, cuts):
        return seconds(_shrunk(nodes, cuts) if cuts else nodes.model)

    return Cost("latency", left, seconds(model), cost)
