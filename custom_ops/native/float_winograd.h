// Convolutions of 3x3 and 5x5 filters that go one pixel at a time (Lavin and Gray, CVPR 2016):
// tiles of the image and the filters are polynomials, of which the values at some points are
// multiplied. Each two by two pixels of y take 16 or 36 products instead of 36 or 100. For files
// that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINOGRAD_H_

#include <math.h>

#include "float_windows.h"
#include "scalpel_float.h"

namespace scalpel {
namespace {

// The points 0, 1, -1 and infinity.
template <typename Simd, int kSize>
struct Points {
  using V = typename Simd::V;
  static_assert(kSize == 4, "of 3x3 filters");

  SCALPEL_INLINE static V Less(const V &a, const V &b) {
    return Simd::MultiplyAdd(Simd::Set(-1), b, a);
  }

  SCALPEL_INLINE static void Input(V (&d)[4]) {
    const V zero = Less(d[2], d[0]), last = Less(d[3], d[1]);
    const V one = Simd::Add(d[2], d[1]);
    d[2] = Less(d[2], d[1]);
    d[0] = zero;
    d[1] = one;
    d[3] = last;
  }

  SCALPEL_INLINE static void Output(const V (&m)[4], V (&y)[2]) {
    y[0] = Simd::Add(Simd::Add(m[0], m[1]), m[2]);
    y[1] = Simd::Add(Less(m[1], m[2]), m[3]);
  }
};

// The points 0, 3/4, -3/4, 3/2, -3/2 and infinity, which lose the least.
template <typename Simd>
struct Points<Simd, 6> {
  using V = typename Simd::V;
  static constexpr float kNear = 0.75f, kFar = 1.5f;

  SCALPEL_INLINE static V AndScaled(const V &a, float scale, const V &b) {
    return Simd::MultiplyAdd(Simd::Set(scale), b, a);
  }

  // (x^2 - near^2) (x^2 - far^2) of coefficients two apart.
  SCALPEL_INLINE static V Ends(const V &a, const V &b, const V &c) {
    const V two = AndScaled(c, -kNear * kNear - kFar * kFar, b);
    return AndScaled(two, kNear * kNear * kFar * kFar, a);
  }

  // (x + point) (x^2 - other^2) and the same of -point.
  SCALPEL_INLINE static void Pair(const V (&d)[6], float point, float other, V &plus, V &minus) {
    const V even = AndScaled(d[4], -other * other, d[2]);
    const V odd = AndScaled(d[3], -other * other, d[1]);
    plus = AndScaled(even, point, odd);
    minus = AndScaled(even, -point, odd);
  }

  SCALPEL_INLINE static void Input(V (&d)[6]) {
    V out[6];
    out[0] = Ends(d[0], d[2], d[4]);
    Pair(d, kNear, kFar, out[1], out[2]);
    Pair(d, kFar, kNear, out[3], out[4]);
    out[5] = Ends(d[1], d[3], d[5]);
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) d[i] = out[i];
  }

  SCALPEL_INLINE static void Output(const V (&m)[6], V (&y)[2]) {
    const V near = AndScaled(m[1], -1, m[2]), far = AndScaled(m[3], -1, m[4]);
    y[0] = Simd::Add(Simd::Add(m[0], Simd::Add(m[1], m[2])), Simd::Add(m[3], m[4]));
    y[1] = AndScaled(AndScaled(m[5], kNear, near), kFar, far);
  }
};

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
    Points<Simd, kSize>::Output(column, two);
    lines[0][j] = two[0];
    lines[1][j] = two[1];
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i, y += row) {
    V two[2];
    Points<Simd, kSize>::Output(lines[i], two);
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
