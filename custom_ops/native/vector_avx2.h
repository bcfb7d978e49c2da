// Eight float lanes of AVX2, with masks where there is AVX-512. For files that define
// SCALPEL_INLINE with at least avx2 and fma.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX2_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX2_H_

#include "../simd_avx2.h"

namespace scalpel {
namespace {

struct Eight : Avx2 {
  SCALPEL_INLINE static V Multiply(V a, V b) { return _mm256_mul_ps(a, b); }

  // Lane i is the sum of the lanes of rows[i].
  SCALPEL_INLINE static V Sums(V (&rows)[8]) {
    V pairs[4], fours[2];
    for (int i = 0; i < 4; ++i) {
      pairs[i] = Add(_mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]),
                     _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    for (int i = 0; i < 2; ++i) {
      fours[i] = Add(_mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0x44),
                     _mm256_shuffle_ps(pairs[2 * i], pairs[2 * i + 1], 0xEE));
    }
    return Add(_mm256_permute2f128_ps(fours[0], fours[1], 0x20),
               _mm256_permute2f128_ps(fours[0], fours[1], 0x31));
  }

  SCALPEL_INLINE static V LoadFours(const float *low, const float *high) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX2_H_
