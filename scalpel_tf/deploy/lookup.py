"""LOGISTIC, TANH, HARD_SWISH and LEAKY_RELU: tables of all 256 outputs, computed at the export."""

import math

import numpy as np

from scalpel_tf.deploy import fixed_point
from scalpel_tf.deploy.c_text import array
from scalpel_tf.deploy.layer import Layer, layer_name
from scalpel_tf.deploy.quantization import (
    hard_swish_multiplier,
    multiplier_16,
    quantize_multiplier,
)
from scalpel_tf.deploy.tflite import Model, Operator, Tensor

VALUES = np.arange(-128, 128)


def lookup(model: Model, operator: Operator, symbol: str, rounding: str) -> Layer:
    """An operator that maps every value by itself, as a table; rounding as for `lower`."""
    x, y = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    table = TABLES[operator.name](operator, x, y, rounding)
    count = math.prod(x.shape)
    return Layer(
        name=layer_name(symbol, y),
        op=operator.name,
        kernel="lookup",
        inputs=(x.index,),
        y=y.index,
        constants=array(f"{symbol}_table", np.roll(table, 128)),
        call=lambda inputs, y, _: f"scalpel_lookup_s8({symbol}_table, {count}, {inputs[0]}, {y});",
        in_place=True,
        bytes=256,
        bytes_dense=256,
    )


def logistic(operator: Operator, x: Tensor, y: Tensor, rounding: str) -> np.ndarray:
    """The int8 table of LOGISTIC for -128 .. 127, as all functions here.

    TFLite rounds the float32 function, TFLite Micro works in fixed point; the output has the
    scale 1/256 and the zero point -128 in both.
    """
    if rounding == "single":
        one = np.float32(1)
        return _rounded(lambda real: one / (one + np.exp(-real.astype("f8")).astype("f4")), x, y)
    return _fixed(lambda q4: fixed_point.divide_by_power(fixed_point.logistic(q4), 23) - 128, x)


def tanh(operator: Operator, x: Tensor, y: Tensor, rounding: str) -> np.ndarray:
    """TANH; the output has the scale 1/128 and the zero point 0."""
    if rounding == "single":
        return _rounded(lambda real: np.tanh(real.astype("f8")).astype("f4"), x, y)
    return _fixed(lambda q4: fixed_point.divide_by_power(fixed_point.tanh(q4), 24), x)


def hard_swish(operator: Operator, x: Tensor, y: Tensor, rounding: str) -> np.ndarray:
    """HARD_SWISH in 16-bit fixed point (TFLite's reference_ops::HardSwish)."""
    hires = np.float32(1 / 128) * x.scale[0]
    multiplier, shift = hard_swish_multiplier(x.scale[0], y.scale[0])
    gate, gate_shift = multiplier_16(hires / (np.float32(3) / np.float32(32768)))
    table = []
    for value in ((VALUES - int(x.zero_point[0])) * 128).tolist():
        slope = _saturated(value << max(gate_shift - 1, 0))
        slope = _high(slope, gate)
        slope = _saturated(slope << 1) if gate_shift > 0 else slope
        slope = fixed_point.divide_by_power(slope, max(-gate_shift, 0))
        product = (slope + (1 << 15) >> 1) * _high(value, multiplier)
        truncated = abs(product) >> 15
        table.append(fixed_point.divide_by_power(truncated if product > 0 else -truncated, -shift))
    return _clipped(np.array(table), y)


def leaky_relu(operator: Operator, x: Tensor, y: Tensor, rounding: str) -> np.ndarray:
    """LEAKY_RELU; both factors are divided in float32."""
    alpha = np.float32(operator.options["alpha"])
    negative = quantize_multiplier(float(abs(x.scale[0] * alpha / y.scale[0])))
    positive = quantize_multiplier(float(x.scale[0] / y.scale[0]))
    sign = -1 if alpha < 0 else 1
    table = [
        fixed_point.scaled(v, *positive) if v >= 0 else sign * fixed_point.scaled(v, *negative)
        for v in (VALUES - int(x.zero_point[0])).tolist()
    ]
    return _clipped(np.array(table), y)


def _rounded(function, x, y):
    """float32 throughout, rounded half away from zero (TFLite's LUTPopulate)."""
    real = x.scale[0] * (VALUES - int(x.zero_point[0])).astype(np.float32)
    with np.errstate(over="ignore"):
        steps = function(real) * (np.float32(1) / y.scale[0])
    return _clipped(np.sign(steps) * np.floor(np.abs(steps.astype("f8")) + 0.5), y)


def _fixed(function, x):
    """Of inputs in Q4, which saturate where Q4 ends (TFLite Micro's CalculateInputRadius)."""
    fraction, shift = math.frexp(float(x.scale[0]) * 2.0**27)
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    radius = math.floor(15 * 2.0**27 / 2.0**shift)
    table = []
    for value in (VALUES - int(x.zero_point[0])).tolist():
        if abs(value) >= radius:
            table.append(127 if value >= radius else -128)
        else:
            table.append(function(fixed_point.scaled(value, multiplier, shift)))
    return np.clip(table, -128, 127).astype(np.int8)


def _high(a, b):
    return (a * b + (1 << 14)) >> 15


def _saturated(value):
    return min(max(value, -32768), 32767)


def _clipped(steps, y):
    return np.clip(steps + int(y.zero_point[0]), -128, 127).astype(np.int8)


TABLES = {
    "LOGISTIC": logistic,
    "TANH": tanh,
    "HARD_SWISH": hard_swish,
    "LEAKY_RELU": leaky_relu,
}
LOWER = dict.fromkeys(TABLES, lookup)
