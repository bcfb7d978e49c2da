/* Convolution on int8 with single weights kept, bit for bit the arithmetic of TensorFlow Lite.
 *
 * Weights are plain CSR as in scalpel_runtime.h, over a filter's weights in the order (row, column,
 * channel).  The inputs that a filter sees at four places are laid side by side as int16, one entry
 * of four for every weight that a filter could have, so that one load of a weight and its column
 * serves four outputs.  The places are neighbours in the output, or the 2 x 2 that MAX_POOL_2D
 * makes one of.
 */
#ifndef SCALPEL_CSR_CONV_H
#define SCALPEL_CSR_CONV_H

#include "scalpel_conv.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a kernel reads for four places.  Here the `packed` of a row has in bits 8-15 its groups / 8,
 * and in bits 16-31 124 * (8 - groups % 8), the bytes that the unrolled loop is entered late by. */
typedef struct {
  const int16_t *x;
  const void *columns; /* uint8_t, wide: uint16_t */
  const int8_t *values;
  const scalpel_conv_row *rows, *end; /* not empty */
  int8_t *y;                          /* places lie `pitch` bytes apart */
  int32_t pitch;
} scalpel_csr_conv_block;

static inline uint32_t scalpel_csr_conv_groups(const scalpel_conv_row *row) {
  return 8 * ((row->packed >> 8) & 255) + 8 - (row->packed >> 16) / 124;
}

typedef void (*scalpel_csr_conv_kernel)(const scalpel_csr_conv_block *block);

void scalpel_csr_conv4(const scalpel_csr_conv_block *block);
void scalpel_csr_conv4_wide(const scalpel_csr_conv_block *block);
void scalpel_csr_conv4_pool2(const scalpel_csr_conv_block *block); /* the maximum of the four */
void scalpel_csr_conv4_wide_pool2(const scalpel_csr_conv_block *block);

typedef struct {
  scalpel_window window; /* of the convolution, before any pooling */
  scalpel_csr_conv_kernel kernel;
  const int8_t *values;
  const void *columns;
  const scalpel_conv_row *rows; /* out_channels */
  int32_t pool;                 /* 1, or 2: the output is the maximum of 2 x 2 */
  int32_t in_zero_point;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_csr_conv;

/* scratch: 8-byte aligned; 8 bytes for every weight of a filter, in_channels bytes, and
 * 4 * out_channels where the convolution has less than 4 outputs and no pooling. */
void scalpel_csr_conv_s8(const scalpel_csr_conv *w, const int8_t *x, void *scratch, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* SCALPEL_CSR_CONV_H */
