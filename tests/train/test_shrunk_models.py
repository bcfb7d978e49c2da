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
# What neither the whole models nor the small ones get through, and why.
NOT_INT8 = {
    "unet_upsampling": "opcode 'TILE'",
    "one_dimensional": "opcode 'TILE'",
    "three_dimensional": "no int8 kernel for AvgPool3D",
    "multi_head_attention": "NEG. works in float32",
    "group_normalization": "NEG. works in float32",
    "embedding": "needs a static float32 shape; got int32",
    "lstm": None,  # TensorFlow's converter takes the process down
}
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


def in_int8(model, arrays):
    """The outputs of the model's int8 form, as real numbers, in the order of the file."""
    data = convert(model, arrays[0] if len(arrays) == 1 else arrays)
    read = tflite.read(data)
    levels = [
        np.clip(np.round(array / tensor.scale) + tensor.zero_point, -128, 127).astype(np.int8)
        for array, tensor in zip(arrays, (read.tensors[i] for i in read.inputs), strict=True)
    ]
    tensors = [read.tensors[index] for index in read.outputs]
    return [
        (result.astype(np.float64) - tensor.zero_point) * tensor.scale
        for result, tensor in zip(run_reference(data, levels), tensors, strict=True)
    ]


def near(one, other):
    """Within a tenth of the largest: what 8 bits do to small random networks."""
    return one.shape == other.shape and np.abs(one - other).max() <= 0.1 * np.abs(other).max()


@pytest.mark.parametrize("make", MARKED)
def test_it_runs_in_int8(make):
    small = small_model(make)
    arrays = keras.tree.flatten(samples(small, 40, seed=1))
    if make.__name__ in NOT_INT8:
        message = NOT_INT8[make.__name__]
        for model in (make(), small) if message else ():
            with pytest.raises(ValueError, match=message):
                in_int8(model, arrays)
        return
    results = in_int8(small, arrays)
    expected = outputs(small, keras.tree.pack_sequence_as(small.input, arrays))
    assert len(results) == len(expected)
    for result in results:  # the converter orders them by name
        found = [k for k, other in enumerate(expected) if near(result, other)]
        assert found
        expected.pop(found[0])


def test_near():
    one = np.array([1.0, -2.0])
    assert near(one, one + 0.15) and not near(one, one - [0, 0.3]) and not near(one, one[:1])
