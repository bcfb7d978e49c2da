/* Grouped-CSR convolution on int8, bit for bit the arithmetic of TensorFlow Lite.
 *
 * Weights are grouped CSR as in scalpel_runtime.h: groups of 4 of a filter's weights in the order
 * (row, column, channel).  The input is widened, row after row, into a band of planes: entry j of a
 * plane holds the four inputs that a group meets at output column j, as int16, with Helium as int8.
 * So the inputs of one group for four neighbouring output columns lie side by side, whatever the
 * strides, and one load of its weights serves all four.
 */
#ifndef SCALPEL_CONV_H
#define SCALPEL_CONV_H

#include "scalpel_ops.h"
#include "scalpel_tier.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One filter.  |bias| + 128 * sum|weights| < 2^30. */
typedef struct {
  int32_t bias; /* with - in_zero_point * sum(weights) added */
  int32_t multiplier;
  int32_t rounding; /* 2^(shift - 1) + out_zero_point * 2^shift */
  uint32_t packed;  /* bits 0-7: right shift, 1..22; 8-15: groups / 16; 16-31: 60 * (16 - groups %
                       16), the bytes that the kernel's unrolled loop is entered late by */
} scalpel_conv_row;

static inline uint32_t scalpel_conv_groups(const scalpel_conv_row *row) {
  return 16 * ((row->packed >> 8) & 255) + 16 - (row->packed >> 16) / 60;
}

/* An input in the band. */
#if SCALPEL_MVE
typedef int8_t scalpel_conv_input;
#else
typedef int16_t scalpel_conv_input;
#endif

/* What a plane holds of each row, as bytes of the row with its padding; entry j stands at
 * j * stride_width * in_channels.  The first `split` of its four inputs lie at `first`, the others,
 * as if they stood behind them, at `second`, in this row or, if `below`, in the filter's next. */
typedef struct {
  int16_t first, second;
  int8_t split, below;
} scalpel_conv_plane;

/* What a kernel reads for four output columns, with Helium for all of a band; see scalpel_gcsr_conv
 * for the arrays. */
typedef struct {
  const scalpel_conv_input *x; /* in the band, at the filter's first row and the first column */
  const scalpel_conv_input *x_below; /* the same for the output row below, where rows are pooled */
  const uint8_t *steps;
  const int8_t *values;
  const scalpel_conv_row *rows, *end; /* not empty */
  int8_t *y;                          /* output columns lie `pitch` bytes apart */
  int32_t pitch;
#if SCALPEL_MVE
  int32_t columns;   /* at least 4 */
  uint32_t *offsets; /* room for as many as a filter has groups */
#endif
} scalpel_conv_block;

typedef void (*scalpel_conv_kernel)(const scalpel_conv_block *block);

void scalpel_conv4(const scalpel_conv_block *block);       /* 4 columns */
void scalpel_conv4_relu(const scalpel_conv_block *block);  /* where lowest >= out_zero_point */
void scalpel_conv4_pool2(const scalpel_conv_block *block); /* 2 x 4 pooled to 2 columns by max */
/* The same where all rows share the steps, which are stored once. */
void scalpel_conv4_shared(const scalpel_conv_block *block);
void scalpel_conv4_relu_shared(const scalpel_conv_block *block);
void scalpel_conv4_pool2_shared(const scalpel_conv_block *block);

typedef struct {
  scalpel_window window;        /* of the convolution, before any pooling */
  scalpel_conv_kernel kernel;   /* one of these */
  const int8_t *values;         /* 4 a group, row after row; 4-byte aligned */
  const uint8_t *steps;         /* entries from the group before, in the order of the band */
  const scalpel_conv_row *rows; /* out_channels */
  const scalpel_conv_plane *planes;
  int32_t plane_count;
  int32_t pool;       /* 1, or 2: the output is the maximum of 2 x 2 */
  int32_t tile;       /* columns of the convolution that go through a band of their own; 4 n */
  int32_t tiles;      /* bands; the last one starts early where columns are no multiple of `tile` */
  int32_t entries;    /* of a plane in a band; a multiple of 4, at least tile */
  int32_t band_rows;  /* at least those that one step of output rows needs */
  int32_t line_bytes; /* of a row with its padding, as far as the planes reach; a multiple of 4 */
  int32_t in_zero_point;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_gcsr_conv;

/* Where a convolution stands in its output: rows come one after the other, from the top. */
typedef struct {
  scalpel_conv_input *band;   /* tiles * band_rows rows of planes */
  int8_t *line, *next_line;   /* two rows of the input with its padding, */
  int32_t line_row, next_row; /* and which they are */
  int8_t *narrow;             /* a block of columns, where y has less */
  int32_t row_size;           /* inputs a row of a band */
  int32_t first, filled;      /* rows of the padded input that the bands hold */
  int32_t row;                /* of y: the next one */
} scalpel_conv_state;

/* scratch: 8-byte aligned; plane_count * entries * 8 * band_rows * tiles bytes, twice line_bytes
 * + 4, and 4 * out_channels where the convolution has less than 4 columns. */
void scalpel_gcsr_conv_start(const scalpel_gcsr_conv *w, void *scratch, scalpel_conv_state *state);

/* Writes the next row of y, of out_width / pool columns. */
void scalpel_gcsr_conv_row(const scalpel_gcsr_conv *w, const int8_t *x, scalpel_conv_state *state,
                           int8_t *y);

/* All rows. */
void scalpel_gcsr_conv_s8(const scalpel_gcsr_conv *w, const int8_t *x, void *scratch, int8_t *y);

/* All rows, through MAX_POOL_2D or AVERAGE_POOL_2D as soon as there are enough of them.
 * rows: filter_height rows of the convolution's output. */
typedef void (*scalpel_pool_kernel)(const scalpel_pool_params *params, const int8_t *x, int8_t *y);
void scalpel_gcsr_conv_pool_s8(const scalpel_gcsr_conv *w, const scalpel_pool_params *pool,
                               scalpel_pool_kernel kernel, const int8_t *x, void *scratch,
                               int8_t *rows, int8_t *y);

#ifdef __cplusplus
}
#endif

#endif /* SCALPEL_CONV_H */
