"""MLPerf Tiny's networks (Banbury et al., NeurIPS Datasets and Benchmarks, 2021, section 4).

Each function returns a new, uncompiled functional Keras model with random weights, in the shapes of
the benchmark's reference implementation (github.com/mlcommons/tiny); dropout and weight decay are
left out. The weights count without biases and normalisation, which folds away at conversion.
"""

import keras
from keras import layers


def resnet_8() -> keras.Model:
    """Image classification: (32, 32, 3) to 10 probabilities; 77,360 weights, 12,501,632 MACs."""
    inputs = keras.Input((32, 32, 3), name="image")
    x = _normalised(layers.Conv2D(16, 3, padding="same", name="conv1")(inputs), "conv1")
    for index, (filters, strides) in enumerate([(16, 1), (32, 2), (64, 2)], 1):
        name = f"stack{index}"
        y = layers.Conv2D(filters, 3, strides, padding="same", name=f"{name}_conv1")(x)
        y = _normalised(y, f"{name}_conv1")
        y = layers.Conv2D(filters, 3, padding="same", name=f"{name}_conv2")(y)
        y = layers.BatchNormalization(name=f"{name}_conv2_norm")(y)
        if strides > 1:
            x = layers.Conv2D(filters, 1, strides, padding="same", name=f"{name}_shortcut")(x)
        x = layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_add")([x, y]))
    x = layers.AveragePooling2D(8, name="pool")(x)
    return _classifier(inputs, x, 10, "resnet_8")


def ds_cnn() -> keras.Model:
    """Keyword spotting: (49, 10, 1) to 12 probabilities; 22,016 weights, 2,656,768 MACs."""
    inputs = keras.Input((49, 10, 1), name="features")
    x = layers.Conv2D(64, (10, 4), 2, padding="same", name="conv1")(inputs)
    x = _normalised(x, "conv1")
    for index in range(1, 5):
        x = _separable(x, 64, 1, f"block{index}")
    x = layers.AveragePooling2D((25, 5), name="pool")(x)
    return _classifier(inputs, x, 12, "ds_cnn")


def mobilenet_v1() -> keras.Model:
    """Visual wake words: (96, 96, 3) to 2 probabilities; 208,112 weights, 7,489,664 MACs.

    MobileNetV1 of width 0.25 (Howard et al., 2017, table 1).
    """
    inputs = keras.Input((96, 96, 3), name="image")
    x = layers.Conv2D(8, 3, 2, padding="same", name="conv1")(inputs)
    x = _normalised(x, "conv1")
    blocks = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *[(128, 1)] * 5, (256, 2)]
    for index, (filters, strides) in enumerate([*blocks, (256, 1)], 1):
        x = _separable(x, filters, strides, f"block{index}")
    x = layers.AveragePooling2D(3, name="pool")(x)
    return _classifier(inputs, x, 2, "mobilenet_v1")


def autoencoder() -> keras.Model:
    """Anomaly detection: 640 features to their reconstruction; 264,192 weights and MACs."""
    inputs = x = keras.Input((640,), name="features")
    for index, units in enumerate([128, 128, 128, 128, 8, 128, 128, 128, 128], 1):
        x = _normalised(layers.Dense(units, name=f"fc{index}")(x), f"fc{index}")
    return keras.Model(inputs, layers.Dense(640, name="fc10")(x), name="autoencoder")


def _separable(x, filters, strides, name):
    x = layers.DepthwiseConv2D(3, strides, padding="same", name=f"{name}_depthwise")(x)
    x = _normalised(x, f"{name}_depthwise")
    x = layers.Conv2D(filters, 1, name=f"{name}_pointwise")(x)
    return _normalised(x, f"{name}_pointwise")


def _normalised(x, name):
    x = layers.BatchNormalization(name=f"{name}_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def _classifier(inputs, x, classes, name):
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(classes, "softmax", name="classes")(x), name=name)
