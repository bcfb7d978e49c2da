#include "scalpel_ops.h"
#include "scalpel_requantize.h"

/* Ties away from zero.  |value| < 512, so that the difference is exact. */
static int32_t nearest(float value) {
  const int32_t whole = (int32_t)value;
  const float rest = value - (float)whole;
  return whole + (rest >= 0.5f) - (rest <= -0.5f);
}

void scalpel_quantize_f32_s8(const scalpel_float_params *params, const float *x, int8_t *y) {
  for (int32_t i = 0; i < params->count; ++i) {
    const float scaled = x[i] / params->scale;
    int32_t steps = 0; /* of NaN, which no comparison holds for */
    if (scaled >= 256.0f) {
      steps = 256;
    } else if (scaled <= -256.0f) {
      steps = -256;
    } else if (scaled == scaled) {
      steps = nearest(scaled);
    }
    y[i] = (int8_t)scalpel_clamp(steps + params->zero_point, -128, 127);
  }
}
