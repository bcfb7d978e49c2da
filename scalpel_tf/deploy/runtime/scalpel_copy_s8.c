#include <string.h>

#include "scalpel_ops.h"

static void copy_run(const scalpel_copy_params *params, const int8_t *x, int8_t *y) {
  const int32_t count = params->size[3], x_step = params->x_step[3], y_step = params->y_step[3];
  if (x_step == 1 && y_step == 1) {
    memcpy(y, x, (size_t)count);
    return;
  }
  for (int32_t i = 0; i < count; ++i, x += x_step, y += y_step) {
    *y = *x;
  }
}

void scalpel_copy_s8(const scalpel_copy_params *params, const int8_t *x, int8_t *y) {
  const int32_t *size = params->size, *from = params->x_step, *to = params->y_step;
  for (int32_t i = 0; i < size[0]; ++i) {
    for (int32_t j = 0; j < size[1]; ++j) {
      for (int32_t k = 0; k < size[2]; ++k) {
        copy_run(params, x + i * from[0] + j * from[1] + k * from[2],
                 y + i * to[0] + j * to[1] + k * to[2]);
      }
    }
  }
}
