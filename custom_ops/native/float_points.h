// Winograd's convolutions (Lavin and Gray, CVPR 2016): pixels and filters are the coefficients of
// polynomials, of which the values at some points are multiplied. The points are 0, infinity, and
// pairs p and -p that lose little in float32; float_winograd.py knows the same.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_POINTS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_POINTS_H_

#include "scalpel_float.h"

namespace scalpel {
namespace {

template <int kSize>
constexpr float kPairs[1] = {};
template <>
constexpr float kPairs<4>[] = {1};
template <>
constexpr float kPairs<6>[] = {0.75f, 1.5f};
template <>
constexpr float kPairs<8>[] = {0.5f, 1, 1.75f};

// The factor of z^power in the product of z - p^2 over all pairs but one; -1 leaves none out.
template <int kSize>
constexpr float Factor(int without, int power) {
  float factors[kSize / 2] = {1};
  for (int pair = 0; pair < kSize / 2 - 1; ++pair) {
    if (pair == without) continue;
    const float square = kPairs<kSize>[pair] * kPairs<kSize>[pair];
    for (int i = kSize / 2 - 1; i > 0; --i) factors[i] = factors[i - 1] - square * factors[i];
    factors[0] *= -square;
  }
  return factors[power];
}

constexpr float Power(float x, int exponent) { return exponent ? x * Power(x, exponent - 1) : 1; }

template <typename Simd, int kSize>
struct Points {
  using V = typename Simd::V;
  static constexpr int kHalf = kSize / 2;

  // d[first], d[first + 2], ... times the factors of the product without one pair.
  template <int kWithout, int kPower = 0>
  SCALPEL_INLINE static V Product(const V *d) {
    constexpr int kLast = kWithout < 0 ? kHalf - 1 : kHalf - 2;
    if constexpr (kPower == kLast) {
      return d[2 * kPower];
    } else {
      constexpr float kFactor = Factor<kSize>(kWithout, kPower);
      return Simd::MultiplyAdd(Simd::Set(kFactor), d[2 * kPower], Product<kWithout, kPower + 1>(d));
    }
  }

  template <int kPair>
  SCALPEL_INLINE static void Pairs(const V (&d)[kSize], V (&out)[kSize]) {
    if constexpr (kPair < kHalf - 1) {
      constexpr float kPoint = kPairs<kSize>[kPair];
      const V even = Product<kPair>(d + 2), odd = Product<kPair>(d + 1);
      out[2 * kPair + 1] = Simd::MultiplyAdd(Simd::Set(kPoint), odd, even);
      out[2 * kPair + 2] = Simd::MultiplyAdd(Simd::Set(-kPoint), odd, even);
      Pairs<kPair + 1>(d, out);
    }
  }

  // Pixels -> values at 0, at the pairs, and at infinity.
  SCALPEL_INLINE static void Input(V (&d)[kSize]) {
    V out[kSize];
    out[0] = Product<-1>(d);
    Pairs<0>(d, out);
    out[kSize - 1] = Product<-1>(d + 1);
#pragma GCC unroll 8
    for (int i = 0; i < kSize; ++i) d[i] = out[i];
  }

  // y += the part that pairs of products have in output kOutput.
  template <int kOutput, int kPair = 0>
  SCALPEL_INLINE static V Join(const V (&sums)[kHalf - 1], const V (&differences)[kHalf - 1], V y) {
    if constexpr (kPair < kHalf - 1) {
      constexpr float kPower = Power(kPairs<kSize>[kPair], kOutput);
      const V part = kOutput % 2 ? differences[kPair] : sums[kPair];
      if constexpr (kPower == 1) {
        y = Simd::Add(y, part);
      } else {
        y = Simd::MultiplyAdd(Simd::Set(kPower), part, y);
      }
      return Join<kOutput, kPair + 1>(sums, differences, y);
    }
    return y;
  }

  // Products -> kOutputs pixels of y.
  template <int kOutputs>
  SCALPEL_INLINE static void Output(const V (&m)[kSize], V (&y)[kOutputs]) {
    static_assert(kOutputs == 2 || kOutputs == 4, "");
    V sums[kHalf - 1], differences[kHalf - 1];
#pragma GCC unroll 8
    for (int pair = 0; pair < kHalf - 1; ++pair) {
      const V plus = m[2 * pair + 1], minus = m[2 * pair + 2];
      sums[pair] = Simd::Add(plus, minus);
      differences[pair] = Simd::MultiplyAdd(Simd::Set(-1), minus, plus);
    }
    y[0] = Join<0>(sums, differences, m[0]);
    if constexpr (kOutputs == 2) {
      y[1] = Join<1>(sums, differences, m[kSize - 1]);
    } else {
      y[1] = Join<1>(sums, differences, Simd::Zero());
      y[2] = Join<2>(sums, differences, Simd::Zero());
      y[3] = Join<3>(sums, differences, m[kSize - 1]);
    }
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_POINTS_H_
