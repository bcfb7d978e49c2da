// What one thread of a processor can do at most, for the roofline of a run; exported models do
// without. For files that define SCALPEL_TARGET and a struct of vectors.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_PEAK_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_PEAK_H_

#include <stdint.h>

extern "C" {

// isa: as in scalpel_float_kernels.
// multiply: `rounds` multiply-accumulates of every lane of independent sums, in registers. Each
// lane tends to 1, and is 1 after 64 rounds, so that the result is the number of lanes.
// load: the sum of x, `count` floats, a multiple of 128; x is read `passes` times.
typedef struct scalpel_peak {
  const char *isa;
  float (*multiply)(int64_t rounds);
  float (*load)(const float *x, int64_t count, int64_t passes);
} scalpel_peak;

}  // extern "C"

namespace scalpel {
namespace {

// The sum of all lanes.
template <typename Simd, int kSums>
SCALPEL_TARGET float Total(const typename Simd::V (&sums)[kSums]) {
  float lanes[Simd::kLanes], total = 0;
  for (int i = 0; i < kSums; ++i) {
    Simd::Store(lanes, sums[i]);
    for (float lane : lanes) total += lane;
  }
  return total;
}

template <typename Simd, int kSums>
SCALPEL_TARGET float Multiply(int64_t rounds) {
  typename Simd::V sums[kSums];
  const typename Simd::V half = Simd::Set(0.5f);
  // Compilers would make one sum of equal ones.
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) sums[i] = Simd::Set(2.0f * i);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < kSums; ++i) sums[i] = Simd::MultiplyAdd(sums[i], half, half);
  }
  return Total<Simd, kSums>(sums);
}

template <typename Simd>
SCALPEL_TARGET float Load(const float *x, int64_t count, int64_t passes) {
  constexpr int kSums = 8;
  float total = 0;
  for (int64_t pass = 0; pass < passes; ++pass) {
    typename Simd::V sums[kSums];
#pragma GCC unroll 8
    for (int i = 0; i < kSums; ++i) sums[i] = Simd::Zero();
    for (int64_t at = 0; at < count; at += kSums * Simd::kLanes) {
#pragma GCC unroll 8
      for (int i = 0; i < kSums; ++i) {
        sums[i] = Simd::Add(sums[i], Simd::Load(x + at + i * Simd::kLanes));
      }
    }
    total = Total<Simd, kSums>(sums);
  }
  return total;
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_PEAK_H_
