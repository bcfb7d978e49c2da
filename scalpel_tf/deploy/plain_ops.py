"""The operators of runtime/scalpel_ops.h: parameters for plain C kernels."""

import math

import numpy as np

from scalpel_tf.deploy.c_text import array, params
from scalpel_tf.deploy.int8 import window
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.quantization import (
    activation_range,
    conv_multipliers,
    quantize_multiplier,
    softmax_params,
)
from scalpel_tf.deploy.shapes import reduction
from scalpel_tf.deploy.tflite import Model, Operator, Tensor

CHANNEL_BYTES = 9  # bias, multiplier and shift of an output channel


def conv(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """CONV_2D."""
    x, weights, bias, y = operands(model, operator)
    channels = y.shape[3]
    multiplier, shift = (
        np.broadcast_to(a, channels)
        for a in conv_multipliers(x.scale[0], weights.scale, y.scale[0])
    )
    constants = array(f"{symbol}_weights", weights.data)
    constants += array(f"{symbol}_multiplier", multiplier)
    constants += array(f"{symbol}_shift", shift.astype(np.int8))
    if bias is not None:
        constants += array(f"{symbol}_bias", bias.data)
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    constants += params(
        symbol,
        "scalpel_conv_params",
        window=window_of(operator, x, y, weights.shape[1:3]),
        weights=f"{symbol}_weights",
        bias="0" if bias is None else f"{symbol}_bias",
        multiplier=f"{symbol}_multiplier",
        shift=f"{symbol}_shift",
        in_zero_point=x.zero_point[0],
        out_zero_point=y.zero_point[0],
        lowest=low,
        highest=high,
    )
    channels_seen = weights.shape[3]
    size = weights.data.size + CHANNEL_BYTES * channels
    return Layer(
        name=layer_name(symbol, weights, y),
        op=operator.name,
        kernel="conv",
        inputs=(x.index,),
        y=y.index,
        constants=constants,
        call=lambda inputs, y, _: f"scalpel_conv_s8(&{symbol}, {channels_seen}, {inputs[0]}, {y});",
        macs=math.prod(y.shape) * weights.data.size // channels,
        bytes=size,
        bytes_dense=size,
        density=1.0,
    )


def pool(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """MAX_POOL_2D and AVERAGE_POOL_2D."""
    x, y = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    low, high = activation_range(operator.options["activation"], y.scale[0], int(y.zero_point[0]))
    constants = params(
        symbol,
        "scalpel_pool_params",
        window=window_of(operator, x, y, operator.options["filter"]),
        lowest=low,
        highest=high,
    )
    kernel = operator.name[:-3].lower() + "_s8"
    in_place = never_overtakes(operator, x, y)
    return _without_weights(operator, x, y, symbol, constants, kernel, in_place)


def never_overtakes(operator: Operator, x: Tensor, y: Tensor) -> bool:
    """Whether a pool may write its output over its input.

    Outputs are written in order, output p over pixel p of the input, each channel after it was
    read. That is safe where no later output, and no later channel, reads what is overwritten:
    where the first pixel under every output's window is pixel p or one behind it.
    """
    rows, columns = (
        np.maximum(np.arange(outputs) * stride - pad, 0)
        for outputs, stride, pad in zip(
            y.shape[1:3],
            operator.options["stride"],
            pads_of(operator, x, operator.options["filter"]),
            strict=True,
        )
    )
    first = rows[:, None] * x.shape[2] + columns
    return bool((first >= np.arange(first.size).reshape(first.shape)).all())


def mean(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """MEAN over neighbouring axes."""
    x, axes = (model.tensors[i] for i in operator.inputs)
    y = model.tensors[operator.outputs[0]]
    outer, reduced, inner = reduction(x.shape, axes.data)
    multiplier, shift = quantize_multiplier(float(x.scale[0]) / float(y.scale[0]))
    more = min(reduced.bit_length() - 1, 32, 31 + shift)
    constants = params(
        symbol,
        "scalpel_mean_params",
        outer=outer,
        reduced=reduced,
        inner=inner,
        in_zero_point=x.zero_point[0],
        out_zero_point=y.zero_point[0],
        multiplier=(multiplier << more) // reduced,
        shift=shift - more,
    )
    return _without_weights(operator, x, y, symbol, constants, "mean_s8", True)


def softmax(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """SOFTMAX along the last axis."""
    x, y = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    multiplier, left_shift, diff_min = softmax_params(x.scale[0], operator.options["beta"])
    constants = params(
        symbol,
        "scalpel_softmax_params",
        rows=math.prod(x.shape[:-1]),
        depth=x.shape[-1],
        multiplier=multiplier,
        left_shift=left_shift,
        diff_min=diff_min,
    )
    return _without_weights(operator, x, y, symbol, constants, "softmax_s8", True)


def rescale(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """QUANTIZE and DEQUANTIZE between any two of int8, uint8 and float32; RELU and its kin."""
    x, y = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    kinds = x.dtype.name, y.dtype.name
    if "float32" in kinds:
        real = y if kinds[0] == "float32" else x
        constants = params(
            symbol,
            "scalpel_float_params",
            count=math.prod(x.shape),
            scale=f"{float(real.scale[0])!r}f",
            zero_point=real.zero_point[0],
        )
        return _without_weights(operator, x, y, symbol, constants, FLOAT_KERNELS[kinds], False)
    if operator.name in ACTIVATIONS:
        factor = float(x.scale[0] / y.scale[0])  # in float32, as TensorFlow Lite has it
        low, high = activation_range(operator.name, y.scale[0], int(y.zero_point[0]))
    else:
        factor = float(x.scale[0]) / float(y.scale[0])
        low, high = np.iinfo(y.dtype).min, np.iinfo(y.dtype).max
    multiplier, shift = quantize_multiplier(factor)
    constants = params(
        symbol,
        "scalpel_requantize_params",
        count=math.prod(x.shape),
        in_zero_point=x.zero_point[0],
        out_zero_point=y.zero_point[0],
        multiplier=multiplier,
        shift=shift,
        lowest=low,
        highest=high,
    )
    return _without_weights(operator, x, y, symbol, constants, INTEGER_KERNELS[kinds], True)


def operands(model: Model, operator: Operator) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """(input, weights, bias or None, output) of an operator with weights."""
    x, weights, *rest = operator.inputs
    bias = model.tensors[rest[0]] if rest and rest[0] != -1 else None
    return model.tensors[x], model.tensors[weights], bias, model.tensors[operator.outputs[0]]


def window_of(operator: Operator, x: Tensor, y: Tensor, filter) -> str:
    """The scalpel_window of a convolution or a pool."""
    options = operator.options
    strides, dilations = options["stride"], options.get("dilation", (1, 1))
    pads = pads_of(operator, x, filter)
    numbers = (*x.shape[1:], *y.shape[1:], *filter, *strides, *dilations, *pads)
    return f"{{{', '.join(map(str, numbers))}}}"


def pads_of(operator: Operator, x: Tensor, filter) -> list[int]:
    """Rows and columns of zeros before the input."""
    options = operator.options
    return [
        window(size, reach, stride, dilation, options["padding"])[1]
        for size, reach, stride, dilation in zip(
            x.shape[1:3], filter, options["stride"], options.get("dilation", (1, 1)), strict=True
        )
    ]


def _without_weights(operator, x, y, symbol, constants, kernel, in_place):
    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel=kernel.removesuffix("_s8"),
        inputs=(x.index,),
        y=y.index,
        constants=constants,
        call=lambda inputs, y, _: f"scalpel_{kernel}(&{symbol}, {inputs[0]}, {y});",
        in_place=in_place,
    )


ACTIVATIONS = ("RELU", "RELU6", "RELU_N1_TO_1")
FLOAT_KERNELS = {
    ("float32", "int8"): "quantize_f32_s8",
    ("int8", "float32"): "dequantize_s8_f32",
}
INTEGER_KERNELS = {
    ("int8", "int8"): "requantize_s8",
    ("uint8", "int8"): "requantize_u8_s8",
    ("int8", "uint8"): "requantize_s8_u8",
}
LOWER = {
    "CONV_2D": conv,
    "MAX_POOL_2D": pool,
    "AVERAGE_POOL_2D": pool,
    "MEAN": mean,
    "SOFTMAX": softmax,
    "QUANTIZE": rescale,
    "DEQUANTIZE": rescale,
    **dict.fromkeys(ACTIVATIONS, rescale),
}
