/* int8 products on one sample, for the models that `scalpel-tf export --target x86-64` compiles,
 * equal to TensorFlow Lite's reference kernels bit for bit. As scalpel_float.h otherwise.
 */
#ifndef SCALPEL_INT8_H_
#define SCALPEL_INT8_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* An image, and the border of zero points that it is copied into. */
typedef struct scalpel_int8_image {
  int32_t height, width, depth, top, left, padded_height, padded_width;
  int32_t zero_point;
} scalpel_int8_image;

/* A convolution or a product with a matrix. A pixel of y sees, for every tap, 4 * steps bytes from
 * x + pixels[p] + taps[t] on, in the padded image; those behind a run meet weights of 0.
 * weights: for every sixteen channels (taps, steps, 16, 4).  sums: what the sums of those channels
 * start at, x being read as x + 128.  multipliers, shifts: to the left where positive. */
typedef struct scalpel_int8_dense {
  const int8_t *weights;
  const int32_t *sums, *multipliers, *shifts;
  const int32_t *taps, *pixels;
  scalpel_int8_image image;
  int32_t channels, tap_count, steps, pixel_count;
  int32_t out_zero_point, lowest, highest;
  int32_t once; /* whether products are rounded once, not twice */
} scalpel_int8_dense;

/* A convolution of stride 1 whose words of weights, four bytes, are none of them 0. A word meets
 * those of the pixels from words + offsets[i] on, one for each position of the padded image.
 * ends: of each channel's words.  bytes: where the words of each plane begin within a pixel; they
 * may reach into the next.  words: where the planes begin in the scratch. */
typedef struct scalpel_int8_planes {
  const int8_t *weights;
  const int32_t *offsets, *ends;
  const int32_t *sums, *multipliers, *shifts;
  const int32_t *bytes;
  scalpel_int8_image image;
  int32_t channels, planes, out_height, out_width, words;
  int32_t out_zero_point, lowest, highest;
  int32_t once;
} scalpel_int8_planes;

/* A product with a matrix, whose rows come in the order of how many words, four bytes, of them are
 * not 0; sixteen together have `ends` steps of a word each, and the shorter ones words of 0.
 * weights: (steps, 16, 4).  columns: (steps, 16), the words of x.  order: where in y a row belongs.
 * The image is x, one pixel. */
typedef struct scalpel_int8_rows {
  const int8_t *weights;
  const uint16_t *columns;
  const int32_t *ends, *order;
  const int32_t *sums, *multipliers, *shifts;
  scalpel_int8_image image;
  int32_t rows;
  int32_t out_zero_point, lowest, highest;
  int32_t once;
} scalpel_int8_rows;

enum {
  SCALPEL_INT8_SLACK = 64,        /* bytes of scratch behind the padded image */
  SCALPEL_INT8_PLANES_SLACK = 512 /* and behind the planes */
};

/* The largest, or the mean, of what a window sees of the image; each sees some of it. */
typedef struct scalpel_int8_pool {
  int32_t height, width, channels; /* of the image */
  int32_t out_height, out_width, filter_height, filter_width, stride_height, stride_width;
  int32_t top, left; /* of the border */
  int32_t lowest, highest;
} scalpel_int8_pool;

typedef struct scalpel_int8_kernels {
  const char *isa;
  int (*supported)(void);
  void (*dense)(const scalpel_int8_dense *, const int8_t *x, uint8_t *scratch, int8_t *y);
  void (*planes)(const scalpel_int8_planes *, const int8_t *x, uint8_t *scratch, int8_t *y);
  void (*rows)(const scalpel_int8_rows *, const int8_t *x, uint8_t *scratch, int8_t *y);
  void (*max_pool)(const scalpel_int8_pool *, const int8_t *x, int8_t *y);
  void (*average_pool)(const scalpel_int8_pool *, const int8_t *x, int8_t *y);
} scalpel_int8_kernels;

/* Kernels that were built in and that this machine runs, best first; NULL past the end. */
const scalpel_int8_kernels *scalpel_int8_isa(int index);

#ifdef __cplusplus
}
#endif
#endif /* SCALPEL_INT8_H_ */
