"""The benchmark networks of Scalpel (Yu et al., ISCA 2017, Table 2) that have up to 12 M MACs.

Each function returns a new, uncompiled functional Keras model. Inputs are float images in [0, 1];
outputs are logits. The weights count without biases; normalisation folds away at conversion.
"""

import keras
from keras import layers


def lenet_300_100() -> keras.Model:
    """LeNet-300-100: (28, 28, 1) to 10 logits; 266,200 weights and MACs."""
    inputs = keras.Input((28, 28, 1), name="image")
    x = layers.Flatten(name="flatten")(inputs)
    x = layers.Dense(300, activation="relu", name="fc1")(x)
    x = layers.Dense(100, activation="relu", name="fc2")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc3")(x), name="lenet_300_100")


def lenet_5() -> keras.Model:
    """LeNet-5 in Caffe's shapes: (28, 28, 1) to 10 logits; 430,500 weights, 2.293 M MACs."""
    inputs = keras.Input((28, 28, 1), name="image")
    x = layers.Conv2D(20, 5, name="conv1")(inputs)
    x = layers.MaxPooling2D(2, name="pool1")(x)
    x = layers.Conv2D(50, 5, name="conv2")(x)
    x = layers.MaxPooling2D(2, name="pool2")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(500, activation="relu", name="fc1")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc2")(x), name="lenet_5")


def convnet() -> keras.Model:
    """Caffe's cifar10_full: (32, 32, 3) to 10 logits; 89,440 weights, 12.30 M MACs.

    Its local response normalisations are batch normalisations here, directly after each
    convolution, where the converter folds them into the weights.
    """

    def block(x, index, filters, pool):
        x = layers.Conv2D(filters, 5, padding="same", use_bias=False, name=f"conv{index}")(x)
        x = layers.BatchNormalization(name=f"norm{index}")(x)
        x = layers.ReLU(name=f"relu{index}")(x)
        return pool(3, strides=2, padding="same", name=f"pool{index}")(x)

    inputs = keras.Input((32, 32, 3), name="image")
    x = block(inputs, 1, 32, layers.MaxPooling2D)
    x = block(x, 2, 32, layers.AveragePooling2D)
    x = block(x, 3, 64, layers.AveragePooling2D)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(inputs, layers.Dense(10, name="fc1")(x), name="convnet")
