/* CSR fully connected, rows of at most 65536 inputs. */
#define SCALPEL_CSR_FC scalpel_csr_fc_wide
#define SCALPEL_COLUMN uint16_t
#define SCALPEL_SINGLE_MVE scalpel_single_wide_mve
#include "scalpel_csr_fc.h"

void scalpel_csr_fc_wide_s8(const scalpel_csr_fc_wide *w, const int8_t *x, int16_t *scratch,
                            int8_t *y) {
  (void)scratch;
#if SCALPEL_DSP
  scalpel_csr_fc_wide_dsp_s8(x, w->columns, w->values, w->rows, w->rows + w->out, y,
                             2 * w->zero_point + 1);
#else
  rows_s8(w, x, y);
#endif
}

void scalpel_csr_fc_wide_s32(const scalpel_csr_fc_wide *w, const int8_t *x, int16_t *scratch,
                             int32_t *y) {
  (void)scratch;
#if SCALPEL_DSP
  scalpel_csr_fc_wide_dsp_s32(x, w->columns, w->values, w->rows, w->rows + w->out, y, 0);
#else
  rows_s32(w, x, y);
#endif
}
