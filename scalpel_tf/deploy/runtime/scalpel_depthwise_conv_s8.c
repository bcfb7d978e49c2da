#include "scalpel_ops.h"
#include "scalpel_requantize.h"
#include "scalpel_runtime.h"
#include "scalpel_simd.h"

/* The taps of a filter that lie inside the input: `rows` x `columns`, from `x` and `weights` on. */
typedef struct {
  const int8_t *x, *weights;
  int32_t rows, columns;
  int32_t x_row, x_column, weights_row, weights_column; /* bytes from one to the next */
} taps;

/* Output channel c of input channel `from`. */
static int8_t channel(const scalpel_depthwise_params *params, const taps *t, int32_t from,
                      int32_t c) {
  const scalpel_channel *scale = params->channels + c;
  int32_t acc = scale->bias;
  for (int32_t i = 0; i < t->rows; ++i) {
    const int8_t *x = t->x + i * t->x_row + from;
    const int8_t *w = t->weights + i * t->weights_row + c;
    for (int32_t j = t->columns; j > 0; --j, x += t->x_column, w += t->weights_column) {
      acc = scalpel_add(acc, *w * (*x - params->in_zero_point));
    }
  }
  return (int8_t)scalpel_output(acc, scale->multiplier, scale->shift, params->out_zero_point,
                                params->lowest, params->highest);
}

#if SCALPEL_SIMD
/* Adds the products of four channels of x, each with `offset` added, and of w. */
static inline void multiply_four(uint32_t x, uint32_t w, uint32_t offset, int32_t *acc) {
  const uint32_t x_even = scalpel_add_even(offset, x), x_odd = scalpel_add_odd(offset, x);
  const uint32_t w_even = scalpel_even(w), w_odd = scalpel_odd(w);
  acc[0] = scalpel_multiply_low(acc[0], x_even, w_even);
  acc[1] = scalpel_multiply_low(acc[1], x_odd, w_odd);
  acc[2] = scalpel_multiply_upper(acc[2], x_even, w_even);
  acc[3] = scalpel_multiply_upper(acc[3], x_odd, w_odd);
}

/* The sums of channels c .. c + 3 in acc, where every input channel makes one output channel. */
static inline void add_four_channels(taps t, int32_t c, uint32_t offset, int32_t *acc) {
  const int8_t *x_row = t.x + c, *w_row = t.weights + c;
  for (int32_t i = t.rows; i > 0; --i, x_row += t.x_row, w_row += t.weights_row) {
    const int8_t *x = x_row, *w = w_row;
    for (int32_t j = t.columns; j > 0; --j, x += t.x_column, w += t.weights_column) {
      multiply_four(scalpel_load4(x), scalpel_load4(w), offset, acc);
    }
  }
}

static inline int32_t narrow(int32_t acc, const scalpel_channel *scale, int32_t zero_point) {
  return scalpel_narrow_output(acc, scale->multiplier, -1 - scale->shift, zero_point);
}

/* In assembly: all channels but the last channels % 4 of a window whose columns are neighbours.
 * rows: at least 1, of three weights each.  offset: minus the zero point of x, in both lanes.
 * zero_point: twice the output's, and one. */
#define SCALPEL_DEPTHWISE_COLUMNS(name)                                                            \
  void name(const int8_t *x, int32_t x_row, const int8_t *weights, int32_t channels, int32_t rows, \
            const scalpel_channel *scale, uint32_t offset, int32_t zero_point, int8_t *y)
SCALPEL_DEPTHWISE_COLUMNS(scalpel_depthwise_two_columns);
SCALPEL_DEPTHWISE_COLUMNS(scalpel_depthwise_three_columns);

/* All channels but the last channels % 4. */
static void pixel_by_fours(const scalpel_depthwise_params *params, const taps *t, int8_t *y) {
  const taps here = *t; /* a copy, which no store to y can change */
  const uint32_t offset = scalpel_repeat2(-params->in_zero_point);
  const uint32_t lowest = scalpel_repeat4(params->lowest);
  const uint32_t highest = scalpel_repeat4(params->highest);
  const int32_t zero_point = 2 * params->out_zero_point;
  const int32_t channels = params->window.out_channels, end = channels - 3;
  const scalpel_channel *scale = params->channels;
  const int32_t columns = params->window.dilation_width == 1 ? here.columns : 0;
  if (params->window.filter_width == 3 && (columns == 2 || columns == 3) && here.rows > 0 &&
      end > 0) {
    (columns == 2 ? scalpel_depthwise_two_columns : scalpel_depthwise_three_columns)(
        here.x, here.x_row, here.weights, channels, here.rows, scale, offset, zero_point + 1, y);
    if (params->lowest > -128 || params->highest < 127) {
      scalpel_clamp_s8(y, (uint32_t)channels & ~3u, params->lowest, params->highest);
    }
    return;
  }
  for (int32_t c = 0; c < end; c += 4, scale += 4) {
    int32_t acc[4] = {scale[0].bias, scale[1].bias, scale[2].bias, scale[3].bias};
    add_four_channels(here, c, offset, acc);
    const uint32_t outputs =
        scalpel_pack4(narrow(acc[0], scale, zero_point), narrow(acc[1], scale + 1, zero_point),
                      narrow(acc[2], scale + 2, zero_point), narrow(acc[3], scale + 3, zero_point));
    scalpel_store4(y + c, scalpel_min4(scalpel_max4(outputs, lowest), highest));
  }
}
#endif

static void pixel(const scalpel_depthwise_params *params, const taps *t, int8_t *y) {
  const int32_t channels = params->window.out_channels;
  const int32_t copies = params->narrow ? 1 : channels / params->window.in_channels;
  int32_t c = 0;
#if SCALPEL_SIMD
  if (params->narrow) {
    pixel_by_fours(params, t, y);
    c = channels / 4 * 4;
  }
#endif
  for (; c < channels; ++c) {
    y[c] = channel(params, t, c / copies, c);
  }
}

/* Of `filter` taps from `start` on, each `dilation` further: the first inside of [0, size). */
static int32_t first_tap(int32_t start, int32_t dilation) {
  return start < 0 ? (dilation - 1 - start) / dilation : 0;
}

static int32_t end_tap(int32_t start, int32_t dilation, int32_t filter, int32_t size) {
  if (start + (filter - 1) * dilation < size) {
    return filter;
  }
  return start < size ? (size - 1 - start) / dilation + 1 : 0;
}

void scalpel_depthwise_conv_s8(const scalpel_depthwise_params *params, const int8_t *x, int8_t *y) {
  const scalpel_window *window = &params->window;
  const int32_t row_bytes = window->in_width * window->in_channels;
  taps t = {x,
            params->weights,
            0,
            0,
            row_bytes * window->dilation_height,
            window->in_channels * window->dilation_width,
            window->filter_width * window->out_channels,
            window->out_channels};
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t top = i * window->stride_height - window->pad_top;
    const int32_t row = first_tap(top, window->dilation_height);
    t.rows = end_tap(top, window->dilation_height, window->filter_height, window->in_height) - row;
    for (int32_t j = 0; j < window->out_width; ++j, y += window->out_channels) {
      const int32_t left = j * window->stride_width - window->pad_left;
      const int32_t column = first_tap(left, window->dilation_width);
      t.columns =
          end_tap(left, window->dilation_width, window->filter_width, window->in_width) - column;
      t.x = x + (top + row * window->dilation_height) * row_bytes +
            (left + column * window->dilation_width) * window->in_channels;
      t.weights = params->weights + row * t.weights_row + column * t.weights_column;
      pixel(params, &t, y);
    }
  }
}
