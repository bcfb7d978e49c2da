"""gemmlowp's functions, near the real ones; bit for bit they are held against TFLite Micro."""

import math

import pytest

from scalpel_tf.deploy import fixed_point


@pytest.mark.parametrize("real", [-15.9, -3.3, -1.0, -0.25, -1e-6, 0.0, 1e-6, 0.5, 2.0, 15.9])
def test_functions_are_near_the_real_ones(real):
    q4 = round(real * 2**27)
    assert fixed_point.logistic(q4) / 2**31 == pytest.approx(1 / (1 + math.exp(-real)), abs=2e-7)
    assert fixed_point.tanh(q4) / 2**31 == pytest.approx(math.tanh(real), abs=4e-7)


@pytest.mark.parametrize("bits", [0, 4, 5])
def test_exp_at_its_ends(bits):
    assert fixed_point.exp_of_negative(0, bits) == fixed_point.INT32_MAX
    most = -(2**31)
    assert fixed_point.exp_of_negative(most, bits) / 2**31 == pytest.approx(
        math.exp(-(2**bits)), abs=2e-7
    )


@pytest.mark.parametrize(
    "value, exponent, expected",
    [(5, 1, 3), (-5, 1, -3), (6, 2, 2), (-6, 2, -2), (-5, 2, -1), (-7, 0, -7), (7, 0, 7)],
)
def test_ties_are_rounded_away_from_zero(value, exponent, expected):
    assert fixed_point.divide_by_power(value, exponent) == expected


@pytest.mark.parametrize("a, b, expected", [(3, 1 << 30, 2), (-3, 1 << 30, -1), (-1, 1 << 30, 0)])
def test_ties_of_products_are_rounded_upwards(a, b, expected):
    assert fixed_point.multiply_high(a, b) == expected
