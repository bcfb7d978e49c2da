#include "scalpel_ops.h"
#include "scalpel_requantize.h"

/* The sum of output channel c's filter over its input channel, from `top` and `left` on. */
static int32_t place_sum(const scalpel_conv_params *params, const int8_t *x, int32_t c, int32_t top,
                         int32_t left) {
  const scalpel_window *window = &params->window;
  const int8_t *weight = params->weights + c;
  const int8_t *channel = x + c / (window->out_channels / window->in_channels);
  int32_t acc = 0;
  for (int32_t i = 0; i < window->filter_height; ++i) {
    const int32_t row = top + i * window->dilation_height;
    for (int32_t j = 0; j < window->filter_width; ++j, weight += window->out_channels) {
      const int32_t column = left + j * window->dilation_width;
      if (row < 0 || row >= window->in_height || column < 0 || column >= window->in_width) {
        continue;
      }
      const int8_t value = channel[(row * window->in_width + column) * window->in_channels];
      acc = scalpel_add(acc, *weight * (value - params->in_zero_point));
    }
  }
  return acc;
}

void scalpel_depthwise_conv_s8(const scalpel_conv_params *params, const int8_t *x, int8_t *y) {
  const scalpel_window *window = &params->window;
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t top = i * window->stride_height - window->pad_top;
    for (int32_t j = 0; j < window->out_width; ++j) {
      const int32_t left = j * window->stride_width - window->pad_left;
      for (int32_t c = 0; c < window->out_channels; ++c) {
        int32_t acc = place_sum(params, x, c, top, left);
        if (params->bias) {
          acc = scalpel_add(acc, params->bias[c]);
        }
        *y++ = (int8_t)scalpel_output(acc, params->multiplier[c], params->shift[c],
                                      params->out_zero_point, params->lowest, params->highest);
      }
    }
  }
}
