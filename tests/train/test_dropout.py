import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train.callbacks import AdjustDropout, adjusted_rates
from scalpel_tf.train.layers import PruneWrapper
from scalpel_tf.train.mask_layer import UNIT, MaskLayer, find_masks
from scalpel_tf.train.surgery import shrink


def behind(x):
    x = MaskLayer(name="mask")(layers.Dense(4)(x))
    return layers.Dropout(0.4, name="drop")(layers.ReLU()(layers.BatchNormalization()(x)))


def behind_a_convolution(x):
    x = layers.Reshape((4, 2, 1))(x)
    x = layers.MaxPooling2D((2, 1))(MaskLayer(name="mask")(layers.Conv2D(4, 1)(x)))
    return layers.Dropout(0.4, name="drop")(layers.Flatten()(x))


def several_channels_a_node(x):
    """Node 3 has five channels of eight, the others one each: three are left."""
    mask = MaskLayer(4, name="mask")
    return layers.Dropout(0.4, name="drop")(
        mask(layers.Dense(8)(x), index=[0, 3, 3, 1, 3, 3, 2, 3])
    )


def behind_a_nested_model(x):
    inner = keras.Sequential([keras.Input((8,)), layers.Dense(4), MaskLayer(name="mask")])
    return layers.Dropout(0.4, name="drop")(inner(x))


def in_front(x):
    x = layers.Dropout(0.4, name="drop")(layers.Dense(4)(x))
    return MaskLayer(name="mask")(layers.ReLU()(x))


def between_masks(x):
    """The mask behind counts, for the one in front feeds another layer."""
    x = layers.Dense(4)(MaskLayer(**UNIT)(layers.Dense(4)(x)))
    return MaskLayer(name="mask")(layers.Dropout(0.4, name="drop")(x))


def both_around(x):
    """The mask in front counts, and all of it is there."""
    x = layers.Dropout(0.4, name="drop")(MaskLayer()(layers.Dense(4)(x)))
    return MaskLayer(name="mask")(x)


def wrapped_and_masked(x):
    """The nearest counts: the mask."""
    x = MaskLayer(name="mask")(PruneWrapper(layers.Dense(4), 0.5)(x))
    return layers.Dropout(0.4, name="drop")(x)


def wrapped_masked_behind(x):
    """The nearest in front counts: the wrapper, which keeps everything."""
    x = layers.Dropout(0.4, name="drop")(PruneWrapper(layers.Dense(4), 0.5)(x))
    return MaskLayer(name="mask")(x)


def kernel_between(x):
    x = layers.Dropout(0.4, name="drop")(
        layers.Dense(4)(MaskLayer(name="mask")(layers.Dense(4)(x)))
    )
    return x


def kernel_behind(x):
    return MaskLayer(name="mask")(layers.Dense(4)(layers.Dropout(0.4, name="drop")(x)))


def read_by_two(x):
    x = layers.Dropout(0.4, name="drop")(layers.Dense(4)(x))
    return layers.Concatenate()([MaskLayer(name="mask")(x), x])


def merged_behind(x):
    dropped = layers.Dropout(0.4, name="drop")(layers.Dense(4)(x))
    return MaskLayer(name="mask")(layers.Concatenate()([dropped, layers.Dense(2)(x)]))


@pytest.mark.parametrize(
    "build, expected",
    [
        (behind, 0.2),
        (behind_a_convolution, 0.2),
        (several_channels_a_node, 0.4 * (5 / 8) ** 0.5),
        (behind_a_nested_model, 0.2),
        (in_front, 0.2),
        (between_masks, 0.2),
        (both_around, 0.4),
        (wrapped_and_masked, 0.2),
        (wrapped_masked_behind, 0.4),
        (kernel_between, None),
        (kernel_behind, None),
        (read_by_two, None),
        (merged_behind, None),
    ],
)
def test_the_mask_that_counts(build, expected):
    """A quarter of its nodes is left, the last one."""
    inputs = keras.Input((8,))
    model = keras.Model(inputs, build(inputs))
    (mask,) = [mask for mask in find_masks(model) if mask.name == "mask"]
    mask.alpha.assign(np.arange(len(mask.keep)) == 3)
    rates = adjusted_rates(model)
    assert rates == ({} if expected is None else {"drop": pytest.approx(expected, rel=1e-12)})


def masked_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8,))
    model = keras.Model(inputs, layers.Dense(1)(behind(inputs)))
    model.get_layer("mask").frozen.assign(True)
    model.compile("sgd", "mse", run_eagerly=True)
    return model


def test_the_rate_follows_the_mask_and_returns():
    model, rates = masked_model(), []
    mask, drop = model.get_layer("mask"), model.get_layer("drop")
    close = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: mask.alpha.assign(np.arange(4) >= epoch)
    )
    note = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: rates.append(drop.rate),
    )
    x = np.ones((8, 8), np.float32)
    model.fit(x, x[:, :1], epochs=4, verbose=0, callbacks=[close, AdjustDropout(), note])
    assert rates == pytest.approx([0.4 * (kept / 4) ** 0.5 for kept in (4, 3, 2, 1)], rel=1e-12)
    assert drop.rate == 0.4


def test_nothing_to_adjust_warns():
    model = keras.Sequential([keras.Input((8,)), layers.Dropout(0.5), layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    x = np.ones((8, 8), np.float32)
    with pytest.warns(
        UserWarning, match="of the 1 .* none is fed by a PruneWrapper or a MaskLayer"
    ):
        model.fit(x, x[:, :1], verbose=0, callbacks=[AdjustDropout()])


def test_the_rates_that_shrink_reports_fit_the_small_model():
    inputs = keras.Input((8,))
    hidden = layers.Dropout(0.4, name="drop")(layers.Dense(16, name="hidden")(inputs))
    model = keras.Model(inputs, layers.Dense(1, name="out")(hidden))
    small, rates = shrink(model, keep={"hidden": range(4)}), []
    assert small.report.dropout == {"drop": pytest.approx(0.4 * (4 / 16) ** 0.5)}
    small.compile("sgd", "mse", run_eagerly=True)
    drop, x = small.get_layer("drop"), np.ones((8, 8), np.float32)
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda e, logs: rates.append(drop.rate))
    small.fit(x, x[:, :1], verbose=0, callbacks=[AdjustDropout(small.report.dropout), note])
    assert rates == pytest.approx([0.2]) and drop.rate == 0.4
    with pytest.raises(ValueError, match="has 'drip', which is no Dropout of .*: drop"):
        small.fit(x, x[:, :1], verbose=0, callbacks=[AdjustDropout({"drip": 0.1})])
