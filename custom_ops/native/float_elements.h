// Operators on single elements, and sums over them.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_ELEMENTS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_ELEMENTS_H_

#include <math.h>

#include "float_windows.h"
#include "scalpel_float.h"

namespace scalpel {
namespace {

struct Sum {
  template <typename Simd>
  SCALPEL_INLINE static typename Simd::V Of(typename Simd::V a, typename Simd::V b) {
    return Simd::Add(a, b);
  }
};

struct ProductOf {
  template <typename Simd>
  SCALPEL_INLINE static typename Simd::V Of(typename Simd::V a, typename Simd::V b) {
    return Simd::Multiply(a, b);
  }
};

template <typename Simd, typename Kind>
SCALPEL_TARGET void Combine(const float *a, const float *b, int64_t size, int64_t period, float low,
                            float high, float *y) {
  using V = typename Simd::V;
  const V lowest = Simd::Set(low), highest = Simd::Set(high);
  if (period == 1) {
    const V second = Simd::Set(*b);
    for (int64_t i = 0; i < size; i += Simd::kLanes) {
      const V first = LoadUpTo<Simd>(a + i, size - i);
      Finish<Simd>(Kind::template Of<Simd>(first, second), lowest, highest, size - i, y + i);
    }
    return;
  }
  for (int64_t begin = 0; begin < size; begin += period) {
    for (int64_t i = 0; i < period; i += Simd::kLanes) {
      const V first = LoadUpTo<Simd>(a + begin + i, period - i);
      const V second = LoadUpTo<Simd>(b + i, period - i);
      Finish<Simd>(Kind::template Of<Simd>(first, second), lowest, highest, period - i,
                   y + begin + i);
    }
  }
}

template <typename Simd>
SCALPEL_TARGET void Clamp(const float *x, int64_t size, float low, float high, float *y) {
  for (int64_t i = 0; i < size; i += Simd::kLanes) {
    Finish<Simd>(LoadUpTo<Simd>(x + i, size - i), Simd::Set(low), Simd::Set(high), size - i, y + i);
  }
}

template <typename Simd>
SCALPEL_TARGET void Mean(const float *x, int64_t outer, int64_t reduced, int64_t inner, float *y) {
  using V = typename Simd::V;
  const V scale = Simd::Set(1.0f / static_cast<float>(reduced));
  for (int64_t o = 0; o < outer; ++o, x += reduced * inner, y += inner) {
    for (int64_t i = 0; i < inner; i += Simd::kLanes) {
      V sum = LoadUpTo<Simd>(x + i, inner - i);
      for (int64_t r = 1; r < reduced; ++r) {
        sum = Simd::Add(sum, LoadUpTo<Simd>(x + r * inner + i, inner - i));
      }
      sum = Simd::Multiply(sum, scale);
      if (inner - i >= Simd::kLanes) {
        Simd::Store(y + i, sum);
      } else {
        Simd::StoreSome(y + i, sum, inner - i);
      }
    }
  }
}

SCALPEL_TARGET void Logistic(const float *x, int64_t size, float *y) {
  for (int64_t i = 0; i < size; ++i) y[i] = 1 / (1 + expf(-x[i]));
}

SCALPEL_TARGET void Softmax(const float *x, int64_t rows, int64_t size, float beta, float *y) {
  for (int64_t row = 0; row < rows; ++row, x += size, y += size) {
    float largest = x[0], sum = 0;
    for (int64_t i = 1; i < size; ++i) largest = x[i] > largest ? x[i] : largest;
    for (int64_t i = 0; i < size; ++i) sum += y[i] = expf((x[i] - largest) * beta);
    for (int64_t i = 0; i < size; ++i) y[i] /= sum;
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_ELEMENTS_H_
