"""Networks with every operator that the converter writes, exported bit for bit."""

import keras
import numpy as np
import pytest
from keras import applications, layers

from scalpel_tf.deploy import convert
from scalpel_tf.deploy.export import export


def branches():
    """What convolutional networks have beside convolutions, pools and dense layers."""
    image = keras.Input((9, 8, 6))
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="conv")(image)
    x = layers.DepthwiseConv2D(3, dilation_rate=2, name="depthwise")(x)
    a = layers.Activation("tanh", name="tanh")(x)
    b = layers.Activation("sigmoid", name="sigmoid")(x)
    y = layers.Multiply(name="mul")([a, b])
    y = layers.Subtract(name="sub")([y, layers.LeakyReLU(0.2, name="leaky")(x)])
    y = layers.Concatenate(name="concat")([y, a])
    y = layers.ZeroPadding2D(((1, 2), (2, 0)), name="pad")(y)
    y = layers.Permute((2, 1, 3), name="transpose")(y)
    y = layers.Cropping2D(((1, 3), (0, 2)), name="slice")(y)
    y = layers.Activation("hard_swish", name="swish")(y)
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="mean")(y)
    gate = layers.Conv2D(16, 1, activation="sigmoid", name="gate")(gate)
    y = layers.Add(name="add")([layers.Multiply(name="gated")([y, gate]), y])
    y = layers.AveragePooling2D((2, 3), padding="same", name="pool")(y)
    return keras.Model(image, layers.Dense(5, name="fc")(layers.Flatten(name="flat")(y)))


def converted(model, scale=1.0):
    """The int8 form of the model with random statistics, calibrated on noise."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.path.endswith(("beta", "bias", "moving_mean")):
            variable.assign(rng.normal(0, 0.2, variable.shape))
        if variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.7, 1.3, variable.shape))
    x = rng.random((20, *model.input_shape[1:]), np.float32)
    return convert.convert(model, scale * x)


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_every_operator_in_one_network(target, tmp_path):
    keras.utils.set_random_seed(0)
    report = export(converted(branches()), target=target, out=tmp_path / "firmware")
    assert any("virtual" in where for where in report.verified)
    assert {layer["op"] for layer in report.layers} >= {
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TANH", "LOGISTIC", "MUL", "SUB", "LEAKY_RELU", "PAD"),
        *("CONCATENATION", "TRANSPOSE", "STRIDED_SLICE", "HARD_SWISH", "MEAN", "ADD"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "build, size, scale, options",
    [
        (applications.MobileNet, 64, 1, {"alpha": 0.25}),
        (applications.MobileNetV2, 48, 1, {"alpha": 0.35}),
        (applications.MobileNetV3Small, 64, 255, {"alpha": 0.75}),
        (applications.MobileNetV3Small, 64, 255, {"alpha": 0.75, "minimalistic": True}),
    ],
)
def test_mobilenets(build, size, scale, options, tmp_path):
    keras.utils.set_random_seed(0)
    model = build((size, size, 3), weights=None, classes=10, **options)
    data = converted(model, scale)
    report = export(data, out=tmp_path / "firmware", flash=4 << 20, ram=1 << 20)
    assert len(report.verified) == 2
