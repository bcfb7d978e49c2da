"""convert() and run_reference(): what comes out, what is refused, and that nobody hears them."""

import keras
import numpy as np
import pytest

from scalpel_tf.deploy import tflite
from scalpel_tf.deploy.convert import convert, run_reference

RNG = np.random.default_rng(7)
SAMPLES = RNG.normal(size=(40, 8, 8, 1)).astype(np.float32)
layers = keras.layers


def sequential(*stack, shape=(8, 8, 1)):
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input(shape), *stack])


def dense_model(units=3):
    return sequential(layers.Flatten(), layers.Dense(units))


def quantized(tensor, values):
    levels = np.round(values / tensor.scale[0]) + tensor.zero_point[0]
    return np.clip(levels, -128, 127).astype(np.int8)


def real(tensor, levels):
    return (levels.astype(np.float64) - tensor.zero_point[0]) * tensor.scale[0]


def test_int8_follows_the_float_model():
    keras_model = sequential(
        layers.Conv2D(4, 3, activation="relu"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(5),
    )
    data = convert(keras_model, SAMPLES)
    model = tflite.read(data)
    assert [op.name for op in model.operators] == [
        "CONV_2D",
        "MAX_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]
    source, result = model.tensors[model.inputs[0]], model.tensors[model.outputs[0]]
    (levels,) = run_reference(data, quantized(source, SAMPLES))
    assert levels.dtype == np.int8 and levels.shape == (40, 5)
    expected = keras_model.predict(SAMPLES, verbose=0)
    assert np.corrcoef(real(result, levels).ravel(), expected.ravel())[0, 1] > 0.99


def test_batch_normalisation_folds_into_the_convolution():
    keras_model = sequential(
        layers.Conv2D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()
    )
    norm = keras_model.layers[1]
    norm.set_weights([RNG.uniform(0.5, 2, weight.shape) for weight in norm.get_weights()])
    (conv,) = tflite.read(convert(keras_model, SAMPLES)).operators
    assert (conv.name, conv.options["activation"]) == ("CONV_2D", "RELU")


def test_zeros_stay_zeros():
    keras_model = sequential(layers.Conv2D(4, 3), layers.Flatten(), layers.Dense(6))
    kept = {}
    for layer in (keras_model.layers[0], keras_model.layers[2]):
        kernel, bias = layer.get_weights()
        keep = RNG.random(kernel.shape) < 0.3
        layer.set_weights([kernel * keep, bias])
        kept[layer.name] = np.moveaxis(keep, -1, 0)
    model = tflite.read(convert(keras_model, SAMPLES))
    conv, dense = (model.tensors[model.operators[i].inputs[1]].data for i in (0, 2))
    conv_keep, dense_keep = kept.values()
    assert not conv[~conv_keep].any() and conv[conv_keep].any()
    assert not dense[~dense_keep].any() and dense[dense_keep].any()


def test_the_same_call_gives_the_same_bytes():
    keras_model = dense_model()
    assert convert(keras_model, SAMPLES) == convert(keras_model, SAMPLES)


@pytest.mark.parametrize(
    "data",
    [
        list(SAMPLES),
        (sample for sample in SAMPLES),
        [SAMPLES[:16], SAMPLES[16:]],
        (sample[None] for sample in SAMPLES),
        SAMPLES.astype(np.float64),
    ],
    ids=["list", "generator", "batches", "batches of one", "float64"],
)
def test_any_iterable_of_samples_is_representative_data(data):
    keras_model = dense_model()
    assert convert(keras_model, data) == convert(keras_model, SAMPLES)


def two_inputs():
    keras.utils.set_random_seed(3)
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    return keras.Model([b, a], [layers.Dense(2)(a), layers.Dense(5)(b)])


def test_several_inputs_and_outputs_keep_their_order():
    a, b = (RNG.normal(size=(30, n)).astype(np.float32) for n in (4, 3))
    keras_model = two_inputs()
    data = convert(keras_model, [b, a])
    assert data == convert(keras_model, zip(b, a, strict=True))
    model = tflite.read(data)
    tensors = [model.tensors[i] for i in model.inputs]
    assert [tensor.shape for tensor in tensors] == [(1, 3), (1, 4)]
    results = run_reference(data, [quantized(tensors[0], b), quantized(tensors[1], a)])
    assert [result.shape for result in results] == [(30, 2), (30, 5)]
    for index, levels, expected in zip(
        model.outputs, results, keras_model.predict([b, a], verbose=0), strict=True
    ):
        step = model.tensors[index].scale[0]
        assert np.abs(real(model.tensors[index], levels) - expected).max() < 4 * step


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


def not_finite(value):
    model = dense_model()
    kernel, bias = model.layers[1].get_weights()
    kernel[5, 1] = value
    model.layers[1].set_weights([kernel, bias])
    return model


def unbuilt():
    return keras.Sequential([layers.Dense(3)])


def dynamic():
    return keras.Sequential([keras.Input((None, 8, 1)), layers.Conv2D(2, 3)])


def whole_numbers():
    return keras.Sequential([keras.Input((4,), dtype="int32"), layers.Embedding(9, 2)])


class Sine(layers.Layer):
    def call(self, inputs):
        return keras.ops.sin(inputs)


class ErrorFunction(layers.Layer):
    def call(self, inputs):
        return keras.ops.erf(inputs)


@pytest.mark.parametrize(
    "model, sentence",
    [
        (lambda: "model.keras", "A Keras model is needed; got str"),
        (Subclassed, "Subclassed is a subclassed model"),
        (unbuilt, "no input shape"),
        (dynamic, r"static float32 shape; got float32 \(None, 8, 1\)"),
        (whole_numbers, r"static float32 shape; got int32 \(4,\)"),
        (lambda: not_finite(np.nan), "kernel' hold NaN or infinity"),
        (lambda: not_finite(-np.inf), "kernel' hold NaN or infinity"),
        (lambda: sequential(Sine()), r"SIN\) works in float32"),
        (lambda: sequential(ErrorFunction()), "no int8 kernel for Erf"),
    ],
)
def test_convert_refuses_a_model(model, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        convert(model(), SAMPLES)
    assert "\n" not in str(refused.value)


def test_convert_refuses_tf_keras():
    tf_keras = pytest.importorskip("tf_keras")
    model = tf_keras.Sequential([tf_keras.layers.Dense(2, input_shape=(4,))])
    with pytest.raises(ValueError, match="tf_keras"):
        convert(model, SAMPLES)


@pytest.mark.parametrize(
    "data, sentence",
    [
        (SAMPLES[:0], "empty"),
        ([], "empty"),
        (None, "got NoneType"),
        (SAMPLES[:, :7], r"must have shape \(8, 8, 1\); got \(7, 8, 1\)"),
        (SAMPLES[..., 0], r"got \(8, 8\)"),
        (SAMPLES[0], r"got \(8, 1\)"),
        ([["a"]], "not an array"),
        (np.where(SAMPLES == SAMPLES.min(), np.nan, SAMPLES), "NaN or infinity"),
        (np.where(SAMPLES == SAMPLES.max(), np.inf, SAMPLES), "NaN or infinity"),
    ],
)
def test_convert_refuses_data(data, sentence):
    with pytest.raises(ValueError, match=sentence):
        convert(dense_model(), data)


@pytest.mark.parametrize(
    "data, sentence",
    [
        ([np.zeros((2, 3)), np.zeros((3, 4))], "different numbers"),
        ([(np.zeros(3),)], "needs 2 arrays"),
        ([], "empty"),
    ],
)
def test_convert_refuses_data_for_two_inputs(data, sentence):
    with pytest.raises(ValueError, match=sentence):
        convert(two_inputs(), data)


@pytest.mark.parametrize(
    "inputs, sentence",
    [
        (SAMPLES, "takes int8 samples"),
        (np.zeros((2, 8, 7, 1), np.int8), r"got int8 of shape \(2, 8, 7, 1\)"),
        (np.int8(3), "got int8 of shape"),
        ([np.zeros((2, 8, 8, 1), np.int8)] * 2, "has 1 inputs; got 2 arrays"),
        (np.zeros((0, 8, 8, 1), np.int8), "at least one"),
    ],
)
def test_run_reference_refuses_inputs(inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        run_reference(convert(dense_model(), SAMPLES), inputs)


def test_run_reference_refuses_garbage():
    with pytest.raises(ValueError, match="tflite"):
        run_reference(b"garbage", SAMPLES)


def test_nothing_is_printed(capfd):
    convert(dense_model(), SAMPLES)
    assert capfd.readouterr() == ("", "")
