/* Grouped-CSR fully connected, groups of 4, rows of any length. */
#include "scalpel_fc_dsp.h"
#include "scalpel_fc_mve.h"
#include "scalpel_fc_plain.h"

void scalpel_gcsr_fc4_delta_s8(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch,
                               int8_t *y) {
#if SCALPEL_MVE
  scalpel_gcsr_fc_mve_s8(w, x, 4, true, scratch, y);
#elif SCALPEL_DSP
  scalpel_widen_s8(x, w->in, 4, scratch);
  scalpel_gcsr_fc4_delta_dsp_s8(scratch, w->indices, w->values, w->rows, w->rows + w->out, y,
                                2 * w->zero_point + 1);
#else
  scalpel_gcsr_cursor at = {w->values, w->indices};
  (void)scratch;
  for (uint32_t r = 0; r < w->out; ++r) {
    const int32_t acc = scalpel_gcsr_row_sum(w, &w->rows[r], x, 4, true, &at);
    y[r] = scalpel_requantize_row(acc, &w->rows[r], w->zero_point);
  }
#endif
}

void scalpel_gcsr_fc4_delta_s32(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch,
                                int32_t *y) {
#if SCALPEL_MVE
  scalpel_gcsr_fc_mve_s32(w, x, 4, true, scratch, y);
#elif SCALPEL_DSP
  scalpel_widen_s8(x, w->in, 4, scratch);
  scalpel_gcsr_fc4_delta_dsp_s32(scratch, w->indices, w->values, w->rows, w->rows + w->out, y, 0);
#else
  scalpel_gcsr_cursor at = {w->values, w->indices};
  (void)scratch;
  for (uint32_t r = 0; r < w->out; ++r) {
    y[r] = scalpel_gcsr_row_sum(w, &w->rows[r], x, 4, true, &at);
  }
#endif
}
