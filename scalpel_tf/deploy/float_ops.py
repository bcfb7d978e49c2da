"""Float32 operators without a matrix -> calls of the kernels in custom_ops/native."""

import math
from dataclasses import replace

import numpy as np

from scalpel_tf.deploy import shapes
from scalpel_tf.deploy.c_text import params
from scalpel_tf.deploy.float_constants import Constants
from scalpel_tf.deploy.float_convolution import convolve
from scalpel_tf.deploy.float_geometry import geometry
from scalpel_tf.deploy.float_params import LIMITS, border
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.plain_ops import operands, pads_of
from scalpel_tf.deploy.tflite import Model, Operator


def depthwise(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """DEPTHWISE_CONV_2D; with several outputs for each input channel, a convolution in groups."""
    x, weights, bias, y = operands(model, operator)
    name = layer_name(symbol, weights, y)
    kernel = np.asarray(weights.data, np.float32)
    if y.shape[3] != x.shape[3]:
        filters = np.moveaxis(kernel, 3, 0)[..., 0, :, :, None]
        return convolve(operator, x, filters, bias, y, symbol, name, constants)
    channels = y.shape[3]
    shape = geometry(operator, x, kernel.shape[1:3], 0)
    biases = np.zeros(channels, np.float32) if bias is None else np.ravel(bias.data)
    packed = np.concatenate([biases[None], kernel.reshape(-1, channels)]).astype(np.float32)
    text, address = border(symbol, shape)
    low, high = LIMITS[operator.options["activation"]]
    text += params(
        symbol,
        "scalpel_depthwise",
        weights=constants.add(packed),
        taps=constants.add(shape.taps),
        pixels=constants.add(shape.pixels),
        border=address,
        tap_count=len(shape.taps),
        pixel_count=shape.pixels.size,
        channels=channels,
        low=low,
        high=high,
    )
    return Layer(
        name=name,
        op=operator.name,
        kernel="depthwise",
        inputs=(x.index,),
        y=y.index,
        constants=text,
        call=lambda inputs, y, scratch: (
            f"m->kernels->depthwise(&{symbol}, {inputs[0]}, (float *)({scratch}), {y});"
        ),
        scratch=shape.scratch,
        macs=shape.pixels.size * kernel.size,
        bytes=packed.nbytes,
        bytes_dense=packed.nbytes,
        density=1.0,
    )


def pool(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """MAX_POOL_2D and AVERAGE_POOL_2D."""
    x, y = _ends(model, operator)
    options = operator.options
    top, left = pads_of(operator, x, options["filter"])
    low, high = LIMITS[options["activation"]]
    text = params(
        symbol,
        "scalpel_window",
        in_height=x.shape[1],
        in_width=x.shape[2],
        channels=x.shape[3],
        out_height=y.shape[1],
        out_width=y.shape[2],
        height=options["filter"][0],
        width=options["filter"][1],
        stride_height=options["stride"][0],
        stride_width=options["stride"][1],
        top=top,
        left=left,
        low=low,
        high=high,
    )
    kernel = operator.name[:-3].lower()
    return _plain(operator, symbol, (x,), y, f"{kernel}(&{symbol}, {{0}}, {{y}})", text)


def elementwise(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """ADD and MUL; one operand may repeat along the first axes, a constant along any."""
    y = model.tensors[operator.outputs[0]]
    tensors = sorted(
        (model.tensors[i] for i in operator.inputs),
        key=lambda t: (t.data is not None, t.shape != y.shape),
    )
    first, second = tensors
    if first.shape != y.shape:
        raise ValueError(
            f"{operator.name} of shapes {first.shape} and {second.shape} repeats both of its "
            "operands, which has no float32 kernel."
        )
    low, high = LIMITS[operator.options["activation"]]
    other = "{1}"
    period = _period(second.shape, y.shape)
    if second.data is not None:
        data = np.asarray(second.data, np.float32)
        if period is None:
            data = np.broadcast_to(data, y.shape)
            period = data.size
        other = constants.add(data)
    elif period is None:
        raise ValueError(
            f"{operator.name} of shapes {first.shape} and {second.shape} has no float32 kernel; "
            "an operand may repeat along the first axes only."
        )
    name = {"ADD": "add", "MUL": "multiply"}[operator.name]
    size = math.prod(y.shape)
    call = f"{name}({{0}}, {other}, {size}, {period}, {low}, {high}, {{y}})"
    inputs = (first,) if second.data is not None else (first, second)
    return _plain(operator, symbol, inputs, y, call, in_place=True)


def activation(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """RELU and its kin."""
    x, y = _ends(model, operator)
    low, high = LIMITS[operator.name]
    call = f"clamp({{0}}, {math.prod(y.shape)}, {low}, {high}, {{y}})"
    return _plain(operator, symbol, (x,), y, call, in_place=True)


def logistic(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """LOGISTIC."""
    x, y = _ends(model, operator)
    call = f"logistic({{0}}, {math.prod(y.shape)}, {{y}})"
    return _plain(operator, symbol, (x,), y, call, in_place=True)


def softmax(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """SOFTMAX over the last axis."""
    x, y = _ends(model, operator)
    size = y.shape[-1]
    beta = float(np.float32(operator.options["beta"]))
    call = f"softmax({{0}}, {math.prod(y.shape) // size}, {size}, {beta!r}f, {{y}})"
    return _plain(operator, symbol, (x,), y, call, in_place=True)


def mean(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """MEAN over neighbouring axes."""
    x, y = _ends(model, operator)
    sizes = shapes.reduction(x.shape, shapes.integers(model.tensors[operator.inputs[1]]))
    call = f"mean({{0}}, {', '.join(map(str, sizes))}, {{y}})"
    return _plain(operator, symbol, (x,), y, call)


def pad(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """PAD of the height and width of an image."""
    x, y = _ends(model, operator)
    amounts = shapes.integers(model.tensors[operator.inputs[1]])
    if len(x.shape) != 4 or amounts[[0, 3]].any():
        raise ValueError(
            f"PAD of {x.shape} by {amounts.tolist()} has no float32 kernel; the height and width "
            "of an image can be padded."
        )
    before = amounts[1:3, 0].tolist()
    numbers = ", ".join(map(str, (*x.shape[1:], *before, *y.shape[1:3])))
    text = f"static const scalpel_border {symbol} = {{{numbers}}};\n"
    layer = _plain(operator, symbol, (x,), y, "", text)
    call = f"scalpel_float_pad(&{symbol}, {{}}, {{}});"
    return replace(layer, call=lambda inputs, y, _: call.format(inputs[0], y))


def concatenation(model: Model, operator: Operator, symbol: str, constants: Constants) -> Layer:
    """CONCATENATION."""
    y = model.tensors[operator.outputs[0]]
    tensors = [model.tensors[i] for i in operator.inputs]
    axis = operator.options["axis"] % len(y.shape)
    outer, inner = math.prod(y.shape[:axis]), math.prod(y.shape[axis:])
    sizes = [math.prod(tensor.shape[axis:]) for tensor in tensors]
    at = np.cumsum([0, *sizes]).tolist()

    def call(inputs, y, _):
        return "\n".join(
            f"scalpel_float_copy({x}, {outer}, {size}, {inner}, {place}, {y});"
            for x, size, place in zip(inputs, sizes, at, strict=False)
        )

    return replace(_plain(operator, symbol, tensors, y, ""), call=call)


def _ends(model, operator):
    return model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]


def _period(shape, whole):
    """After how many elements of `whole` those of `shape` repeat; None where they do not."""
    trimmed = list(shape)
    while trimmed and trimmed[0] == 1:
        trimmed.pop(0)
    if trimmed != list(whole[len(whole) - len(trimmed) :]):
        return None
    return math.prod(trimmed)


def _plain(operator, symbol, inputs, y, call, constants="", in_place=False):
    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel=call.split("(")[0] or operator.name.lower(),
        inputs=tuple(tensor.index for tensor in inputs),
        y=y.index,
        constants=constants,
        call=lambda inputs, y, _: f"m->kernels->{call.format(*inputs, y=y)};",
        in_place=in_place,
    )


LOWER = {
    "DEPTHWISE_CONV_2D": depthwise,
    "MAX_POOL_2D": pool,
    "AVERAGE_POOL_2D": pool,
    "ADD": elementwise,
    "MUL": elementwise,
    "RELU": activation,
    "RELU6": activation,
    "RELU_N1_TO_1": activation,
    "LOGISTIC": logistic,
    "SOFTMAX": softmax,
    "MEAN": mean,
    "PAD": pad,
    "CONCATENATION": concatenation,
}
