import keras
import numpy as np
import pytest
from keras import layers

from scalpel_tf.core.cpu_cost import dense_seconds
from scalpel_tf.core.targets import find_target
from scalpel_tf.train.latency import modelled_seconds

AVX2 = find_target("x86-64-avx2")


def test_the_sum_over_the_kernels():
    """A convolution of 6 x 6 positions, a layer called twice, one that has no kernel."""
    shared = layers.Dense(5)
    image = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(4, 3)(image))
    model = keras.Model(image, shared(layers.Activation("relu")(shared(layers.Dense(5)(x)))))
    expected = (
        dense_seconds(4, 27, 36, target=AVX2)
        + dense_seconds(5, 144, 1, target=AVX2)
        + 2 * dense_seconds(5, 5, 1, target=AVX2)
    )
    np.testing.assert_allclose(modelled_seconds(model, "x86-64-avx2"), expected)


@pytest.mark.parametrize("target, words", [("cortex-m4", "CPU cost model"), ("z80", "Unknown")])
def test_targets_that_are_not_modelled(target, words):
    with pytest.raises(ValueError, match=words):
        modelled_seconds(keras.Sequential([keras.Input((2,)), layers.Dense(1)]), target)


def test_a_network_without_kernels():
    with pytest.raises(ValueError, match="has no kernels"):
        modelled_seconds(keras.Sequential([keras.Input((2,)), layers.ReLU()]), "x86-64-avx2")
