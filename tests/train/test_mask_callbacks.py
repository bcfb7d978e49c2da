import csv
import warnings

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train import surgery
from scalpel_tf.train.callbacks import TrainMasks
from scalpel_tf.train.mask_callbacks import nodes
from scalpel_tf.train.mask_layer import PUBLISHED, UNIT, MaskLayer, find_masks

X = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
X[:, 0] = 0  # so that the first mask's node 0 gets no gradient
Y = (X[:, 1:2] > 0).astype(np.float32)
RATE, L1 = 2**-6, 2**-5  # their product is exact in binary


def masked_model(optimizer=None, run=None, **settings):
    """4 -> 4 masked copies of them -> 6 masked neurons -> 1; eager unless `run` says how."""
    keras.utils.set_random_seed(0)
    settings = {**UNIT, "gain": 1.0, "l1": L1, **settings}
    copy = layers.Dense(4, use_bias=False, kernel_initializer="identity", trainable=False)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            copy,
            MaskLayer(**settings, name="mask_first"),
            layers.Dense(6, activation="relu", name="hidden"),
            MaskLayer(**settings, name="mask_hidden"),
            layers.Dense(1, name="last"),
        ]
    )
    model.compile(optimizer or keras.optimizers.SGD(RATE), "mse", **(run or {"run_eagerly": True}))
    return model


def fit(model, *callbacks, steps=2, epochs=1):
    size = 64 // steps
    return model.fit(
        X, Y, batch_size=size, epochs=epochs, verbose=0, shuffle=False, callbacks=callbacks
    )


def quiet_fit(model, *callbacks, **run):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No node was dropped")
        return fit(model, *callbacks, **run)


def pulls(model, rate=RATE, l1=L1):
    """How many pulls node 0 of the first mask has felt, which nothing else moves."""
    return (1 - find_masks(model)[0].beta.numpy()[0]) / (rate * l1)


class Drop(keras.callbacks.Callback):
    """Closes one node of the first mask at the begin of each epoch after the first."""

    def on_epoch_begin(self, epoch, logs=None):
        mask = find_masks(self.model)[0]
        keep = np.arange(4) >= epoch
        mask.beta.assign(np.where(keep, 1.0, 0.0))
        mask.alpha.assign(keep)


class Note(keras.callbacks.Callback):
    def __init__(self, look):
        super().__init__()
        self.look, self.batches, self.epochs = look, [], []

    def on_train_batch_end(self, batch, logs=None):
        self.batches.append(self.look(self.model, logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(self.look(self.model, logs))


def test_masks_train_under_it():
    model = masked_model()
    quiet_fit(model, TrainMasks())
    assert pulls(model) == 2
    assert len(set(find_masks(model)[1].beta.numpy())) > 2  # gradients, too


def test_what_is_left_is_in_the_logs(tmp_path, monkeypatch):
    """Of 4 inputs, a of them behind the mask: 4a + 6a + 6 multiplications."""
    calls, costs = [], surgery.costs
    monkeypatch.setattr(surgery, "costs", lambda model: calls.append(1) or costs(model))
    note = Note(lambda model, logs: (logs["nodes"], logs.get("macs")))
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    model = masked_model(l1=0.0)
    find_masks(model)[1].trainable = False
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)
    history = fit(model, Drop(), TrainMasks(), log, note, epochs=3).history
    assert note.batches == [(n, None) for n in (10, 10, 9, 9, 8, 8)]
    assert note.epochs == [(10, 46), (9, 36), (8, 26)]
    assert history["nodes"] == [10, 9, 8] and history["macs"] == [46, 36, 26]
    with open(tmp_path / "log.csv") as file:
        assert [row["macs"] for row in csv.DictReader(file)] == ["46", "36", "26"]
    assert len(calls) == 3  # at train begin, and where a mask has changed
    assert nodes(model) == 8


def test_l1_is_set():
    model = masked_model()
    quiet_fit(model, TrainMasks(l1=2 * L1))
    assert pulls(model) == 4
    assert [mask.l1.numpy() for mask in find_masks(model)] == [2 * L1] * 2


def test_l1_may_follow_the_epoch():
    model = masked_model(l1=1e9)
    quiet_fit(model, TrainMasks(l1=lambda epoch: [L1, 4 * L1][epoch]), epochs=2)
    assert pulls(model) == 2 * 1 + 2 * 4


@pytest.mark.parametrize(
    "masks, trained",
    [
        (None, [1, 1]),
        ("mask_first", [1, 0]),
        (["mask_hid.*"], [0, 1]),
        (MaskLayer, [1, 1]),
        (lambda layer: layer.name == "mask_hidden", [0, 1]),
        ([], [0, 0]),
    ],
)
def test_only_the_selected_masks_train(masks, trained):
    """The others are frozen for this fit, and keep their `l1`; afterwards all are as before."""
    model = masked_model()
    every = find_masks(model)
    every[0].frozen.assign(True)
    note = Note(lambda model, logs: [int(not mask.frozen.numpy()) for mask in every])
    quiet_fit(model, TrainMasks(l1=2 * L1, masks=masks), note)
    assert note.batches == [trained] * 2
    assert [int((mask.beta.numpy() != 1).any()) for mask in every] == trained
    assert [mask.l1.numpy() / L1 - 1 for mask in every] == trained
    assert [bool(mask.frozen.numpy()) for mask in every] == [True, False]


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: TrainMasks(masks="mask_frist"),
            "`masks` has 'mask_frist', which selects no layer",
        ),
        (lambda: TrainMasks(masks=["mask_first", "last"]), "selects no MaskLayer .* mask_first, "),
        (lambda: TrainMasks(l1=lambda epoch: -1.0), "`l1` is a penalty from 0 on; got -1.0"),
        (lambda: TrainMasks(l1=float("nan")), "got nan"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        fit(masked_model(), make())


def test_a_model_without_masks_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="has no MaskLayer"):
        fit(model, TrainMasks())


def test_a_step_traced_before_is_traced_anew():
    model = masked_model(run={"run_eagerly": False, "jit_compile": False})
    for mask in find_masks(model):
        mask.frozen.assign(True)
    fit(model)  # knows no optimizer
    quiet_fit(model, TrainMasks())
    assert pulls(model) == 2
    step = model.train_function
    quiet_fit(model, TrainMasks())
    assert pulls(model) == 4 and model.train_function is step


def test_a_new_optimizer_must_be_followed():
    model = masked_model()
    quiet_fit(model, TrainMasks())
    first = model.optimizer  # that it lives on
    model.compile(keras.optimizers.SGD(2 * RATE), "mse", run_eagerly=True)
    with pytest.raises(ValueError, match="callbacks.TrainMasks"):
        fit(model)
    quiet_fit(model, TrainMasks())
    assert pulls(model) == 2 + 2 * 2 and first.iterations.numpy() == 2


def test_averages_of_weights_leave_nothing_behind():
    """use_ema overwrites the trainable variables at the very end, `signal` as well."""
    average = keras.optimizers.SGD(RATE, use_ema=True, ema_momentum=0.5)
    model = masked_model(average, l1=0.0)
    fit(model, TrainMasks())
    assert not any(mask.signal.numpy().any() for mask in find_masks(model))


def test_a_killed_run_resumes(tmp_path):
    """In its second epoch; masks that were frozen for the run only thaw at its end."""

    class Kill(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt

    def run(*callbacks):
        model = masked_model(keras.optimizers.SGD(RATE, momentum=0.5))
        quiet_fit(model, TrainMasks(masks="mask_first"), *callbacks, epochs=3)
        return model

    with pytest.raises(KeyboardInterrupt):
        run(keras.callbacks.BackupAndRestore(tmp_path), Kill())
    again, whole = run(keras.callbacks.BackupAndRestore(tmp_path)), run()
    assert pulls(whole) == 6
    for one, other in zip(again.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
    assert not any(mask.frozen.numpy() for mask in find_masks(again))


@pytest.mark.parametrize(
    "optimizer, settings, warned",
    [
        (keras.optimizers.Adam(1e-3), PUBLISHED, True),  # 1e-3 of 2e-4
        (keras.optimizers.Adam(1e-3), UNIT, True),  # 2.5 of 0.5
        (keras.optimizers.Adam(1e-3), {**UNIT, "gain": 1.0}, False),
        (keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(1e-3)), PUBLISHED, True),
        (keras.optimizers.SGD(0.1), PUBLISHED, False),
    ],
)
def test_adaptive_optimizers_that_leap_are_warned_of(optimizer, settings, warned):
    callback = TrainMasks(l1=0.0)
    callback.set_model(masked_model(optimizer, **settings))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("ignore", DeprecationWarning)
        callback.on_train_begin()
    assert ["whatever the gradient" in str(w.message) for w in seen] == [True] * warned


def test_a_run_that_drops_nothing_warns():
    model = masked_model()
    find_masks(model)[1].beta.assign([0.9, 0.9, 0.625, 0.9, 0.9, 0.9])
    with pytest.warns(UserWarning, match="lowest beta is 0.62.* in 'mask_hidden', whose .* is 0.5"):
        fit(model, TrainMasks(), steps=1)


@pytest.mark.parametrize("fits", [{"l1": 300.0}, {"l1": 0.0}, {"masks": []}])
def test_no_warning_where_nodes_were_dropped_or_none_was_meant_to(fits):
    model = masked_model()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(model, TrainMasks(**fits), steps=1)
    assert (nodes(model) < 10) == (fits.get("l1") == 300)
