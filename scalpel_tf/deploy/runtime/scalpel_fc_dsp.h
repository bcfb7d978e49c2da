/* The assembly behind the fully connected kernels, on processors with the DSP extension.
 *
 * x: inputs widened to int16 by scalpel_widen_s8: four of a group in the order 0, 2, 1, 3, which is
 * what SXTB16 makes of four weights.  z = 2 * zero_point + 1.  [rows, end) is not empty.
 */
#ifndef SCALPEL_FC_DSP_H
#define SCALPEL_FC_DSP_H

#include "scalpel_runtime.h"
#include "scalpel_tier.h"

#if SCALPEL_DSP

/* y: groups * width of int16; the last group is read from x[n - width, n).  width: 4 or 8. */
void scalpel_widen_s8(const int8_t *x, uint32_t n, uint32_t width, int16_t *y);

#define SCALPEL_GCSR_FC_DSP(name, type)                                     \
  void name(const int16_t *x, const uint8_t *indices, const int8_t *values, \
            const scalpel_row *rows, const scalpel_row *end, type *y, int32_t z)
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc4_dsp_s8, int8_t);
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc8_dsp_s8, int8_t);
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc4_delta_dsp_s8, int8_t);
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc4_dsp_s32, int32_t);
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc8_dsp_s32, int32_t);
SCALPEL_GCSR_FC_DSP(scalpel_gcsr_fc4_delta_dsp_s32, int32_t);

/* Plain CSR, by columns: x as it is. */
#define SCALPEL_CSR_FC_DSP(name, column, type)                                                     \
  void name(const int8_t *x, const column *columns, const int8_t *values, const scalpel_row *rows, \
            const scalpel_row *end, type *y, int32_t z)
SCALPEL_CSR_FC_DSP(scalpel_csr_fc_dsp_s8, uint8_t, int8_t);
SCALPEL_CSR_FC_DSP(scalpel_csr_fc_dsp_s32, uint8_t, int32_t);
SCALPEL_CSR_FC_DSP(scalpel_csr_fc_wide_dsp_s8, uint16_t, int8_t);
SCALPEL_CSR_FC_DSP(scalpel_csr_fc_wide_dsp_s32, uint16_t, int32_t);

/* words: inputs of a row / 4, rounded up. */
void scalpel_fc_dsp_s8(const int16_t *x, const int8_t *values, uint32_t words,
                       const scalpel_row *rows, const scalpel_row *end, int8_t *y, int32_t z);
void scalpel_fc_dsp_s32(const int16_t *x, const int8_t *values, uint32_t words,
                        const scalpel_row *rows, const scalpel_row *end, int32_t *y, int32_t z);
#endif

#endif /* SCALPEL_FC_DSP_H */
