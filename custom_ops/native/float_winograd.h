// Convolutions of 3x3 and 5x5 filters that go one pixel at a time (Lavin and Gray, CVPR 2016):
// tiles of the image and the filters are polynomials, of which the values at some points are
// multiplied. Each two by two pixels of y take 16 or 36 products instead of 36 or 100. For files
// that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_H_

#include <math.h>

#include "float_points.h"
#include "float_windows.h"
#include "scalpel_float.h"

namespace scalpel {
namespace {

// A vector of channels of one tile: x, lines `row` floats apart, -> v, points `plane` apart.
template <typename Simd, int kSize>
SCALPEL_INLINE void TileIn(const float *x, int64_t row, int64_t depth, int64_t lanes, int64_t plane,
                           float *v) {
  using V = typename Simd::V;
  V columns[kSize][kSize];
#pragma GCC unroll 6
  for (int j = 0; j < kSize; ++j) {
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) {
      columns[j][i] = LoadUpTo<Simd>(x + i * row + j * depth, lanes);
    }
    Points<Simd, kSize>::Input(columns[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < kSize; ++i) {
    V line[kSize];
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j) line[j] = columns[j][i];
    Points<Simd, kSize>::Input(line);
#pragma GCC unroll 6
    for (int j = 0; j < kSize; ++j, v += plane) Simd::Store(v, line[j]);
  }
}

// A vector of channels of one tile: products, `plane` apart, -> two by two pixels.
template <typename Simd, int kSize>
SCALPEL_INLINE void TileOut(const float *m, int64_t plane, int64_t lanes, float low, float high,
                            int64_t row, int64_t channels, float *y) {
  using V = typename Simd::V;
  V lines[2][kSize];
#pragma GCC unroll 6
  for (int j = 0; j < kSize; ++j) {
    V column[kSize], two[2];
#pragma GCC unroll 6
    for (int i = 0; i < kSize; ++i) column[i] = Simd::Load(m + (i * kSize + j) * plane);
    Points<Simd, kSize>::template Output<2>(column, two);
    lines[0][j] = two[0];
    lines[1][j] = two[1];
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i, y += row) {
    V two[2];
    Points<Simd, kSize>::template Output<2>(lines[i], two);
    Finish<Simd>(two[0], Simd::Set(low), Simd::Set(high), lanes, y);
    Finish<Simd>(two[1], Simd::Set(low), Simd::Set(high), lanes, y + channels);
  }
}

// `count` tiles: the values of all channels at all points, and for every panel of output channels
// the products at each point, which stay in the second-level cache.
template <typename Isa, int kSize>
SCALPEL_TARGET void TilesThrough(const scalpel_winograd &a, const int32_t *tiles, int64_t count,
                                 const float *x, float *v, float *m, float *y) {
  using Simd = typename Isa::Wide;
  constexpr int kPoints = kSize * kSize;
  const int64_t plane = count * a.stride;
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t c = 0; c < a.depth; c += Simd::kLanes) {
      TileIn<Simd, kSize>(x + tiles[2 * t] + c, a.row, a.depth, a.depth - c, plane,
                          v + t * a.stride + c);
    }
  }
  const int32_t tap = 0, pixels = static_cast<int32_t>(count);
  for (int32_t i = 0; i < a.panel_count; ++i) {
    scalpel_panel panel = a.panels[i];
    const int64_t first = panel.first, live = panel.channels, width = panel.width;
    const scalpel_dense product = {a.weights, nullptr, &tap,   a.places,    nullptr,   1,
                                   1,         a.run,   pixels, panel.width, -INFINITY, INFINITY};
    panel.channels = panel.width;
    for (int point = 0; point < kPoints; ++point) {
      Isa::Dense(product, panel, v + point * plane + panel.x, m + point * count * width);
      panel.weights += (1 + a.run) * width;
    }
    for (int64_t t = 0; t < count; ++t) {
      for (int64_t c = 0; c < live; c += Simd::kLanes) {
        TileOut<Simd, kSize>(m + t * width + c, count * width, live - c, a.low, a.high,
                             a.out_width * a.channels, a.channels,
                             y + tiles[2 * t + 1] * a.channels + first + c);
      }
    }
  }
}

template <typename Isa>
SCALPEL_TARGET void Winograd(const scalpel_winograd *a, const float *x, float *scratch, float *y) {
  if (a->border) {
    scalpel_float_pad(a->border, x, scratch);
    x = scratch;
  }
  float *v = scratch + a->padded, *m = v + int64_t{a->size} * a->size * a->block * a->stride;
  for (int32_t first = 0; first < a->tile_count; first += a->block) {
    const int32_t left = a->tile_count - first, count = left < a->block ? left : a->block;
    const int32_t *tiles = a->tiles + 2 * first;
    if (a->size == 4) {
      TilesThrough<Isa, 4>(*a, tiles, count, x, v, m, y);
    } else {
      TilesThrough<Isa, 6>(*a, tiles, count, x, v, m, y);
    }
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_H_
