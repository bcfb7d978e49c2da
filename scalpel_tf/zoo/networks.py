"""The benchmark networks of Scalpel (Yu et al., ISCA 2017, Table 2).

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


NIN = (192, 160, 96, 192, 192, 192, 192, 192)
ALEXNET = (96, 256, 384, 384, 256, 4096, 4096)


def nin(nodes: tuple[int, ...] = NIN) -> keras.Model:
    """Network in Network for CIFAR-10: (32, 32, 3) to 10 logits; 965,568 weights, 222.5 M MACs.

    nodes: filters of its first eight convolutions.
    """

    def block(x, index, size, filters):
        for layer, count in enumerate(filters):
            name = f"cccp{2 * index - 2 + layer}" if layer else f"conv{index}"
            kernel = 1 if layer else size
            x = layers.Conv2D(count, kernel, padding="same", activation="relu", name=name)(x)
        return x

    inputs = keras.Input((32, 32, 3), name="image")
    x = block(inputs, 1, 5, nodes[:3])
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    x = layers.Dropout(0.5, name="drop1")(x)
    x = block(x, 2, 5, nodes[3:6])
    x = layers.AveragePooling2D(3, strides=2, padding="same", name="pool2")(x)
    x = layers.Dropout(0.5, name="drop2")(x)
    x = block(x, 3, 3, (*nodes[6:], 10))
    return keras.Model(inputs, layers.GlobalAveragePooling2D(name="pool3")(x), name="nin")


def alexnet(nodes: tuple[int, ...] = ALEXNET) -> keras.Model:
    """Caffe's AlexNet: (227, 227, 3) to 1000 logits; 60,954,656 weights, 724.4 M MACs.

    Its second, fourth and fifth convolution are in two groups. Its local response normalisations
    are left out.
    nodes: filters of the five convolutions, all even, and units of the first two dense layers.
    """

    def conv(x, index, size, **options):
        options = {"padding": "same", "activation": "relu", "name": f"conv{index}"} | options
        return layers.Conv2D(nodes[index - 1], size, **options)(x)

    def pool(x, index):
        return layers.MaxPooling2D(3, strides=2, name=f"pool{index}")(x)

    inputs = keras.Input((227, 227, 3), name="image")
    x = pool(conv(inputs, 1, 11, strides=4, padding="valid"), 1)
    x = pool(conv(x, 2, 5, groups=2), 2)
    x = conv(x, 3, 3)
    x = conv(x, 4, 3, groups=2)
    x = pool(conv(x, 5, 3, groups=2), 5)
    x = layers.Flatten(name="flatten")(x)
    for index, units in enumerate(nodes[5:], start=6):
        x = layers.Dense(units, activation="relu", name=f"fc{index}")(x)
        x = layers.Dropout(0.5, name=f"drop{index}")(x)
    return keras.Model(inputs, layers.Dense(1000, name="fc8")(x), name="alexnet")
