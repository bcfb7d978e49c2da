/* Runs a model in QEMU: every sample of the file `inputs`, its inputs one after another, to the
 * file `outputs`; then to `counts` in 32-bit words the bytes of stack that the layers took, the
 * ticks of CALIBRATION instructions, and those of each layer of the last sample.  model.c is
 * included, so that layers can be called one by one. */
#include "model.c"

/* LAYERS, INPUT_BYTES, OUTPUT_BYTES: lists */
#include "qemu_model.h"

enum { SYS_OPEN = 1, SYS_CLOSE = 2, SYS_WRITE = 5, SYS_READ = 6, READ = 1, WRITE = 5 };
enum { PAINT = 0x5A5A5A5A, UNPAINTED = 8 }; /* words, for `paint` itself */
enum { CALIBRATION = 20000, SYSTICK_ENABLE = 1, SYSTICK_PROCESSOR_CLOCK = 4, TICK_MASK = 0xFFFFFF };

static volatile uint32_t *const systick = (volatile uint32_t *)0xE000E010u;
static void (*const layers[])(uint8_t *) = {LAYERS};
static const uint32_t input_bytes[] = {INPUT_BYTES};
static const uint32_t output_bytes[] = {OUTPUT_BYTES};
static uint32_t counts[2 + sizeof(layers) / sizeof(layers[0])];
__attribute__((aligned(16))) static uint8_t arena[MODEL_ARENA_BYTES];

static int32_t semihosting(int32_t operation, const void *parameter) {
  register int32_t r0 __asm("r0") = operation;
  register const void *r1 __asm("r1") = parameter;
  __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

static uint32_t open_file(const char *name, uint32_t length, uint32_t mode) {
  const uint32_t block[3] = {(uint32_t)(uintptr_t)name, mode, length};
  return (uint32_t)semihosting(SYS_OPEN, block);
}

static int32_t move(int32_t operation, uint32_t file, const void *data, uint32_t bytes) {
  const uint32_t block[3] = {file, (uint32_t)(uintptr_t)data, bytes};
  return semihosting(operation, block);
}

/* 1 if a whole sample was read, 0 at the end of the file. */
static int read_sample(uint32_t file) {
  for (uint32_t i = 0; i < MODEL_INPUTS; ++i) {
    if (move(SYS_READ, file, model_input(arena, i), input_bytes[i]) != 0) return 0;
  }
  return 1;
}

static inline __attribute__((always_inline)) uint32_t *stack_pointer(void) {
  uint32_t *pointer;
  __asm volatile("mov %0, sp" : "=r"(pointer));
  return pointer;
}

/* The stack from STACK_BOTTOM up to `top`. */
static void paint(const uint32_t *top) {
  for (volatile uint32_t *word = (uint32_t *)STACK_BOTTOM; word < top; ++word) *word = PAINT;
}

static const volatile uint32_t *deepest(void) {
  const volatile uint32_t *word = (const uint32_t *)STACK_BOTTOM;
  while (*word == PAINT) ++word;
  return word;
}

static uint32_t now(void) { return systick[2]; }

/* Does nothing for CALIBRATION instructions. */
static __attribute__((noinline)) void calibrate(void) {
  uint32_t rounds = CALIBRATION / 2;
  __asm volatile("1: subs %0, #1\n\tbne 1b" : "+l"(rounds) : : "cc");
}

int main(void) {
  const uint32_t inputs = open_file("inputs", 6, READ), outputs = open_file("outputs", 7, WRITE);
  paint(stack_pointer() - UNPAINTED);
  systick[1] = TICK_MASK;
  systick[2] = 0;
  systick[0] = SYSTICK_ENABLE | SYSTICK_PROCESSOR_CLOCK;
  uint32_t before = now();
  calibrate();
  counts[1] = (before - now()) & TICK_MASK;
  while (read_sample(inputs)) {
    for (uint32_t i = 0; i < MODEL_LAYERS; ++i) {
      before = now();
      layers[i](arena);
      counts[2 + i] = (before - now()) & TICK_MASK;
    }
    for (uint32_t i = 0; i < MODEL_OUTPUTS; ++i) {
      move(SYS_WRITE, outputs, model_output(arena, i), output_bytes[i]);
    }
  }
  counts[0] = (uint32_t)(stack_pointer() - deepest()) * (uint32_t)sizeof(uint32_t);
  const uint32_t file = open_file("counts", 6, WRITE);
  move(SYS_WRITE, file, counts, sizeof counts);
  semihosting(SYS_CLOSE, &file);
  semihosting(SYS_CLOSE, &outputs);
  return 0;
}
