"""Small Keras graphs, each with one way to tie the channels of several layers.

Every function returns a new functional model that is not compiled.
"""

import keras
from blocks import active, conv, head, image
from keras import layers, ops


def nested_functional():
    inner = keras.Input((8, 8, 8))
    block = keras.Model(inner, conv(conv(inner, 12, "in1"), 6, "in2"), name="block")
    x = image()
    return keras.Model(x, head(block(conv(x, 8, "stem"))), name="nested_functional")


def nested_sequential():
    block = keras.Sequential(
        [
            keras.Input((8, 8, 8)),
            layers.Conv2D(12, 3, name="in1"),
            layers.BatchNormalization(name="in1_norm"),
            layers.ReLU(),
            layers.Conv2D(6, 1, activation="relu", name="in2"),
        ],
        name="block",
    )
    x = image()
    return keras.Model(x, head(block(conv(x, 8, "stem"))), name="nested_sequential")


def nested_twice():
    """A model called twice: its own layers are shared, and so is what feeds both calls."""
    inner = keras.Input((8, 8, 8))
    block = keras.Model(inner, conv(conv(inner, 12, "in1"), 8, "in2"), name="block")
    x = image()
    y = block(block(conv(x, 8, "stem")))
    return keras.Model(x, head(y), name="nested_twice")


def nested_deep():
    """Two outputs out of a model inside a model; one of them is a gate."""
    innermost_in = keras.Input((8, 8, 6))
    left = conv(innermost_in, 8, "left")
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="gate")(innermost_in)
    innermost = keras.Model(innermost_in, [left, gate], name="innermost")
    middle_in = keras.Input((8, 8, 6))
    middle = keras.Model(middle_in, layers.Multiply()(innermost(middle_in)), name="middle")
    x = image()
    return keras.Model(x, head(conv(middle(conv(x, 6, "stem")), 7, "last")), name="nested_deep")


def shared_layer():
    x = image()
    twice = layers.Conv2D(8, 3, padding="same", activation="relu", name="twice")
    y = layers.Add()([twice(conv(x, 6, "one")), twice(conv(x, 6, "two"))])
    return keras.Model(x, head(y), name="shared_layer")


def shared_apart():
    """One layer, two places that have nothing else in common."""
    one, two = image(4), image(4)
    twice = layers.Conv2D(8, 3, activation="relu", name="twice")
    left, right = conv(twice(one), 6, "left"), conv(twice(two), 5, "right")
    return keras.Model([one, two], [head(left, "a"), head(right, "b")], name="shared_apart")


def multi_input():
    picture, vector = keras.Input((8, 8, 3), name="p"), keras.Input((4,), name="v")
    y = layers.GlobalMaxPooling2D()(conv(picture, 8, "picture"))
    z = layers.Dense(6, activation="relu", name="vector")(vector)
    y = layers.Dense(8, activation="relu", name="both")(layers.Concatenate()([y, z, vector]))
    return keras.Model({"p": picture, "v": vector}, layers.Dense(3)(y), name="multi_input")


def multi_output():
    """Features that are themselves an output stay whole."""
    x = image()
    trunk = conv(x, 8, "trunk")
    features = conv(trunk, 6, "features")
    outputs = {"class": head(features), "map": features, "box": head(conv(trunk, 7, "own"), "box")}
    return keras.Model(x, outputs, name="multi_output")


def grouped():
    x = image(4)
    y = conv(conv(x, 8, "stem"), 12, "grouped", groups=2)
    y = conv(y, 12, "again", groups=4)
    return keras.Model(x, head(conv(y, 6, "last")), name="grouped")


def _shuffled(name, shuffle):
    x = image()
    y = conv(conv(x, 12, "stem"), 12, "one", groups=3, kernel_size=1)
    y = conv(shuffle(y), 12, "two", groups=3, kernel_size=1)
    return keras.Model(x, head(y), name=name)


def shuffle_of_layers():
    def shuffle(y):
        y = layers.Permute((1, 2, 4, 3))(layers.Reshape((8, 8, 3, 4))(y))
        return layers.Reshape((8, 8, 12))(y)

    return _shuffled("shuffle_of_layers", shuffle)


def shuffle_of_ops():
    def shuffle(y):
        y = ops.transpose(ops.reshape(y, (-1, 8, 8, 3, 4)), (0, 1, 2, 4, 3))
        return ops.reshape(y, (-1, 8, 8, 12))

    return _shuffled("shuffle_of_ops", shuffle)


def squeeze_excite():
    x = image()
    y = conv(x, 12, "stem")
    gate = layers.Reshape((1, 1, 12))(layers.GlobalAveragePooling2D()(y))
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(12, 1, activation="sigmoid", name="excite")(gate)
    y = conv(layers.Multiply()([y, gate]), 8, "project")
    flat = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gate = layers.Dense(8, activation="hard_sigmoid", name="excite2")(flat)
    return keras.Model(x, head(y * gate), name="squeeze_excite")


def dense_block():
    """Normalised and activated before each convolution, so that one channel has many norms."""
    x = image()
    y = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    for index in (1, 2, 3):
        new = layers.Conv2D(8, 1, use_bias=False, name=f"narrow{index}")(active(y, f"pre{index}"))
        new = layers.Conv2D(4, 3, padding="same", name=f"grow{index}")(active(new, f"mid{index}"))
        y = layers.Concatenate()([y, new])
    y = layers.Conv2D(6, 1, name="transition")(active(y, "out"))
    return keras.Model(x, head(active(layers.AveragePooling2D(2)(y), "last")), name="dense_block")


def residual():
    x = image()
    y = layers.MaxPooling2D()(conv(x, 8, "stem"))
    for index in (1, 2):
        inner = conv(y, 6, f"narrow{index}")
        inner = layers.Conv2D(8, 3, padding="same", name=f"wide{index}")(inner)
        inner = layers.BatchNormalization(name=f"wide{index}_norm")(inner)
        y = layers.ReLU()(layers.Add()([y, inner]))
    short = layers.BatchNormalization(name="short_norm")(layers.Conv2D(12, 1, name="short")(y))
    inner = layers.Conv2D(12, 3, padding="same", name="long")(conv(y, 8, "long_narrow"))
    y = layers.ReLU()(layers.BatchNormalization(name="long_norm")(inner) + short)
    return keras.Model(x, head(y), name="residual")


def preactivation():
    x = image()
    y = layers.Conv2D(8, 3, padding="same", name="stem")(x)
    for index in (1, 2):
        inner = conv(active(y, f"pre{index}"), 6, f"narrow{index}")
        y = layers.Add()([y, layers.Conv2D(8, 3, padding="same", name=f"wide{index}")(inner)])
    return keras.Model(x, head(active(y, "last")), name="preactivation")


def _unet(name, up):
    x = image()
    outer = conv(x, 6, "outer")
    inner = conv(layers.MaxPooling2D()(outer), 8, "inner")
    y = layers.Concatenate()([inner, up(conv(layers.MaxPooling2D()(inner), 12, "bottom"), "low")])
    y = layers.Concatenate()([up(conv(y, 8, "right"), "high"), outer])
    y = layers.Conv2D(2, 1, name="map")(conv(y, 6, "last"))
    return keras.Model(x, y, name=name)


def unet_upsampling():
    return _unet("unet_upsampling", lambda y, name: layers.UpSampling2D(2, name=name)(y))


def unet_transposed():
    def up(y, name):
        options = {"strides": 2, "padding": "same", "activation": "relu", "name": name}
        return layers.Conv2DTranspose(8, 2, **options)(y)

    return _unet("unet_transposed", up)


def inception():
    x = image()
    y = conv(x, 8, "stem")
    branches = [
        conv(y, 4, "b1", kernel_size=1),
        conv(conv(y, 6, "b2a", kernel_size=1), 8, "b2b"),
        conv(layers.AveragePooling2D(3, strides=1, padding="same")(y), 4, "b3", kernel_size=1),
        layers.MaxPooling2D(3, strides=1, padding="same")(y),
    ]
    return keras.Model(x, head(conv(layers.Concatenate()(branches), 8, "last")), name="inception")


def merges():
    """Every elementwise merge, and a broadcast of one channel over many."""
    x = image()
    one, two = conv(x, 8, "one"), conv(x, 8, "two")
    y = layers.Maximum()([one, two]) + layers.Minimum()([one, two])
    y = layers.Subtract()([layers.Average()([y, one]), two])
    weight = layers.Conv2D(1, 1, activation="sigmoid", name="spatial")(y)
    return keras.Model(x, head(conv(y * weight, 6, "last")), name="merges")


GRAPHS = (
    nested_functional,
    nested_sequential,
    nested_twice,
    nested_deep,
    shared_layer,
    shared_apart,
    multi_input,
    multi_output,
    grouped,
    shuffle_of_layers,
    shuffle_of_ops,
    squeeze_excite,
    dense_block,
    residual,
    preactivation,
    unet_upsampling,
    unet_transposed,
    inception,
    merges,
)
