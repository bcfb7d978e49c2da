// Dense convolutions and products, straight from the image: a tile of pixels times a panel of
// output channels stays in registers over all taps.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_DENSE_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_DENSE_H_

#include "scalpel_float.h"

namespace scalpel {
namespace {

constexpr int64_t kAhead = 2048;  // floats; about what the memory takes to answer

// Where a tile's panel of weights lies, and which of its channels exist.
struct Part {
  const float *weights;
  int64_t stride;  // floats from one row of weights to the next
  int64_t channels;
};

// Clamps and writes the first `lanes` lanes; NaN stays NaN.
template <typename Simd>
SCALPEL_INLINE void Finish(typename Simd::V v, const typename Simd::V &low,
                           const typename Simd::V &high, int64_t lanes, float *y) {
  v = Simd::Min(high, Simd::Max(low, v));
  if (lanes >= Simd::kLanes) {
    Simd::Store(y, v);
  } else if (lanes > 0) {
    Simd::StoreSome(y, v, lanes);
  }
}

// kFirst: whether these weights have not been looked at before; later tiles find them near.
template <typename Simd, int kVectors, int kPixels, bool kFirst>
SCALPEL_TARGET void Tile(const scalpel_dense &a, const Part &part, const float *x,
                         const int32_t *pixels, float *y) {
  using V = typename Simd::V;
  constexpr int kLanes = Simd::kLanes;
  const float *from[kPixels];
  V sums[kVectors][kPixels];
#pragma GCC unroll 32
  for (int p = 0; p < kPixels; ++p) {
    from[p] = x + pixels[p];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[v][p] = Simd::Load(part.weights + v * kLanes);
  }
  const float *weights = part.weights + part.stride;
  for (int32_t tap = 0; tap < a.tap_count; ++tap) {
    const int64_t begin = a.taps[tap], end = begin + a.run;
    for (int64_t k = begin; k < end; ++k, weights += part.stride) {
      V w[kVectors];
      if constexpr (kFirst) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) __builtin_prefetch(weights + kAhead + v * kLanes, 0, 2);
      }
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) w[v] = Simd::Load(weights + v * kLanes);
#pragma GCC unroll 32
      for (int p = 0; p < kPixels; ++p) {
        const V input = Simd::Set(from[p][k]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
          sums[v][p] = Simd::MultiplyAdd(w[v], input, sums[v][p]);
        }
      }
    }
  }
  const V low = Simd::Set(a.low), high = Simd::Set(a.high);
#pragma GCC unroll 32
  for (int p = 0; p < kPixels; ++p, y += a.channels) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      Finish<Simd>(sums[v][p], low, high, part.channels - v * kLanes, y + v * kLanes);
    }
  }
}

using TileFunction = void (*)(const scalpel_dense &, const Part &, const float *, const int32_t *,
                              float *);

template <typename Simd, int kVectors, int kMost, bool kFirst>
SCALPEL_INLINE TileFunction TileOf(int64_t pixels) {
  if constexpr (kMost == 1) {
    return Tile<Simd, kVectors, 1, kFirst>;
  } else {
    if (pixels == kMost) return Tile<Simd, kVectors, kMost, kFirst>;
    return TileOf<Simd, kVectors, kMost - 1, kFirst>(pixels);
  }
}

// All pixels in tiles of equal size, at most kMost; the last one slides back over its neighbour.
template <typename Simd, int kVectors, int kMost>
SCALPEL_TARGET void Tiles(const scalpel_dense &a, const Part &part, const float *x, float *y) {
  const int64_t count = a.pixel_count, tiles = (count + kMost - 1) / kMost;
  const int64_t size = (count + tiles - 1) / tiles;
  TileOf<Simd, kVectors, kMost, true>(size)(a, part, x, a.pixels, y);
  const TileFunction tile = TileOf<Simd, kVectors, kMost, false>(size);
  for (int64_t p = size; p < count; p += size) {
    if (p + size > count) p = count - size;
    tile(a, part, x, a.pixels + p, y + p * a.channels);
  }
}

// One pixel, one tap: kChains sums of each channel, since one would wait for itself.
template <typename Simd, int kVectors, int kChains>
SCALPEL_TARGET void Vector(const scalpel_dense &a, const Part &part, const float *x, float *y) {
  using V = typename Simd::V;
  constexpr int kLanes = Simd::kLanes;
  V sums[kVectors][kChains];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    sums[v][0] = Simd::Load(part.weights + v * kLanes);
#pragma GCC unroll 8
    for (int chain = 1; chain < kChains; ++chain) sums[v][chain] = Simd::Zero();
  }
  const float *weights = part.weights + part.stride;
  int64_t k = 0;
  for (; k + kChains <= a.run; k += kChains, weights += kChains * part.stride) {
#pragma GCC unroll 8
    for (int chain = 0; chain < kChains; ++chain) {
      const V input = Simd::Set(x[k + chain]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const V w = Simd::Load(weights + chain * part.stride + v * kLanes);
        sums[v][chain] = Simd::MultiplyAdd(w, input, sums[v][chain]);
      }
    }
  }
  for (; k < a.run; ++k, weights += part.stride) {
    const V input = Simd::Set(x[k]);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      sums[v][0] = Simd::MultiplyAdd(Simd::Load(weights + v * kLanes), input, sums[v][0]);
    }
  }
  const V low = Simd::Set(a.low), high = Simd::Set(a.high);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 8
    for (int chain = 1; chain < kChains; ++chain) {
      sums[v][0] = Simd::Add(sums[v][0], sums[v][chain]);
    }
    Finish<Simd>(sums[v][0], low, high, part.channels - v * kLanes, y + v * kLanes);
  }
}

SCALPEL_INLINE Part PartOf(const scalpel_dense &a, const scalpel_panel &panel, int64_t at = 0) {
  return {a.weights + panel.weights + at, panel.width, panel.channels - at};
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_DENSE_H_
