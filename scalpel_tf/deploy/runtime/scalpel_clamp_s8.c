#include "scalpel_runtime.h"

void scalpel_clamp_s8(int8_t *y, uint32_t n, int32_t lowest, int32_t highest) {
  for (uint32_t i = 0; i < n; ++i) {
    y[i] = (int8_t)(y[i] < lowest ? lowest : y[i] > highest ? highest : y[i]);
  }
}
