/* float32 operators on one sample, for the models that `scalpel-tf export --target x86-64`
 * compiles.
 *
 * Everything that can be is decided when a model is exported: the constants below are laid out for
 * these kernels, sizes agree, and nothing is checked. No kernel allocates, keeps state or starts a
 * thread. Images are NHWC; x and y never overlap unless an operator says so.
 */
#ifndef SCALPEL_FLOAT_H_
#define SCALPEL_FLOAT_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An image that is copied into a larger one before a convolution looks at it. */
typedef struct scalpel_border {
  int32_t height, width, channels;
  int32_t top, left, padded_height, padded_width;
} scalpel_border;

/* Output channels [first, first + channels) of a dense product. weights: where they start, in
 * floats: (1 + taps * run, width), the biases first. x: floats from a pixel to the first that these
 * channels see. */
typedef struct scalpel_panel {
  int64_t weights;
  int32_t first, channels, width, x;
} scalpel_panel;

/* A convolution or a product with a matrix, dense. A pixel of y sees, for every tap, `run` floats
 * from x + pixels[p] + taps[t] on. */
typedef struct scalpel_dense {
  const float *weights;
  const scalpel_panel *panels;
  const int32_t *taps;
  const int32_t *pixels;
  const scalpel_border *border; /* or NULL: x is looked at where it lies */
  int32_t panel_count, tap_count, run, pixel_count, channels;
  float low, high;
} scalpel_dense;

/* A dense convolution of 3x3 or 5x5 filters by tiles of two by two pixels of y, which see size by
 * size pixels of x: 4 or 6. weights: for every panel those of the size * size points, as they are
 * for a dense product. tiles: pairs (floats from x to the first of a tile's pixels, number of its
 * first pixel of y). `block` tiles are worked on at a time; places: their numbers times `stride`,
 * the floats that the channels of one tile at one point take. row: floats from a line of x to the
 * next. padded: floats of the padded image, where there is one. */
typedef struct scalpel_winograd {
  const float *weights;
  const scalpel_panel *panels;
  const int32_t *tiles;
  const int32_t *places;
  const scalpel_border *border; /* or NULL */
  int64_t padded, row, out_width, channels, depth, stride;
  int32_t size, panel_count, tile_count, block, run;
  float low, high;
} scalpel_winograd;

/* The same by tiles of one by four pixels of y, which see `size` pixels of each line: 6 or 8.
 * weights: for every panel those of the `size` points. tiles: where in a line of y each tile
 * begins. `block` lines of y are worked on at a time; places: floats to each of their tiles from
 * the first, in (tiles, lines, depth). values: floats of the tiles at all points, with 16 more at
 * each. */
typedef struct scalpel_winograd_lines {
  const float *weights;
  const scalpel_panel *panels;
  const int32_t *tiles;
  const int32_t *places;
  const scalpel_border *border; /* or NULL */
  int64_t padded, values, row, out_width, channels, depth;
  int32_t size, panel_count, tile_count, lines, out_height, block, run;
  float low, high;
} scalpel_winograd_lines;

/* A convolution whose weights are groups of eight neighbours. Group g of row r, one of
 * rows[r] : rows[r + 1], meets eight floats from x + pixel + columns[g] on. strips: pairs (floats
 * from x to the first of `strip` neighbouring pixels, number of that pixel of y); `step` floats lie
 * between neighbours in x. */
typedef struct scalpel_groups_conv {
  const float *values;
  const int32_t *columns;
  const int32_t *rows;
  const float *bias;
  const int32_t *strips;
  const scalpel_border *border; /* or NULL */
  int32_t strip_count, strip, step, channels;
  float low, high;
} scalpel_groups_conv;

/* A matrix of groups of `width` (4, 8 or 16) times one vector or several. Rows stand in slices of
 * eight that have equally many steps; a step has 8 (width 16: 16) values of each of the rows and
 * the columns of their groups. order: the row of y behind each row of the slices. */
typedef struct scalpel_groups_fc {
  const float *values;
  const void *columns;  /* uint16 or int32 */
  const int32_t *steps; /* (slice_count + 1) */
  const int32_t *order; /* (rows) */
  const float *bias;    /* in that order, a multiple of eight */
  int32_t width, column_bytes, slice_count, rows, columns_of_x, batch;
  float low, high;
} scalpel_groups_fc;

/* Each channel by itself. weights: (1 + taps, channels), the biases first. */
typedef struct scalpel_depthwise {
  const float *weights;
  const int32_t *taps;
  const int32_t *pixels;
  const scalpel_border *border; /* or NULL */
  int32_t tap_count, pixel_count, channels;
  float low, high;
} scalpel_depthwise;

/* A maximum or a mean over windows, of which only what lies inside of the image counts. */
typedef struct scalpel_window {
  int32_t in_height, in_width, channels, out_height, out_width;
  int32_t height, width, stride_height, stride_width, top, left;
  float low, high;
} scalpel_window;

/* The functions of one instruction set. */
typedef struct scalpel_float_kernels {
  const char *isa;
  int (*supported)(void);
  void (*dense)(const scalpel_dense *, const float *x, float *scratch, float *y);
  void (*dense_vector)(const scalpel_dense *, const float *x, float *y); /* of one pixel and tap */
  void (*winograd)(const scalpel_winograd *, const float *x, float *scratch, float *y);
  void (*winograd_lines)(const scalpel_winograd_lines *, const float *x, float *scratch, float *y);
  void (*groups_conv)(const scalpel_groups_conv *, const float *x, float *scratch, float *y);
  void (*groups_fc)(const scalpel_groups_fc *, const float *x, float *y);
  void (*depthwise)(const scalpel_depthwise *, const float *x, float *scratch, float *y);
  void (*max_pool)(const scalpel_window *, const float *x, float *y);
  void (*average_pool)(const scalpel_window *, const float *x, float *y);
  /* y[i] = clamp(a[i] op b[i % period]); y may be a. */
  void (*add)(const float *a, const float *b, int64_t size, int64_t period, float low, float high,
              float *y);
  void (*multiply)(const float *a, const float *b, int64_t size, int64_t period, float low,
                   float high, float *y);
  /* y may be x. */
  void (*clamp)(const float *x, int64_t size, float low, float high, float *y);
  void (*logistic)(const float *x, int64_t size, float *y);
  void (*softmax)(const float *x, int64_t rows, int64_t size, float beta, float *y);
  /* x (outer, reduced, inner) -> y (outer, inner). */
  void (*mean)(const float *x, int64_t outer, int64_t reduced, int64_t inner, float *y);
} scalpel_float_kernels;

/* Kernels that were built in and that this machine runs, best first; NULL past the end. */
const scalpel_float_kernels *scalpel_float_isa(int index);

/* y (outer, out) gets `size` floats from each of the outer rows of x, `at` floats into its own. */
void scalpel_float_copy(const float *x, int64_t outer, int64_t size, int64_t out, int64_t at,
                        float *y);
/* y of the padded shape gets x and zeros. */
void scalpel_float_pad(const scalpel_border *border, const float *x, float *y);

#ifdef __cplusplus
}
#endif
#endif /* SCALPEL_FLOAT_H_ */
