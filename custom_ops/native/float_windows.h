// Operators that keep the channels apart: pools and depthwise convolutions.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINDOWS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINDOWS_H_

#include "float_dense.h"
#include "scalpel_float.h"

namespace scalpel {
namespace {

template <typename Simd>
SCALPEL_INLINE typename Simd::V LoadUpTo(const float *x, int64_t lanes) {
  return lanes >= Simd::kLanes ? Simd::Load(x) : Simd::LoadSome(x, lanes);
}

struct Largest {
  template <typename Simd>
  SCALPEL_INLINE static typename Simd::V Join(typename Simd::V a, typename Simd::V b) {
    return Simd::Max(a, b);
  }
  SCALPEL_INLINE static float Scale(int32_t) { return 1; }
};

struct Average {
  template <typename Simd>
  SCALPEL_INLINE static typename Simd::V Join(typename Simd::V a, typename Simd::V b) {
    return Simd::Add(a, b);
  }
  SCALPEL_INLINE static float Scale(int32_t count) { return 1.0f / static_cast<float>(count); }
};

// kVectors vectors of channels of one output pixel, whose window starts at x.
template <typename Simd, typename Kind, int kVectors>
SCALPEL_INLINE void WindowOf(const float *x, int64_t rows, int64_t columns, int64_t row_stride,
                             int64_t stride, float low, float high, int64_t lanes, float *y) {
  using V = typename Simd::V;
  constexpr int kLanes = Simd::kLanes;
  V joined[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) joined[v] = LoadUpTo<Simd>(x + v * kLanes, lanes - v * kLanes);
  for (int64_t i = 0, j = 1; i < rows; ++i, j = 0) {
    for (; j < columns; ++j) {
      const float *from = x + i * row_stride + j * stride;
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        joined[v] = Kind::template Join<Simd>(
            joined[v], LoadUpTo<Simd>(from + v * kLanes, lanes - v * kLanes));
      }
    }
  }
  const V scale = Simd::Set(Kind::Scale(static_cast<int32_t>(rows * columns)));
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    Finish<Simd>(Simd::Multiply(joined[v], scale), Simd::Set(low), Simd::Set(high),
                 lanes - v * kLanes, y + v * kLanes);
  }
}

// The part of a window that lies inside of the image, along one axis.
SCALPEL_INLINE void Inside(int32_t out, int32_t stride, int32_t before, int32_t window,
                           int32_t size, int32_t *begin, int32_t *count) {
  const int32_t first = out * stride - before, end = first + window;
  *begin = first < 0 ? 0 : first;
  *count = (end < size ? end : size) - *begin;
}

template <typename Simd, typename Kind>
SCALPEL_TARGET void Pool(const scalpel_window *a, const float *x, float *y) {
  constexpr int64_t kLanes = Simd::kLanes;
  const int64_t channels = a->channels, row_stride = channels * a->in_width;
  for (int32_t out_y = 0; out_y < a->out_height; ++out_y) {
    int32_t top, rows;
    Inside(out_y, a->stride_height, a->top, a->height, a->in_height, &top, &rows);
    for (int32_t out_x = 0; out_x < a->out_width; ++out_x, y += channels) {
      int32_t left, columns;
      Inside(out_x, a->stride_width, a->left, a->width, a->in_width, &left, &columns);
      const float *from = x + top * row_stride + left * channels;
      int64_t c = 0;
      for (; c + 2 * kLanes <= channels; c += 2 * kLanes) {
        WindowOf<Simd, Kind, 2>(from + c, rows, columns, row_stride, channels, a->low, a->high,
                                2 * kLanes, y + c);
      }
      for (; c < channels; c += kLanes) {
        WindowOf<Simd, Kind, 1>(from + c, rows, columns, row_stride, channels, a->low, a->high,
                                channels - c, y + c);
      }
    }
  }
}

// A vector of channels of kPixels pixels.
template <typename Simd, int kPixels>
SCALPEL_INLINE void DepthwiseTile(const scalpel_depthwise &a, const float *x, int64_t channel,
                                  int64_t pixel, float *y) {
  using V = typename Simd::V;
  const int64_t channels = a.channels, lanes = channels - channel;
  const float *from[kPixels], *weights = a.weights + channel;
  V sums[kPixels];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    from[p] = x + a.pixels[pixel + p] + channel;
    sums[p] = LoadUpTo<Simd>(weights, lanes);
  }
  for (int32_t tap = 0; tap < a.tap_count; ++tap) {
    weights += channels;
    const V w = LoadUpTo<Simd>(weights, lanes);
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) {
      sums[p] = Simd::MultiplyAdd(w, LoadUpTo<Simd>(from[p] + a.taps[tap], lanes), sums[p]);
    }
  }
  y += pixel * channels + channel;
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p, y += channels) {
    Finish<Simd>(sums[p], Simd::Set(a.low), Simd::Set(a.high), lanes, y);
  }
}

template <typename Simd>
SCALPEL_TARGET void Depthwise(const scalpel_depthwise *a, const float *x, float *scratch,
                              float *y) {
  constexpr int kPixels = 6;
  if (a->border) {
    scalpel_float_pad(a->border, x, scratch);
    x = scratch;
  }
  for (int64_t channel = 0; channel < a->channels; channel += Simd::kLanes) {
    int64_t pixel = 0;
    for (; pixel + kPixels <= a->pixel_count; pixel += kPixels) {
      DepthwiseTile<Simd, kPixels>(*a, x, channel, pixel, y);
    }
    for (; pixel < a->pixel_count; ++pixel) DepthwiseTile<Simd, 1>(*a, x, channel, pixel, y);
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_WINDOWS_H_
