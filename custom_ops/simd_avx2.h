// Eight float lanes of AVX2. For files that define SCALPEL_INLINE with at least avx2 and fma.
#ifndef SCALPEL_CUSTOM_OPS_SIMD_AVX2_H_
#define SCALPEL_CUSTOM_OPS_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace scalpel {
namespace {

struct Avx2 {
  using V = __m256;
  static constexpr int kLanes = 8;

  SCALPEL_INLINE static V Zero() { return _mm256_setzero_ps(); }
  SCALPEL_INLINE static V Load(const float *p) { return _mm256_loadu_ps(p); }
  SCALPEL_INLINE static void Store(float *p, V v) { _mm256_storeu_ps(p, v); }
  SCALPEL_INLINE static V Set(float value) { return _mm256_set1_ps(value); }
  SCALPEL_INLINE static V Add(V a, V b) { return _mm256_add_ps(a, b); }
  SCALPEL_INLINE static V MultiplyAdd(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  SCALPEL_INLINE static V Min(V a, V b) { return _mm256_min_ps(a, b); }
  SCALPEL_INLINE static V Max(V a, V b) { return _mm256_max_ps(a, b); }

  SCALPEL_INLINE static __m256i Mask(int64_t lanes) {
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(lanes)), index);
  }
  // The first `lanes` lanes; the others are 0 and their memory is not touched.
  SCALPEL_INLINE static V LoadSome(const float *p, int64_t lanes) {
    return _mm256_maskload_ps(p, Mask(lanes));
  }
  SCALPEL_INLINE static void StoreSome(float *p, V v, int64_t lanes) {
    _mm256_maskstore_ps(p, Mask(lanes), v);
  }

  SCALPEL_INLINE static float Sum(V v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
  }

  // kLanes values of any type, as float.
  SCALPEL_INLINE static V LoadValues(const float *p) { return Load(p); }
  SCALPEL_INLINE static V LoadValues(const uint16_t *p) {
    const __m256i wide =
        _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  SCALPEL_INLINE static V LoadValues(const int8_t *p) {
    return _mm256_cvtepi32_ps(
        _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(p))));
  }

  // The activations that kLanes / kWidth groups meet, side by side.
  template <int kWidth, typename Column>
  SCALPEL_INLINE static V LoadGroups(const float *x, const Column *columns) {
    if constexpr (kWidth == 8) {
      return Load(x + columns[0]);
    } else if constexpr (kWidth == 4) {
      return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(x + columns[0])),
                                  _mm_loadu_ps(x + columns[1]), 1);
    } else {
      static_assert(kWidth == 2);
      return _mm256_insertf128_ps(_mm256_castps128_ps256(LoadPairs(x + columns[0], x + columns[1])),
                                  LoadPairs(x + columns[2], x + columns[3]), 1);
    }
  }

  // Four (or two) values, again and again, for Splat to take one of.
  SCALPEL_INLINE static V LoadFour(const float *p) {
    return _mm256_broadcast_ps(reinterpret_cast<const __m128 *>(p));
  }
  SCALPEL_INLINE static V LoadTwo(const float *p) {
    return _mm256_castsi256_ps(_mm256_broadcastq_epi64(LoadPair(p)));
  }
  template <int kIndex>
  SCALPEL_INLINE static V Splat(V v) {
    return _mm256_permute_ps(v, kIndex * 0x55);
  }

  // rows[i] becomes column i.
  SCALPEL_INLINE static void Transpose(V (&rows)[8]) {
    V a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
      a[i] = _mm256_unpacklo_ps(rows[i], rows[i + 1]);
      a[i + 1] = _mm256_unpackhi_ps(rows[i], rows[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
      b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xEE);
      b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
      b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
      rows[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
      rows[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
  }

 private:
  SCALPEL_INLINE static __m128i LoadPair(const float *p) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i *>(p));
  }
  SCALPEL_INLINE static __m128 LoadPairs(const float *low, const float *high) {
    return _mm_castsi128_ps(_mm_unpacklo_epi64(LoadPair(low), LoadPair(high)));
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_SIMD_AVX2_H_
