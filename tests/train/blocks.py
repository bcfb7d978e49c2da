"""What the graphs of the tests are made of; images are 8 x 8."""

import keras
from keras import layers


def conv(x, filters, name, **options):
    """Convolution, batch normalisation, ReLU."""
    options = {"kernel_size": 3, "padding": "same", **options}
    rank = len(x.shape) - 2
    kind = {1: layers.Conv1D, 2: layers.Conv2D, 3: layers.Conv3D}[rank]
    return active(kind(filters, **options, name=name)(x), name)


def active(x, name):
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))


def head(x, name="logits"):
    rank = len(x.shape) - 2
    pool = {1: "1D", 2: "2D", 3: "3D"}[rank]
    x = getattr(layers, f"GlobalAveragePooling{pool}")(name=f"{name}_pool")(x)
    return layers.Dense(5, name=name)(x)


def image(channels=3):
    return keras.Input((8, 8, channels))
