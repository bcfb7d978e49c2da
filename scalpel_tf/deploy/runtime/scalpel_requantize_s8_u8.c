#include "scalpel_ops.h"
#include "scalpel_requantize.h"

void scalpel_requantize_s8_u8(const scalpel_requantize_params *params, const int8_t *x,
                              uint8_t *y) {
  for (int32_t i = 0; i < params->count; ++i) {
    y[i] = (uint8_t)scalpel_output(x[i] - params->in_zero_point, params->multiplier, params->shift,
                                   params->out_zero_point, params->lowest, params->highest);
  }
}
