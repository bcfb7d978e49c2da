/* Four int8 in a word, by the DSP extension.  Kernels that use it have a plain path beside it.
 *
 * lanes: two int16 in a word; of four bytes 0..3, the even lanes are 0 and 2, the odd ones 1 and 3.
 */
#ifndef SCALPEL_SIMD_H
#define SCALPEL_SIMD_H

#include <stdint.h>

#if defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define SCALPEL_SIMD 1
#else
#define SCALPEL_SIMD 0
#endif

#if SCALPEL_SIMD

typedef struct {
  uint32_t value;
} __attribute__((packed, may_alias)) scalpel_unaligned;

static inline uint32_t scalpel_load4(const int8_t *x) {
  return ((const scalpel_unaligned *)x)->value;
}

static inline void scalpel_store4(int8_t *y, uint32_t bytes) {
  ((scalpel_unaligned *)y)->value = bytes;
}

/* The same byte, or the same half, in the whole word. */
static inline uint32_t scalpel_repeat4(int32_t byte) {
  return (uint32_t)(uint8_t)byte * 0x01010101u;
}

static inline uint32_t scalpel_repeat2(int32_t half) {
  return (uint32_t)(uint16_t)half * 0x00010001u;
}

/* The larger, and the smaller, of each pair of bytes. */
static inline uint32_t scalpel_max4(uint32_t a, uint32_t b) {
  uint32_t result;
  __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
  return result;
}

static inline uint32_t scalpel_min4(uint32_t a, uint32_t b) {
  uint32_t result;
  __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(result) : "r"(a), "r"(b) : "cc");
  return result;
}

/* lanes + the even bytes, or the odd ones; modulo 2^16. */
static inline uint32_t scalpel_add_even(uint32_t lanes, uint32_t bytes) {
  uint32_t result;
  __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(lanes), "r"(bytes));
  return result;
}

static inline uint32_t scalpel_add_odd(uint32_t lanes, uint32_t bytes) {
  uint32_t result;
  __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(lanes), "r"(bytes));
  return result;
}

static inline uint32_t scalpel_even(uint32_t bytes) {
  uint32_t result;
  __asm__("sxtb16 %0, %1" : "=r"(result) : "r"(bytes));
  return result;
}

static inline uint32_t scalpel_odd(uint32_t bytes) {
  uint32_t result;
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(bytes));
  return result;
}

/* The low lanes of a and b, a's below, or their high ones. */
static inline uint32_t scalpel_pack_low(uint32_t a, uint32_t b) {
  uint32_t result;
  __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

static inline uint32_t scalpel_pack_high(uint32_t a, uint32_t b) {
  uint32_t result;
  __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(b), "r"(a));
  return result;
}

static inline int32_t scalpel_low(uint32_t lanes) { return (int16_t)lanes; }
static inline int32_t scalpel_high(uint32_t lanes) { return (int32_t)lanes >> 16; }

/* acc + the product of the low lanes, or of the high ones; modulo 2^32. */
static inline int32_t scalpel_multiply_low(int32_t acc, uint32_t a, uint32_t b) {
  int32_t result;
  __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc) : "cc");
  return result;
}

static inline int32_t scalpel_multiply_upper(int32_t acc, uint32_t a, uint32_t b) {
  int32_t result;
  __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(acc) : "cc");
  return result;
}

/* a * b / 2^32, ties upwards: what scalpel_multiply_high makes of a / 2 and b. */
static inline int32_t scalpel_multiply_most(int32_t a, int32_t b) {
  int32_t result;
  __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
  return result;
}

/* The nearest int8. */
static inline int32_t scalpel_saturate(int32_t value) {
  int32_t result;
  __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value) : "cc");
  return result;
}

/* Twice value / 2^(shift + 1), ties away from zero, in all but the lowest bit; for |value| < 2^31 -
 * 1, shift >= 0. To lower negative numbers by one, add half of the divisor and shift rounds so; and
 * so it does to shift by one bit less, add one and drop the lowest bit. */
static inline int32_t scalpel_halves(int32_t value, int32_t shift) {
  return ((value + (value >> 31)) >> shift) + 1;
}

/* What scalpel_output makes of acc, in the bounds of int8, where |acc| < 2^30 and its shift is
 * negative.  shift: -1 - that shift.  zero_point: twice the output's. */
static inline int32_t scalpel_narrow_output(int32_t acc, int32_t multiplier, int32_t shift,
                                            int32_t zero_point) {
  const int32_t halves = scalpel_halves(scalpel_multiply_most(2 * acc, multiplier), shift);
  return scalpel_saturate((halves + zero_point) >> 1);
}

/* The low bytes of four words, the first lowest. */
static inline uint32_t scalpel_pack4(int32_t a, int32_t b, int32_t c, int32_t d) {
  __asm__("bfi %0, %1, #8, #8\n\tbfi %0, %2, #16, #8\n\tbfi %0, %3, #24, #8"
          : "+&r"(a)
          : "r"(b), "r"(c), "r"(d));
  return (uint32_t)a;
}
#endif

#endif /* SCALPEL_SIMD_H */
