import csv
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.core.schedules import Constant, Polynomial
from scalpel_tf.train.callbacks import (
    AdjustDropout,
    Prune,
    adjusted_rate,
    sparsity,
    update_masks,
)
from scalpel_tf.train.layers import PruneWrapper, find_wrappers

X = np.random.default_rng(0).normal(size=(64, 16)).astype(np.float32)
Y = (X[:, :1] > 0).astype(np.float32)


def small_model(optimizer="adam", wrap=True, **wrapper_and_compile):
    """16 -> 8 -> 1, weights fixed; 34 groups of 4 in all."""
    keras.utils.set_random_seed(0)
    names = ("ratio", "schedule")
    settings = {name: wrapper_and_compile.pop(name, None) for name in names}
    settings = settings if any(v is not None for v in settings.values()) else {"ratio": 0.5}
    hidden, last = layers.Dense(8, activation="relu", name="hidden"), layers.Dense(1, name="last")
    if wrap:
        hidden, last = (PruneWrapper(layer, **settings) for layer in (hidden, last))
    model = keras.Sequential([keras.Input((16,)), hidden, last])
    model.compile(optimizer, "mse", **wrapper_and_compile)
    return model


class Watch(keras.callbacks.Callback):
    """Notes, at every batch boundary, the steps taken, the zero weights and what `logs` say."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append((steps_of(self.model), zeros(self.model), logs["sparsity"]))


def steps_of(model):
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def zeros(model):
    kernels = [p.variable.value.numpy() for w in find_wrappers(model) for p in w.pruned]
    return sum((kernel == 0).sum() for kernel in kernels) / sum(kernel.size for kernel in kernels)


def fit(model, *callbacks, steps=8, epochs=1):
    """`steps` steps an epoch."""
    return model.fit(
        X, Y, batch_size=64 // steps, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks
    )


OPTIMIZERS = {
    "sgd": keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
    "decay": keras.optimizers.SGD(0.1, weight_decay=0.1),
    "adam": keras.optimizers.Adam(0.1, amsgrad=True),
    "adamw": keras.optimizers.AdamW(0.1),
    "rmsprop": keras.optimizers.RMSprop(0.1),
    "ftrl": keras.optimizers.Ftrl(0.1),
    "lion": keras.optimizers.Lion(0.1),
    "ema": keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.5),
    "ema overwriting": keras.optimizers.Adam(0.1, use_ema=True, ema_overwrite_frequency=2),
    "accumulating": keras.optimizers.SGD(0.1, gradient_accumulation_steps=2),
    "loss scaling": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sparse_at_every_batch_boundary(name):
    optimizer = keras.optimizers.deserialize(keras.optimizers.serialize(OPTIMIZERS[name]))
    model, watch = small_model(optimizer), Watch()
    before = [np.array(w) for w in model.get_weights()]
    fit(model, Prune(), watch)
    assert len(watch.seen) == 8 and all(share >= 0.5 for _, share, _ in watch.seen)
    assert zeros(model) >= sparsity(model) == 0.5  # also after what optimizers do at the very end
    assert any((new != old).any() for new, old in zip(model.get_weights(), before, strict=True))


@pytest.mark.parametrize("jit_compile", [True, False])
@pytest.mark.parametrize("steps_per_execution", [1, 3, 4])
def test_the_schedule_follows_the_steps(steps_per_execution, jit_compile):
    """Due at 0, 3, 6: whatever lies between two visits, the first after a due step updates."""
    schedule = Polynomial(0.5, end_step=6, power=1, frequency=3)
    model = small_model(steps_per_execution=steps_per_execution, jit_compile=jit_compile)
    watch = Watch()
    fit(model, Prune(schedule), watch)
    visits = {1: range(1, 9), 3: [3, 6, 8], 4: [4, 8]}[steps_per_execution]
    assert [step for step, _, _ in watch.seen] == list(visits)
    for step, share, logged in watch.seen:
        last = step if steps_per_execution > 1 else step - step % 3
        ratio = min(0.5, 0.5 * last / 6)
        groups = int(ratio * 32 + 1e-9) + int(ratio * 2 + 1e-9)
        assert share == logged == pytest.approx(groups / 34), step


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model, watch = small_model(), Watch()
        assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
        fit(model, Prune(), watch)
    finally:
        keras.config.set_dtype_policy("float32")
    assert [share for _, share, _ in watch.seen] == [0.5] * 8


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.callbacks import Prune
from scalpel_tf.core.schedules import Polynomial
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    layer = PruneWrapper(keras.layers.Dense(8), ratio=0.5)
    model = keras.Sequential([keras.Input((16,)), layer])
    model.compile("adam", "mse")
class Watch(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        for variable in (layer.layer.kernel, layer.mask_0):
            one, other = (copy.numpy() for copy in variable.value.values)
            assert (one == other).all()
            print(float((one == 0).mean()), end=" ")
x = np.random.default_rng(0).normal(size=(64, 16)).astype("float32")
schedule = Polynomial(0.5, end_step=4, power=1, frequency=2)
model.fit(x, x[:, :8], batch_size=8, verbose=0, callbacks=[Prune(schedule), Watch()])
"""


def test_mirrored_strategy_on_two_devices():
    run = subprocess.run([sys.executable, "-c", MIRRORED], capture_output=True, text=True)
    shares = "0.0 0.0 0.25 0.25 0.25 0.25 0.5 0.5 " + "0.5 0.5 " * 4
    assert run.stdout == shares, run.stderr


def test_each_layer_ramps_to_its_own_ratio():
    model = small_model()
    hidden, last = find_wrappers(model)
    hidden.ratio, last.ratio = 0.75, 0.5
    seen = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append((hidden.count()[0], last.count()[0]))
    )
    fit(model, Prune(Polynomial(0.5, end_step=4, power=1, frequency=4)), note)
    assert seen == [(128, 8)] * 3 + [(32, 4)] * 5


def test_wrappers_follow_their_own_schedules():
    model = small_model()
    hidden, last = find_wrappers(model)
    hidden.schedule, last.schedule = Constant(0.5, begin_step=2), Constant(0.5, begin_step=5)
    watch = Watch()
    fit(model, Prune(), watch)
    kept = [round(136 * (1 - share)) for _, share, _ in watch.seen]
    assert kept == [136, 72, 72, 72, 68, 68, 68, 68]  # hidden 128 -> 64, then last 8 -> 4


def test_a_wrapper_whose_schedule_is_not_due_waits():
    model, kept = small_model(), []
    hidden, last = find_wrappers(model)
    hidden.schedule = Polynomial(0.5, end_step=8, power=1, frequency=1)
    last.schedule = Polynomial(0.9, end_step=8, power=3, frequency=8)
    hidden.ratio = last.ratio = None
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: kept.append((hidden.count()[0], last.count()[0]))
    )
    fit(model, Prune(), note)
    assert kept == [(128 - 8 * step, 8) for step in range(1, 8)] + [(64, 4)]


def test_what_is_dropped_stays_dropped():
    model, masks = small_model(), []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: masks.append(
            find_wrappers(model)[0].mask_0.value.numpy()
        )
    )
    fit(model, Prune(Polynomial(0.9, end_step=8, frequency=1)), note)
    assert all(
        not (later & ~earlier).any() for earlier, later in zip(masks, masks[1:], strict=False)
    )
    assert masks[0].sum() > masks[-1].sum() > 0


def test_training_resumes_where_the_schedule_stands():
    """A new callback on a model that is past the last due step prunes at once."""
    model = small_model()
    fit(model)
    assert steps_of(model) == 8 and sparsity(model) == 0
    watch = Watch()
    fit(model, Prune(Constant(0.5, begin_step=3, end_step=5)), watch)
    assert watch.seen[0] == (9, 0.5, 0.5)


def test_sparsity_is_in_the_logs(tmp_path):
    history = fit(
        small_model(), Prune(), keras.callbacks.CSVLogger(tmp_path / "log.csv"), steps=4, epochs=2
    )
    assert history.history["sparsity"] == [0.5, 0.5]
    with open(tmp_path / "log.csv") as log:
        assert [float(row["sparsity"]) for row in csv.DictReader(log)] == [0.5, 0.5]


def test_update_masks_serves_a_loop_of_ones_own():
    model = small_model()
    schedule = Polynomial(0.5, end_step=4)
    assert [update_masks(model, step, schedule) for step in (0, 2, 4)] == [0, 14 / 34, 0.5]
    assert update_masks(model, 4, 0.5) == zeros(model) == 0.5
    assert update_masks(model, 0) == 0.5  # its own ratio


@pytest.mark.parametrize(
    "settings, schedule, message",
    [
        ({}, Constant(0.5, begin_step=9), "ended at step 8, before the schedule's first step 9"),
        ({}, lambda step: (False, 0.5), "step 8, and no step before had a ratio above 0 due"),
        ({"ratio": 0.01}, None, "highest ratio so far, 0.01, is less than one group"),
        ({"schedule": Polynomial(0.5, 1000, frequency=5)}, None, "so far, 0.00746, is less than"),
    ],
)
def test_a_run_that_pruned_nothing_is_an_error(settings, schedule, message):
    with pytest.raises(ValueError, match=f"The run pruned nothing: .*{message}"):
        fit(small_model(**settings), Prune(schedule))


def test_a_wish_for_nothing_is_no_error():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(small_model(ratio=0.0), Prune())


@pytest.mark.parametrize("schedule", [Polynomial(0.5, 16, power=1, frequency=4), lambda s: s / 32])
def test_a_schedule_that_ends_short_warns(schedule):
    if not isinstance(schedule, Polynomial):
        schedule = lambda step: min(0.5, step / 32)  # noqa: E731
    with pytest.warns(UserWarning, match="short at step 8: 2 layers .* 'hidden' has 0.25 of 0.5"):
        fit(small_model(), Prune(schedule))


def test_a_model_without_wrappers_is_refused():
    with pytest.raises(ValueError, match="has no PruneWrapper"):
        fit(small_model(wrap=False), Prune())


def test_diverged_weights_are_refused():
    model = small_model()
    find_wrappers(model)[0].layer.kernel.assign(np.full((16, 8), np.nan))
    with pytest.raises(ValueError, match="NaN"):
        fit(model, Prune())


@pytest.mark.parametrize(
    "rate, kept, total, expected", [(0.5, 1, 4, 0.25), (0.5, 4, 4, 0.5), (0.4, 9, 100, 0.12)]
)
def test_adjusted_rate(rate, kept, total, expected):
    assert adjusted_rate(rate, kept, total) == pytest.approx(expected, rel=1e-15)


def dropout_model(sequential):
    keras.utils.set_random_seed(0)
    stack = [
        PruneWrapper(layers.Conv1D(4, 1, name="conv"), ratio=0.75),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.MaxPooling1D(2),
        layers.Flatten(),
        layers.Dropout(0.4, name="fed"),
        layers.Dense(4),
        layers.Dropout(0.4, name="unfed"),
    ]
    inputs = keras.Input((4, 4))
    if sequential:
        model = keras.Sequential([inputs, *stack])
    else:
        outputs = inputs
        for layer in stack:
            outputs = layer(outputs)
        model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    return model


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.rates = []

    def on_epoch_begin(self, epoch, logs=None):
        names = ("fed", "unfed")
        self.rates.append([self.model.get_layer(name).rate for name in names])


@pytest.mark.parametrize("sequential", [True, False])
def test_dropout_is_adjusted_and_restored(sequential):
    model, rates = dropout_model(sequential), Rates()
    x = np.ones((8, 4, 4), np.float32)
    schedule = Constant(0.75, begin_step=2)
    model.fit(
        x,
        np.ones((8, 4)),
        batch_size=4,
        epochs=3,
        verbose=0,
        callbacks=[Prune(schedule), AdjustDropout(), rates],
    )
    assert rates.rates == [[0.4, 0.4], [0.2, 0.4], [0.2, 0.4]]  # kept: a quarter
    assert [model.get_layer(name).rate for name in ("fed", "unfed")] == [0.4, 0.4]


def test_an_adjusted_rate_takes_effect_in_the_traced_step():
    """The loss is the share of outputs that dropout zeroed."""
    keras.utils.set_random_seed(0)
    wrapper = PruneWrapper(
        layers.Dense(64, kernel_initializer="zeros", bias_initializer="ones", trainable=False),
        0.9375,
    )
    model = keras.Sequential([keras.Input((64,)), wrapper, layers.Dropout(0.8)])
    model.compile("sgd", lambda truth, output: keras.ops.mean(keras.ops.equal(output, 0.0)))
    x = np.zeros((256, 64), np.float32)
    run = dict(batch_size=256, verbose=0, callbacks=[AdjustDropout()])
    assert model.fit(x, x, **run).history["loss"][0] == pytest.approx(0.8, abs=0.02)
    wrapper.update(0.9375)
    assert model.fit(x, x, **run).history["loss"][0] == pytest.approx(0.2, abs=0.02)
    del run["callbacks"]
    assert model.fit(x, x, **run).history["loss"][0] == pytest.approx(0.8, abs=0.02)


def test_dropout_after_a_nested_model_is_adjusted():
    inner = keras.Sequential([keras.Input((8,)), PruneWrapper(layers.Dense(8), 0.75)])
    model = keras.Sequential([keras.Input((8,)), inner, layers.Dropout(0.4, name="drop")])
    model.compile("sgd", "mse")
    update_masks(model, 0)
    adjust = AdjustDropout()
    adjust.set_model(model)
    adjust.on_train_begin()
    adjust.on_epoch_begin(0)
    assert model.get_layer("drop").rate == pytest.approx(0.2)


def test_nothing_to_adjust_warns():
    inputs = keras.Input((16,))
    merged = layers.Add()([PruneWrapper(layers.Dense(4), 0.5)(inputs), layers.Dense(4)(inputs)])
    model = keras.Model(inputs, layers.Dropout(0.5)(merged))
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="of the 1 Dropout layers .* none is fed"):
        model.fit(X, X[:, :4], verbose=0, callbacks=[AdjustDropout()])
