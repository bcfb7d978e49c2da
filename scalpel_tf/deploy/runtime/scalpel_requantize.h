/* The fixed-point arithmetic of TensorFlow Lite's int8 kernels, bit for bit.
 *
 * A real factor is multiplier * 2^(shift - 31), multiplier in [2^30, 2^31) or 0.  >> of a negative
 * integer is arithmetic, as in every compiler for these targets.
 */
#ifndef SCALPEL_REQUANTIZE_H
#define SCALPEL_REQUANTIZE_H

#include <stdint.h>

#include "scalpel_rounding.h"

/* a * b / 2^31, ties upwards.  Not both -2^31. */
static inline int32_t scalpel_multiply_high(int32_t a, int32_t b) {
  return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/* x / 2^exponent, ties away from zero.  exponent: 0..31. */
static inline int32_t scalpel_divide_by_power(int32_t x, int32_t exponent) {
  const int32_t mask = (int32_t)((UINT32_C(1) << exponent) - 1);
  const int32_t half = (mask >> 1) + (x < 0);
  return (x >> exponent) + ((x & mask) > half);
}

/* acc times the factor, rounded twice, as every operator but fully connected does it everywhere.
 * multiplier: not negative.  shift: -31..30, positive to the left, where acc loses the bits that
 * leave int32. */
static inline int32_t scalpel_requantize_twice(int32_t acc, int32_t multiplier, int32_t shift) {
  if (shift > 0) {
    return scalpel_multiply_high((int32_t)((uint32_t)acc << shift), multiplier);
  }
  return scalpel_divide_by_power(scalpel_multiply_high(acc, multiplier), -shift);
}

/* The same for fully connected, rounded as scalpel_rounding.h says. */
static inline int32_t scalpel_requantize(int32_t acc, int32_t multiplier, int32_t shift) {
#if SCALPEL_DOUBLE_ROUNDING
  return scalpel_requantize_twice(acc, multiplier, shift);
#else
  const int32_t total = 31 - shift;
  const int64_t half = (INT64_C(1) << (total - 1)) - (acc < 0); /* ties away from zero */
  return (int32_t)(((int64_t)acc * multiplier + half) >> total);
#endif
}

static inline int32_t scalpel_clamp(int32_t value, int32_t lowest, int32_t highest) {
  return value < lowest ? lowest : value > highest ? highest : value;
}

/* a + b modulo 2^32, which for two's complement is what int32 addition does on every target. */
static inline int32_t scalpel_add(int32_t a, int32_t b) {
  return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* The int8 or uint8 of a sum: scaled twice rounded, moved to zero_point, kept in the bounds. */
static inline int32_t scalpel_output(int32_t acc, int32_t multiplier, int32_t shift,
                                     int32_t zero_point, int32_t lowest, int32_t highest) {
  const int32_t scaled = scalpel_requantize_twice(acc, multiplier, shift);
  return scalpel_clamp(scalpel_add(scaled, zero_point), lowest, highest);
}

#endif /* SCALPEL_REQUANTIZE_H */
