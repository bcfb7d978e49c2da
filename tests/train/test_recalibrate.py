import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scalpel_tf.models import walk
from scalpel_tf.train.recalibrate import recalibrate

# Mean 4; the mean of the squares is 30, so that the variance is 30 - 16.
X = np.array([[0.0], [2], [4], [10]], np.float32)


def norms(model):
    return [layer for _, layer in walk(model) if isinstance(layer, layers.BatchNormalization)]


def statistics(model):
    return [
        [float(variable.numpy()[0]) for variable in (norm.moving_mean, norm.moving_variance)]
        for norm in norms(model)
    ]


def chain(*stack):
    return keras.Sequential([keras.Input((1,)), *stack])


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 128])
def test_statistics_are_those_of_all_the_data(batch_size):
    model = chain(layers.BatchNormalization())
    assert recalibrate(model, X, batch_size=batch_size) is model
    assert statistics(model) == [[4, 14]]


FORMS = {
    "x and y": (X, np.zeros(4)),
    "dataset": tf.data.Dataset.from_tensor_slices(X).batch(3),
    "list of batches": [(X[:2], None), (X[2:], None)],
    "double precision": X.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMS)
def test_data_in_every_form(form):
    model = chain(layers.BatchNormalization())
    recalibrate(model, FORMS[form])
    assert statistics(model) == [[4, 14]]


def test_no_more_than_so_many_batches():
    model = chain(layers.BatchNormalization())
    recalibrate(model, X, batch_size=1, batches=2)
    assert statistics(model) == [[1, 1]]


def test_layers_further_on_see_what_the_first_gives():
    """Normalized, times 3 and plus 5: mean 5 and variance 9, but for epsilon."""
    model = chain(layers.BatchNormalization(epsilon=1e-6), layers.BatchNormalization())
    first = norms(model)[0]
    first.gamma.assign([3.0])
    first.beta.assign([5.0])
    recalibrate(model, X)
    np.testing.assert_allclose(statistics(model), [[4, 14], [5, 9]], rtol=1e-5)


def test_space_and_channels():
    x = np.stack([np.arange(12.0).reshape(2, 2, 3), np.zeros((2, 2, 3))]).astype(np.float32)
    model = keras.Sequential([keras.Input((2, 2, 3)), layers.BatchNormalization(axis=2)])
    recalibrate(model, x, batch_size=1)
    norm = norms(model)[0]
    np.testing.assert_allclose(norm.moving_mean, x.mean((0, 1, 3)), rtol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, x.var((0, 1, 3)), rtol=1e-6)


def test_dropout_is_out_and_frozen_layers_are_in():
    model = chain(layers.Dropout(0.9), layers.BatchNormalization(trainable=False))
    recalibrate(model, X)
    assert statistics(model) == [[4, 14]]
    assert norms(model)[0].trainable is False


def test_nested_and_shared():
    """The inner layer sees x and then x + 1: mean 4.5, mean of squares (30 + 39) / 2."""
    inner = keras.Sequential([keras.Input((1,)), layers.BatchNormalization()], name="inner")
    inputs = keras.Input((1,))
    model = keras.Model(inputs, layers.Add()([inner(inputs), inner(inputs + 1.0)]))
    recalibrate(model, X, batch_size=3)
    assert statistics(model) == [[4.5, 14.25]]


def test_a_layer_within_a_layer():
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((2, 1)), layers.TimeDistributed(norm)])
    recalibrate(model, X.reshape(2, 2, 1))
    assert [float(norm.moving_mean[0]), float(norm.moving_variance[0])] == [4, 14]


def test_masked_steps_do_not_count():
    norm = layers.BatchNormalization()
    model = keras.Sequential([keras.Input((3, 1)), layers.Masking(-1.0), norm])
    x = np.array([[[0.0], [2], [-1]], [[4], [-1], [-1]], [[10], [-1], [-1]]], np.float32)
    recalibrate(model, x, batch_size=2)
    np.testing.assert_allclose(statistics(model), [[4, 14]], rtol=1e-6)  # Keras adds 1e-7


def test_mixed_precision():
    model = chain(layers.BatchNormalization(dtype="mixed_float16"))
    recalibrate(model, X)
    assert statistics(model) == [[4, 14]]


def test_a_subclassed_model():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.norm = layers.BatchNormalization()

        def call(self, x, training=None):
            return self.norm(x, training=training)

    model = Own()
    model(X)
    recalibrate(model, X)
    assert statistics(model) == [[4, 14]]


def test_all_else_stays_as_it_was():
    model = chain(layers.Dense(1), layers.BatchNormalization(momentum=0.5), layers.Dropout(0.5))
    model.compile("adam", "mse")
    model.fit(X, X, verbose=0)
    norm = norms(model)[0]
    moving = {id(norm.moving_mean), id(norm.moving_variance)}
    others = [v for v in model.variables if id(v) not in moving]
    before = [v.numpy() for v in others]
    config, step = model.get_config(), model.train_function
    recalibrate(model, X)
    for variable, value in zip(others, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert model.get_config() == config
    assert model.train_function is step
    assert "call" not in vars(norm)
    mean = norm.moving_mean.numpy()
    y = model.predict(X, verbose=0)
    np.testing.assert_array_equal(norm.moving_mean, mean)
    np.testing.assert_allclose(y.mean(), norm.beta[0], atol=1e-6)  # centred, then shifted
    assert np.isfinite(model.fit(X, X, verbose=0).history["loss"]).all()


def test_old_statistics_that_are_not_finite_do_no_harm():
    model = chain(layers.BatchNormalization())
    norms(model)[0].moving_mean.assign([np.nan])
    recalibrate(model, X)
    assert statistics(model) == [[4, 14]]


def test_new_statistics_that_are_not_finite_are_refused():
    model = chain(layers.BatchNormalization(), layers.BatchNormalization(name="second"))
    before = statistics(model)
    norms(model)[0].gamma.assign([np.inf])
    with pytest.raises(ValueError, match="'second' have no finite mean"):
        recalibrate(model, X)
    assert statistics(model) == before


def test_an_error_on_the_way_leaves_the_model_as_it_was():
    model = chain(layers.BatchNormalization())

    def broken():
        yield X
        raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        recalibrate(model, broken())
    norm = norms(model)[0]
    assert statistics(model) == [[0, 1]]
    assert (norm.momentum, norm.trainable, "call" in vars(norm)) == (0.99, True, False)


def test_no_data():
    with pytest.raises(ValueError, match="no batches"):
        recalibrate(chain(layers.BatchNormalization()), iter([]))


def test_nothing_to_do_is_said():
    model = chain(layers.Dense(1))
    with pytest.warns(UserWarning, match="has no BatchNormalization"):
        assert recalibrate(model, X) is model
