/* Written by hand after the contract of an exported project, as small as it can be. Inputs: 9 int8
 * at 0 and one float32 at 12. Outputs: 2 int32 at 16 and one float32 at 12, where an input was. */
#include "model.h"

#include <string.h>

#include "runtime/tiny.h"

/* Layer 0: the dot products of x[0:8] and of x[1:9] with fixed weights. */
static void __attribute__((noinline)) model_layer_0(uint8_t *arena) {
  static const int8_t weights[8] = {1, -2, 3, -4, 5, -6, 7, -8};
  int32_t sums[2];
  for (uint32_t i = 0; i < 2; ++i) sums[i] = tiny_dot8((const int8_t *)arena + i, weights);
  memcpy(arena + 16, sums, sizeof sums);
}

/* Layer 1: ReLU; its branches depend on the data. */
static void __attribute__((noinline)) model_layer_1(uint8_t *arena) {
  int32_t sums[2];
  memcpy(sums, arena + 16, sizeof sums);
  for (uint32_t i = 0; i < 2; ++i) {
    if (sums[i] < 0) sums[i] = 0;
  }
  memcpy(arena + 16, sums, sizeof sums);
}

/* Layer 2: y = y * first sum + 0.5, in floating point. */
static void __attribute__((noinline)) model_layer_2(uint8_t *arena) {
  int32_t sum;
  float y;
  memcpy(&sum, arena + 16, sizeof sum);
  memcpy(&y, arena + 12, sizeof y);
  y = y * (float)sum + 0.5f;
  memcpy(arena + 12, &y, sizeof y);
}

void *model_input(uint8_t *arena, uint32_t index) { return arena + (index == 0 ? 0 : 12); }

const void *model_output(const uint8_t *arena, uint32_t index) {
  return arena + (index == 0 ? 16 : 12);
}

void model_invoke(uint8_t *arena) {
  model_layer_0(arena);
  model_layer_1(arena);
  model_layer_2(arena);
}
