// Sixteen float lanes of AVX-512. For files that define SCALPEL_INLINE with at least avx512f.
#ifndef SCALPEL_CUSTOM_OPS_SIMD_AVX512_H_
#define SCALPEL_CUSTOM_OPS_SIMD_AVX512_H_

#include <immintrin.h>

#include <cstdint>

namespace scalpel {
namespace {

struct Avx512 {
  using V = __m512;
  static constexpr int kLanes = 16;

  SCALPEL_INLINE static V Zero() { return _mm512_setzero_ps(); }
  SCALPEL_INLINE static V Load(const float *p) { return _mm512_loadu_ps(p); }
  SCALPEL_INLINE static void Store(float *p, V v) { _mm512_storeu_ps(p, v); }
  SCALPEL_INLINE static V Add(V a, V b) { return _mm512_add_ps(a, b); }
  SCALPEL_INLINE static V MultiplyAdd(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }

  SCALPEL_INLINE static float Sum(V v) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  // kLanes values of any type, as float.
  SCALPEL_INLINE static V LoadValues(const float *p) { return Load(p); }
  SCALPEL_INLINE static V LoadValues(const uint16_t *p) {
    const __m512i wide =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  SCALPEL_INLINE static V LoadValues(const int8_t *p) {
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p))));
  }

  // Four (or two) values, again and again, for Splat to take one of.
  SCALPEL_INLINE static V LoadFour(const float *p) {
    return _mm512_broadcast_f32x4(_mm_loadu_ps(p));
  }
  SCALPEL_INLINE static V LoadTwo(const float *p) {
    const __m128i pair = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(p));
    return _mm512_castsi512_ps(_mm512_broadcastq_epi64(pair));
  }
  template <int kIndex>
  SCALPEL_INLINE static V Splat(V v) {
    return _mm512_permute_ps(v, kIndex * 0x55);
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_SIMD_AVX512_H_
