"""One step of a run: a plain model in, pruned further in one layer, trained, a plain model out."""

import inspect
import math

import keras

from scalpel_tf.driver.distillation import distil, forget
from scalpel_tf.models import walk
from scalpel_tf.train import callbacks
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.nodes import prune_nodes
from scalpel_tf.train.wrap import prune, strip

CYCLES = 2  # of training in a step: the second where the first did not bring the metric back


def compile_like(model, like):
    """`model`, compiled with the optimizer, losses and metrics of `like`, all of them new.

    A model that was not compiled is taken for a classifier of integer labels.
    """
    if not like.compiled:
        last = getattr(like.layers[-1], "activation", None)
        model.compile(
            keras.optimizers.Adam(1e-3),
            keras.losses.SparseCategoricalCrossentropy(
                from_logits=last is not keras.activations.softmax
            ),
            metrics=["accuracy"],
        )
        return model
    given = getattr(like, "_compile_config", None)
    if given is None:
        model.compile_from_config(like.get_compile_config())
        return model
    known = inspect.signature(keras.Model.compile).parameters
    settings = {name: value for name, value in given.config.items() if name in known}
    optimizer = like.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of mixed precision: made anew
    settings["optimizer"] = type(optimizer).from_config(optimizer.get_config())
    for name in ("metrics", "weighted_metrics"):
        settings[name] = keras.tree.map_structure(_new_metric, settings.get(name))
    model.compile(**settings)
    return model


def _new_metric(metric):
    if isinstance(metric, keras.metrics.Metric):
        return type(metric).from_config(metric.get_config())
    return metric


def evaluate(model, like, data, metric):
    """{name: value} of all metrics on the validation data; ValueError where `metric` is not one."""
    compile_like(model, like)
    values = model.evaluate(**data.evaluate(), verbose=0, return_dict=True)
    if metric is not None and metric not in values:
        raise ValueError(
            f"`metric` is one of the compiled metrics ({', '.join(values)}); got {metric!r}."
        )
    return {name: float(value) for name, value in values.items()}


def choose_metric(values) -> tuple[str, str]:
    """(name, "max" or "min") of what a run goes by: the first accuracy, else the loss."""
    for name in values:
        if "acc" in name.lower() or "auc" in name.lower():
            return name, "max"
    return "loss", "min"


def direction(name) -> str:
    """Whether a metric is better high or low, by its name."""
    low = ("loss", "error", "mse", "mae", "mape", "perplexity", "entropy", "divergence")
    return "min" if any(word in name.lower() for word in low) else "max"


class Recover(keras.callbacks.Callback):
    """Trains a step in cycles, and ends it with the weights of its best epoch.

    A constant learning rate falls along half a cosine in each cycle. The fit ends as soon as the
    metric is back, and after a cycle whose best epoch is good enough.

    epochs: of a cycle.  goal: a `Goal`.  data: whose validation data decide.
    """

    def __init__(self, epochs, goal, data):
        super().__init__()
        self.epochs, self.goal, self.data = epochs, goal, data
        self.best, self.weights = math.nan, None

    def on_train_begin(self, logs=None):
        optimizer = getattr(self.model.optimizer, "inner_optimizer", self.model.optimizer)
        scheduled = isinstance(
            getattr(optimizer, "_learning_rate", None),
            keras.optimizers.schedules.LearningRateSchedule,
        )
        self.optimizer = None if scheduled else optimizer
        if self.optimizer is not None:
            self.rate = float(keras.ops.convert_to_numpy(self.optimizer.learning_rate))

    def on_epoch_begin(self, epoch, logs=None):
        if self.optimizer is not None:
            falls = 0.5 * (1 + math.cos(math.pi * (epoch % self.epochs) / self.epochs))
            self.optimizer.learning_rate = self.rate * max(falls, 0.02)

    def on_epoch_end(self, epoch, logs=None):
        values = self.model.evaluate(**self.data.evaluate(), verbose=0, return_dict=True)
        value = values[self.goal.metric]
        if self.weights is None or self.goal.score(value) > self.goal.score(self.best):
            self.best, self.weights = value, self.model.get_weights()
        ends_cycle = (epoch + 1) % self.epochs == 0
        if self.goal.is_back(value) or (ends_cycle and self.goal.is_good(self.best)):
            self.model.stop_training = True

    def on_train_end(self, logs=None):
        if self.weights is not None:
            self.model.set_weights(self.weights)


def prune_groups(model, density, width, target):
    """A wrapped copy, masks set: of each layer, density[path] of its groups stay."""
    ratio = {path: 1 - kept for path, kept in density.items()}
    wrapped = prune(model, width=width, target=target, ratio=ratio)
    callbacks.update_masks(wrapped, 0)
    return wrapped


def cut_nodes(model, fraction, criterion, data, seed):
    """A smaller copy of a compiled model: fraction[path] of a layer's nodes stay."""
    ratio = {path: 1 - kept for path, kept in fraction.items()}
    return prune_nodes(model, criterion, ratio=ratio, data=data, seed=seed)


def retrain(model, like, data, epochs, goal, rates, user_callbacks, teacher=None, strength=0.0):
    """Fits as the user would, for at most CYCLES times `epochs`; the plain model.

    rates: path of a Dropout -> its rate in this fit.  teacher, strength: as in `distil`.
    """
    compile_like(model, like)
    if teacher is not None:
        distil(model, teacher, strength)
    adjust = [callbacks.AdjustDropout(rates)] if rates else []
    model.fit(
        **{"verbose": 0, **data.train()},
        epochs=CYCLES * epochs,
        callbacks=[*adjust, Recover(epochs, goal, data), *user_callbacks],
    )
    forget(model)
    wrapped = any(isinstance(layer, PruneWrapper) for _, layer in walk(model))
    return strip(model) if wrapped else model


def dropout_rates(model, so_far):
    """{path: rate}: those of cut nodes, times what the masks of a wrapped model take."""
    layers = {p: d for p, d in walk(model) if isinstance(d, keras.layers.Dropout) and d.rate}
    rates = {path: rate for path, rate in so_far.items() if path in layers}
    if any(isinstance(layer, PruneWrapper) for _, layer in walk(model)):
        for path, rate in callbacks.adjusted_rates(model).items():
            if path in layers:
                original = layers[path].rate
                rates[path] = rates.get(path, original) * rate / original
    return rates
