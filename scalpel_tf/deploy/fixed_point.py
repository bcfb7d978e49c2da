"""exp, tanh and the logistic function in integers, bit for bit those of gemmlowp.

That is how TensorFlow Lite Micro computes LOGISTIC and TANH. A number Qm.n is an int32 with m bits
before the point and n = 31 - m behind it; Q0 means m = 0.
"""

INT32_MAX = (1 << 31) - 1
# e^-(2^k) in Q0 for k = -2 .. 4
FACTORS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
EXP_OF_MINUS_EIGHTH, THIRD = 1895147668, 715827883
FORTY_EIGHT_17THS, MINUS_THIRTY_TWO_17THS = 1515870810, -1010580540  # Q2


def multiply_high(a: int, b: int) -> int:
    """a * b / 2^31, ties upwards, saturated."""
    return min((a * b + (1 << 30)) >> 31, INT32_MAX)


def divide_by_power(value: int, exponent: int) -> int:
    """value / 2^exponent, ties away from zero."""
    half = (1 << exponent) >> 1
    return (value + half - (value < 0 and exponent > 0)) >> exponent


def scaled(value: int, multiplier: int, shift: int) -> int:
    """value * multiplier * 2^(shift - 31), rounded twice, for products that stay in int32."""
    if shift > 0:
        return multiply_high(value << shift, multiplier)
    return divide_by_power(multiply_high(value, multiplier), -shift)


def exp_of_negative(value: int, integer_bits: int) -> int:
    """e^value in Q0 for value <= 0 with that many integer bits."""
    if value == 0:
        return INT32_MAX
    quarter = 1 << (29 - integer_bits)
    rest = value % quarter - quarter
    result = _exp_of_a_quarter(_saturated(rest << integer_bits))
    for exponent, factor in zip(range(-2, 5), FACTORS, strict=True):
        if exponent < integer_bits and (rest - value) & (quarter << (exponent + 2)):
            result = multiply_high(result, factor)
    return result


def logistic(value: int) -> int:
    """1 / (1 + e^-value) in Q0, of a value in Q4."""
    if value == 0:
        return 1 << 30
    positive = _saturated(_newton(exp_of_negative(-abs(value), 4)) << 1)
    return positive if value > 0 else INT32_MAX - positive


def tanh(value: int) -> int:
    """tanh(value) in Q0, of a value in Q4."""
    if value == 0:
        return 0
    inverse = _newton(exp_of_negative(-abs(value), 5))
    positive = _saturated((inverse - (1 << 29)) << 2)
    return positive if value > 0 else -positive


def _exp_of_a_quarter(value):
    """e^value in Q0 for value in [-1/4, 0): the Taylor series around -1/8."""
    x = value + (1 << 28)
    x2 = multiply_high(x, x)
    x3, x4 = multiply_high(x2, x), multiply_high(x2, x2)
    cubic = multiply_high(divide_by_power(x4, 2) + x3, THIRD)
    tail = divide_by_power(cubic + x2, 1)
    return EXP_OF_MINUS_EIGHTH + multiply_high(EXP_OF_MINUS_EIGHTH, x + tail)


def _newton(value):
    """2 / (1 + value) in Q2, of a value in Q0 in [0, 1]: three steps for the inverse."""
    half = (value + INT32_MAX + 1) >> 1
    x = FORTY_EIGHT_17THS + multiply_high(half, MINUS_THIRTY_TWO_17THS)
    for _ in range(3):
        error = (1 << 29) - multiply_high(half, x)
        x += _saturated(multiply_high(x, error) << 2)
    return x


def _saturated(value):
    return min(max(value, -INT32_MAX - 1), INT32_MAX)
