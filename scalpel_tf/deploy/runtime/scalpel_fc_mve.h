/* The fully connected kernels for Helium: sixteen int8 products an instruction, none of them
 * widened.
 *
 * x is copied where needed so that group i lies at width * i, aligned: then one gather by four
 * index bytes loads four groups.  Loops are tail-predicated; nothing is read past an array.
 */
#ifndef SCALPEL_FC_MVE_H
#define SCALPEL_FC_MVE_H

#include "scalpel_fc_plain.h"
#include "scalpel_tier.h"

#if SCALPEL_MVE

#include <arm_mve.h>
#include <string.h>

/* acc + the products of n groups of 4 by absolute indices. */
static inline int32_t scalpel_groups4_mve(const int8_t *x, const uint8_t *index,
                                          const int8_t *value, uint32_t n, int32_t acc) {
  __asm volatile(
      "wlstp.32 lr, %[n], 2f\n"
      "1: vldrb.u32 q0, [%[index]], #4\n"
      "vldrb.u8 q1, [%[value]], #16\n"
      "vldrw.u32 q2, [%[x], q0, uxtw #2]\n"
      "vmladava.s8 %[acc], q1, q2\n"
      "letp lr, 1b\n"
      "2:\n"
      : [acc] "+&Te"(acc), [index] "+&l"(index), [value] "+&r"(value)
      : [x] "r"(x), [n] "r"(n)
      : "lr", "q0", "q1", "q2", "memory");
  return acc;
}

/* The same for groups of 8; the loop counts them in lanes of 64 bits. */
static inline int32_t scalpel_groups8_mve(const int8_t *x, const uint8_t *index,
                                          const int8_t *value, uint32_t n, int32_t acc) {
  const uint32x4_t pairs = vshrq_n_u32(vidupq_n_u32(0, 1), 1); /* 0, 0, 1, 1 */
  __asm volatile(
      "wlstp.64 lr, %[n], 2f\n"
      "1: vldrb.u32 q0, [%[index], %q[pairs]]\n"
      "vldrb.u8 q1, [%[value]], #16\n"
      "add %[index], #2\n"
      "vldrd.u64 q2, [%[x], q0, uxtw #3]\n"
      "vmladava.s8 %[acc], q1, q2\n"
      "letp lr, 1b\n"
      "2:\n"
      : [acc] "+&Te"(acc), [index] "+&r"(index), [value] "+&r"(value)
      : [x] "r"(x), [n] "r"(n), [pairs] "w"(pairs)
      : "lr", "q0", "q1", "q2", "cc", "memory");
  return acc;
}

/* The same for groups of 4 by distances, the last n % 4 of them by themselves. */
static inline int32_t scalpel_groups4_delta_mve(const int8_t *x, const uint8_t *index,
                                                const int8_t *value, uint32_t n, int32_t acc) {
  uint32_t at = 0, steps, second, third;
  __asm volatile(
      "wls lr, %[n], 2f\n"
      "1: ldr %[steps], [%[index]], #4\n"
      "vldrb.u8 q1, [%[value]], #16\n"
      "uxtab %[at], %[at], %[steps]\n"
      "uxtab %[second], %[at], %[steps], ror #8\n"
      "uxtab %[third], %[second], %[steps], ror #16\n"
      "vmov q0[2], q0[0], %[at], %[third]\n"
      "uxtab %[at], %[third], %[steps], ror #24\n"
      "vmov q0[3], q0[1], %[second], %[at]\n"
      "vldrw.u32 q2, [%[x], q0, uxtw #2]\n"
      "vmladava.s8 %[acc], q1, q2\n"
      "le lr, 1b\n"
      "2:\n"
      : [acc] "+&Te"(acc), [index] "+&r"(index), [value] "+&r"(value), [at] "+&r"(at),
        [steps] "=&r"(steps), [second] "=&r"(second), [third] "=&r"(third)
      : [x] "r"(x), [n] "r"(n / 4)
      : "lr", "q0", "q1", "q2", "memory");
  if (n % 4 > 0) {
    uint32_t offsets[4];
    for (uint32_t lane = 0; lane < n % 4; ++lane) {
      offsets[lane] = at += index[lane];
    }
    const mve_pred16_t some = vctp32q(n % 4);
    const int32x4_t from = vldrwq_gather_shifted_offset_z_s32((const int32_t *)(const void *)x,
                                                              vldrwq_z_u32(offsets, some), some);
    acc = vmladavaq_s8(acc, vreinterpretq_s8_s32(from), vldrbq_z_s8(value, some));
  }
  return acc;
}

/* acc + the products of n single weights by their columns. */
static inline int32_t scalpel_single_mve(const int8_t *x, const uint8_t *column,
                                         const int8_t *value, uint32_t n, int32_t acc) {
  __asm volatile(
      "wlstp.8 lr, %[n], 2f\n"
      "1: vldrb.u8 q0, [%[column]], #16\n"
      "vldrb.u8 q1, [%[value]], #16\n"
      "vldrb.u8 q2, [%[x], q0]\n"
      "vmladava.s8 %[acc], q1, q2\n"
      "letp lr, 1b\n"
      "2:\n"
      : [acc] "+&Te"(acc), [column] "+&r"(column), [value] "+&r"(value)
      : [x] "r"(x), [n] "r"(n)
      : "lr", "q0", "q1", "q2", "memory");
  return acc;
}

/* The same for columns of two bytes. */
static inline int32_t scalpel_single_wide_mve(const int8_t *x, const uint16_t *column,
                                              const int8_t *value, uint32_t n, int32_t acc) {
  __asm volatile(
      "wlstp.16 lr, %[n], 2f\n"
      "1: vldrh.u16 q0, [%[column]], #16\n"
      "vldrb.s16 q1, [%[value]], #8\n"
      "vldrb.s16 q2, [%[x], q0]\n"
      "vmladava.s16 %[acc], q1, q2\n"
      "letp lr, 1b\n"
      "2:\n"
      : [acc] "+&Te"(acc), [column] "+&r"(column), [value] "+&l"(value)
      : [x] "r"(x), [n] "r"(n)
      : "lr", "q0", "q1", "q2", "memory");
  return acc;
}

/* acc[i] += row i of four times x, n bytes. */
static inline void scalpel_rows4_mve(const int8_t *x, const int8_t *const *row, uint32_t n,
                                     int32_t *acc) {
  const int8_t *row0 = row[0], *row1 = row[1], *row2 = row[2], *row3 = row[3];
  int32_t acc0 = acc[0], acc1 = acc[1], acc2 = acc[2], acc3 = acc[3];
  __asm volatile(
      "wlstp.8 lr, %[n], 2f\n"
      "1: vldrb.u8 q0, [%[x]], #16\n"
      "vldrb.u8 q1, [%[row0]], #16\n"
      "vmladava.s8 %[acc0], q0, q1\n"
      "vldrb.u8 q2, [%[row1]], #16\n"
      "vmladava.s8 %[acc1], q0, q2\n"
      "vldrb.u8 q1, [%[row2]], #16\n"
      "vmladava.s8 %[acc2], q0, q1\n"
      "vldrb.u8 q2, [%[row3]], #16\n"
      "vmladava.s8 %[acc3], q0, q2\n"
      "letp lr, 1b\n"
      "2:\n"
      : [acc0] "+&Te"(acc0), [acc1] "+&Te"(acc1), [acc2] "+&Te"(acc2), [acc3] "+&Te"(acc3),
        [x] "+&r"(x), [row0] "+&r"(row0), [row1] "+&r"(row1), [row2] "+&r"(row2), [row3] "+&r"(row3)
      : [n] "r"(n)
      : "lr", "q0", "q1", "q2", "memory");
  acc[0] = acc0;
  acc[1] = acc1;
  acc[2] = acc2;
  acc[3] = acc3;
}

/* x with its last group moved up to where a whole one ends, and aligned to the width; in the
 * scratch, if it is not so already. */
static inline const int8_t *scalpel_whole_groups_mve(const int8_t *x, uint32_t in, uint32_t width,
                                                     int16_t *scratch) {
  const uint32_t rest = in % width;
  if (rest == 0 && (uintptr_t)x % width == 0) {
    return x;
  }
  int8_t *copy = (int8_t *)scratch;
  memcpy(copy, x, in - rest);
  if (rest > 0) {
    memcpy(copy + in - rest, x + in - width, width);
  }
  return copy;
}

/* The sums of n rows from rows[r] on. */
static inline __attribute__((always_inline)) void scalpel_gcsr_sums_mve(
    const scalpel_gcsr_fc *w, uint32_t r, uint32_t n, const int8_t *x, uint32_t width, bool delta,
    scalpel_gcsr_cursor *at, int32_t *sums) {
  for (const scalpel_row *row = w->rows + r; n > 0; --n, ++row) {
    const uint32_t groups = scalpel_row_groups(row, 8 / width);
    *sums++ = (width == 8 ? scalpel_groups8_mve
               : delta    ? scalpel_groups4_delta_mve
                          : scalpel_groups4_mve)(x, at->index, at->value, groups, row->bias);
    at->index += groups;
    at->value += width * groups;
  }
}

/* Sums of four rows from row r on, of less where there are less. */
static inline void scalpel_fc_sums_mve(const scalpel_fc *w, uint32_t r, uint32_t n, const int8_t *x,
                                       int32_t *sums) {
  const uint32_t pitch = (w->in + 3) / 4 * 4;
  const int8_t *row[4];
  int32_t acc[4];
  for (uint32_t i = 0; i < 4; ++i) {
    const uint32_t own = i < n ? r + i : r;
    row[i] = w->values + pitch * own;
    acc[i] = w->rows[own].bias;
  }
  scalpel_rows4_mve(x, row, w->in < 4 ? w->in : pitch, acc);
  vstrwq_p_s32(sums, vldrwq_s32(acc), vctp32q(n));
}

static inline uint32_t scalpel_rows_left(uint32_t r, uint32_t out) {
  return out - r < 4 ? out - r : 4;
}

/* y[0, n) of the sums of n rows, at most four: what STORE_S8 of the assembly makes. */
static inline void scalpel_store_rows_mve(const scalpel_row *row, uint32_t n, const int32_t *sums,
                                          int32_t zero_point, int8_t *y) {
  const mve_pred16_t some = vctp32q(n);
  const uint32x4_t pitch = vmulq_n_u32(vidupq_n_u32(0, 1), sizeof *row);
  const int32x4_t multiplier = vldrwq_gather_offset_z_s32(&row->multiplier, pitch, some);
  const int32x4_t shift =
      vldrbq_gather_offset_z_s32((const int8_t *)&row->packed, pitch, some); /* bits 0-7 */
  const int32x4_t acc = vldrwq_z_s32(sums, some);
#if SCALPEL_DOUBLE_ROUNDING
  int32x4_t high = vqrdmulhq_s32(acc, multiplier);
  high = vaddq_s32(high, vshrq_n_s32(high, 31));
#else
  const int32x4_t high = vqdmulhq_s32(acc, multiplier);
#endif
  const int32x4_t sum = vaddq_n_s32(vrshlq_s32(high, vnegq_s32(shift)), zero_point);
  vstrbq_p_s32(y, vminq_s32(vmaxq_s32(sum, vdupq_n_s32(-128)), vdupq_n_s32(127)), some);
}

static inline __attribute__((always_inline)) void scalpel_gcsr_fc_mve_s8(const scalpel_gcsr_fc *w,
                                                                         const int8_t *x,
                                                                         uint32_t width, bool delta,
                                                                         int16_t *scratch,
                                                                         int8_t *y) {
  scalpel_gcsr_cursor at = {w->values, w->indices};
  x = scalpel_whole_groups_mve(x, w->in, width, scratch);
  for (uint32_t r = 0; r < w->out; r += 4) {
    const uint32_t n = scalpel_rows_left(r, w->out);
    int32_t sums[4];
    scalpel_gcsr_sums_mve(w, r, n, x, width, delta, &at, sums);
    scalpel_store_rows_mve(w->rows + r, n, sums, w->zero_point, y + r);
  }
}

static inline __attribute__((always_inline)) void scalpel_gcsr_fc_mve_s32(
    const scalpel_gcsr_fc *w, const int8_t *x, uint32_t width, bool delta, int16_t *scratch,
    int32_t *y) {
  scalpel_gcsr_cursor at = {w->values, w->indices};
  x = scalpel_whole_groups_mve(x, w->in, width, scratch);
  scalpel_gcsr_sums_mve(w, 0, w->out, x, width, delta, &at, y);
}

static inline void scalpel_fc_mve_s8(const scalpel_fc *w, const int8_t *x, int16_t *scratch,
                                     int8_t *y) {
  x = w->in < 4 ? x : scalpel_whole_groups_mve(x, w->in, 4, scratch);
  for (uint32_t r = 0; r < w->out; r += 4) {
    const uint32_t n = scalpel_rows_left(r, w->out);
    int32_t sums[4];
    scalpel_fc_sums_mve(w, r, n, x, sums);
    scalpel_store_rows_mve(w->rows + r, n, sums, w->zero_point, y + r);
  }
}

static inline void scalpel_fc_mve_s32(const scalpel_fc *w, const int8_t *x, int16_t *scratch,
                                      int32_t *y) {
  x = w->in < 4 ? x : scalpel_whole_groups_mve(x, w->in, 4, scratch);
  for (uint32_t r = 0; r < w->out; r += 4) {
    scalpel_fc_sums_mve(w, r, scalpel_rows_left(r, w->out), x, y + r);
  }
}

#endif

#endif /* SCALPEL_FC_MVE_H */
