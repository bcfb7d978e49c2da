"""Walks through nested models, and copies of them; test_wrap and test_sparsify copy many more."""

import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.models import check_backend, check_model, copy_model, same_layer, walk


def nested():
    dense = layers.Dense(4, name="shared")
    inner = keras.Sequential([keras.Input((4,)), dense], name="inner")
    return keras.Sequential([keras.Input((4,)), inner, layers.ReLU(name="act"), dense])


def test_walk_names_nested_layers_once():
    assert [path for path, _ in walk(nested())] == ["inner/shared", "act"]


def test_a_copy_has_the_weights_and_shares_none():
    model = nested()
    copy = copy_model(model, same_layer)
    assert len(copy.weights) == len(model.weights) == 2
    for one, other in zip(copy.weights, model.weights, strict=True):
        assert one is not other
        np.testing.assert_array_equal(one, other)


def test_replaced_layers_take_what_transfer_gives():
    def replace(layer):
        return layers.Dense(4, name=layer.name) if layer.name == "shared" else same_layer(layer)

    def transfer(layer, new):
        if layer.name == "shared":
            new.kernel.assign(layer.kernel + 1)

    model = nested()
    copy = copy_model(model, replace, transfer)
    np.testing.assert_array_equal(copy.weights[0], model.weights[0] + 1)


def test_other_backends_are_refused(monkeypatch):
    model = nested()
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for check in (check_backend, lambda: check_model(model, "copy")):
        with pytest.raises(ValueError, match="this process runs 'jax'"):
            check()
