#include "scalpel_pool.h"
#include "scalpel_simd.h"

#if SCALPEL_SIMD
static inline uint32_t largest_of_four(const scalpel_area *a, int32_t c, uint32_t largest) {
  const int8_t *row = a->from + c;
  for (int32_t i = a->rows; i > 0; --i, row += a->row_bytes) {
    const int8_t *x = row;
    for (int32_t j = a->columns; j > 0; --j, x += a->channels) {
      largest = scalpel_max4(largest, scalpel_load4(x));
    }
  }
  return largest;
}

/* Of eight channels, so that a loop costs half of it per channel. */
static inline void largest_of_eight(const scalpel_area *a, int32_t c, uint32_t lowest,
                                    uint32_t highest, int8_t *y) {
  const int8_t *row = a->from + c;
  uint32_t first = lowest, second = lowest;
  for (int32_t i = a->rows; i > 0; --i, row += a->row_bytes) {
    const int8_t *x = row;
    for (int32_t j = a->columns; j > 0; --j, x += a->channels) {
      const uint32_t one = scalpel_load4(x), two = scalpel_load4(x + 4);
      first = scalpel_max4(first, one);
      second = scalpel_max4(second, two);
    }
  }
  scalpel_store4(y + c, scalpel_min4(first, highest));
  scalpel_store4(y + c + 4, scalpel_min4(second, highest));
}
#endif

static int32_t largest_of_one(const scalpel_area *a, int32_t c, int32_t largest) {
  const int8_t *row = a->from + c;
  for (int32_t i = a->rows; i > 0; --i, row += a->row_bytes) {
    const int8_t *x = row;
    for (int32_t j = a->columns; j > 0; --j, x += a->channels) {
      largest = *x > largest ? *x : largest;
    }
  }
  return largest;
}

static void pixel(const scalpel_pool_params *params, const scalpel_area *a, int8_t *y) {
  int32_t c = 0;
#if SCALPEL_SIMD
  if (a->rows == 3 && a->columns == 3 && a->channels >= 4) {
    c = a->channels & ~3;
    scalpel_max_3x3(a->from, a->row_bytes, a->channels, y);
    if (scalpel_pool_is_bounded(params)) {
      scalpel_clamp_s8(y, (uint32_t)c, params->lowest, params->highest);
    }
  }
  const uint32_t lowest = scalpel_repeat4(params->lowest);
  const uint32_t highest = scalpel_repeat4(params->highest);
  for (; c + 8 <= a->channels; c += 8) {
    largest_of_eight(a, c, lowest, highest, y);
  }
  for (; c + 4 <= a->channels; c += 4) {
    scalpel_store4(y + c, scalpel_min4(largest_of_four(a, c, lowest), highest));
  }
#endif
  for (; c < a->channels; ++c) {
    const int32_t largest = largest_of_one(a, c, params->lowest);
    y[c] = (int8_t)(largest > params->highest ? params->highest : largest);
  }
}

void scalpel_max_pool_s8(const scalpel_pool_params *params, const int8_t *x, int8_t *y) {
  scalpel_pool(params, x, y, pixel);
}
