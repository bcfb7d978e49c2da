/* Dense fully connected. */
#include "scalpel_fc_dsp.h"
#include "scalpel_fc_mve.h"
#include "scalpel_fc_plain.h"

void scalpel_fc_s8(const scalpel_fc *w, const int8_t *x, int16_t *scratch, int8_t *y) {
#if SCALPEL_MVE
  scalpel_fc_mve_s8(w, x, scratch, y);
#else
#if SCALPEL_DSP
  if (w->in >= 4) {
    scalpel_widen_s8(x, w->in, 4, scratch);
    scalpel_fc_dsp_s8(scratch, w->values, (w->in + 3) / 4, w->rows, w->rows + w->out, y,
                      2 * w->zero_point + 1);
    return;
  }
#endif
  (void)scratch;
  for (uint32_t r = 0; r < w->out; ++r) {
    y[r] = scalpel_requantize_row(scalpel_fc_row_sum(w, r, x), &w->rows[r], w->zero_point);
  }
#endif
}

void scalpel_fc_s32(const scalpel_fc *w, const int8_t *x, int16_t *scratch, int32_t *y) {
#if SCALPEL_MVE
  scalpel_fc_mve_s32(w, x, scratch, y);
#else
#if SCALPEL_DSP
  if (w->in >= 4) {
    scalpel_widen_s8(x, w->in, 4, scratch);
    scalpel_fc_dsp_s32(scratch, w->values, (w->in + 3) / 4, w->rows, w->rows + w->out, y, 0);
    return;
  }
#endif
  (void)scratch;
  for (uint32_t r = 0; r < w->out; ++r) {
    y[r] = scalpel_fc_row_sum(w, r, x);
  }
#endif
}
