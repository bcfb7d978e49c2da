/* What surrounds the kernels of scalpel_csr_conv.h: the inputs of four places, side by side. */
#include "scalpel_csr_conv.h"

#include "scalpel_conv_widen.h"
#include "scalpel_runtime.h"
#include "scalpel_simd.h"

#if SCALPEL_SIMD
/* to[4 * k] and to[4 * k + 1], for k from 0 to 3, are the bytes at a and b. */
static inline void pair4(const int8_t *a, const int8_t *b, int16_t *to) {
  const uint32_t bytes = scalpel_load4(a), others = scalpel_load4(b);
  const uint32_t even = scalpel_even(bytes), even_others = scalpel_even(others);
  const uint32_t odd = scalpel_odd(bytes), odd_others = scalpel_odd(others);
  scalpel_store4((int8_t *)to, scalpel_pack_low(even, even_others));
  scalpel_store4((int8_t *)(to + 4), scalpel_pack_low(odd, odd_others));
  scalpel_store4((int8_t *)(to + 8), scalpel_pack_high(even, even_others));
  scalpel_store4((int8_t *)(to + 12), scalpel_pack_high(odd, odd_others));
}
#endif

/* to[4 * k + i] = from[i][k], count times; returns where to go on. */
static inline int16_t *interleave(const int8_t *const *from, int32_t count, int16_t *to) {
  const int8_t *a = from[0], *b = from[1], *c = from[2], *d = from[3];
#if SCALPEL_SIMD
  for (; count >= 4; count -= 4, to += 16, a += 4, b += 4, c += 4, d += 4) {
    pair4(a, b, to);
    pair4(c, d, to + 2);
  }
#endif
  for (; count > 0; --count, to += 4) {
    to[0] = *a++;
    to[1] = *b++;
    to[2] = *c++;
    to[3] = *d++;
  }
  return to;
}

/* The inputs of four places, all of them inside of x, whose first ones are at `from`. */
static void gather_inside(const scalpel_window *window, const int8_t **from, int16_t *to) {
  const int32_t run = window->filter_width * window->in_channels;
  const int32_t step = window->dilation_height * window->in_width * window->in_channels;
  for (int32_t ky = 0; ky < window->filter_height; ++ky) {
    to = interleave(from, run, to);
    for (int32_t i = 0; i < 4; ++i) {
      from[i] += step;
    }
  }
}

/* The same for any places, whose first inputs are at `top` and `left`. */
static void gather_padded(const scalpel_window *window, const int8_t *x, const int32_t *top,
                          const int32_t *left, const int8_t *zeros, int16_t *to) {
  const int32_t channels = window->in_channels;
  for (int32_t ky = 0; ky < window->filter_height; ++ky) {
    for (int32_t kx = 0; kx < window->filter_width; ++kx) {
      const int8_t *from[4];
      for (int32_t i = 0; i < 4; ++i) {
        const int32_t row = top[i] + ky * window->dilation_height;
        const int32_t column = left[i] + kx * window->dilation_width;
        const int inside =
            row >= 0 && row < window->in_height && column >= 0 && column < window->in_width;
        from[i] = inside ? x + (row * window->in_width + column) * channels : zeros;
      }
      to = interleave(from, channels, to);
    }
  }
}

/* Whether the windows of four places touch nothing but x, column beside column. */
static int inside(const scalpel_window *window, const int32_t *top, const int32_t *left) {
  const int32_t last_top =
      window->in_height - 1 - (window->filter_height - 1) * window->dilation_height;
  const int32_t last_left = window->in_width - window->filter_width;
  for (int32_t i = 0; i < 4; ++i) {
    if (top[i] < 0 || top[i] > last_top || left[i] < 0 || left[i] > last_left) {
      return 0;
    }
  }
  return window->dilation_width == 1 || window->filter_width == 1;
}

/* zeros: in_channels of them. */
static void gather(const scalpel_window *window, const int8_t *x, const int32_t *top,
                   const int32_t *left, const int8_t *zeros, int16_t *to) {
  if (!inside(window, top, left)) {
    gather_padded(window, x, top, left, zeros, to);
    return;
  }
  const int8_t *from[4];
  for (int32_t i = 0; i < 4; ++i) {
    from[i] = x + (top[i] * window->in_width + left[i]) * window->in_channels;
  }
  gather_inside(window, from, to);
}

void scalpel_csr_conv_s8(const scalpel_csr_conv *w, const int8_t *x, void *scratch, int8_t *y) {
  const scalpel_window *window = &w->window;
  const int32_t channels = window->out_channels, pairs = w->pool == 2;
  const int32_t size = window->filter_height * window->filter_width * window->in_channels;
  const int32_t columns = window->out_width / w->pool;
  const int32_t count = window->out_height / w->pool * columns;
  int16_t *inputs = scratch;
  int8_t *zeros = (int8_t *)(inputs + 4 * size);
  int8_t *narrow = zeros + window->in_channels;
  scalpel_csr_conv_block block = {inputs, w->columns, w->values, w->rows, w->rows + channels,
                                  y,      channels};
  int32_t row = 0, column = 0; /* of the first place, or of the output where places are pooled */
  scalpel_conv_fill(zeros, w->in_zero_point, window->in_channels);
  for (int32_t n = 0; n < count; n += pairs ? 1 : 4) {
    if (!pairs && n > count - 4 && count >= 4) { /* the last block starts early */
      n = count - 4;
      row = n / columns;
      column = n % columns;
      block.y = y + n * channels;
    }
    int32_t top[4], left[4];
    for (int32_t i = 0; i < 4; ++i) {
      const int32_t below = pairs ? 2 * row + i / 2 : row;
      const int32_t right = pairs ? 2 * column + i % 2 : column;
      top[i] = below * window->stride_height - window->pad_top;
      left[i] = right * window->stride_width - window->pad_left;
      /* Fewer than four places: the last one again. */
      if ((pairs ? i == 3 : n + i + 1 < count) && ++column == columns) {
        column = 0;
        ++row;
      }
    }
    gather(window, x, top, left, zeros, inputs);
    if (!pairs && count < 4) {
      block.y = narrow;
    }
    w->kernel(&block);
    block.y += (pairs ? 1 : 4) * channels;
  }
  if (!pairs && count < 4) {
    scalpel_conv_copy(y, narrow, count * channels);
  }
  if (w->lowest > -128 || w->highest < 127) {
    scalpel_clamp_s8(y, (uint32_t)(count * channels), w->lowest, w->highest);
  }
}
