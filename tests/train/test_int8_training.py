import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scalpel_tf.deploy import convert, tflite
from scalpel_tf.models import walk
from scalpel_tf.train.int8_layers import ActivationRange, fake_kernel, ranges
from scalpel_tf.train.int8_training import int8_aware, plain
from scalpel_tf.train.wrap import prune

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(40, 6, 6, 3)).astype(np.float32)


def thinned(model, density=0.5):
    """The model with random zeros in its kernels and a random normalisation."""
    rng = np.random.default_rng(1)
    for _, layer in walk(model):
        for variable in layer.weights:
            value = variable.numpy()
            if variable.name == "kernel":
                value = np.where(rng.random(value.shape) < density, value, 0)
            if variable.name in ("gamma", "moving_variance"):
                value = rng.uniform(0.5, 2, value.shape)
            if variable.name == "beta":
                value = rng.normal(size=value.shape)
            variable.assign(value)
    return model


def residual():
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="conv")(image)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    inner = keras.Input((6, 6, 8))
    y = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(inner)
    y = layers.BatchNormalization(name="inner_norm")(y)
    y = layers.ReLU(6, name="relu6")(y)
    y = layers.Conv2D(8, 1, activation="relu", name="pointwise")(y)
    x = x + keras.Model(inner, y, name="block")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Dropout(0.5, name="dropout")(layers.Flatten(name="flatten")(x))
    x = layers.Dense(5, activation="softmax", name="classes")(x)
    return thinned(keras.Model(image, x, name="residual"))


def test_kernels_have_a_scale_for_each_output():
    kernel = np.array([[127.0, 0.2], [10.4, 0], [-3.6, -0.254]])
    rounded = fake_kernel(tf.constant(kernel), "dense")
    np.testing.assert_allclose(rounded, [[127, 0.2], [10, 0], [-4, -0.254]], rtol=1e-12)
    assert not fake_kernel(tf.zeros((3, 3, 2, 1)), "depthwise").numpy().any()


def test_activations_have_256_steps_and_zero_among_them():
    around = ActivationRange()
    around.low.assign(-1.0)
    around.high.assign(1.55)  # steps of 0.01
    given = np.array([-2, -0.994, 0, 0.016, 1.54, 9], np.float32)
    np.testing.assert_allclose(around(given), [-1, -0.99, 0, 0.02, 1.54, 1.55], atol=1e-6)
    np.testing.assert_array_equal(ActivationRange()(given), given)  # it has seen nothing


def test_a_range_widens_at_once_and_shrinks_slowly():
    around = ActivationRange()
    around(np.array([-4.0, 2], np.float32), training=True)
    assert [float(end.numpy()) for end in around.weights] == [-4, 2]
    around(np.array([1.0, 1], np.float32), training=True)
    np.testing.assert_allclose([end.numpy() for end in around.weights], [-3.96, 1.99])


def test_it_rounds_what_tflite_rounds():
    """But for the pointwise convolution, which TFLite calibrates after ADD has run in its place."""
    model = residual()
    aware = int8_aware(model, IMAGES)
    rounds = {path: getattr(layer, "rounds", ()) for path, layer in walk(aware)}
    assert {path: given for path, given in rounds.items() if given} == {
        "conv": ("kernels", "inputs"),
        "relu": ("outputs",),
        "block/depthwise": ("kernels",),
        "block/relu6": ("outputs",),
        "block/pointwise": ("kernels", "outputs"),
        "classes": ("kernels", "sums"),
    }
    network = tflite.read(convert.convert(model, IMAGES))
    scales = [float(network.tensors[network.inputs[0]].scale[0])]
    scales += [float(network.tensors[op.outputs[0]].scale[0]) for op in network.operators]
    input_, conv, depthwise, pointwise, add, pool, flatten, sums, softmax = scales
    found = {path: ranges(layer) for path, layer in walk(aware)}
    sum_of_both = next(path for path in found if path.startswith("add"))  # Keras numbers it
    ours = [
        float(around.high.numpy() - around.low.numpy()) / 255
        for path in ("conv", "relu", "block/relu6", sum_of_both, "classes")
        for around in found[path]
    ]
    np.testing.assert_allclose(ours, [input_, conv, depthwise, add, sums], rtol=0.01)


def int8_outputs(data, images):
    network = tflite.read(data)
    source, result = (network.tensors[i[0]] for i in (network.inputs, network.outputs))
    given = np.round(images / source.scale[0]) + source.zero_point[0]
    (outputs,) = convert.run_reference(data, np.clip(given, -128, 127).astype(np.int8))
    return (outputs.astype(np.float32) - result.zero_point[0]) * result.scale[0]


def test_zeros_stay_and_the_model_comes_back(tmp_path):
    model = residual()
    before = [weight.copy() for weight in model.get_weights()]
    aware = int8_aware(model, IMAGES, skip="conv")
    ema = keras.optimizers.AdamW(0.01, use_ema=True, ema_overwrite_frequency=2)
    aware.compile(ema, "sparse_categorical_crossentropy")
    aware.fit(IMAGES, np.arange(40) % 5, batch_size=10, epochs=1, verbose=0)
    aware.save(tmp_path / "aware.keras")
    back = plain(keras.models.load_model(tmp_path / "aware.keras"))
    assert back.get_config() == model.get_config()
    assert [path for path, _ in walk(back)] == [path for path, _ in walk(model)]
    for name, old, new in zip(model.weights, before, back.get_weights(), strict=True):
        if name.name == "kernel":
            np.testing.assert_array_equal(new == 0, old == 0, name.path)
            assert (new != old).any(), name.path
    for old, same in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(old, same)


def test_a_sequential_model_stays_one():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Activation("tanh")])
    aware = int8_aware(model, np.eye(4))
    assert isinstance(aware, keras.Sequential) and isinstance(plain(aware), keras.Sequential)


def skewed():
    """A classifier whose hidden layer has three units a hundred times as large as the others."""
    keras.utils.set_random_seed(0)
    x = np.random.default_rng(0).uniform(-1, 1, (512, 2)).astype(np.float32)
    y = (np.hypot(*x.T) < 0.8).astype(int)
    model = keras.Sequential(
        [keras.Input((2,)), layers.Dense(24, activation="relu"), layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.03), loss)
    model.fit(x, y, batch_size=64, epochs=12, verbose=0)
    first, second = model.layers
    factor = np.where(np.arange(24) < 3, 100, 1).astype(np.float32)
    keep = np.random.default_rng(1).random((24, 2)) < 0.8
    first.kernel.assign(first.kernel * factor)
    first.bias.assign(first.bias * factor)
    second.kernel.assign(np.where(keep, second.kernel / factor[:, None], 0))
    return model, loss, x, y


def test_fine_tuning_makes_the_int8_model_better():
    model, loss, x, y = skewed()

    def int8_loss(float_model):
        return float(loss(y, int8_outputs(convert.convert(float_model, x), x)))

    before = int8_loss(model)
    aware = int8_aware(model, x)
    assert float(loss(y, aware(x, training=False))) == pytest.approx(before, rel=0.05)
    aware.compile(keras.optimizers.Adam(0.003), loss)
    aware.fit(x, y, batch_size=64, epochs=10, verbose=0)
    tuned = plain(aware)
    assert int8_loss(tuned) < 0.6 * before  # 0.44, and 0.15 in float32
    zeros = model.layers[1].kernel.numpy() == 0
    np.testing.assert_array_equal(tuned.layers[1].kernel.numpy()[zeros], 0)
    assert zeros.any()


@pytest.mark.parametrize(
    "call, wrong",
    [
        (lambda m: int8_aware(prune(m, ratio=0.5), IMAGES), "'conv' is a PruneWrapper"),
        (lambda m: int8_aware(int8_aware(m, IMAGES), IMAGES), "'conv' is a FakeInt8"),
        (lambda m: int8_aware(m, IMAGES * np.nan), "no int8 scale"),
        (lambda m: int8_aware(m, IMAGES, skip="cnov"), "'cnov', which selects no layer"),
        (plain, "no FakeInt8"),
    ],
)
def test_errors_say_what_to_do(call, wrong):
    image = keras.Input((6, 6, 3))
    with pytest.raises(ValueError, match=wrong):
        call(keras.Model(image, layers.Conv2D(2, 3, name="conv")(image)))
