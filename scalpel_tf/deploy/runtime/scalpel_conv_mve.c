/* What scalpel_conv_dsp.S computes, for Helium: the band stays int8, a filter's steps are summed up
 * once for all columns, and one gather loads what four groups meet at a column. */
#include <string.h>

#include "scalpel_conv.h"
#include "scalpel_conv_widen.h"

#if SCALPEL_MVE

#include <arm_mve.h>
#include <stdbool.h>

#include "scalpel_simd.h"

/* offsets[i]: entries from x to those of group i.  Returns the steps behind. */
static const uint8_t *add_steps(const uint8_t *steps, uint32_t n, uint32_t *offsets) {
  uint32_t at = 0;
  for (; n >= 4; n -= 4, steps += 4, offsets += 4) {
    const uint32_t four = scalpel_load4((const int8_t *)steps);
    offsets[0] = at += (uint8_t)four;
    offsets[1] = at += (uint8_t)(four >> 8);
    offsets[2] = at += (uint8_t)(four >> 16);
    offsets[3] = at += four >> 24;
  }
  for (; n > 0; --n) {
    *offsets++ = at += *steps++;
  }
  return steps;
}

/* The sums of a filter of n groups at the four columns from x on. */
static inline int32x4_t sums(const int8_t *x, const uint32_t *offsets, const int8_t *values,
                             uint32_t n, int32_t bias) {
  int32_t acc0 = bias, acc1 = bias, acc2 = bias, acc3 = bias;
  int32x4_t result;
  __asm volatile(
      "wlstp.32 lr, %[n], 2f\n"
      "1: vldrw.u32 q0, [%[offsets]], #16\n"
      "vldrb.u8 q1, [%[values]], #16\n"
      "vldrw.u32 q2, [%[x0], q0, uxtw #2]\n"
      "vmladava.s8 %[acc0], q1, q2\n"
      "vldrw.u32 q3, [%[x1], q0, uxtw #2]\n"
      "vmladava.s8 %[acc1], q1, q3\n"
      "vldrw.u32 q2, [%[x2], q0, uxtw #2]\n"
      "vmladava.s8 %[acc2], q1, q2\n"
      "vldrw.u32 q3, [%[x3], q0, uxtw #2]\n"
      "vmladava.s8 %[acc3], q1, q3\n"
      "letp lr, 1b\n"
      "2: vmov %q[result][2], %q[result][0], %[acc0], %[acc2]\n"
      "vmov %q[result][3], %q[result][1], %[acc1], %[acc3]\n"
      : [result] "=&w"(result), [acc0] "+&Te"(acc0), [acc1] "+&Te"(acc1), [acc2] "+&Te"(acc2),
        [acc3] "+&Te"(acc3), [offsets] "+&r"(offsets), [values] "+&r"(values)
      : [x0] "r"(x), [x1] "r"(x + 4), [x2] "r"(x + 8), [x3] "r"(x + 12), [n] "r"(n)
      : "lr", "q0", "q1", "q2", "q3", "memory");
  return result;
}

static inline int32x4_t requantize(int32x4_t acc, const scalpel_conv_row *row) {
  const int32x4_t high = vqrdmulhq_n_s32(acc, row->multiplier);
  const int32x4_t sum = vaddq_n_s32(vaddq_s32(high, vshrq_n_s32(high, 31)), row->rounding);
  const int32x4_t scaled = vshlq_r_s32(sum, -(int32_t)(row->packed & 255));
  return vminq_s32(vmaxq_s32(scaled, vdupq_n_s32(-128)), vdupq_n_s32(127));
}

static inline __attribute__((always_inline)) void conv(const scalpel_conv_block *block, bool shared,
                                                       bool pool2) {
  const uint32x4_t lane = vidupq_n_u32(0, 1);
  const uint32x4_t pitch = vmulq_n_u32(pool2 ? vshrq_n_u32(lane, 1) : lane, (uint32_t)block->pitch);
  const uint8_t *steps = block->steps;
  const int8_t *values = block->values;
  int8_t *y = block->y;
  for (const scalpel_conv_row *row = block->rows; row < block->end; ++row, ++y) {
    const uint32_t n = scalpel_conv_groups(row);
    if (!shared || row == block->rows) {
      steps = add_steps(steps, n, block->offsets);
    }
    for (int32_t j = 0; j < block->columns; j += 4) {
      /* The last four columns start early. */
      const int32_t column = j < block->columns - 4 ? j : block->columns - 4;
      int32x4_t acc = sums(block->x + 4 * column, block->offsets, values, n, row->bias);
      if (pool2) {
        const int8_t *below = block->x_below + 4 * column;
        acc = vmaxq_s32(acc, sums(below, block->offsets, values, n, row->bias));
        acc = vmaxq_s32(acc, vrev64q_s32(acc));
        /* Lanes 1 and 3 are copies of lanes 0 and 2. */
        vstrbq_scatter_offset_p_s32(y + column / 2 * block->pitch, pitch, requantize(acc, row),
                                    0x0f0f);
      } else {
        vstrbq_scatter_offset_s32(y + column * block->pitch, pitch, requantize(acc, row));
      }
    }
    values += 4 * n;
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

#endif

typedef int scalpel_conv_mve_is_not_empty; /* ISO C forbids an empty file */
