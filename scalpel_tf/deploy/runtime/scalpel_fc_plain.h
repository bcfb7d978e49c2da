/* The fully connected kernels in plain C: what the assembly computes, slow and obvious. */
#ifndef SCALPEL_FC_PLAIN_H
#define SCALPEL_FC_PLAIN_H

#include <stdbool.h>

#include "scalpel_requantize.h"
#include "scalpel_runtime.h"

/* The next value and the next index that a sparse row will take. */
typedef struct {
  const int8_t *value;
  const uint8_t *index;
} scalpel_gcsr_cursor;

static inline int8_t scalpel_requantize_row(int32_t acc, const scalpel_row *row,
                                            int32_t zero_point) {
  const int32_t right_shift = (int8_t)(row->packed & 255);
  const int32_t scaled = scalpel_requantize(acc, row->multiplier, -right_shift);
  return (int8_t)scalpel_clamp(scalpel_add(scaled, zero_point), -128, 127);
}

static inline uint32_t scalpel_row_groups(const scalpel_row *row, uint32_t groups_per_step) {
  const uint32_t steps = 8 * (row->packed >> 16) + 8 - ((row->packed >> 8) & 15);
  return groups_per_step * steps + ((row->packed >> 12) & 1);
}

static inline int32_t scalpel_dot4(const int8_t *a, const int8_t *b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3];
}

static inline int32_t scalpel_gcsr_row_sum(const scalpel_gcsr_fc *w, const scalpel_row *row,
                                           const int8_t *x, uint32_t width, bool delta,
                                           scalpel_gcsr_cursor *at) {
  int32_t acc = row->bias;
  uint32_t group = 0;
  for (uint32_t n = scalpel_row_groups(row, 8 / width); n > 0; --n) {
    group = delta ? group + *at->index : *at->index;
    at->index++;
    const uint32_t first = width * group;
    const int8_t *from = x + (first + width > w->in ? w->in - width : first);
    for (uint32_t lane = 0; lane < width; lane += 4, at->value += 4) {
      acc += scalpel_dot4(at->value, from + lane);
    }
  }
  return acc;
}

static inline int32_t scalpel_fc_row_sum(const scalpel_fc *w, uint32_t r, const int8_t *x) {
  const int8_t *value = w->values + (w->in + 3) / 4 * 4 * r;
  int32_t acc = w->rows[r].bias;
  uint32_t k = 0;
  for (; k + 4 <= w->in; k += 4) {
    acc += scalpel_dot4(value + k, x + k);
  }
  if (k < w->in && k > 0) {
    return acc + scalpel_dot4(value + k, x + w->in - 4);
  }
  for (; k < w->in; ++k) {
    acc += value[k] * x[k];
  }
  return acc;
}

#endif /* SCALPEL_FC_PLAIN_H */
