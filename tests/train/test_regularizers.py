import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train.regularizers import penalize_scales


def model(**norm):
    """Scales 2, -3, 0 in the nested layer and 1, 1, 1 in the last."""
    inner = keras.Sequential(
        [keras.Input((3,)), layers.BatchNormalization(name="first", **norm)], name="inner"
    )
    if inner.layers[0].scale:
        inner.layers[0].gamma.assign([2.0, -3.0, 0.0])
    inputs = keras.Input((3,))
    return keras.Model(inputs, layers.BatchNormalization(name="last")(inner(inputs)))


def penalty(m):
    return float(sum(m.losses))


@pytest.mark.parametrize(
    "selection, expected",
    [
        ({}, 0.8),
        ({"layers": "inner/first"}, 0.5),
        ({"skip": ["first"]}, 0.3),
        ({"layers": layers.BatchNormalization, "skip": lambda layer: layer.name == "last"}, 0.5),
    ],
)
def test_the_loss_gains_the_scales(selection, expected):
    m = model()
    assert penalize_scales(m, 0.1, **selection) is m
    np.testing.assert_allclose(penalty(m), expected, rtol=1e-6)


def test_a_second_call_replaces_and_0_takes_away():
    m = penalize_scales(penalize_scales(model(), 0.1), 0.2)
    np.testing.assert_allclose(penalty(m), 1.6, rtol=1e-6)
    assert penalize_scales(m, 0).losses == []


def test_the_step_pulls_by_the_sign_of_the_scale():
    """Nothing else moves the scales: the loss is 0, and sign(0) = 0."""
    m = penalize_scales(model(), 0.25, layers="first")
    m.compile(keras.optimizers.SGD(1.0), loss=lambda y, y_pred: 0.0 * y_pred)
    m.fit(np.eye(3), np.eye(3), batch_size=3, verbose=0)
    np.testing.assert_allclose(m.layers[1].layers[0].gamma, [1.75, -2.75, 0], rtol=1e-6)


def test_a_model_that_trained_before_feels_it():
    m = model()
    m.compile(keras.optimizers.SGD(1.0), loss=lambda y, y_pred: 0.0 * y_pred)
    m.fit(np.eye(3), np.eye(3), verbose=0)
    penalize_scales(m, 0.25, layers="first")
    m.fit(np.eye(3), np.eye(3), verbose=0)
    np.testing.assert_allclose(m.layers[1].layers[0].gamma, [1.75, -2.75, 0], rtol=1e-6)


def test_it_is_saved(tmp_path):
    penalize_scales(model(), 0.1).save(tmp_path / "m.keras")
    np.testing.assert_allclose(penalty(keras.models.load_model(tmp_path / "m.keras")), 0.8, 1e-6)


def test_layers_without_a_scale_are_passed_over():
    m = penalize_scales(model(scale=False), 0.1)
    np.testing.assert_allclose(penalty(m), 0.3, rtol=1e-6)


@pytest.mark.parametrize(
    "make, settings, words",
    [
        (model, {"strength": -1}, "from 0 on; got -1"),
        (model, {"strength": float("nan")}, "from 0 on; got nan"),
        (model, {"layers": "frist"}, "'frist', which selects no layer"),
        (model, {"skip": "first|last"}, "no BatchNormalization with a scale"),
        (lambda: keras.Sequential([keras.Input((1,))]), {}, "no BatchNormalization with a scale"),
        (lambda: model(gamma_regularizer="l2"), {}, "'inner/first' has a L2 regularizer already"),
    ],
)
def test_errors(make, settings, words):
    with pytest.raises(ValueError, match=words):
        penalize_scales(make(), **settings)
