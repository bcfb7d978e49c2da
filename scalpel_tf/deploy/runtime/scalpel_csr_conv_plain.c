/* What scalpel_csr_conv_dsp.S computes, slow and obvious. */
#include "scalpel_csr_conv.h"
#include "scalpel_requantize.h"

#if !SCALPEL_DSP

static int8_t requantize(int32_t acc, const scalpel_conv_row *row) {
  const int32_t high = scalpel_multiply_high(acc, row->multiplier);
  const int32_t sum = high + (high < 0 ? -1 : 0) + row->rounding;
  return (int8_t)scalpel_clamp(sum >> (row->packed & 255), -128, 127);
}

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static void conv4(const scalpel_csr_conv_block *block, int wide, int pool) {
  const uint8_t *column = block->columns;
  const uint16_t *wide_column = block->columns;
  const int8_t *value = block->values;
  int8_t *y = block->y;
  for (const scalpel_conv_row *row = block->rows; row < block->end; ++row, ++y) {
    int32_t a = row->bias, b = a, c = a, d = a;
    for (uint32_t n = 4 * scalpel_csr_conv_groups(row); n > 0; --n) {
      const int16_t *x = block->x + 4 * (wide ? *wide_column++ : *column++);
      const int32_t weight = *value++;
      a += weight * x[0];
      b += weight * x[1];
      c += weight * x[2];
      d += weight * x[3];
    }
    if (pool) {
      *y = requantize(larger(larger(a, b), larger(c, d)), row);
      continue;
    }
    y[0] = requantize(a, row);
    y[block->pitch] = requantize(b, row);
    y[2 * block->pitch] = requantize(c, row);
    y[3 * block->pitch] = requantize(d, row);
  }
}

void scalpel_csr_conv4(const scalpel_csr_conv_block *block) { conv4(block, 0, 0); }

void scalpel_csr_conv4_wide(const scalpel_csr_conv_block *block) { conv4(block, 1, 0); }

void scalpel_csr_conv4_pool2(const scalpel_csr_conv_block *block) { conv4(block, 0, 1); }

void scalpel_csr_conv4_wide_pool2(const scalpel_csr_conv_block *block) { conv4(block, 1, 1); }

#endif

typedef int scalpel_csr_conv_plain_is_not_empty; /* ISO C forbids an empty file */
