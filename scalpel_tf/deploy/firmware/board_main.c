/* The program on the virtual board: start-up, the arena, the model. The board runs start-up until
 * main and then calls model_input, model_invoke and model_output itself; main is what a call
 * returns to. */
#include <stdint.h>

#include "model.h"

__attribute__((section(".arena"), used, aligned(16))) uint8_t board_arena[MODEL_ARENA_BYTES];

int main(void) {
  for (;;) {
  }
}
