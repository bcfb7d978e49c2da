"""AdjustDropout: dropout that falls with the capacity of the layer that feeds it."""

import math
import warnings

import keras
import numpy as np

from scalpel_tf.models import check_backend, walk
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.mask_layer import MaskLayer


class AdjustDropout(keras.callbacks.Callback):
    """Lowers dropout where pruning has lowered capacity (Han et al., NIPS 2015, section 3.2).

    A Dropout fed by a wrapped layer or a MaskLayer, through layers without kernels, gets at every
    epoch's begin rate = original * sqrt(kept / all), of that layer's weights or of the mask's
    channels. A mask may also stand behind the Dropout, where it is the only one to read it. The
    rate is part of the traced training step, which is traced anew when a rate has changed. Original
    rates return at train end. Put it after `Prune`. Warns once where there is nothing to adjust.

    rates: path of a Dropout -> its rate, for a model without masks: what `shrink` cut is told by
        `small.report.dropout`. Raises ValueError for a path that is no Dropout of the model.
    """

    def __init__(self, rates: dict[str, float] | None = None):
        super().__init__()
        self.rates = rates

    def on_train_begin(self, logs=None):
        check_backend()
        dropouts = _dropouts(self.model)
        if self.rates is not None:
            self._fed = [(d, d.rate, r) for d, r in self._named(dropouts)]
            return
        self._fed = [
            (dropout, dropout.rate, count)
            for _, dropout in dropouts
            if (count := _capacity(dropout)) is not None
        ]
        if not self._fed:
            warnings.warn(
                f"AdjustDropout has nothing to adjust: of the {len(dropouts)} Dropout layers of "
                f"{self.model.name!r} none is fed by a PruneWrapper or a MaskLayer.",
                stacklevel=2,
            )

    def on_epoch_begin(self, epoch, logs=None):
        self._set_rates(
            [adjusted_rate(rate, *now()) if callable(now) else now for _, rate, now in self._fed]
        )

    def on_train_end(self, logs=None):
        self._set_rates([rate for _, rate, _ in self._fed])

    def _named(self, dropouts):
        by_path = dict(dropouts)
        unknown = sorted(set(self.rates) - set(by_path))
        if unknown:
            raise ValueError(
                f"`rates` has {unknown[0]!r}, which is no Dropout of {self.model.name!r}: "
                f"{', '.join(by_path) or 'it has none'}."
            )
        return [(by_path[path], rate) for path, rate in self.rates.items()]

    def _set_rates(self, rates):
        if rates != [dropout.rate for dropout, _, _ in self._fed]:
            for (dropout, _, _), rate in zip(self._fed, rates, strict=True):
                dropout.rate = rate
            self.model.make_train_function(force=True)


def adjusted_rate(rate: float, kept: int, total: int) -> float:
    """The dropout rate after pruning to `kept` of `total` connections (Scalpel, section 4.1).

    For a layer that lost nodes, `kept` and `total` are its nodes.
    """
    return rate * math.sqrt(kept / total)


def adjusted_rates(model) -> dict[str, float]:
    """Path of each Dropout that pruning has an effect on -> its rate for what is left now.

    For a model that is about to be stripped or shrunk: AdjustDropout puts the old rates back.
    """
    return {
        path: adjusted_rate(dropout.rate, *count())
        for path, dropout in _dropouts(model)
        if (count := _capacity(dropout)) is not None
    }


def _dropouts(model):
    return [item for item in walk(model) if isinstance(item[1], keras.layers.Dropout)]


def _capacity(dropout):
    """A function of no arguments, (kept, all) of what `dropout` acts on, or None."""
    return _before(dropout._inbound_nodes[-1]) or _behind(dropout)


def _before(node):
    """Follows the only input back to a PruneWrapper or a MaskLayer; None at another kernel."""
    while len(node.input_tensors) == 1:
        operation, node_index, tensor_index = node.input_tensors[0]._keras_history
        while isinstance(operation, keras.Model):
            inner = operation.outputs[tensor_index]
            operation, node_index, tensor_index = inner._keras_history
        node = operation._inbound_nodes[node_index]
        if isinstance(operation, PruneWrapper):
            return operation.count
        if isinstance(operation, MaskLayer):
            return _channels(operation, node)
        if _has_kernel(operation):
            return None
    return None


def _behind(operation):
    """Follows the only reader on to a MaskLayer; None at another kernel and where ways part."""
    while len(operation._outbound_nodes) == 1:
        (node,) = operation._outbound_nodes
        operation = node.operation
        if len(node.input_tensors) != 1 or isinstance(operation, keras.Model):
            return None
        if isinstance(operation, MaskLayer):
            return _channels(operation, node)
        if _has_kernel(operation):
            return None
    return None


def _channels(mask, node):
    index = node.arguments.kwargs.get("index")

    def count():
        keep = mask.keep if index is None else mask.keep[np.asarray(index)]
        return int(keep.sum()), keep.size

    return count


def _has_kernel(operation):
    if isinstance(operation, MaskLayer):
        return False
    return any(len(weight.shape) > 1 for weight in getattr(operation, "weights", ()))
