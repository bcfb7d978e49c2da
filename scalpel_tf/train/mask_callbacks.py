"""TrainMasks: the callback under which MaskLayers learn."""

import math
import warnings
from collections.abc import Callable

import keras

from scalpel_tf.models import walk
from scalpel_tf.train import surgery
from scalpel_tf.train.mask_layer import MaskLayer, find_masks, follow
from scalpel_tf.train.selectors import Selector, selectors, selects


class TrainMasks(keras.callbacks.Callback):
    """Trains the MaskLayers with the rest of the model, and logs what they leave.

    It tells the masks whose learning rate pulls them. `logs` receive `nodes`, those that the masks
    keep, at every batch, and at every epoch's end also `macs`, multiplications left if `shrink`
    were called then (batch 1). Put this callback before those that read them, and before
    BackupAndRestore.

    l1: the penalty per node for this fit and from then on, or a callable of the epoch that gives
        it; None: each mask's own.
    masks: which MaskLayers this fit trains, by name, path, regular expression, type or callable,
        one or a list; the others are frozen for its time. None: all of them. []: none, so that the
        weights are trained on the masks as they are.

    Raises ValueError for a model without MaskLayer, a selector that selects none, and an `l1` below
    0. Warns at train begin where an adaptive optimizer is about to cross the threshold in a single
    step, and at train end where no node has been dropped.
    """

    def __init__(
        self,
        l1: float | Callable[[int], float] | None = None,
        masks: Selector | list[Selector] | None = None,
    ):
        super().__init__()
        self.l1 = l1 if callable(l1) or l1 is None else _check_l1(l1)
        self.masks = masks

    def on_train_begin(self, logs=None):
        every = find_masks(self.model)
        self._trained = self._selected()
        if follow(self.model, self.model.optimizer):
            self.model.make_train_function(force=True)
        self._frozen = [(mask, bool(mask.frozen.numpy())) for mask in every]
        for mask in every:
            mask.frozen.assign(mask not in self._trained)
        if self.l1 is not None and not callable(self.l1):
            self._set_l1(self.l1)
        self._kept = None
        self._at_begin = nodes(self.model)
        self._count_macs()
        self._warn_of_leaps()

    def on_epoch_begin(self, epoch, logs=None):
        if callable(self.l1):
            self._set_l1(_check_l1(self.l1(epoch)))

    def on_train_batch_end(self, batch, logs=None):
        if logs is not None:
            logs["nodes"] = nodes(self.model)

    def on_epoch_end(self, epoch, logs=None):
        self._count_macs()
        if logs is not None:
            logs["nodes"] = nodes(self.model)
            logs["macs"] = self._macs

    def on_train_end(self, logs=None):
        for mask, frozen in self._frozen:
            mask.frozen.assign(frozen)
            mask.signal.assign([0.0] * len(mask.keep))  # an optimizer with use_ema writes it last
        follow(self.model, None)
        pulled = [mask for mask in self._trained if mask.l1.numpy() > 0]
        if pulled and nodes(self.model) == self._at_begin:
            lowest = min(pulled, key=lambda mask: mask.beta.numpy().min() - mask.threshold)
            warnings.warn(
                f"No node was dropped: the lowest beta is {lowest.beta.numpy().min():.6g} in "
                f"{lowest.name!r}, whose threshold is {lowest.threshold:g}; train longer, or raise "
                "`l1` or the learning rate.",
                stacklevel=2,
            )

    def _selected(self):
        chosen = selectors(self.model, "masks", self.masks)
        masks = [(path, layer) for path, layer in walk(self.model) if isinstance(layer, MaskLayer)]
        for selector in chosen:
            if not any(selects(selector, path, layer) for path, layer in masks):
                names = ", ".join(path for path, _ in masks)
                raise ValueError(
                    f"`masks` has {selector!r}, which selects no MaskLayer of "
                    f"{self.model.name!r}: {names}."
                )
        return [
            layer
            for path, layer in masks
            if self.masks is None or any(selects(selector, path, layer) for selector in chosen)
        ]

    def _set_l1(self, value):
        for mask in self._trained:
            mask.l1.assign(value)

    def _count_macs(self):
        """Reads the network anew only where a mask has changed: that takes a while."""
        kept = [mask.keep.tobytes() for mask in find_masks(self.model)]
        if kept != self._kept:
            self._kept = kept
            self._macs = surgery.costs(self.model).macs

    def _warn_of_leaps(self):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        for mask in self._trained:
            if not isinstance(optimizer, keras.optimizers.SGD) and (
                mask.gain * rate > mask.initial - mask.threshold
            ):
                warnings.warn(
                    f"{type(optimizer).__name__} moves beta by about {mask.gain * rate:.3g} a step "
                    f"whatever the gradient, and in {mask.name!r} it starts only "
                    f"{mask.initial - mask.threshold:.3g} above the threshold: train masks with "
                    "SGD, or build them with UNIT, gain=1 and an `l1` around 0.1.",
                    stacklevel=2,
                )
                return


def nodes(model) -> int:
    """The number of nodes that the masks of `model` keep."""
    return sum(int(mask.keep.sum()) for mask in find_masks(model))


def _check_l1(l1):
    if not 0 <= l1 < math.inf:
        raise ValueError(f"`l1` is a penalty from 0 on; got {l1!r}.")
    return float(l1)
