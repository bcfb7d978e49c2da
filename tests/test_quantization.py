"""Real scales to integers: numbers that can be checked by hand, and the edges."""

import math

import numpy as np
import pytest

from scalpel_tf.deploy.quantization import (
    activation_range,
    conv_multipliers,
    dense_multipliers,
    quantize_multiplier,
    softmax_params,
)

ULP = 2.0**-52


@pytest.mark.parametrize(
    "real, expected",
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (0.75, (3 << 29, 0)),
        (3.0, (3 << 29, 2)),
        (1 / 3, (1431655765, -1)),  # 2^32 / 3 = 1431655765.33
        (2 / 3, (1431655765, 0)),
        (0.1, (1717986918, -3)),  # 2^34 / 10 = 1717986918.4
        (1 - ULP, (1 << 30, 1)),  # rounds up to the next power of two
        (0.5 + 2.0**-32, ((1 << 30) + 1, 0)),  # a tie goes up
        (2.0**-32, (1 << 30, -31)),
        (2.0**-32 * (1 - ULP), (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (5e-324, (0, 0)),
        (2.0**28, (1 << 30, 29)),
    ],
)
def test_quantize_multiplier(real, expected):
    assert quantize_multiplier(real) == expected


def test_quantize_multiplier_is_close():
    for real in np.random.default_rng(0).lognormal(0, 5, 1000).tolist():
        multiplier, shift = quantize_multiplier(real)
        assert 1 << 30 <= multiplier < 1 << 31
        assert abs(math.ldexp(multiplier, shift - 31) - real) <= real * 2.0**-31


@pytest.mark.parametrize("real", [-1.0, 2.0**29, math.inf, math.nan])
def test_quantize_multiplier_refuses(real):
    with pytest.raises(ValueError, match="multiplier"):
        quantize_multiplier(real)


def test_conv_multipliers():
    multipliers, shifts = conv_multipliers(np.float32(0.5), np.float32([0.5, 0.75]), np.float32(2))
    assert multipliers.tolist() == [1 << 30, 3 << 29] and shifts.tolist() == [-2, -2]
    assert multipliers.dtype == shifts.dtype == np.int32


def test_one_dense_scale_is_multiplied_in_float32():
    a, b = np.float32(0.1), np.float32(0.3)
    rounded = float(a * b)
    assert rounded != float(a) * float(b)
    assert [int(v[0]) for v in dense_multipliers(a, [b], 1.0)] == [*quantize_multiplier(rounded)]
    several = dense_multipliers(a, [b, b], 1.0)
    np.testing.assert_array_equal(several, conv_multipliers(a, [b, b], 1.0))


@pytest.mark.parametrize(
    "activation, scale, zero_point, expected",
    [
        ("NONE", 0.1, 3, (-128, 127)),
        ("RELU", 0.1, 3, (3, 127)),
        ("RELU", 0.1, -128, (-128, 127)),
        ("RELU6", 0.1, -128, (-128, -68)),
        ("RELU6", 0.01, -128, (-128, 127)),
        ("RELU6", 4.0, 0, (0, 2)),  # 1.5 rounds away from zero
        ("RELU6", 2.4, 0, (0, 3)),  # 2.5 in float32, 2.4999999 in double
        ("RELU_N1_TO_1", 0.1, 0, (-10, 10)),
        ("RELU_N1_TO_1", 0.4, 0, (-3, 3)),  # -2.5 and 2.5
        ("RELU_N1_TO_1", 0.001, 0, (-128, 127)),
    ],
)
def test_activation_range(activation, scale, zero_point, expected):
    assert activation_range(activation, np.float32(scale), zero_point) == expected


@pytest.mark.parametrize("activation, scale", [("TANH", 0.1), ("RELU6", 1e-38), ("RELU6", 1e-10)])
def test_activation_range_refuses(activation, scale):
    with pytest.raises(ValueError):
        activation_range(activation, scale, 0)


@pytest.mark.parametrize(
    "scale, beta, expected",
    [
        (1.0, 1.0, (1 << 30, 27, -15)),  # 31 * 2^26 / 2^27 = 15.5
        (0.5, 2.0, (1 << 30, 27, -15)),
        (2.0**-10, 1.0, (1 << 30, 17, -15872)),
        (1e9, 1.0, ((1 << 31) - 1, 31, 0)),
    ],
)
def test_softmax_params(scale, beta, expected):
    assert softmax_params(scale, beta) == expected


@pytest.mark.parametrize("scale, beta", [(1.0, 0.0), (1.0, -1.0), (1e-9, 1.0), (1.0, math.nan)])
def test_softmax_params_refuses(scale, beta):
    with pytest.raises(ValueError, match="Softmax"):
        softmax_params(scale, beta)
