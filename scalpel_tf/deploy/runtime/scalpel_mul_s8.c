#include "scalpel_ops.h"
#include "scalpel_requantize.h"
#include "scalpel_simd.h"

static int8_t product_of(const scalpel_mul_params *params, int32_t a, int32_t b) {
  const int32_t product = (a - params->a_zero_point) * (b - params->b_zero_point);
  return (int8_t)scalpel_output(product, params->multiplier, params->shift, params->zero_point,
                                params->lowest, params->highest);
}

#if SCALPEL_SIMD
/* What is the same for every product: the offsets in both lanes, the rest as
 * scalpel_narrow_output, which products below 2^16 are narrow enough for. */
typedef struct {
  uint32_t a_offset, b_offset;
  int32_t multiplier, shift, zero_point;
} constants;

static inline int32_t narrow(constants k, int32_t product) {
  return scalpel_narrow_output(product, k.multiplier, k.shift, k.zero_point);
}

static inline uint32_t four_products(constants k, uint32_t a, uint32_t b) {
  const uint32_t a_even = scalpel_add_even(k.a_offset, a), a_odd = scalpel_add_odd(k.a_offset, a);
  const uint32_t b_even = scalpel_add_even(k.b_offset, b), b_odd = scalpel_add_odd(k.b_offset, b);
  return scalpel_pack4(narrow(k, scalpel_low(a_even) * scalpel_low(b_even)),
                       narrow(k, scalpel_low(a_odd) * scalpel_low(b_odd)),
                       narrow(k, scalpel_high(a_even) * scalpel_high(b_even)),
                       narrow(k, scalpel_high(a_odd) * scalpel_high(b_odd)));
}
#endif

void scalpel_mul_s8(const scalpel_mul_params *params, int32_t count, const int8_t *a,
                    int32_t a_step, const int8_t *b, int32_t b_step, int8_t *y) {
  const int8_t *end = y + count;
#if SCALPEL_SIMD
  if (params->shift < 0) {
    const constants k = {scalpel_repeat2(-params->a_zero_point),
                         scalpel_repeat2(-params->b_zero_point), params->multiplier,
                         -1 - params->shift, 2 * params->zero_point};
    const uint32_t lowest = scalpel_repeat4(params->lowest);
    const uint32_t highest = scalpel_repeat4(params->highest);
    for (; end - y >= 4; y += 4, a += 4 * a_step, b += 4 * b_step) {
      const uint32_t from_a = a_step ? scalpel_load4(a) : scalpel_repeat4(*a);
      const uint32_t from_b = b_step ? scalpel_load4(b) : scalpel_repeat4(*b);
      const uint32_t products = four_products(k, from_a, from_b);
      scalpel_store4(y, scalpel_min4(scalpel_max4(products, lowest), highest));
    }
  }
#endif
  for (; y < end; a += a_step, b += b_step) {
    *y++ = product_of(params, *a, *b);
  }
}
