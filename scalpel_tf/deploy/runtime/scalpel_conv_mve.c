/* What scalpel_conv_dsp.S computes, for Helium: the band stays int8, a filter's steps are summed up
 * once for all columns, and one gather loads what four groups meet at a column. */
#include <string.h>

#include "scalpel_conv.h"
#include "scalpel_conv_widen.h"

#if SCALPEL_MVE

#include <arm_mve.h>
#include <stdbool.h>
#include <stddef.h>

#include "scalpel_simd.h"

/* offsets[i]: entries from x to those of group i.  Returns the steps behind. */
static inline const uint8_t *add_steps(const uint8_t *steps, uint32_t n, uint32_t *offsets) {
  uint32_t four, first, second, third, at = 0;
  __asm volatile(
      "wls lr, %[fours], 2f\n"
      "1: ldr %[four], [%[steps]], #4\n"
      "uxtab %[first], %[at], %[four]\n"
      "uxtab %[second], %[first], %[four], ror #8\n"
      "uxtab %[third], %[second], %[four], ror #16\n"
      "uxtab %[at], %[third], %[four], ror #24\n"
      "strd %[first], %[second], [%[offsets]], #8\n"
      "strd %[third], %[at], [%[offsets]], #8\n"
      "le lr, 1b\n"
      "2: wls lr, %[rest], 4f\n"
      "3: ldrb %[four], [%[steps]], #1\n"
      "add %[at], %[four]\n"
      "str %[at], [%[offsets]], #4\n"
      "le lr, 3b\n"
      "4:\n"
      : [steps] "+&r"(steps), [offsets] "+&r"(offsets), [at] "+&r"(at), [four] "=&r"(four),
        [first] "=&r"(first), [second] "=&r"(second), [third] "=&r"(third)
      : [fours] "r"(n / 4), [rest] "r"(n % 4)
      : "lr", "cc", "memory");
  return steps;
}

/* A filter at work: where its groups meet the input, and what scales their sums. */
typedef struct {
  const uint32_t *offsets;
  const int8_t *values;
  uint32_t groups;
  int32_t bias, multiplier, rounding, shift;
} filter;

/* The sums at the four columns from x on.  A gather's offsets must be there early, and a load goes
 * beside a multiplication. */
static inline int32x4_t sums(const int8_t *x, const filter *f) {
  const uint32_t *offsets;
  const int8_t *values, *x1, *x2, *x3;
  int32_t acc0, acc1, acc2, acc3;
  int32x4_t result;
  __asm volatile(
      "ldrd %[offsets], %[values], [%[f]]\n"
      "ldrd lr, %[acc0], [%[f], #8]\n"
      "add %[x1], %[x], #4\n"
      "add %[x2], %[x], #8\n"
      "add %[x3], %[x], #12\n"
      "mov %[acc1], %[acc0]\n"
      "mov %[acc2], %[acc0]\n"
      "mov %[acc3], %[acc0]\n"
      "wlstp.32 lr, lr, 2f\n"
      "1: vldrw.u32 q0, [%[offsets]], #16\n"
      "vldrb.u8 q1, [%[values]], #16\n"
      "vldrw.u32 q2, [%[x], q0, uxtw #2]\n"
      "vldrw.u32 q3, [%[x1], q0, uxtw #2]\n"
      "vmladava.s8 %[acc0], q1, q2\n"
      "vldrw.u32 q2, [%[x2], q0, uxtw #2]\n"
      "vmladava.s8 %[acc1], q1, q3\n"
      "vldrw.u32 q3, [%[x3], q0, uxtw #2]\n"
      "vmladava.s8 %[acc2], q1, q2\n"
      "vmladava.s8 %[acc3], q1, q3\n"
      "letp lr, 1b\n"
      "2: vmov %q[result][2], %q[result][0], %[acc0], %[acc2]\n"
      "vmov %q[result][3], %q[result][1], %[acc1], %[acc3]\n"
      : [result] "=&w"(result), [acc0] "=&Te"(acc0), [acc1] "=&Te"(acc1), [acc2] "=&Te"(acc2),
        [acc3] "=&Te"(acc3), [offsets] "=&r"(offsets), [values] "=&r"(values), [x1] "=&r"(x1),
        [x2] "=&r"(x2), [x3] "=&r"(x3)
      : [x] "r"(x), [f] "r"(f)
      : "lr", "cc", "q0", "q1", "q2", "q3", "memory");
  return result;
}

static inline int32x4_t requantize(int32x4_t acc, const filter *f) {
  const int32x4_t high = vqrdmulhq_n_s32(acc, f->multiplier);
  const int32x4_t sum = vaddq_n_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), f->rounding);
  const int32x4_t scaled = vshlq_r_s32(sum, f->shift);
  return vminq_s32(vmaxq_s32(scaled, vdupq_n_s32(-128)), vdupq_n_s32(127));
}

static inline __attribute__((always_inline)) void conv(const scalpel_conv_block *block, bool shared,
                                                       bool pool2) {
  const int32_t columns = block->columns, pitch = block->pitch;
  const ptrdiff_t below = block->x_below - block->x;
  const uint32x4_t lane = vidupq_n_u32(0, 1);
  const uint32x4_t places = vmulq_n_u32(pool2 ? vshrq_n_u32(lane, 1) : lane, (uint32_t)pitch);
  const uint8_t *steps = block->steps;
  int8_t *y = block->y;
  filter f = {.offsets = block->offsets, .values = block->values};
  for (const scalpel_conv_row *row = block->rows; row < block->end; ++row, ++y) {
    f.groups = scalpel_conv_groups(row);
    f.bias = row->bias;
    f.multiplier = row->multiplier;
    f.rounding = row->rounding;
    f.shift = -(int32_t)(row->packed & 255);
    if (!shared || row == block->rows) {
      steps = add_steps(steps, f.groups, block->offsets);
    }
    const int8_t *x = block->x;
    int8_t *to = y;
    for (int32_t left = columns; left > 0; left -= 4, x += 16, to += 4 / (1 + pool2) * pitch) {
      if (left < 4) { /* the last four start early */
        x -= 4 * (4 - left);
        to -= (4 - left) / (1 + pool2) * pitch;
      }
      int32x4_t acc = sums(x, &f);
      if (pool2) {
        acc = vmaxq_s32(acc, sums(x + below, &f));
        acc = vmaxq_s32(acc, vrev64q_s32(acc));
        /* Lanes 1 and 3 are copies of lanes 0 and 2. */
        vstrbq_scatter_offset_p_s32(to, places, requantize(acc, &f), 0x0f0f);
      } else {
        vstrbq_scatter_offset_s32(to, places, requantize(acc, &f));
      }
    }
    f.values += 4 * f.groups;
  }
}

void scalpel_conv4(const scalpel_conv_block *block) { conv(block, false, false); }

void scalpel_conv4_shared(const scalpel_conv_block *block) { conv(block, true, false); }

void scalpel_conv4_relu(const scalpel_conv_block *block) { conv(block, false, false); }

void scalpel_conv4_relu_shared(const scalpel_conv_block *block) { conv(block, true, false); }

void scalpel_conv4_pool2(const scalpel_conv_block *block) { conv(block, false, true); }

void scalpel_conv4_pool2_shared(const scalpel_conv_block *block) { conv(block, true, true); }

void scalpel_conv_widen(const int8_t *from, int32_t step, int32_t count, scalpel_conv_input *to) {
  for (int32_t j = 0; j < count; j += 4, from += 4 * step, to += 16) {
    const uint32_t entries[4] = {scalpel_load4(from), scalpel_load4(from + step),
                                 scalpel_load4(from + 2 * step), scalpel_load4(from + 3 * step)};
    memcpy(to, entries, sizeof entries);
  }
}

void scalpel_conv_widen_split(const int8_t *from, int32_t step, int32_t count,
                              scalpel_conv_input *to, const int8_t *second, uint32_t mask) {
  for (int32_t j = 0; j < count; ++j, from += step, second += step, to += 4) {
    scalpel_store4(to, (scalpel_load4(from) & mask) | (scalpel_load4(second) & ~mask));
  }
}

void scalpel_conv_copy(int8_t *to, const int8_t *from, int32_t count) {
  __asm volatile(
      "wlstp.8 lr, %[count], 2f\n"
      "1: vldrb.u8 q0, [%[from]], #16\n"
      "vstrb.8 q0, [%[to]], #16\n"
      "letp lr, 1b\n"
      "2:\n"
      : [to] "+&r"(to), [from] "+&r"(from)
      : [count] "r"(count)
      : "lr", "q0", "memory");
}

void scalpel_conv_fill(int8_t *to, int32_t value, int32_t count) {
  const int8x16_t values = vdupq_n_s8((int8_t)value);
  for (; count > 0; count -= 16, to += 16) {
    vstrbq_p_s8(to, values, vctp8q((uint32_t)count));
  }
}

#endif

typedef int scalpel_conv_mve_is_not_empty; /* ISO C forbids an empty file */
