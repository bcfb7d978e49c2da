"""DEPTHWISE_CONV_2D as C."""

import math

import numpy as np

from scalpel_tf.deploy.c_text import array, lines, literal, params
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.plain_ops import operands, window_of
from scalpel_tf.deploy.quantization import activation_range, conv_multipliers
from scalpel_tf.deploy.tflite import Model, Operator

CHANNEL_BYTES = 12  # bias, multiplier and shift of an output channel
NARROW = 1 << 30


def depthwise_conv(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """DEPTHWISE_CONV_2D of any multiplier, stride, dilation and padding."""
    x, weights, bias, y = operands(model, operator)
    channels = y.shape[3]
    multiplier, shift = (
        np.broadcast_to(a, channels)
        for a in conv_multipliers(x.scale[0], weights.scale, y.scale[0])
    )
    shift = np.where(multiplier == 0, -1, shift)  # 0 whatever it is shifted by
    biases = np.zeros(channels, np.int32) if bias is None else bias.data.ravel()
    sums = np.abs(biases.astype(np.int64))
    sums += 255 * np.abs(weights.data.astype(np.int64)).sum((0, 1, 2))
    narrow = channels == x.shape[3] and (sums < NARROW).all() and (shift < 0).all()
    records = (
        f"{{{', '.join(map(literal, record))}}}"
        for record in zip(biases, multiplier, shift, strict=True)
    )
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    constants = array(f"{symbol}_weights", weights.data, "static const MODEL_ALIGNED")
    constants += (
        f"static const scalpel_channel {symbol}_channels[{channels}] = {{\n{lines(records)}\n}};\n"
    )
    constants += params(
        symbol,
        "scalpel_depthwise_params",
        window=window_of(operator, x, y, weights.shape[1:3]),
        weights=f"{symbol}_weights",
        channels=f"{symbol}_channels",
        in_zero_point=x.zero_point[0],
        out_zero_point=y.zero_point[0],
        lowest=low,
        highest=high,
        narrow=int(narrow),
    )
    size = weights.data.size + CHANNEL_BYTES * channels
    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name,
        kernel="depthwise_conv",
        inputs=(x.index,),
        y=y.index,
        constants=constants,
        call=lambda inputs, y, _: f"scalpel_depthwise_conv_s8(&{symbol}, {inputs[0]}, {y});",
        macs=math.prod(y.shape) * weights.data.size // channels,
        bytes=size,
        bytes_dense=size,
        density=1.0,
    )
