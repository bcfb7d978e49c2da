#include "scalpel_ops.h"
#include "scalpel_requantize.h"

/* Fixed point: Qm.n has m bits before the point, n behind it and a sign; m + n = 31. */
enum { EXPONENT_BITS = 5, SUM_BITS = 12, QUARTER = 1 << (31 - EXPONENT_BITS - 2) };

/* e^a in Q0.31 for a in [-1/4, 0), in Q0.31: the Taylor series around -1/8, to the fourth power. */
static int32_t exp_of_a_quarter(int32_t a) {
  const int32_t exp_of_minus_eighth = 1895147668, third = 715827883;
  const int32_t x = a + (1 << 28);
  const int32_t x2 = scalpel_multiply_high(x, x);
  const int32_t x3 = scalpel_multiply_high(x2, x);
  const int32_t x4 = scalpel_multiply_high(x2, x2);
  const int32_t cubic = scalpel_multiply_high(scalpel_divide_by_power(x4, 2) + x3, third);
  const int32_t tail = scalpel_divide_by_power(cubic + x2, 1); /* x^2/2 + x^3/6 + x^4/24 */
  return exp_of_minus_eighth + scalpel_multiply_high(exp_of_minus_eighth, x + tail);
}

/* e^a in Q0.31 for a <= 0, in Q5.26: what is left of a multiple of -1/4 goes through the series,
 * and each bit of that multiple brings a factor e^-(2^k). */
static int32_t exp_of_negative(int32_t a) {
  static const int32_t factors[] = {1672461947, 1302514674, 790015084, 290630308,
                                    39332535,   720401,     242}; /* k = -2 .. 4 */
  if (a == 0) {
    return INT32_MAX;
  }
  const int32_t rest = (a & (QUARTER - 1)) - QUARTER;
  const int32_t quarters = (rest - a) / QUARTER;
  int32_t result = exp_of_a_quarter(rest * (1 << EXPONENT_BITS));
  for (int32_t k = 0; k < 7; ++k) {
    if (quarters & (1 << k)) {
      result = scalpel_multiply_high(result, factors[k]);
    }
  }
  return result;
}

/* 1 / (1 + a) in Q0.31 for a in [0, 1), in Q0.31: three steps of Newton's method for the inverse of
 * (1 + a) / 2, in Q2.29. */
static int32_t inverse_of_one_plus(int32_t a) {
  const int32_t one = 1 << 29, forty_eight_17ths = 1515870810, minus_thirty_two_17ths = -1010580540;
  const int32_t half = (int32_t)(((uint32_t)a + (UINT32_C(1) << 31)) >> 1);
  int32_t x = forty_eight_17ths + scalpel_multiply_high(half, minus_thirty_two_17ths);
  for (int32_t step = 0; step < 3; ++step) {
    const int32_t error = one - scalpel_multiply_high(half, x);
    x += scalpel_multiply_high(x, error) * 4;
  }
  return x > (1 << 30) - 1 ? INT32_MAX : x * 2;
}

static int32_t leading_zeros(uint32_t value) {
  int32_t zeros = 0;
  for (; zeros < 32 && !(value >> 31); value <<= 1) {
    ++zeros;
  }
  return zeros;
}

/* e^(x - largest) in Q0.31, or -1 where that counts as nothing. */
static int32_t exp_of_difference(const scalpel_softmax_params *params, int32_t difference) {
  if (difference < params->diff_min) {
    return -1;
  }
  const int32_t shifted = (int32_t)((uint32_t)difference << params->left_shift);
  return exp_of_negative(scalpel_multiply_high(shifted, params->multiplier));
}

static void softmax_row(const scalpel_softmax_params *params, const int8_t *x, int8_t *y) {
  int32_t largest = x[0];
  for (int32_t c = 1; c < params->depth; ++c) {
    largest = x[c] > largest ? x[c] : largest;
  }
  uint32_t sum = 0;
  for (int32_t c = 0; c < params->depth; ++c) {
    const int32_t value = exp_of_difference(params, x[c] - largest);
    sum += value < 0 ? 0 : (uint32_t)scalpel_divide_by_power(value, SUM_BITS);
  }
  const int32_t zeros = leading_zeros(sum);
  const int32_t inverse = inverse_of_one_plus((int32_t)((sum << zeros) & INT32_MAX));
  const int32_t shift = SUM_BITS - zeros + 31 - 8;
  for (int32_t c = 0; c < params->depth; ++c) {
    const int32_t value = exp_of_difference(params, x[c] - largest);
    int32_t share = 0; /* of more than 512 equals; there TensorFlow Lite aborts */
    if (value >= 0 && shift <= 31) {
      share = scalpel_divide_by_power(scalpel_multiply_high(inverse, value), shift);
    }
    y[c] = (int8_t)scalpel_clamp(share - 128, -128, 127);
  }
}

void scalpel_softmax_s8(const scalpel_softmax_params *params, const int8_t *x, int8_t *y) {
  for (int32_t row = 0; row < params->rows; ++row) {
    softmax_row(params, x + row * params->depth, y + row * params->depth);
  }
}
