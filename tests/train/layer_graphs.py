"""Small Keras graphs, each around one kind of layer or operation that carries channels.

Every function returns a new functional model that is not compiled.
"""

import keras
from blocks import active, conv, head, image
from keras import layers, ops


def chain():
    """Activations that are not 0 at 0, and a batch normalisation after a pool."""
    x = image()
    y = layers.Conv2D(8, 3, activation="sigmoid", name="sigmoid")(x)
    y = layers.BatchNormalization(name="norm")(layers.MaxPooling2D(2, padding="same")(y))
    y = layers.Conv2D(12, 3, padding="same", activation="softplus", use_bias=False, name="soft")(y)
    y = layers.Conv2D(8, 1, strides=2, name="strided")(y)
    y = layers.Activation("tanh", name="tanh")(y)
    y = layers.Dropout(0.3)(layers.AveragePooling2D(2)(y))
    return keras.Model(x, head(y), name="chain")


def transposed():
    x = image()
    y = layers.Conv2DTranspose(8, 3, strides=2, padding="same", name="up")(conv(x, 6, "stem"))
    y = layers.Conv2DTranspose(5, 2, name="up2")(active(y, "up"))
    return keras.Model(x, head(conv(active(y, "up2"), 6, "last")), name="transposed")


def one_dimensional():
    x = keras.Input((16, 3))
    y = layers.MaxPooling1D(2)(conv(x, 8, "one"))
    y = layers.Conv1DTranspose(6, 3, strides=2, activation="relu", name="up")(y)
    y = layers.SeparableConv1D(8, 3, activation="relu", name="separable")(y)
    y = layers.DepthwiseConv1D(3, activation="relu", name="depthwise")(y)
    y = layers.UpSampling1D(2)(layers.ZeroPadding1D(1)(y))
    return keras.Model(x, head(conv(y, 7, "causal", padding="causal")), name="one_dimensional")


def three_dimensional():
    x = keras.Input((4, 8, 8, 2))
    y = layers.AveragePooling3D(2)(conv(x, 6, "one"))
    y = layers.Conv3DTranspose(5, 2, strides=2, activation="relu", name="up")(y)
    y = layers.ZeroPadding3D(1)(layers.UpSampling3D(1)(y))
    return keras.Model(x, head(conv(y, 8, "two")), name="three_dimensional")


def separable():
    x = image()
    y = layers.SeparableConv2D(8, 3, padding="same", depth_multiplier=2, name="one")(x)
    y = layers.SeparableConv2D(6, 3, depth_multiplier=2, name="two")(active(y, "one"))
    return keras.Model(x, head(conv(active(y, "two"), 5, "last")), name="separable")


def depthwise():
    x = image()
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="on_input")(x)
    y = conv(active(y, "on_input"), 8, "point1", kernel_size=1)
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="double")(y)
    y = conv(active(y, "double"), 6, "point2", kernel_size=1)
    y = layers.DepthwiseConv2D(3, strides=2, padding="same", name="single")(y)
    return keras.Model(x, head(active(y, "single")), name="depthwise")


def multi_head_attention():
    """A transformer's encoder block; its sums and normalisations hold the width."""
    x = keras.Input((9, 6))
    y = layers.Dense(8, name="embed")(x)
    z = layers.LayerNormalization(name="norm1")(y)
    y = y + layers.MultiHeadAttention(2, 4, name="attention")(z, z)
    z = layers.LayerNormalization(name="norm2")(y)
    z = layers.Dense(16, activation="gelu", name="expand")(z)
    y = y + layers.Dense(8, name="contract")(z)
    return keras.Model(x, head(y), name="multi_head_attention")


def _attention(name, attend):
    x = keras.Input((9, 6))
    q, k = (layers.Dense(8, name=part)(x) for part in ("query", "key"))
    v = layers.Dense(12, name="value")(x)
    y = layers.Dense(10, activation="relu", name="out")(attend(q, k, v))
    return keras.Model(x, head(y), name=name)


def dot_attention():
    def attend(q, k, v):
        scores = layers.Softmax()(layers.Dot(axes=2)([q, k]))
        return layers.Dot(axes=(2, 1))([scores, v])

    return _attention("dot_attention", attend)


def layer_attention():
    return _attention("layer_attention", lambda q, k, v: layers.Attention()([q, v, k]))


def matmul_attention():
    def attend(q, k, v):
        scores = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 2, 1))) / 8**0.5)
        return ops.matmul(scores, v)

    return _attention("matmul_attention", attend)


def flatten():
    x = image()
    y = layers.Flatten()(layers.MaxPooling2D(2)(conv(x, 6, "one")))
    y = layers.Dense(9, activation="relu", name="hidden")(y)
    y = layers.BatchNormalization(name="norm")(y)
    return keras.Model(x, layers.Dense(5, name="logits")(y), name="flatten")


def global_pooling():
    x = image()
    y = conv(x, 8, "one")
    y = layers.Concatenate()([layers.GlobalAveragePooling2D()(y), layers.GlobalMaxPooling2D()(y)])
    y = layers.Dense(7, activation="relu", name="hidden")(y)
    return keras.Model(x, layers.Dense(5, name="logits")(y), name="global_pooling")


def embedding():
    x = keras.Input((10,), dtype="int32")
    y = layers.SpatialDropout1D(0.2)(layers.Embedding(11, 8, name="words")(x))
    return keras.Model(x, head(conv(conv(y, 12, "one"), 6, "two")), name="embedding")


def lstm():
    x = keras.Input((10, 3))
    y = layers.LSTM(8, name="lstm")(conv(x, 6, "one"))
    y = layers.Dense(6, activation="relu", name="hidden")(y)
    return keras.Model(x, layers.Dense(5, name="logits")(y), name="lstm")


def raw_operations():
    """A constant added to each channel, and a split into unequal parts."""
    x = image()
    y = conv(x, 12, "one") * 0.5 + 1
    first, second = ops.split(y, [8], axis=-1)
    y = ops.concatenate([conv(second, 6, "short"), ops.relu(first), x], axis=-1)
    y = ops.mean(conv(y, 8, "two"), axis=(1, 2), keepdims=True)
    y = layers.Dense(6, activation="relu", name="hidden")(ops.reshape(y, (-1, 8)))
    return keras.Model(x, layers.Dense(5, name="logits")(y), name="raw_operations")


def slices():
    """Overlapping slices of the channels go separate ways."""
    x = image()
    y = conv(x, 12, "one")
    low, high = conv(y[..., :5], 6, "low"), conv(y[:, 1:, 1:, 4:], 6, "high")
    y = layers.Concatenate()([low, layers.ZeroPadding2D(((1, 0), (1, 0)))(high)])
    return keras.Model(x, head(y), name="slices")


def activations_with_weights():
    x = image()
    y = layers.PReLU(shared_axes=[1, 2], name="slopes")(layers.Conv2D(8, 3, name="one")(x))
    y = layers.PReLU(name="slopes_in_space")(layers.Conv2D(6, 3, name="two")(y))
    y = layers.LeakyReLU()(layers.Conv2D(5, 1, name="three")(y))
    return keras.Model(x, head(y), name="activations_with_weights")


def group_normalization():
    x = image()
    y = layers.GroupNormalization(4, name="groups")(layers.Conv2D(8, 3, name="one")(x))
    y = layers.Conv2D(6, 3, name="two")(layers.ReLU()(y))
    y = layers.GroupNormalization(-1, name="instances")(y)
    y = layers.LayerNormalization(name="layer")(layers.Conv2D(8, 1, name="three")(layers.ReLU()(y)))
    return keras.Model(x, head(conv(y, 6, "last")), name="group_normalization")


def padding_and_cropping():
    x = image()
    y = layers.ZeroPadding2D(((0, 1), (2, 1)))(conv(x, 8, "one"))
    y = layers.Cropping2D(((1, 0), (1, 1)))(conv(y, 6, "two", padding="valid"))
    y = layers.Resizing(4, 4)(y)
    return keras.Model(x, head(conv(y, 7, "last")), name="padding_and_cropping")


@keras.saving.register_keras_serializable("tests")
class Neighbours(layers.Layer):
    """Adds to each channel the one before it: a layer that no rule knows."""

    def call(self, inputs):
        return inputs + ops.roll(inputs, 1, axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape


def custom_layer():
    x = image()
    y = Neighbours(name="neighbours")(conv(conv(x, 8, "cut"), 6, "whole"))
    return keras.Model(x, head(conv(y, 8, "after")), name="custom_layer")


GRAPHS = (
    chain,
    transposed,
    one_dimensional,
    three_dimensional,
    separable,
    depthwise,
    multi_head_attention,
    dot_attention,
    layer_attention,
    matmul_attention,
    flatten,
    global_pooling,
    embedding,
    lstm,
    raw_operations,
    slices,
    activations_with_weights,
    group_normalization,
    padding_and_cropping,
    custom_layer,
)
