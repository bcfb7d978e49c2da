"""prune: a model in, its wrapped copy and a report out. strip: the way back."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import keras

from scalpel_tf.core.selection import check_ratio
from scalpel_tf.core.targets import find_target
from scalpel_tf.models import check_model, copy_model, same_layer, same_weights, walk
from scalpel_tf.train.layers import PruneWrapper, find_wrappers, kernels, refusal
from scalpel_tf.train.selectors import Selector, selectors, selects


class Wrapped(NamedTuple):
    """A wrapped kernel: `ratio` is where it ends, None where only a schedule says."""

    path: str
    type: str
    shape: tuple[int, ...]
    width: int
    ratio: float | None


class Skipped(NamedTuple):
    path: str
    reason: str


@dataclass(frozen=True)
class PruningReport:
    """What `prune` wrapped, kernel by kernel, and which layers with weights it left, and why."""

    target: str
    wrapped: tuple[Wrapped, ...]
    skipped: tuple[Skipped, ...]

    def __str__(self):
        weights = sum(math.prod(kernel.shape) for kernel in self.wrapped)
        lines = [f"Pruning for {self.target}: {weights:,} weights in {len(self.wrapped)} kernels"]
        for path, kind, shape, width, ratio in self.wrapped:
            ends = "by schedule" if ratio is None else f"ratio {ratio:g}"
            lines.append(f"  {path:24} {kind:18} {str(shape):20} groups of {width:<3} {ends}")
        lines += [f"  {path:24} skipped: {reason}" for path, reason in self.skipped]
        return "\n".join(lines)


def prune(
    model: keras.Model,
    *,
    target: str = "cortex-m4",
    ratio: float | dict[str, float] | None = None,
    schedule=None,
    layers: Selector | list[Selector] | None = None,
    skip: Selector | list[Selector] | None = None,
    width: int | None = None,
    criterion: str = "rms",
) -> keras.Model:
    """A copy of `model` whose kernels are pruned while it trains; `.report` says what and why not.

    Compile the copy before `fit`: it has no optimizer. The original keeps its layers and weights
    and can serve as teacher or baseline. Every supported layer is wrapped, the output layer too.
    A layer that is wrapped already stays as it is.

    model: a built functional or Sequential model; models nested in it are pruned as well.
    target: a name from `core.targets`, which gives the group width; on a CPU convolutions are left.
    ratio: the fraction of groups to remove, in [0, 1), or a dict from layer name, path or regular
        expression to it; the first entry that matches counts, other layers are skipped.
    schedule: a schedule of core.schedules, tfmot's, or a callable of the step. Beside a ratio, it
        ramps each layer to its own. One of `ratio` and `schedule` must be given.
    layers, skip: what to prune, what not: layer names, paths ("nested/dense"), regular expressions
        that match the whole of either, layer types, or callables of the layer; one or a list.
    width: weights in a group, instead of the target's.
    criterion: "rms" or "magnitude".

    Raises ValueError for what cannot be pruned, an unknown target, a ratio outside [0, 1), and a
    name or expression that matches no layer.
    """
    _check_model(model, "prune")
    if ratio is None and schedule is None:
        raise ValueError("prune needs a `ratio`, a `schedule`, or both; got neither.")
    by_target = width is None
    width = _group_width(target) if by_target else width
    why_skipped = _decider(
        included=None if layers is None else selectors(model, "layers", layers),
        excluded=selectors(model, "skip", skip),
    )
    ratios = _ratios(ratio)
    entries = selectors(model, "ratio", ratios)

    chosen, wrapped, skipped = {}, [], []
    for path, layer in walk(model):
        entry = next((entry for entry in entries if selects(entry, path, layer)), None)
        reason = why_skipped(path, layer)
        if not reason and entry is None:
            reason = "`ratio` has no entry for it"
        if not reason and by_target and _loses_nodes(target, layer):
            reason = f"on {target} convolutions lose whole nodes; give `width` to prune groups"
        if reason:
            skipped += [Skipped(path, reason)] if layer.weights else []
            continue
        chosen[id(layer)] = own = ratios[entry]
        for variable, _ in kernels(layer):
            shape = tuple(variable.shape)
            wrapped.append(Wrapped(path, type(layer).__name__, shape, width, own))
    if not chosen and not any(isinstance(layer, PruneWrapper) for _, layer in walk(model)):
        why = "; ".join(f"{path}: {reason}" for path, reason in skipped) or "no layer has weights"
        raise ValueError(f"Model {model.name!r} has no prunable layers ({why}).")

    def wrap(layer):
        copy = same_layer(layer)
        if id(layer) not in chosen:
            return copy
        return PruneWrapper(copy, chosen[id(layer)], schedule, width=width, criterion=criterion)

    pruned = copy_model(model, wrap, _transfer)
    pruned.report = PruningReport(target, tuple(wrapped), tuple(skipped))
    return pruned


def strip(model: keras.Model) -> keras.Model:
    """An independent plain Keras model: the layers of `model` unwrapped, the zeros in the weights.

    Layer names and the user's own constraints are those from before `prune`. It is not compiled,
    and saves and loads without scalpel_tf. Raises ValueError for a model that has no PruneWrapper,
    and for one with a ratio above 0 whose masks drop nothing yet.
    """
    _check_model(model, "strip")
    wrappers = find_wrappers(model)
    for wrapper in wrappers:
        wrapper.apply_masks()
    kept, total = map(sum, zip(*(wrapper.count() for wrapper in wrappers), strict=True))
    if kept == total and any(wrapper.ratio != 0 for wrapper in wrappers):
        raise ValueError(
            f"Nothing is pruned in {model.name!r}: its masks keep all {total:,} weights; call "
            "`fit` with callbacks.Prune, or update_masks, before strip."
        )
    return copy_model(model, lambda layer: same_layer(_unwrapped(layer)), _transfer)


def _check_model(model, function):
    if isinstance(model, keras.layers.Layer) and not isinstance(model, keras.Model):
        raise ValueError(
            f"{function} takes a Keras model; got a {type(model).__name__}: pass the model that it "
            "belongs to, or wrap the layer alone with PruneWrapper."
        )
    check_model(model, function)


def _group_width(target):
    width = find_target(target).group_width
    if width is None:
        raise ValueError(
            f"On target {target!r} whole nodes are pruned, not groups of weights; "
            "give `width` to prune in groups all the same."
        )
    return width


def _decider(included, excluded):
    """(path, layer) -> why the layer is left as it is, or None."""

    def reason(path, layer):
        if isinstance(layer, PruneWrapper):
            return "it is wrapped already"
        if included is not None and not any(selects(s, path, layer) for s in included):
            return "`layers` does not select it"
        if any(selects(s, path, layer) for s in excluded):
            return "`skip` selects it"
        return refusal(layer)

    return reason


def _loses_nodes(target, layer):
    """Whether this layer loses nodes on that target (Yu et al., Scalpel, ISCA 2017, section 3)."""
    kinds = {kind for _, kind in kernels(layer)}
    return find_target(target).parallelism == "moderate" and not kinds <= {"dense", "embedding"}


def _ratios(ratio):
    """Selector -> ratio, checked; None where a schedule alone decides."""
    if isinstance(ratio, dict):
        return {entry: check_ratio(value, repr(entry)) for entry, value in ratio.items()}
    return {keras.layers.Layer: None if ratio is None else check_ratio(ratio)}


def _unwrapped(layer):
    return layer.layer if isinstance(layer, PruneWrapper) else layer


def _transfer(layer, new):
    if isinstance(layer, PruneWrapper) != isinstance(new, PruneWrapper):
        layer, new = _unwrapped(layer), _unwrapped(new)
    same_weights(layer, new)
