/* One digit through a LeNet-5 that `scalpel-tf export lenet_5.keras --target x86-64 --out native`
 * wrote.  cc -I native examples/native/lenet_5.c native/libmodel.so -Wl,-rpath,native */
#include <stdio.h>

#include "model.h"

int main(void) {
  static float image[MODEL_INPUT_SIZE], logits[MODEL_OUTPUT_SIZE];
  static _Alignas(MODEL_ARENA_ALIGNMENT) unsigned char arena[MODEL_ARENA_BYTES];
  const size_t read = fread(image, sizeof *image, MODEL_INPUT_SIZE, stdin); /* pixels, 0 to 1 */
  model_invoke(image, logits, arena);
  for (int i = 0; i < MODEL_OUTPUT_SIZE; ++i) printf("%d: %f\n", i, logits[i]);
  return read != MODEL_INPUT_SIZE;
}
