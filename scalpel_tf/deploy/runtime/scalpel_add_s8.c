#include "scalpel_ops.h"
#include "scalpel_requantize.h"
#include "scalpel_simd.h"

enum { LEFT_SHIFT = 20 };

static int8_t sum_of(const scalpel_add_params *params, int32_t a, int32_t b) {
  const int32_t scale = 1 << LEFT_SHIFT;
  const int32_t first = scalpel_requantize_twice((a - params->a_zero_point) * scale,
                                                 params->a_multiplier, params->a_shift);
  const int32_t second = scalpel_requantize_twice((b - params->b_zero_point) * scale,
                                                  params->b_multiplier, params->b_shift);
  return (int8_t)scalpel_output(first + params->sign * second, params->multiplier, params->shift,
                                params->zero_point, params->lowest, params->highest);
}

#if SCALPEL_SIMD
/* What is the same for every sum: the offsets in both lanes, the rest as scalpel_narrow_output. */
typedef struct {
  uint32_t a_offset, b_offset;
  int32_t b_multiplier, b_shift;
  int32_t multiplier, shift, zero_point;
} constants;

/* a is exact: half of it times 2^20.  The values are below 2^8, which leaves room for the factor
 * 2^21 of b; both halves are below 2^27, the doubled sum below 2^29. */
static inline int32_t narrow_sum(constants k, int32_t a, int32_t b) {
  const int32_t wide = (int32_t)((uint32_t)b << (LEFT_SHIFT + 1));
  const int32_t halves = scalpel_halves(scalpel_multiply_most(wide, k.b_multiplier), k.b_shift);
  const int32_t sum = (int32_t)((uint32_t)a << LEFT_SHIFT) + (halves & ~1);
  const int32_t result = scalpel_halves(scalpel_multiply_most(sum, k.multiplier), k.shift);
  return scalpel_saturate((result + k.zero_point) >> 1);
}

static inline uint32_t four_sums(constants k, uint32_t a, uint32_t b) {
  const uint32_t a_even = scalpel_add_even(k.a_offset, a), a_odd = scalpel_add_odd(k.a_offset, a);
  const uint32_t b_even = scalpel_add_even(k.b_offset, b), b_odd = scalpel_add_odd(k.b_offset, b);
  const int32_t first = narrow_sum(k, scalpel_low(a_even), scalpel_low(b_even));
  const int32_t second = narrow_sum(k, scalpel_low(a_odd), scalpel_low(b_odd));
  const int32_t third = narrow_sum(k, scalpel_high(a_even), scalpel_high(b_even));
  const int32_t fourth = narrow_sum(k, scalpel_high(a_odd), scalpel_high(b_odd));
  return scalpel_pack4(first, second, third, fourth);
}
#endif

void scalpel_add_s8(const scalpel_add_params *params, int32_t count, const int8_t *a,
                    int32_t a_step, const int8_t *b, int32_t b_step, int8_t *y) {
  const int8_t *end = y + count;
#if SCALPEL_SIMD
  if (params->a_shift == 0 && params->sign == 1 && params->b_shift < 0 && params->shift < 0) {
    const constants k = {scalpel_repeat2(-params->a_zero_point),
                         scalpel_repeat2(-params->b_zero_point),
                         params->b_multiplier,
                         -1 - params->b_shift,
                         params->multiplier,
                         -1 - params->shift,
                         2 * params->zero_point};
    const uint32_t lowest = scalpel_repeat4(params->lowest);
    const uint32_t highest = scalpel_repeat4(params->highest);
    for (; end - y >= 4; y += 4, a += 4 * a_step, b += 4 * b_step) {
      const uint32_t from_a = a_step ? scalpel_load4(a) : scalpel_repeat4(*a);
      const uint32_t from_b = b_step ? scalpel_load4(b) : scalpel_repeat4(*b);
      const uint32_t sums = four_sums(k, from_a, from_b);
      scalpel_store4(y, scalpel_min4(scalpel_max4(sums, lowest), highest));
    }
  }
#endif
  for (; y < end; a += a_step, b += b_step) {
    *y++ = sum_of(params, *a, *b);
  }
}
