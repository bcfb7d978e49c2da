"""What comes out of `shrink` is a Keras model like any other: it trains, saves and converts."""

import graphs
import keras
import layer_graphs
import numpy as np
import pytest
import tensorflow as tf
from random_models import drop, outputs, randomise, samples

from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.convert import convert, run_reference
from scalpel_tf.train.masks import add_masks
from scalpel_tf.train.surgery import shrink

GRAPHS = graphs.GRAPHS + layer_graphs.GRAPHS
# The converter has no int8 kernel for something in these; it refuses the whole models too.
NOT_INT8 = {}
# Some of them in `make test`; the others are marked slow.
FAST = {"residual", "depthwise", "squeeze_excite", "unet_transposed", "shared_apart"}
MARKED = [
    pytest.param(make, id=make.__name__, marks=() if make.__name__ in FAST else pytest.mark.slow)
    for make in GRAPHS
]


def small_model(make):
    keras.utils.set_random_seed(0)
    return shrink(drop(add_masks(randomise(make(), 0)), 0))


@pytest.mark.parametrize("make", MARKED)
def test_it_trains_and_is_saved(make, tmp_path):
    small = small_model(make)
    inputs = samples(small)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    for one, other in zip(outputs(small, inputs), outputs(loaded, inputs), strict=True):
        np.testing.assert_array_equal(one, other)

    def loss():
        results = keras.tree.flatten(small(inputs, training=True))
        return sum(keras.ops.mean(keras.ops.square(result - 1)) for result in results)

    with tf.GradientTape() as tape:
        before = loss()
    weights = small.trainable_weights
    gradients = tape.gradient(before, [weight.value for weight in weights])
    assert [w.path for w, g in zip(weights, gradients, strict=True) if g is None] == []
    assert all(np.isfinite(keras.ops.convert_to_numpy(g)).all() for g in gradients)
    keras.optimizers.SGD(1e-3).apply(gradients, weights)
    assert np.isfinite(float(loss()))


@pytest.mark.parametrize("make", MARKED)
def test_it_runs_in_int8(make):
    """Quantisation moves the outputs, and by no more than it moves those of small networks."""
    small = small_model(make)
    arrays = keras.tree.flatten(samples(small, 40, seed=1))
    if make.__name__ in NOT_INT8:
        for model in (make(), small):
            with pytest.raises(ValueError, match=NOT_INT8[make.__name__]):
                convert(model, arrays[0] if len(arrays) == 1 else arrays)
        return
    data = convert(small, arrays[0] if len(arrays) == 1 else arrays)
    model = tflite.read(data)
    levels = [
        array.astype(tensor.dtype)
        if tensor.scale.size == 0
        else np.clip(np.round(array / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)
        for array, tensor in zip(arrays, (model.tensors[i] for i in model.inputs), strict=True)
    ]
    results = run_reference(data, levels)
    expected = outputs(small, keras.tree.pack_sequence_as(small.input, arrays))
    assert len(results) == len(expected)
    remaining = list(expected)
    for index, levels in zip(model.outputs, results, strict=True):
        tensor = model.tensors[index]
        values = (levels.astype(np.float64) - tensor.zero_point) * tensor.scale
        fits = [
            k
            for k, other in enumerate(remaining)
            if other.shape == values.shape
            and np.abs(values - other).max() <= 0.1 * np.abs(other).max()
        ]
        assert fits, make.__name__  # the converter orders outputs by their names
        remaining.pop(fits[0])
