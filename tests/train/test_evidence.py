import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.train import evidence, graph, masks
from scalpel_tf.train.batches import batches

X = np.array([[1.0, 0], [2, 1], [-1, 1], [0, 0]], np.float32)
SIGNS = np.array([[1.0], [-1], [1], [1]], np.float32)


def chain(activation="relu"):
    """Hidden nodes relu(x0), relu(x1 - x0) and relu(-1); the output is 2, -3 and 5 of them."""
    model = keras.Sequential(
        [
            keras.Input((2,)),
            layers.Dense(3, activation=activation, name="hidden"),
            layers.Dense(1, name="out"),
        ]
    )
    hidden, out = model.layers
    hidden.set_weights([np.array([[1.0, -1, 0], [0, 1, 0]]), np.array([0.0, 0, -1])])
    out.set_weights([np.array([[2.0], [-3], [5]]), np.zeros(1)])
    return model


def signed_output(y, y_pred):
    return y * y_pred


def alive(model, x, **settings):
    network = graph.read(model)
    places = masks.points(network)
    return evidence.alive(network, model, places, batches(x, **settings))


def taylor(model, data, loss=signed_output, **settings):
    network = graph.read(model)
    places = masks.points(network)
    cost = evidence.cost_of(model, loss)
    return evidence.taylor(network, model, places, batches(data, **settings), cost)


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_alive_counts_what_is_not_0(batch_size):
    [found] = alive(chain(), X, batch_size=batch_size)
    assert found.path == "hidden"
    np.testing.assert_allclose(found.score, [0.5, 0.25, 0])


def test_alive_counts_over_space():
    model = keras.Sequential(
        [keras.Input((3, 1)), layers.Conv1D(2, 1, use_bias=False, activation="relu")]
        + [layers.GlobalAveragePooling1D(), layers.Dense(1)]
    )
    model.layers[0].set_weights([np.array([[[1.0, -1]]])])
    [found] = alive(model, np.array([[[1.0], [2], [-3]], [[0], [0], [4]]], np.float32))
    np.testing.assert_allclose(found.score, [3 / 6, 1 / 6])


@pytest.mark.parametrize("batch_size", [1, 3, 4])
def test_taylor_takes_each_example_by_itself(batch_size):
    """Node 0 is 1, 2, 0, 0, times 2; node 1 is 0, 0, 2, 0, times -3; signs do not cancel."""
    [found] = taylor(chain(), (X, SIGNS), batch_size=batch_size)
    np.testing.assert_allclose(found.score, [(2 + 4) / 4, 6 / 4, 0], rtol=1e-6)


def test_taylor_is_a_mean_over_a_map():
    """Maps 3, 1 and 6, 2; the output takes 1, -1 of the first and 1, 1 of the second."""
    model = keras.Sequential(
        [keras.Input((2, 1)), layers.Conv1D(2, 1, use_bias=False), layers.Flatten()]
        + [layers.Dense(1, use_bias=False)]
    )
    model.layers[0].set_weights([np.array([[[1.0, 2]]])])
    model.layers[2].set_weights([np.array([[1.0], [1], [-1], [1]])])  # by position, then by map
    [found] = taylor(model, (np.array([[[3.0], [1]]], np.float32), np.ones((1, 1))))
    np.testing.assert_allclose(found.score, [(3 - 1) / 2, (6 + 2) / 2], rtol=1e-6)


def test_taylor_works_where_everything_is_frozen():
    model = chain()
    model.trainable = False
    [found] = taylor(model, (X, SIGNS))
    np.testing.assert_allclose(found.score, [1.5, 1.5, 0], rtol=1e-6)


def test_calls_of_a_nested_model_are_added():
    """Without a node of the inner layer both of its outputs change: by -2 and 3, by 1 and 4."""
    hidden = layers.Dense(2, use_bias=False, name="hidden")
    inner = keras.Sequential([keras.Input((2,)), hidden], name="inner")
    one, two = keras.Input((2,)), keras.Input((2,))
    out = layers.Dense(1, use_bias=False, name="out")
    both = layers.Concatenate()([inner(one), inner(two)])
    model = keras.Model([one, two], out(both))
    hidden.set_weights([np.eye(2)])
    out.set_weights([np.array([[-2.0], [1], [3], [4]])])
    ones = np.ones((1, 2), np.float32)
    found = taylor(model, ([ones, ones], np.ones((1, 1))))
    total = {}
    for part in found:
        for node, score in zip(part.nodes.tolist(), part.score, strict=True):
            total.setdefault(node, []).append(score)
    assert sorted(np.ravel(list(total.values())).round(5)) == [1, 5]


def test_mixed_precision():
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = chain()
    finally:
        keras.config.set_dtype_policy("float32")
    [found] = taylor(model, (X, SIGNS))
    np.testing.assert_allclose(found.score, [1.5, 1.5, 0], rtol=1e-3)
    np.testing.assert_allclose(alive(model, X)[0].score, [0.5, 0.25, 0])


MEAN_SQUARE = np.mean(np.square(np.array([[2.0], [4], [-6], [0]]) - SIGNS))


@pytest.mark.parametrize("loss", ["mse", keras.losses.MeanSquaredError(), None])
def test_costs(loss):
    model = chain()
    if loss is None:
        model.compile(loss="mse")
    cost = evidence.cost_of(model, loss)
    found = cost(SIGNS, model(X), None)
    np.testing.assert_allclose(found, MEAN_SQUARE, rtol=1e-6)


def test_costs_weigh_examples():
    weight = np.array([0, 0, 0, 2.0], np.float32)  # the last example's error is 1
    for loss in ("mse", keras.losses.MeanSquaredError()):
        found = evidence.cost_of(chain(), loss)(SIGNS, chain()(X), weight)
        np.testing.assert_allclose(found, 2 / 4, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="'sequential.*is not compiled with a loss"):
        evidence.cost_of(chain())
    with pytest.raises(ValueError, match="`data` has x without y"):
        taylor(chain(), X)
    with pytest.raises(ValueError, match="is ever 0 on this data, so APoZ says nothing"):
        alive(chain("sigmoid"), X)
