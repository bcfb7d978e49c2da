/* Runs the project's test vectors in QEMU (mps2-an386) and prints how many differ, in decimal,
 * through semihosting. */
#include <stdint.h>

#include "model.h"
#include "test_vectors.h"

__attribute__((section(".arena"), used, aligned(16))) uint8_t board_arena[MODEL_ARENA_BYTES];

static void semihost(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm("r0") = operation;
  register const void *r1 __asm("r1") = argument;
  __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

int main(void) {
  const uint8_t *given = test_inputs, *expected = test_outputs;
  int wrong = 0;
  for (int vector = 0; vector < TEST_VECTORS; ++vector) {
    for (uint32_t i = 0; i < MODEL_INPUTS; ++i) {
      uint8_t *input = model_input(board_arena, i);
      for (int32_t n = 0; n < test_input_bytes[i]; ++n) input[n] = *given++;
    }
    model_invoke(board_arena);
    int differs = 0;
    for (uint32_t i = 0; i < MODEL_OUTPUTS; ++i) {
      const uint8_t *output = model_output(board_arena, i);
      for (int32_t n = 0; n < test_output_bytes[i]; ++n) differs |= output[n] != *expected++;
    }
    wrong += differs;
  }
  char line[2] = {(char)('0' + (wrong < 9 ? wrong : 9)), 0};
  semihost(4, line);                     /* SYS_WRITE0 */
  semihost(0x18, (const void *)0x20026); /* SYS_EXIT, stopped by the application */
  for (;;) {
  }
}
