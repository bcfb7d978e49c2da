/* Plain int8 operators, bit for bit the arithmetic of TensorFlow Lite's reference kernels, which is
 * that of TensorFlow Lite Micro: scaled with two roundings, whatever scalpel_rounding.h says.
 *
 * x and y are whole tensors of one sample, rows, then columns, then channels (NHWC), of the sizes
 * that the parameters give; they need no alignment and must not overlap unless said otherwise.
 * Every size, stride and dilation is at least 1.  The kernels trust their parameters.
 */
#ifndef SCALPEL_OPS_H
#define SCALPEL_OPS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a filter moves over its input.  pad: rows and columns of zeros before the first input. */
typedef struct {
  int32_t in_height, in_width, in_channels;
  int32_t out_height, out_width, out_channels;
  int32_t filter_height, filter_width;
  int32_t stride_height, stride_width;
  int32_t dilation_height, dilation_width;
  int32_t pad_top, pad_left;
} scalpel_window;

/* multiplier and shift scale each channel's sum as scalpel_requantize_twice does. */
typedef struct {
  scalpel_window window;
  const int8_t *weights;
  const int32_t *bias;       /* out_channels, or a null pointer */
  const int32_t *multiplier; /* out_channels */
  const int8_t *shift;       /* out_channels, each in -31..30 */
  int32_t in_zero_point, out_zero_point;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_conv_params;

/* filter_channels: input channels that one filter sees; in_channels / filter_channels is the number
 * of groups, which divides out_channels.
 * weights: (out_channels, filter_height, filter_width, filter_channels). */
void scalpel_conv_s8(const scalpel_conv_params *params, int32_t filter_channels, const int8_t *x,
                     int8_t *y);

/* What makes an output of a channel's sum, see scalpel_requantize_twice. */
typedef struct {
  int32_t bias;
  int32_t multiplier, shift;
} scalpel_channel;

/* out_channels is a multiple of in_channels.
 * weights: (filter_height, filter_width, out_channels).  channels: out_channels.
 * narrow: whether out_channels is in_channels, no sum can leave (-2^30, 2^30), and every shift is
 * negative; that is faster with the DSP extension. */
typedef struct {
  scalpel_window window;
  const int8_t *weights;
  const scalpel_channel *channels;
  int32_t in_zero_point, out_zero_point;
  int32_t lowest, highest; /* of y, within -128..127 */
  int32_t narrow;
} scalpel_depthwise_params;

void scalpel_depthwise_conv_s8(const scalpel_depthwise_params *params, const int8_t *x, int8_t *y);

/* Here the window's channels are equal, its dilations are 1, and every place of it touches x. */
typedef struct {
  scalpel_window window;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_pool_params;

void scalpel_max_pool_s8(const scalpel_pool_params *params, const int8_t *x, int8_t *y);
void scalpel_average_pool_s8(const scalpel_pool_params *params, const int8_t *x, int8_t *y);

/* y = a + sign * b.  a and b are scaled to their common scale times 2^20, then to that of y; their
 * shifts are in -31..0. */
typedef struct {
  int32_t a_zero_point, a_multiplier, a_shift;
  int32_t b_zero_point, b_multiplier, b_shift;
  int32_t sign; /* 1 or -1 */
  int32_t zero_point, multiplier, shift;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_add_params;

/* count values of y, which may be a or b.  a_step, b_step: 1, or 0 for the same value again. */
void scalpel_add_s8(const scalpel_add_params *params, int32_t count, const int8_t *a,
                    int32_t a_step, const int8_t *b, int32_t b_step, int8_t *y);

/* y = a * b, likewise. */
typedef struct {
  int32_t a_zero_point, b_zero_point;
  int32_t zero_point, multiplier, shift;
  int32_t lowest, highest; /* of y, within -128..127 */
} scalpel_mul_params;

void scalpel_mul_s8(const scalpel_mul_params *params, int32_t count, const int8_t *a,
                    int32_t a_step, const int8_t *b, int32_t b_step, int8_t *y);

/* y[i] = table[x[i]], x[i] as a uint8; y may be x. */
void scalpel_lookup_s8(const int8_t *table, int32_t count, const int8_t *x, int8_t *y);

/* The sums over the middle axis of (outer, reduced, inner), scaled; y may be x. */
typedef struct {
  int32_t outer, reduced, inner;
  int32_t in_zero_point, out_zero_point;
  int32_t multiplier, shift; /* with 1 / reduced in it */
} scalpel_mean_params;

void scalpel_mean_s8(const scalpel_mean_params *params, const int8_t *x, int8_t *y);

/* y[i, j, k, l] = x[i, j, k, l] for indices below `size`; a step is what an index adds to the
 * address, 0 to read the same again.  x and y are the addresses of [0, 0, 0, 0]. */
typedef struct {
  int32_t size[4];
  int32_t x_step[4], y_step[4];
} scalpel_copy_params;

void scalpel_copy_s8(const scalpel_copy_params *params, const int8_t *x, int8_t *y);

/* count bytes of y. */
void scalpel_fill_s8(int8_t value, int32_t count, int8_t *y);

/* Along rows of `depth` values.  y has the scale 1/256 and the zero point -128, and may be x. */
typedef struct {
  int32_t rows, depth;
  int32_t multiplier, left_shift, diff_min; /* of quantization.softmax_params */
} scalpel_softmax_params;

void scalpel_softmax_s8(const scalpel_softmax_params *params, const int8_t *x, int8_t *y);

/* From one scale and zero point to another, for QUANTIZE and for RELU and its kin; y may be x. */
typedef struct {
  int32_t count;
  int32_t in_zero_point, out_zero_point;
  int32_t multiplier, shift;
  int32_t lowest, highest; /* of y, within its type */
} scalpel_requantize_params;

void scalpel_requantize_s8(const scalpel_requantize_params *params, const int8_t *x, int8_t *y);
void scalpel_requantize_u8_s8(const scalpel_requantize_params *params, const uint8_t *x, int8_t *y);
void scalpel_requantize_s8_u8(const scalpel_requantize_params *params, const int8_t *x, uint8_t *y);

/* Between real numbers and int8; the floats are 4-byte aligned. */
typedef struct {
  int32_t count;
  float scale;
  int32_t zero_point;
} scalpel_float_params;

/* Rounds ties away from zero and saturates; NaN becomes the zero point. */
void scalpel_quantize_f32_s8(const scalpel_float_params *params, const float *x, int8_t *y);
void scalpel_dequantize_s8_f32(const scalpel_float_params *params, const int8_t *x, float *y);

#ifdef __cplusplus
}
#endif

#endif /* SCALPEL_OPS_H */
