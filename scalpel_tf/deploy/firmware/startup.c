/* Vectors and start-up for any Cortex-M on the memory map of board.ld. */
#include <stdint.h>

extern uint32_t board_stack_top, board_data_load, board_data, board_data_end, board_bss,
    board_bss_end;

int main(void);

void board_reset(void) {
  volatile uint32_t *coprocessor_access = (volatile uint32_t *)0xE000ED88u;
  *coprocessor_access |= 0xFu << 20; /* the floating-point unit, where there is one */
  __asm volatile("dsb\n\tisb" ::: "memory");

  const uint32_t *from = &board_data_load;
  for (uint32_t *to = &board_data; to < &board_data_end; ++to) *to = *from++;
  for (uint32_t *to = &board_bss; to < &board_bss_end; ++to) *to = 0;
  main();
  for (;;) {
  }
}

static void fault(void) {
  for (;;) {
  }
}

typedef void (*vector)(void);

__attribute__((section(".vectors"), used)) static const vector vectors[16] = {
    (vector)&board_stack_top,
    board_reset,
    fault,
    fault,
    fault,
    fault,
    fault,
    0,
    0,
    0,
    0,
    fault,
    fault,
    0,
    fault,
    fault};
