/* Runs the stored test vectors; returns how many outputs differ from TensorFlow Lite's, or -1 where
 * the constants are damaged. */
#include <string.h>

#include "model.h"
#include "test_vectors.h"

#if defined(MODEL_PRINT)
#include <stdio.h>
#elif defined(MODEL_BOARD)
#include "board.h"
#endif

#if defined(__GNUC__) || defined(__clang__)
__attribute__((aligned(16)))
#endif
static uint8_t arena[MODEL_ARENA_BYTES];

int main(void) {
  const uint8_t *given = test_inputs;
  const uint8_t *expected = test_outputs;
  int wrong = 0;
#ifdef MODEL_CRC32
  if (model_check()) return -1;
#endif
  for (int vector = 0; vector < TEST_VECTORS; ++vector) {
    int same = 1;
    for (uint32_t i = 0; i < MODEL_INPUTS; given += test_input_bytes[i++]) {
      memcpy(model_input(arena, i), given, (size_t)test_input_bytes[i]);
    }
    model_invoke(arena);
    for (uint32_t i = 0; i < MODEL_OUTPUTS; expected += test_output_bytes[i++]) {
      same &= memcmp(model_output(arena, i), expected, (size_t)test_output_bytes[i]) == 0;
    }
    wrong += !same;
  }
#if defined(MODEL_PRINT)
  printf("%d of %d test vectors differ\n", wrong, TEST_VECTORS);
#elif defined(MODEL_BOARD)
  board_print_result(wrong, TEST_VECTORS);
#endif
  return wrong;
}
