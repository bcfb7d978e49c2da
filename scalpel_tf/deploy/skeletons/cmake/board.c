/* Vectors, start-up and a way to say the result, for any Cortex-M on the memory map of board.ld.
 *
 * With SEMIHOSTING the text and the exit code go to the debugger, or to QEMU; a board without one
 * would fault there.  Without it the result stays in board_result. */
#include "board.h"

#include <stdint.h>

extern uint32_t board_stack_top, board_data_load, board_data, board_data_end, board_bss,
    board_bss_end;

int main(void);

/* What main returned; -2 until then, -3 after a fault. */
volatile int32_t board_result = -2;

#ifdef SEMIHOSTING
enum { SYS_WRITE0 = 0x04, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };

static void semihosting(uint32_t operation, const void *parameter) {
  register uint32_t r0 __asm("r0") = operation;
  register const void *r1 __asm("r1") = parameter;
  __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}
#endif

static void finish(int32_t result) {
  board_result = result;
#ifdef SEMIHOSTING
  const uint32_t reason[2] = {APPLICATION_EXIT, (uint32_t)result};
  semihosting(SYS_EXIT_EXTENDED, reason);
#endif
  for (;;) {
  }
}

#ifdef SEMIHOSTING
static char *append_number(char *to, int number) {
  char digits[10];
  int length = 0;
  do {
    digits[length++] = (char)('0' + number % 10);
    number /= 10;
  } while (number > 0);
  while (length > 0) *to++ = digits[--length];
  return to;
}

static char *append(char *to, const char *text) {
  while (*text) *to++ = *text++;
  return to;
}
#endif

void board_print_result(int wrong, int total) {
#ifdef SEMIHOSTING
  char line[64];
  char *end = append(append_number(line, wrong), " of ");
  *append(append_number(end, total), " test vectors differ\n") = 0;
  semihosting(SYS_WRITE0, line);
#else
  (void)wrong;
  (void)total;
#endif
}

static void fault(void) { finish(-3); }

void board_reset(void) {
#ifdef __ARM_FP
  volatile uint32_t *coprocessor_access = (volatile uint32_t *)0xE000ED88u;
  *coprocessor_access |= 0xFu << 20;
  __asm volatile("dsb\n\tisb" ::: "memory");
#endif
  const uint32_t *from = &board_data_load;
  for (uint32_t *to = &board_data; to < &board_data_end; ++to) *to = *from++;
  for (uint32_t *to = &board_bss; to < &board_bss_end; ++to) *to = 0;
  finish(main());
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
