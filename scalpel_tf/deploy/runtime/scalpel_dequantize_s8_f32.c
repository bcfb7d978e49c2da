#include "scalpel_ops.h"

void scalpel_dequantize_s8_f32(const scalpel_float_params *params, const int8_t *x, float *y) {
  for (int32_t i = 0; i < params->count; ++i) {
    y[i] = params->scale * (float)(x[i] - params->zero_point);
  }
}
