#include "scalpel_ops.h"
#include "scalpel_requantize.h"

void scalpel_requantize_u8_s8(const scalpel_requantize_params *params, const uint8_t *x,
                              int8_t *y) {
  for (int32_t i = 0; i < params->count; ++i) {
    y[i] = (int8_t)scalpel_output(x[i] - params->in_zero_point, params->multiplier, params->shift,
                                  params->out_zero_point, params->lowest, params->highest);
  }
}
