/* What scalpel_conv_dsp.S and scalpel_conv_mve.c compute, slow and obvious: the inputs stay in
 * their order. */
#include <string.h>

#include "scalpel_conv.h"
#include "scalpel_conv_widen.h"
#include "scalpel_requantize.h"

#if !SCALPEL_DSP && !SCALPEL_MVE

/* Where a kernel stands in its arrays. */
typedef struct {
  const uint8_t *step;
  const int8_t *value;
} cursor;

static void sums(const scalpel_conv_input *x, const scalpel_conv_row *row, cursor *at,
                 int32_t *acc) {
  for (int32_t i = 0; i < 4; ++i) {
    acc[i] = row->bias;
  }
  for (uint32_t n = scalpel_conv_groups(row); n > 0; --n) {
    x += 4 * *at->step++;
    for (int32_t i = 0; i < 4; ++i) {
      for (int32_t lane = 0; lane < 4; ++lane) {
        acc[i] += at->value[lane] * x[4 * i + lane];
      }
    }
    at->value += 4;
  }
}

static int8_t requantize(int32_t acc, const scalpel_conv_row *row) {
  const int32_t high = scalpel_multiply_high(acc, row->multiplier);
  const int32_t sum = high + (high < 0 ? -1 : 0) + row->rounding;
  return (int8_t)scalpel_clamp(sum >> (row->packed & 255), -128, 127);
}

static void conv4(const scalpel_conv_block *block, int shared) {
  cursor at = {block->steps, block->values};
  int8_t *y = block->y;
  for (const scalpel_conv_row *row = block->rows; row < block->end; ++row, ++y) {
    int32_t acc[4];
    sums(block->x, row, &at, acc);
    for (int32_t i = 0; i < 4; ++i) {
      y[i * block->pitch] = requantize(acc[i], row);
    }
    at.step = shared ? block->steps : at.step;
  }
}

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static void conv4_pool2(const scalpel_conv_block *block, int shared) {
  cursor at = {block->steps, block->values};
  int8_t *y = block->y;
  for (const scalpel_conv_row *row = block->rows; row < block->end; ++row, ++y) {
    int32_t acc[4], below[4];
    cursor again = at;
    sums(block->x, row, &at, acc);
    sums(block->x_below, row, &again, below);
    for (int32_t i = 0; i < 2; ++i) {
      const int32_t most =
          larger(larger(acc[2 * i], acc[2 * i + 1]), larger(below[2 * i], below[2 * i + 1]));
      y[i * block->pitch] = requantize(most, row);
    }
    at.step = shared ? block->steps : at.step;
  }
}

void scalpel_conv4(const scalpel_conv_block *block) { conv4(block, 0); }

void scalpel_conv4_shared(const scalpel_conv_block *block) { conv4(block, 1); }

void scalpel_conv4_relu(const scalpel_conv_block *block) { conv4(block, 0); }

void scalpel_conv4_relu_shared(const scalpel_conv_block *block) { conv4(block, 1); }

void scalpel_conv4_pool2(const scalpel_conv_block *block) { conv4_pool2(block, 0); }

void scalpel_conv4_pool2_shared(const scalpel_conv_block *block) { conv4_pool2(block, 1); }

void scalpel_conv_widen(const int8_t *from, int32_t step, int32_t count, scalpel_conv_input *to) {
  for (int32_t j = 0; j < count; ++j, from += step, to += 4) {
    for (int32_t lane = 0; lane < 4; ++lane) {
      to[lane] = from[lane];
    }
  }
}

void scalpel_conv_widen_split(const int8_t *from, int32_t step, int32_t count,
                              scalpel_conv_input *to, const int8_t *second, uint32_t mask) {
  for (int32_t j = 0; j < count; ++j, from += step, second += step, to += 4) {
    for (int32_t lane = 0; lane < 4; ++lane) {
      to[lane] = (mask >> 8 * lane) & 1 ? from[lane] : second[lane];
    }
  }
}

void scalpel_conv_copy(int8_t *to, const int8_t *from, int32_t count) {
  memmove(to, from, (size_t)count);
}

void scalpel_conv_fill(int8_t *to, int32_t value, int32_t count) {
  if (count > 0) {
    memset(to, value, (size_t)count);
  }
}

#endif

typedef int scalpel_conv_plain_is_not_empty; /* ISO C forbids an empty file */
