#include "scalpel_ops.h"
#include "scalpel_requantize.h"
#include "scalpel_simd.h"

static int8_t mean_of(const scalpel_mean_params *params, int32_t sum) {
  const int32_t moved = sum - params->in_zero_point * params->reduced;
  return (int8_t)scalpel_output(moved, params->multiplier, params->shift, params->out_zero_point,
                                -128, 127);
}

#if SCALPEL_SIMD
enum { RUN = 256 }; /* 256 bytes add up to -32768 .. 32512, which a lane holds */

/* The means of four columns of `reduced` rows, from x on. */
static inline uint32_t means_of_four(const scalpel_mean_params *params, const int8_t *x) {
  int32_t sum[4] = {0, 0, 0, 0};
  for (int32_t left = params->reduced; left > 0; left -= RUN) {
    uint32_t even = 0, odd = 0;
    for (int32_t i = left < RUN ? left : RUN; i > 0; --i, x += params->inner) {
      const uint32_t bytes = scalpel_load4(x);
      even = scalpel_add_even(even, bytes);
      odd = scalpel_add_odd(odd, bytes);
    }
    sum[0] += scalpel_low(even);
    sum[1] += scalpel_low(odd);
    sum[2] += scalpel_high(even);
    sum[3] += scalpel_high(odd);
  }
  return scalpel_pack4(mean_of(params, sum[0]), mean_of(params, sum[1]), mean_of(params, sum[2]),
                       mean_of(params, sum[3]));
}
#endif

void scalpel_mean_s8(const scalpel_mean_params *params, const int8_t *x, int8_t *y) {
  const int32_t inner = params->inner;
  for (int32_t o = 0; o < params->outer; ++o, x += params->reduced * inner, y += inner) {
    int32_t i = 0;
#if SCALPEL_SIMD
    for (; i + 4 <= inner; i += 4) {
      scalpel_store4(y + i, means_of_four(params, x + i));
    }
#endif
    for (; i < inner; ++i) {
      int32_t sum = 0;
      for (int32_t r = 0; r < params->reduced; ++r) {
        sum += x[r * inner + i];
      }
      y[i] = mean_of(params, sum);
    }
  }
}
