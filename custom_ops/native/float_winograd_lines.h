// Convolutions of 3x3 and 5x5 filters by tiles of one by four pixels of y, for images of so few
// channels that a product per pixel of the filter would be too short: a product here has all lines
// of a filter, and a tile takes 6 or 8 of them instead of 12 or 20. For files that define
// SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_LINES_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_LINES_H_

#include <math.h>

#include "float_points.h"
#include "float_windows.h"
#include "scalpel_float.h"

namespace scalpel {
namespace {

constexpr int kAcross = 4;  // pixels of a tile

// All tiles at all points: v (points, `plane` floats apart; tiles; lines; depth). Whole vectors are
// stored, whose ends the next ones overwrite.
template <typename Simd, int kSize>
SCALPEL_TARGET void LinesIn(const scalpel_winograd_lines &a, const float *x, int64_t plane,
                            float *v) {
  for (int32_t t = 0; t < a.tile_count; ++t) {
    const float *from = x + a.tiles[t] * a.depth;
    for (int32_t line = 0; line < a.lines; ++line, from += a.row, v += a.depth) {
      for (int64_t c = 0; c < a.depth; c += Simd::kLanes) {
        typename Simd::V d[kSize];
#pragma GCC unroll 8
        for (int j = 0; j < kSize; ++j) {
          d[j] = LoadUpTo<Simd>(from + j * a.depth + c, a.depth - c);
        }
        Points<Simd, kSize>::Input(d);
#pragma GCC unroll 8
        for (int j = 0; j < kSize; ++j) Simd::Store(v + j * plane + c, d[j]);
      }
    }
  }
}

// A vector of channels of one tile: products, `plane` apart, -> four pixels.
template <typename Simd, int kSize>
SCALPEL_INLINE void LineOut(const float *m, int64_t plane, int64_t lanes, float low, float high,
                            int64_t channels, float *y) {
  typename Simd::V products[kSize], out[kAcross];
#pragma GCC unroll 8
  for (int j = 0; j < kSize; ++j) products[j] = Simd::Load(m + j * plane);
  Points<Simd, kSize>::template Output<kAcross>(products, out);
#pragma GCC unroll 4
  for (int i = 0; i < kAcross; ++i) {
    Finish<Simd>(out[i], Simd::Set(low), Simd::Set(high), lanes, y + i * channels);
  }
}

template <typename Isa, int kSize>
SCALPEL_TARGET void LinesThrough(const scalpel_winograd_lines &a, const float *x, float *v,
                                 float *m, float *y) {
  using Simd = typename Isa::Wide;
  const int64_t plane = int64_t{a.tile_count} * a.lines * a.depth + Simd::kLanes;
  LinesIn<Simd, kSize>(a, x, plane, v);
  const int32_t tap = 0;
  for (int32_t line = 0; line < a.out_height; line += a.block) {
    const int32_t left = a.out_height - line, lines = left < a.block ? left : a.block;
    const int32_t count = lines * a.tile_count;
    for (int32_t i = 0; i < a.panel_count; ++i) {
      scalpel_panel panel = a.panels[i];
      const int64_t first = panel.first, live = panel.channels, width = panel.width;
      const scalpel_dense product = {a.weights, nullptr, &tap,  a.places,    nullptr,   1,
                                     1,         a.run,   count, panel.width, -INFINITY, INFINITY};
      panel.channels = panel.width;
      for (int point = 0; point < kSize; ++point) {
        Isa::Dense(product, panel, v + point * plane + line * a.depth, m + point * count * width);
        panel.weights += (1 + a.run) * width;
      }
      for (int32_t q = 0; q < count; ++q) {
        const int64_t pixel = (line + q / a.tile_count) * a.out_width + a.tiles[q % a.tile_count];
        for (int64_t c = 0; c < live; c += Simd::kLanes) {
          LineOut<Simd, kSize>(m + q * width + c, count * width, live - c, a.low, a.high,
                               a.channels, y + pixel * a.channels + first + c);
        }
      }
    }
  }
}

template <typename Isa>
SCALPEL_TARGET void WinogradLines(const scalpel_winograd_lines *a, const float *x, float *scratch,
                                  float *y) {
  if (a->border) {
    scalpel_float_pad(a->border, x, scratch);
    x = scratch;
  }
  float *v = scratch + a->padded, *m = v + a->values;
  if (a->size == 6) {
    LinesThrough<Isa, 6>(*a, x, v, m, y);
  } else {
    LinesThrough<Isa, 8>(*a, x, v, m, y);
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_LINES_H_
