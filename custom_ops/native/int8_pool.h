// int8 pools, on as many channels at a time as the compiler has lanes for. For files that define
// SCALPEL_TARGET and SCALPEL_INLINE.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_INT8_POOL_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_INT8_POOL_H_

#include <string.h>

#include "scalpel_int8.h"

namespace scalpel {
namespace {

// What a window sees: rows x columns pixels from `from` on.
struct Area {
  const int8_t *from;
  int32_t rows, columns;
};

SCALPEL_INLINE int8_t Within(int32_t value, const scalpel_int8_pool &a) {
  const int32_t above = value < a.lowest ? a.lowest : value;
  return static_cast<int8_t>(above > a.highest ? a.highest : above);
}

struct Largest {
  SCALPEL_INLINE explicit Largest(int32_t) {}

  template <int kCount>
  SCALPEL_INLINE void operator()(const scalpel_int8_pool &a, const Area &area, int32_t c,
                                 int8_t *y) const {
    constexpr int kLanes = kCount < 16 ? 16 : kCount;
    typedef int8_t Bytes __attribute__((vector_size(kLanes)));
    Bytes best = Bytes{} + static_cast<int8_t>(a.lowest);
    for (int32_t i = 0; i < area.rows; ++i) {
      const int8_t *x = area.from + int64_t{i} * a.width * a.channels + c;
      for (int32_t j = 0; j < area.columns; ++j, x += a.channels) {
        Bytes some = {};
        memcpy(&some, x, kCount);
        best = some > best ? some : best;
      }
    }
    const Bytes highest = Bytes{} + static_cast<int8_t>(a.highest);
    best = best > highest ? highest : best;
    memcpy(y + c, &best, kCount);
  }
};

// Ties go away from zero. |sum| + count / 2 < 2^24 for windows of up to 2^16 pixels, so that floats
// hold it, and its quotient by `count` is at least 1 / count, more than the rounding of a float up
// to 128, away from a whole number that it is not.
struct Mean {
  int32_t half;
  float count;

  SCALPEL_INLINE explicit Mean(int32_t pixels)
      : half(pixels / 2), count(static_cast<float>(pixels)) {}

  template <int kCount>
  SCALPEL_INLINE void operator()(const scalpel_int8_pool &a, const Area &area, int32_t c,
                                 int8_t *y) const {
    int32_t sums[kCount] = {};
    for (int32_t i = 0; i < area.rows; ++i) {
      const int8_t *x = area.from + int64_t{i} * a.width * a.channels + c;
      for (int32_t j = 0; j < area.columns; ++j, x += a.channels) {
        for (int k = 0; k < kCount; ++k) sums[k] += x[k];
      }
    }
    for (int k = 0; k < kCount; ++k) {
      const int32_t moved = sums[k] > 0 ? sums[k] + half : sums[k] - half;
      y[c + k] = Within(static_cast<int32_t>(static_cast<float>(moved) / count), a);
    }
  }
};

// Outputs come in order, and the channels of one, each after it was read: y may be x.
template <typename Pool>
SCALPEL_TARGET void PoolOf(const scalpel_int8_pool *a, const int8_t *x, int8_t *y) {
  for (int32_t i = 0; i < a->out_height; ++i) {
    const int32_t top = i * a->stride_height - a->top, below = top + a->filter_height;
    const int32_t row = top < 0 ? 0 : top;
    Area area = {x, (below > a->height ? a->height : below) - row, 0};
    for (int32_t j = 0; j < a->out_width; ++j, y += a->channels) {
      const int32_t left = j * a->stride_width - a->left, behind = left + a->filter_width;
      const int32_t column = left < 0 ? 0 : left;
      area.columns = (behind > a->width ? a->width : behind) - column;
      area.from = x + (int64_t{row} * a->width + column) * a->channels;
      const Pool pool(area.rows * area.columns);
      int32_t c = 0;
      for (; c + 32 <= a->channels; c += 32) pool.template operator()<32>(*a, area, c, y);
      for (; c + 16 <= a->channels; c += 16) pool.template operator()<16>(*a, area, c, y);
      for (; c + 4 <= a->channels; c += 4) pool.template operator()<4>(*a, area, c, y);
      for (; c < a->channels; ++c) pool.template operator()<1>(*a, area, c, y);
    }
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_INT8_POOL_H_
