/* Measures model_invoke in QEMU (mps2-an386): ticks of the CMSDK timer around it, and around an
 * empty function, whose difference is model_invoke less one instruction, the empty function's BX.
 * Prints "ticks empty_ticks checksum" through semihosting. Input: byte i is 37 * i + 11. */
#include <stdint.h>

#include "model.h"

__attribute__((section(".arena"), used, aligned(16))) uint8_t board_arena[MODEL_ARENA_BYTES];

typedef struct {
  volatile uint32_t control, value, reload;
} cmsdk_timer;

static cmsdk_timer *const timer = (cmsdk_timer *)0x40000000u;

static uint32_t semihost(uint32_t operation, const void *argument) {
  register uint32_t r0 __asm("r0") = operation;
  register const void *r1 __asm("r1") = argument;
  __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static char *hexadecimal(char *to, uint32_t value) {
  for (int shift = 28; shift >= 0; shift -= 4) *to++ = "0123456789abcdef"[(value >> shift) & 15];
  *to++ = ' ';
  return to;
}

static void __attribute__((noinline)) empty(uint8_t *arena) {
  __asm volatile("" ::"r"(arena) : "memory");
}

static uint32_t __attribute__((noinline)) ticks_of(void (*function)(uint8_t *)) {
  uint32_t before = timer->value;
  function(board_arena);
  return before - timer->value;
}

/* Volatile, so that no compiler makes two of ticks_of. */
static void (*volatile const functions[2])(uint8_t *) = {model_invoke, empty};

int main(void) {
  char line[40], *end = line;
  uint8_t *input = model_input(board_arena, 0);
  for (uint32_t n = 0; n < MODEL_INPUT_BYTES; ++n) input[n] = (uint8_t)(37 * n + 11);
  timer->reload = timer->value = 0xFFFFFFFFu;
  timer->control = 1;
  end = hexadecimal(end, ticks_of(functions[0]));
  end = hexadecimal(end, ticks_of(functions[1]));
  uint32_t checksum = 0;
  const uint8_t *output = model_output(board_arena, 0);
  for (uint32_t n = 0; n < MODEL_OUTPUT_BYTES; ++n) checksum = checksum * 31 + output[n];
  end = hexadecimal(end, checksum);
  *end = 0;
  semihost(4, line);                     /* SYS_WRITE0 */
  semihost(0x18, (const void *)0x20026); /* SYS_EXIT, stopped by the application */
  for (;;) {
  }
}
