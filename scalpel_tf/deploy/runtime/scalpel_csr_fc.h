/* The rows of a CSR fully connected layer without DSP instructions.  For files that define
 * SCALPEL_CSR_FC, the type of the layer, SCALPEL_COLUMN, that of a column, and SCALPEL_SINGLE_MVE,
 * the row's function for such columns. */
#ifndef SCALPEL_CSR_FC_H
#define SCALPEL_CSR_FC_H

#include "scalpel_fc_dsp.h"
#include "scalpel_fc_mve.h"
#include "scalpel_fc_plain.h"

#if !SCALPEL_DSP
static int32_t row_sum(int32_t acc, uint32_t groups, const SCALPEL_COLUMN *column,
                       const int8_t *value, const int8_t *x) {
#if SCALPEL_MVE
  return SCALPEL_SINGLE_MVE(x, column, value, 4 * groups, acc);
#else
  for (; groups > 0; --groups, column += 4, value += 4) {
    acc += value[0] * x[column[0]] + value[1] * x[column[1]] + value[2] * x[column[2]] +
           value[3] * x[column[3]];
  }
  return acc;
#endif
}

static inline void rows_s8(const SCALPEL_CSR_FC *w, const int8_t *x, int8_t *y) {
  const SCALPEL_COLUMN *column = w->columns;
  const int8_t *value = w->values;
  for (uint32_t r = 0; r < w->out; ++r) {
    const uint32_t groups = scalpel_row_groups(&w->rows[r], 1);
    const int32_t acc = row_sum(w->rows[r].bias, groups, column, value, x);
    column += 4 * groups;
    value += 4 * groups;
    y[r] = scalpel_requantize_row(acc, &w->rows[r], w->zero_point);
  }
}

static inline void rows_s32(const SCALPEL_CSR_FC *w, const int8_t *x, int32_t *y) {
  const SCALPEL_COLUMN *column = w->columns;
  const int8_t *value = w->values;
  for (uint32_t r = 0; r < w->out; ++r) {
    const uint32_t groups = scalpel_row_groups(&w->rows[r], 1);
    y[r] = row_sum(w->rows[r].bias, groups, column, value, x);
    column += 4 * groups;
    value += 4 * groups;
  }
}
#endif

#endif /* SCALPEL_CSR_FC_H */
