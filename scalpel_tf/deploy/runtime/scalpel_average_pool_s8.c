#include "scalpel_ops.h"
#include "scalpel_requantize.h"

/* sum / count, ties away from zero. */
static int32_t rounded_mean(int32_t sum, int32_t count) {
  return (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
}

void scalpel_average_pool_s8(const scalpel_pool_params *params, const int8_t *x, int8_t *y) {
  const scalpel_window *window = &params->window;
  const int32_t channels = window->in_channels;
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t top = i * window->stride_height - window->pad_top;
    const int32_t first_row = top < 0 ? 0 : top;
    const int32_t end_row = scalpel_clamp(top + window->filter_height, 0, window->in_height);
    for (int32_t j = 0; j < window->out_width; ++j) {
      const int32_t left = j * window->stride_width - window->pad_left;
      const int32_t first_column = left < 0 ? 0 : left;
      const int32_t end_column = scalpel_clamp(left + window->filter_width, 0, window->in_width);
      const int32_t count = (end_row - first_row) * (end_column - first_column);
      for (int32_t c = 0; c < channels; ++c) {
        int32_t sum = 0;
        for (int32_t row = first_row; row < end_row; ++row) {
          for (int32_t column = first_column; column < end_column; ++column) {
            sum += x[(row * window->in_width + column) * channels + c];
          }
        }
        *y++ = (int8_t)scalpel_clamp(rounded_mean(sum, count), params->lowest, params->highest);
      }
    }
  }
}
