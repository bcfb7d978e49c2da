#include "scalpel_conv.h"
#include "scalpel_conv_widen.h"

void scalpel_gcsr_conv_pool_s8(const scalpel_gcsr_conv *w, const scalpel_pool_params *pool,
                               scalpel_pool_kernel kernel, const int8_t *x, void *scratch,
                               int8_t *rows, int8_t *y) {
  const scalpel_window *window = &pool->window;
  const int32_t row_bytes = window->in_width * window->in_channels;
  scalpel_pool_params one = *pool; /* one row of the output */
  scalpel_conv_state state;
  int32_t first = 0; /* of the convolution's rows that are kept */
  one.window.out_height = 1;
  one.window.pad_top = 0;
  scalpel_gcsr_conv_start(w, scratch, &state);
  for (int32_t i = 0; i < window->out_height; ++i) {
    const int32_t place = i * window->stride_height - window->pad_top;
    const int32_t top = place < 0 ? 0 : place;
    const int32_t below = place + window->filter_height;
    const int32_t end = below < window->in_height ? below : window->in_height;
    while (state.row < top) { /* rows between the windows */
      scalpel_gcsr_conv_row(w, x, &state, rows);
    }
    const int32_t kept = first < top && state.row > top ? state.row - top : 0;
    if (kept > 0) {
      scalpel_conv_copy(rows, rows + (top - first) * row_bytes, kept * row_bytes);
    }
    first = top;
    while (state.row < end) {
      scalpel_gcsr_conv_row(w, x, &state, rows + (state.row - first) * row_bytes);
    }
    one.window.in_height = one.window.filter_height = end - top;
    kernel(&one, rows, y);
    y += window->out_width * window->in_channels;
  }
}
