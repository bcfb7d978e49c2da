/* What the pools share: where a window lies inside its input. */
#ifndef SCALPEL_POOL_H
#define SCALPEL_POOL_H

#include "scalpel_ops.h"
#include "scalpel_requantize.h"
#include "scalpel_runtime.h"

/* `rows` x `columns` pixels of x, from `from` on. */
typedef struct {
  const int8_t *from;
  int32_t rows, columns, row_bytes, channels;
} scalpel_area;

/* Calls pixel(params, area, y) for every output, in order. */
static inline void scalpel_pool(const scalpel_pool_params *params, const int8_t *x, int8_t *y,
                                void (*pixel)(const scalpel_pool_params *params,
                                              const scalpel_area *a, int8_t *y)) {
  const scalpel_window *window = &params->window;
  const int32_t channels = window->in_channels;
  scalpel_area a = {x, 0, 0, window->in_width * channels, channels};
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t top = i * window->stride_height - window->pad_top;
    const int32_t first_row = top < 0 ? 0 : top;
    a.rows = scalpel_clamp(top + window->filter_height, 0, window->in_height) - first_row;
    for (int32_t j = 0; j < window->out_width; ++j, y += channels) {
      const int32_t left = j * window->stride_width - window->pad_left;
      const int32_t column = left < 0 ? 0 : left;
      a.columns = scalpel_clamp(left + window->filter_width, 0, window->in_width) - column;
      a.from = x + first_row * a.row_bytes + column * channels;
      pixel(params, &a, y);
    }
  }
}

/* Whether the bounds leave anything out. */
static inline int scalpel_pool_is_bounded(const scalpel_pool_params *params) {
  return params->lowest > -128 || params->highest < 127;
}

/* With the DSP extension, in assembly: 3 x 3 pixels, row_bytes apart, all but channels % 4. */
void scalpel_max_3x3(const int8_t *from, int32_t row_bytes, int32_t channels, int8_t *y);
void scalpel_average_3x3(const int8_t *from, int32_t row_bytes, int32_t channels, int8_t *y);

#endif /* SCALPEL_POOL_H */
