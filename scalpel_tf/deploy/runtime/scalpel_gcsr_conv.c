#include "scalpel_conv.h"
#include "scalpel_conv_widen.h"
#include "scalpel_runtime.h"

enum { MARGIN = 4 }; /* bytes before a line that a split entry may point to */

static int32_t larger(int32_t a, int32_t b) { return a > b ? a : b; }

static int32_t band_inputs(const scalpel_gcsr_conv *w) {
  return 4 * w->plane_count * w->entries * w->band_rows * w->tiles;
}

void scalpel_gcsr_conv_start(const scalpel_gcsr_conv *w, void *scratch, scalpel_conv_state *state) {
  state->band = scratch;
  state->row_size = 4 * w->plane_count * w->entries;
  state->line = (int8_t *)scratch + band_inputs(w) * (int32_t)sizeof(int16_t) + MARGIN;
  state->next_line = state->line + w->line_bytes + MARGIN;
  state->narrow = state->next_line + w->line_bytes;
  state->line_row = state->next_row = -1;
  state->first = state->filled = state->row = 0;
}

static void copy_line(const scalpel_gcsr_conv *w, const int8_t *x, int32_t row, int8_t *line) {
  const scalpel_window *window = &w->window;
  const int32_t pad = window->pad_left * window->in_channels;
  const int32_t size = window->in_width * window->in_channels;
  row -= window->pad_top;
  if (row < 0 || row >= window->in_height) {
    scalpel_conv_fill(line, w->in_zero_point, w->line_bytes);
    return;
  }
  const int32_t used = size < w->line_bytes - pad ? size : w->line_bytes - pad;
  scalpel_conv_fill(line, w->in_zero_point, pad);
  scalpel_conv_copy(line + pad, x + row * size, used);
  scalpel_conv_fill(line + pad + used, w->in_zero_point, w->line_bytes - pad - used);
}

/* Row `row` of the input with its padding, as far as the planes reach; kept for the next call. */
static const int8_t *line_of(const scalpel_gcsr_conv *w, const int8_t *x, int32_t row,
                             scalpel_conv_state *state) {
  if (state->line_row != row) {
    int8_t *other = state->next_line;
    state->next_line = state->line;
    state->line = other;
    const int32_t other_row = state->next_row;
    state->next_row = state->line_row;
    state->line_row = other_row;
  }
  if (state->line_row != row) {
    copy_line(w, x, row, state->line);
    state->line_row = row;
  }
  return state->line;
}

/* The first column of a tile; the last one ends where the row does. */
static int32_t first_column(const scalpel_gcsr_conv *w, int32_t tile) {
  const int32_t last = larger(w->window.out_width / w->pool * w->pool - w->tile, 0);
  return tile * w->tile < last ? tile * w->tile : last;
}

static void widen_row(const scalpel_gcsr_conv *w, const int8_t *x, scalpel_conv_state *state) {
  const int32_t row = state->first + state->filled;
  const int32_t step = w->window.stride_width * w->window.in_channels;
  const int8_t *line = line_of(w, x, row, state), *below = line;
  for (int32_t p = 0; p < w->plane_count; ++p) {
    if (w->planes[p].below) {
      below = line_of(w, x, row + w->window.dilation_height, state);
      break;
    }
  }
  for (int32_t tile = 0; tile < w->tiles; ++tile) {
    scalpel_conv_input *to = state->band + (tile * w->band_rows + state->filled) * state->row_size;
    const int32_t start = first_column(w, tile) * step;
    for (int32_t p = 0; p < w->plane_count; ++p, to += 4 * w->entries) {
      const scalpel_conv_plane *plane = &w->planes[p];
      const int8_t *from = line + start + plane->first;
      if (plane->split == 4) {
        scalpel_conv_widen(from, step, w->entries, to);
      } else {
        const int8_t *second = (plane->below ? below : line) + start + plane->second;
        scalpel_conv_widen_split(from, step, w->tile, to, second,
                                 (UINT32_C(1) << 8 * plane->split) - UINT32_C(1));
      }
    }
  }
  ++state->filled;
}

/* Makes the bands hold the rows [top, end). */
static void fill_bands(const scalpel_gcsr_conv *w, const int8_t *x, int32_t top, int32_t end,
                       scalpel_conv_state *state) {
  if (end > state->first + w->band_rows) {
    const int32_t gone = top - state->first;
    state->filled = larger(state->filled - gone, 0);
    for (int32_t tile = 0; tile < w->tiles; ++tile) {
      scalpel_conv_input *band = state->band + tile * w->band_rows * state->row_size;
      scalpel_conv_copy((int8_t *)band, (const int8_t *)(band + gone * state->row_size),
                        (int32_t)sizeof *band * state->filled * state->row_size);
    }
    state->first = top;
  }
  while (state->first + state->filled < end) {
    widen_row(w, x, state);
  }
}

void scalpel_gcsr_conv_row(const scalpel_gcsr_conv *w, const int8_t *x, scalpel_conv_state *state,
                           int8_t *y) {
  const scalpel_window *window = &w->window;
  const int32_t channels = window->out_channels;
  const int32_t columns = window->out_width / w->pool * w->pool;
  const int32_t top = state->row * w->pool * window->stride_height;
  const int32_t reach = (window->filter_height - 1) * window->dilation_height + 1 +
                        (w->pool - 1) * window->stride_height;
  scalpel_conv_block block = {.steps = w->steps,
                              .values = w->values,
                              .rows = w->rows,
                              .end = w->rows + channels,
                              .pitch = channels};
  fill_bands(w, x, top, top + reach, state);
  for (int32_t tile = 0; tile < w->tiles; ++tile) {
    const int32_t start = first_column(w, tile);
    const int32_t last = (columns - start < w->tile ? columns - start : w->tile) - 4;
    const scalpel_conv_input *from =
        state->band + (tile * w->band_rows + top - state->first) * state->row_size;
#if SCALPEL_MVE
    /* The half of the bands' room that int8 leaves is enough: a filter's steps add up to less
     * than the entries of a band, and none but its first is 0. */
    block.offsets = (uint32_t *)(void *)(state->band + band_inputs(w));
    block.columns = larger(last, 0) + 4;
    block.x = from;
    block.x_below = from + window->stride_height * state->row_size;
    block.y = last < 0 ? state->narrow : y + start / w->pool * channels;
    w->kernel(&block);
#else
    for (int32_t j = 0; j < last + 4; j += 4) {
      /* The last block of a tile starts early; where none fits, it is written elsewhere. */
      const int32_t column = last < 0 ? 0 : j < last ? j : last;
      block.x = from + 4 * column;
      block.x_below = block.x + window->stride_height * state->row_size;
      block.y = last < 0 ? state->narrow : y + (start + column) / w->pool * channels;
      w->kernel(&block);
    }
#endif
  }
  if (columns < 4) {
    scalpel_conv_copy(y, state->narrow, columns / w->pool * channels);
  }
  if (w->lowest > -128 || w->highest < 127) {
    scalpel_clamp_s8(y, (uint32_t)(columns / w->pool * channels), w->lowest, w->highest);
  }
  ++state->row;
}

void scalpel_gcsr_conv_s8(const scalpel_gcsr_conv *w, const int8_t *x, void *scratch, int8_t *y) {
  const scalpel_window *window = &w->window;
  scalpel_conv_state state;
  scalpel_gcsr_conv_start(w, scratch, &state);
  for (int32_t i = 0; i < window->out_height / w->pool; ++i) {
    scalpel_gcsr_conv_row(w, x, &state, y);
    y += window->out_width / w->pool * window->out_channels;
  }
}
