#include "tiny.h"

#ifndef __ARM_FEATURE_DSP
int32_t tiny_dot8(const int8_t *x, const int8_t *w) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < 8; ++i) sum += x[i] * w[i];
  return sum;
}
#else
typedef int tiny_dot8_is_in_assembly; /* C99 wants at least one declaration in a file. */
#endif
