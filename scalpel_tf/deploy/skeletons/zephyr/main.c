/* Runs the stored test vectors and prints how many differ from TensorFlow Lite's outputs. */
#include <string.h>
#include <zephyr/kernel.h>
#include <zephyr/sys/printk.h>

#include "model.h"
#include "test_vectors.h"

__aligned(16) static uint8_t arena[MODEL_ARENA_BYTES];

int main(void) {
  const uint8_t *given = test_inputs;
  const uint8_t *expected = test_outputs;
  int wrong = 0;
  for (int vector = 0; vector < TEST_VECTORS; ++vector) {
    int same = 1;
    for (uint32_t i = 0; i < MODEL_INPUTS; given += test_input_bytes[i++]) {
      memcpy(model_input(arena, i), given, (size_t)test_input_bytes[i]);
    }
    const uint32_t start = k_cycle_get_32();
    model_invoke(arena);
    printk("vector %d: %u cycles\n", vector, k_cycle_get_32() - start);
    for (uint32_t i = 0; i < MODEL_OUTPUTS; expected += test_output_bytes[i++]) {
      same &= memcmp(model_output(arena, i), expected, (size_t)test_output_bytes[i]) == 0;
    }
    wrong += !same;
  }
  printk("%d of %d test vectors differ\n", wrong, TEST_VECTORS);
  return 0;
}
