"""Small trained-enough models, and their int8 bytes, made once a session."""

from functools import cache

import keras
import numpy as np
from keras import layers

from scalpel_tf.deploy import convert


@cache
def dense_model(units=(20, 10), inputs=37, density=0.2, seed=0):
    """A functional model of Dense layers whose kernels have random zero groups of 4."""
    keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    x = tensor = keras.Input((inputs,))
    for index, size in enumerate(units):
        activation = "relu" if index < len(units) - 1 else None
        tensor = layers.Dense(size, activation=activation, name=f"fc{index + 1}")(tensor)
    model = keras.Model(x, tensor, name="small")
    for layer in model.layers[1:]:
        cols, out = layer.kernel.shape
        keep = np.repeat(rng.random((-(-cols // 4), out)) < density, 4, 0)[:cols]
        layer.kernel.assign(np.where(keep, layer.kernel, 0))
        layer.bias.assign(rng.normal(0, 0.1, out))
    return model


@cache
def conv_model(seed=0):
    """Every operator that has a kernel: convolutions, pools, an activation alone, a softmax."""
    keras.utils.set_random_seed(seed)
    image = keras.Input((9, 8, 3))
    x = layers.ReLU(name="alone")(image)
    x = layers.Conv2D(6, 3, strides=2, padding="same", name="conv")(x)
    x = layers.BatchNormalization(name="norm")(x)
    x = layers.ReLU(max_value=6.0, name="relu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(x)
    x = layers.MaxPooling2D(2, padding="same", name="max")(x)
    x = layers.AveragePooling2D(2, strides=1, name="average")(x)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, layers.Dense(5, activation="softmax", name="classes")(x), name="all")


@cache
def int8(make, *args) -> bytes:
    """The int8 `.tflite` of a model of this module, calibrated on noise."""
    model = make(*args)
    noise = np.random.default_rng(1).normal(0, 1, (50, *model.input_shape[1:]))
    return convert.convert(model, noise.astype(np.float32))
