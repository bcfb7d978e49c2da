/* int8 products on one sample, for the models that `scalpel-tf export --target x86-64` compiles,
 * equal to TensorFlow Lite's reference kernels bit for bit. As scalpel_float.h otherwise.
 */
#ifndef SCALPEL_INT8_H_
#define SCALPEL_INT8_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A convolution or a product with a matrix. A pixel of y sees, for every tap, 4 * steps bytes from
 * x + pixels[p] + taps[t] on, in the padded image; those behind a run meet weights of 0.
 * weights: for every sixteen channels (taps, steps, 16, 4).  sums: what the sums of those channels
 * start at, x being read as x + 128.  multipliers, shifts: to the left where positive. */
typedef struct scalpel_int8_dense {
  const int8_t *weights;
  const int32_t *sums, *multipliers, *shifts;
  const int32_t *taps, *pixels;
  int32_t height, width, depth, top, left, padded_height, padded_width; /* of the image */
  int32_t channels, tap_count, steps, pixel_count;
  int32_t in_zero_point, out_zero_point, lowest, highest;
  int32_t once; /* whether products are rounded once, not twice */
} scalpel_int8_dense;

enum { SCALPEL_INT8_SLACK = 64 }; /* bytes of scratch behind the padded image */

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
  void (*max_pool)(const scalpel_int8_pool *, const int8_t *x, int8_t *y);
  void (*average_pool)(const scalpel_int8_pool *, const int8_t *x, int8_t *y);
} scalpel_int8_kernels;

/* Kernels that were built in and that this machine runs, best first; NULL past the end. */
const scalpel_int8_kernels *scalpel_int8_isa(int index);

#ifdef __cplusplus
}
#endif
#endif /* SCALPEL_INT8_H_ */
