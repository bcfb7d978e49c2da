/* CSR fully connected, rows of at most 256 inputs. */
#include "scalpel_fc_dsp.h"
#include "scalpel_fc_mve.h"
#include "scalpel_fc_plain.h"

#if !SCALPEL_DSP
static int32_t row_sum(int32_t acc, uint32_t groups, const uint8_t *column, const int8_t *value,
                       const int8_t *x) {
#if SCALPEL_MVE
  return scalpel_single_mve(x, column, value, 4 * groups, acc);
#else
  for (; groups > 0; --groups, column += 4, value += 4) {
    acc += value[0] * x[column[0]] + value[1] * x[column[1]] + value[2] * x[column[2]] +
           value[3] * x[column[3]];
  }
  return acc;
#endif
}
#endif

void scalpel_csr_fc_s8(const scalpel_csr_fc *w, const int8_t *x, int16_t *scratch, int8_t *y) {
  (void)scratch;
#if SCALPEL_DSP
  scalpel_csr_fc_dsp_s8(x, w->columns, w->values, w->rows, w->rows + w->out, y,
                        2 * w->zero_point + 1);
#else
  const uint8_t *column = w->columns;
  const int8_t *value = w->values;
  for (uint32_t r = 0; r < w->out; ++r) {
    const uint32_t groups = scalpel_row_groups(&w->rows[r], 1);
    const int32_t acc = row_sum(w->rows[r].bias, groups, column, value, x);
    column += 4 * groups;
    value += 4 * groups;
    y[r] = scalpel_requantize_row(acc, &w->rows[r], w->zero_point);
  }
#endif
}

void scalpel_csr_fc_s32(const scalpel_csr_fc *w, const int8_t *x, int16_t *scratch, int32_t *y) {
  (void)scratch;
#if SCALPEL_DSP
  scalpel_csr_fc_dsp_s32(x, w->columns, w->values, w->rows, w->rows + w->out, y, 0);
#else
  const uint8_t *column = w->columns;
  const int8_t *value = w->values;
  for (uint32_t r = 0; r < w->out; ++r) {
    const uint32_t groups = scalpel_row_groups(&w->rows[r], 1);
    y[r] = row_sum(w->rows[r].bias, groups, column, value, x);
    column += 4 * groups;
    value += 4 * groups;
  }
#endif
}
