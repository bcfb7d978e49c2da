// Sixteen float lanes of AVX-512. For files that define SCALPEL_INLINE with at least avx512f.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX512_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX512_H_

#include "../simd_avx512.h"

namespace scalpel {
namespace {

struct Sixteen : Avx512 {
  SCALPEL_INLINE static V Set(float value) { return _mm512_set1_ps(value); }
  SCALPEL_INLINE static V Multiply(V a, V b) { return _mm512_mul_ps(a, b); }
  SCALPEL_INLINE static V Min(V a, V b) { return _mm512_min_ps(a, b); }
  SCALPEL_INLINE static V Max(V a, V b) { return _mm512_max_ps(a, b); }

  SCALPEL_INLINE static __mmask16 Mask(int64_t lanes) {
    return static_cast<__mmask16>((1u << lanes) - 1);
  }
  SCALPEL_INLINE static V LoadSome(const float *p, int64_t lanes) {
    return _mm512_maskz_loadu_ps(Mask(lanes), p);
  }
  SCALPEL_INLINE static void StoreSome(float *p, V v, int64_t lanes) {
    _mm512_mask_storeu_ps(p, Mask(lanes), v);
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_AVX512_H_
