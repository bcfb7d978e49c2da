"""Who decides when: masks and dropout rates follow the optimizer's steps."""

import warnings

import keras

from scalpel_tf.core.schedules import Constant, as_schedule
from scalpel_tf.models import check_backend
from scalpel_tf.train.dropout import AdjustDropout, adjusted_rate, adjusted_rates
from scalpel_tf.train.layers import find_wrappers
from scalpel_tf.train.mask_callbacks import TrainMasks
from scalpel_tf.train.summaries import TensorBoardSummaries

__all__ = [
    "AdjustDropout",
    "Prune",
    "TensorBoardSummaries",
    "TrainMasks",
    "adjusted_rate",
    "adjusted_rates",
    "sparsity",
    "update_masks",
]


def sparsity(model) -> float:
    """The fraction of the wrapped kernels' weights that the masks of `model` drop."""
    counts = [wrapper.count() for wrapper in find_wrappers(model)]
    total = sum(total for _, total in counts)
    return (total - sum(kept for kept, _ in counts)) / total


def update_masks(model, step: int, schedule=None) -> float:
    """Recomputes and applies every mask for `step`; returns the sparsity. For one's own loops.

    `schedule` is what `callbacks.Prune` takes. Takes under 1 s for a kernel of 9216 x 4096.
    """
    schedule = None if schedule is None else as_schedule(schedule)
    for wrapper in find_wrappers(model):
        wrapper.update(wrapper.ratio_at(step, schedule))
    return sparsity(model)


class Prune(keras.callbacks.Callback):
    """Recomputes and applies the masks at train begin and wherever the schedule is due.

    Time is the optimizer's count of steps, so that `steps_per_execution` changes nothing. `logs`
    receive `sparsity`, the fraction of wrapped weights that are dropped; put this callback before
    those that read it.

    schedule: takes the place of the wrappers' own; a wrapper with a ratio goes from 0 to that ratio
        in proportion. None: each wrapper follows its own.

    Raises ValueError for a model without PruneWrapper, and at train end where nothing was pruned;
    warns at train end where a schedule stopped short.
    """

    def __init__(self, schedule=None):
        super().__init__()
        check_backend()
        self.schedule = None if schedule is None else as_schedule(schedule)

    def on_train_begin(self, logs=None):
        wrappers = find_wrappers(self.model)
        self._plans = {w: self.schedule or w.schedule or Constant(w.ratio) for w in wrappers}
        self._ratios = dict.fromkeys(wrappers, 0.0)
        self._step = self._now()
        self._sparsity = sparsity(self.model)
        plans = set(self._plans.values())
        self._update({s for s in plans if self._step > s.begin_step or s.due(self._step)})

    def on_train_batch_end(self, batch, logs=None):
        self._follow(logs)

    def on_epoch_end(self, epoch, logs=None):
        self._follow(logs)

    def on_train_end(self, logs=None):
        for wrapper in self._plans:
            wrapper.apply_masks()  # an optimizer with use_ema overwrites the weights at the end
        short = {
            wrapper: final
            for wrapper, schedule in self._plans.items()
            if self._ratios[wrapper] < (final := _final_ratio(wrapper, schedule)) - 1e-6
        }
        if self._sparsity == 0 and any(map(_final_ratio, self._plans, self._plans.values())):
            raise ValueError(f"The run pruned nothing: {self._why_nothing()}.")
        if short:
            first = next(iter(short))
            warnings.warn(
                f"The schedule ended short at step {self._step}: {len(short)} layers have not "
                f"reached their ratio, {first.name!r} has {self._ratios[first]:.3g} of "
                f"{short[first]:.3g}; train longer or end the schedule earlier.",
                stacklevel=2,
            )

    def _now(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _follow(self, logs):
        last, self._step = self._step, self._now()
        passed = range(last + 1, self._step + 1)
        self._update({s for s in set(self._plans.values()) if any(map(s.due, passed))})
        if logs is not None:
            logs["sparsity"] = self._sparsity

    def _update(self, due):
        if due:
            for wrapper, schedule in self._plans.items():
                if schedule in due:
                    self._ratios[wrapper] = wrapper.ratio_at(self._step, schedule)
                    wrapper.update(self._ratios[wrapper])
            self._sparsity = sparsity(self.model)

    def _why_nothing(self):
        first_step = min(schedule.begin_step for schedule in self._plans.values())
        if self._step < first_step:
            return f"it ended at step {self._step}, before the schedule's first step {first_step}"
        ratio = max(self._ratios.values())
        if ratio == 0:
            return f"it ended at step {self._step}, and no step before had a ratio above 0 due"
        return f"the highest ratio so far, {ratio:.3g}, is less than one group of any layer"


def _final_ratio(wrapper, schedule):
    return schedule.final_ratio if wrapper.ratio is None else wrapper.ratio
