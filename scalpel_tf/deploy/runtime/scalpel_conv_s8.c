#include "scalpel_ops.h"
#include "scalpel_requantize.h"

/* The sum of one filter over one group of channels, x, from row `top` and column `left` on. */
static int32_t place_sum(const scalpel_conv_params *params, int32_t filter_channels,
                         const int8_t *weights, const int8_t *x, int32_t top, int32_t left) {
  const scalpel_window *window = &params->window;
  int32_t acc = 0;
  for (int32_t i = 0; i < window->filter_height; ++i) {
    const int32_t row = top + i * window->dilation_height;
    for (int32_t j = 0; j < window->filter_width; ++j, weights += filter_channels) {
      const int32_t column = left + j * window->dilation_width;
      if (row < 0 || row >= window->in_height || column < 0 || column >= window->in_width) {
        continue;
      }
      const int8_t *from = x + (row * window->in_width + column) * window->in_channels;
      for (int32_t c = 0; c < filter_channels; ++c) {
        acc = scalpel_add(acc, weights[c] * (from[c] - params->in_zero_point));
      }
    }
  }
  return acc;
}

void scalpel_conv_s8(const scalpel_conv_params *params, int32_t filter_channels, const int8_t *x,
                     int8_t *y) {
  const scalpel_window *window = &params->window;
  const int32_t filter_size = window->filter_height * window->filter_width * filter_channels;
  const int32_t groups = window->in_channels / filter_channels;
  const int32_t group_outputs = window->out_channels / groups;
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t top = i * window->stride_height - window->pad_top;
    for (int32_t j = 0; j < window->out_width; ++j) {
      const int32_t left = j * window->stride_width - window->pad_left;
      for (int32_t c = 0; c < window->out_channels; ++c) {
        const int8_t *group = x + c / group_outputs * filter_channels;
        const int8_t *weights = params->weights + c * filter_size;
        int32_t acc = place_sum(params, filter_channels, weights, group, top, left);
        if (params->bias) {
          acc = scalpel_add(acc, params->bias[c]);
        }
        *y++ = (int8_t)scalpel_output(acc, params->multiplier[c], params->shift[c],
                                      params->out_zero_point, params->lowest, params->highest);
      }
    }
  }
}
