/* Fully connected kernels on int8, bit for bit the arithmetic of TensorFlow Lite.
 *
 * Sparse weights are grouped CSR (Yu et al., Scalpel, ISCA 2017, section 4) in a compact form:
 * values   int8, width x groups    the kept groups, row after row
 * indices  uint8, groups           which group of the row: of inputs width * index onwards; in the
 *                                  delta form the distance from the row's kept group before it
 * rows     scalpel_row, one a row  takes the place of the row offsets
 * The last group of a row ends at the row's end: it covers inputs [in - width, in), and lanes that
 * belong to its neighbour are zero.  Hence in >= width, and no kernel reads past the input.
 *
 * Where single weights are kept, plain CSR takes fewer bytes and cycles:
 * values   int8, 4 x groups             the kept weights, row after row, four to a group; the last
 *                                       group of a row is filled up with weights of 0
 * columns  uint8 or uint16, 4 x groups  the input of each weight
 */
#ifndef SCALPEL_RUNTIME_H
#define SCALPEL_RUNTIME_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One output.  A step is 2 groups of 4, or 1 of 8, or 1 of CSR; dense rows leave the counts 0. */
typedef struct {
  int32_t bias;       /* with - zero_point_in * sum(weights) added */
  int32_t multiplier; /* TensorFlow Lite's, in [2^30, 2^31), or 0 */
  uint32_t packed;    /* bits 0-7: right shift, int8; 8-11: 8 - steps % 8; 12: one more group of 4;
                         16-31: steps / 8 */
} scalpel_row;

typedef struct {
  const int8_t *values;
  const uint8_t *indices;
  const scalpel_row *rows; /* out */
  uint32_t in;             /* inputs, at least the group width */
  uint32_t out;            /* outputs, at least 1 */
  int32_t zero_point;      /* of the output */
} scalpel_gcsr_fc;

typedef struct {
  const int8_t *values;
  const uint8_t *columns;
  const scalpel_row *rows; /* out */
  uint32_t in;             /* inputs, at most 256 */
  uint32_t out;
  int32_t zero_point;
} scalpel_csr_fc;

typedef struct {
  const int8_t *values;
  const uint16_t *columns;
  const scalpel_row *rows; /* out */
  uint32_t in;             /* inputs, at most 65536 */
  uint32_t out;
  int32_t zero_point;
} scalpel_csr_fc_wide;

typedef struct {
  const int8_t *values;    /* out rows of ceil(in / 4) groups, laid out as above; in < 4: padded */
  const scalpel_row *rows; /* out */
  uint32_t in;
  uint32_t out;
  int32_t zero_point;
} scalpel_fc;

/* The _s8 kernels write out int8.  They need every right shift in 1..22 and
 * |bias| + 128 * sum|weights| < 2^30 in every row, and, where sums are rounded once, that no sum
 * lies half-way between two outputs.  The _s32 kernels write the accumulators, for
 * scalpel_requantize_rows_s8, and need neither.
 * values:  4-byte aligned.
 * x:       in bytes, no alignment needed.
 * scratch: SCALPEL_FC_SCRATCH(in) bytes, 8-byte aligned; used with the DSP extension, and with
 *          Helium where x is not aligned to the group width, or no whole number of groups.  CSR
 *          needs none.
 */
#define SCALPEL_FC_SCRATCH(in) (2 * (((in) + 7) / 8 * 8))

void scalpel_gcsr_fc4_s8(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch, int8_t *y);
void scalpel_gcsr_fc8_s8(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch, int8_t *y);
void scalpel_gcsr_fc4_delta_s8(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch,
                               int8_t *y);
void scalpel_csr_fc_s8(const scalpel_csr_fc *w, const int8_t *x, int16_t *scratch, int8_t *y);
void scalpel_csr_fc_wide_s8(const scalpel_csr_fc_wide *w, const int8_t *x, int16_t *scratch,
                            int8_t *y);
void scalpel_fc_s8(const scalpel_fc *w, const int8_t *x, int16_t *scratch, int8_t *y);

void scalpel_gcsr_fc4_s32(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch, int32_t *y);
void scalpel_gcsr_fc8_s32(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch, int32_t *y);
void scalpel_gcsr_fc4_delta_s32(const scalpel_gcsr_fc *w, const int8_t *x, int16_t *scratch,
                                int32_t *y);
void scalpel_csr_fc_s32(const scalpel_csr_fc *w, const int8_t *x, int16_t *scratch, int32_t *y);
void scalpel_csr_fc_wide_s32(const scalpel_csr_fc_wide *w, const int8_t *x, int16_t *scratch,
                             int32_t *y);
void scalpel_fc_s32(const scalpel_fc *w, const int8_t *x, int16_t *scratch, int32_t *y);

/* y[r] = acc[r] scaled by row r, any shift, plus zero_point, saturated to int8. */
void scalpel_requantize_rows_s8(const scalpel_row *rows, uint32_t n, const int32_t *acc,
                                int32_t zero_point, int8_t *y);

/* y = min(max(y, lowest), highest), in place, n bytes. */
void scalpel_clamp_s8(int8_t *y, uint32_t n, int32_t lowest, int32_t highest);

#ifdef __cplusplus
}
#endif

#endif /* SCALPEL_RUNTIME_H */
