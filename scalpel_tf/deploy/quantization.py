"""Real scales -> the integers of the C kernels, by TFLite's own arithmetic, bit for bit.

Scales are float32 in the file and are widened to double before they are multiplied or divided,
except where TFLite itself works in float32; each function says so.
"""

import math

import numpy as np

SOFTMAX_INTEGER_BITS = 5
SUM_SHIFT = 20


def quantize_multiplier(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) or 0.

    A positive shift is to the left; shifts are in [-31, 29]. Below 2^-32 the result is (0, 0).
    Raises ValueError unless `real` is in [0, 2^29) (TFLite's QuantizeMultiplier).
    """
    if not 0 <= real < 2.0**29:
        raise ValueError(f"A requantisation multiplier must be in [0, 2^29); got {real}.")
    multiplier, shift = _fixed_point(real)
    return (multiplier, shift) if shift >= -31 else (0, 0)


def conv_multipliers(input_scale, weight_scale, output_scale) -> tuple[np.ndarray, np.ndarray]:
    """(multipliers, shifts), int32, one of each per weight scale, for convolutions.

    The real multiplier is input_scale * weight_scale / output_scale in double
    (TFLite's PopulateConvolutionQuantizationParams).
    """
    reals = float(input_scale) * np.asarray(weight_scale, np.float64) / float(output_scale)
    multipliers, shifts = zip(*map(quantize_multiplier, reals.tolist()), strict=True)
    return np.array(multipliers, np.int32), np.array(shifts, np.int32)


def dense_multipliers(input_scale, weight_scale, output_scale) -> tuple[np.ndarray, np.ndarray]:
    """(multipliers, shifts), int32, one of each per weight scale, for FULLY_CONNECTED.

    As for convolutions, but with a single weight scale, which a layer of one output has too,
    input_scale * weight_scale is rounded to float32 (TFLite's GetQuantizedConvolutionMultipler).
    """
    if np.size(weight_scale) > 1:
        return conv_multipliers(input_scale, weight_scale, output_scale)
    product = np.float32(input_scale) * np.asarray(weight_scale, np.float32)
    return conv_multipliers(1.0, product, output_scale)


def sum_factor(a_scale, b_scale, y_scale) -> float:
    """From the scale that ADD and SUB add in, 2 * max(a, b) / 2^20, to that of the output."""
    return 2 * float(max(a_scale, b_scale)) / (2.0**SUM_SHIFT * float(y_scale))


def product_factor(a_scale, b_scale, y_scale, rounding: str) -> float:
    """From the scale of MUL's products to that of the output.

    TFLite multiplies and divides in float32 ("single"), TFLite Micro in double ("double").
    """
    kind = np.float32 if rounding == "single" else np.float64
    with np.errstate(over="ignore", under="ignore"):
        return float(kind(a_scale) * kind(b_scale) / kind(y_scale))


def multiplier_16(real: float) -> tuple[int, int]:
    """(multiplier of 15 bits, shift) of HARD_SWISH (TFLite's DownScaleInt32ToInt16Multiplier)."""
    multiplier, shift = quantize_multiplier(float(real))
    return min((multiplier + (1 << 15)) >> 16, 32767), shift


def hard_swish_multiplier(x_scale, y_scale) -> tuple[int, int]:
    """What takes HARD_SWISH from 1/128 of its input's scale to its output's; divided in float32."""
    return multiplier_16(np.float32(1 / 128) * np.float32(x_scale) / np.float32(y_scale))


def activation_range(activation: str, scale: float, zero_point: int) -> tuple[int, int]:
    """(lowest, highest) int8 output of a fused activation, for the output's scale and zero point.

    `activation` is "NONE", "RELU", "RELU6" or "RELU_N1_TO_1"; raises ValueError for another.
    The bounds are rounded half away from zero in float32
    (TFLite's CalculateActivationRangeQuantized).
    """
    bounds = {
        "NONE": (None, None),
        "RELU": (0.0, None),
        "RELU6": (0.0, 6.0),
        "RELU_N1_TO_1": (-1.0, 1.0),
    }
    if activation not in bounds:
        raise ValueError(f"The fused activation {activation} has no int8 kernel.")
    low, high = bounds[activation]
    return (
        -128 if low is None else max(-128, zero_point + _round(low, scale)),
        127 if high is None else min(127, zero_point + _round(high, scale)),
    )


def softmax_params(scale: float, beta: float) -> tuple[int, int, int]:
    """(multiplier, left_shift, diff_min) that turn int8 differences into Q5.26 exponents.

    Differences below diff_min give zero (TFLite's PreprocessSoftmaxScaling and
    CalculateInputRadius). Raises ValueError where scale * beta is not above 2^-26.
    """
    real = min(float(beta) * float(scale) * 2.0 ** (31 - SOFTMAX_INTEGER_BITS), 2.0**31 - 1)
    if not real > 1:
        raise ValueError(f"Softmax needs scale * beta above 2^-26; got {scale} * {beta}.")
    multiplier, shift = _fixed_point(real)
    largest = (2**SOFTMAX_INTEGER_BITS - 1) * 2 ** (31 - SOFTMAX_INTEGER_BITS)
    return multiplier, shift, -(largest >> shift)


def _fixed_point(real: float) -> tuple[int, int]:
    """(multiplier, shift) with real = multiplier * 2^(shift - 31), rounded half up."""
    fraction, shift = math.frexp(real)
    multiplier = math.floor(fraction * 2.0**31 + 0.5)
    return (1 << 30, shift + 1) if multiplier == 1 << 31 else (multiplier, shift)


def _round(value: float, scale: float) -> int:
    """value / scale in float32, rounded half away from zero; ValueError beyond int32."""
    with np.errstate(over="ignore"):
        quotient = float(np.float32(value) / np.float32(scale))
    if not abs(quotient) < 2.0**31:
        raise ValueError(f"The scale {scale} is too small for an activation bound of {value}.")
    return int(math.copysign(math.floor(abs(quotient) + 0.5), quotient))
