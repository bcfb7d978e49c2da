import keras
import numpy as np
import pytest
from keras import layers
from models import int8

from scalpel_tf.deploy import baselines

KERNELS = {
    "traditional": ["csr_conv", "csr_conv", "max_pool", "csr_fc", "csr_fc"],
    "optimized": ["csr_conv", "csr_conv", "max_pool", "csr_fc", "fc"],
    "dense": ["conv4", "conv4", "max_pool", "fc", "fc"],
}


def pruned():
    """Of single weights a tenth is left, but in the last layer."""
    keras.utils.set_random_seed(0)
    image = keras.Input((12, 12, 4))
    x = layers.Conv2D(16, 3, name="conv1")(image)
    x = layers.MaxPooling2D()(x)
    x = layers.Conv2D(16, 3, name="conv2", activation="relu")(x)
    x = layers.Flatten()(layers.MaxPooling2D(3, 1)(x))
    x = layers.Dense(40, name="fc1", activation="relu")(x)
    model = keras.Model(image, layers.Dense(10, name="fc2")(x))
    rng = np.random.default_rng(0)
    for name in ("conv1", "conv2", "fc1"):
        kernel = model.get_layer(name).kernel
        kernel.assign(np.where(rng.random(kernel.shape) < 0.1, kernel, 0))
    return model


@pytest.fixture(scope="module")
def measured():
    try:
        return {
            kind: baselines.measure(int8(pruned), "cortex-m4", kind)
            for kind in ("traditional", "optimized", "dense", "scalpel")
        }
    except RuntimeError as error:
        if "There is no compiler" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("kind", KERNELS)
def test_formats(measured, kind):
    assert [layer.kernel for layer in measured[kind][1]] == KERNELS[kind]


def test_optimized_is_the_faster_of_both_and_an_export_at_least_as_fast(measured):
    cycles = {kind: run.cycles for kind, (run, _) in measured.items()}
    assert cycles["optimized"] < min(cycles["dense"], cycles["traditional"])
    assert cycles["scalpel"] <= cycles["optimized"]


def test_an_unknown_kind():
    with pytest.raises(ValueError, match="'traditional', 'optimized', 'dense', 'scalpel'; got 'x'"):
        baselines.formats("x")
