// For processors with AVX2: products in 16 bits, since those of bytes could saturate.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2")))

#include "int8_dense.h"
#include "int8_pool.h"

namespace scalpel {
namespace {

struct Avx2Bytes {
  static constexpr int kPixels = 2;

  template <int kCount>
  SCALPEL_INLINE static void Sums(const scalpel_int8_dense &a, int32_t channel,
                                  const uint8_t *const (&from)[kCount],
                                  int32_t (&out)[kCount][kChannels]) {
    __m256i sums[kCount][4];  // two sums of each of four channels
    for (int p = 0; p < kCount; ++p) {
      for (int i = 0; i < 4; ++i) sums[p][i] = _mm256_setzero_si256();
    }
    const int8_t *weights = WeightsOf(a, channel);
    for (int32_t tap = 0; tap < a.tap_count; ++tap) {
      for (int32_t step = 0; step < a.steps; ++step, weights += 64) {
        __m256i inputs[kCount];
        for (int p = 0; p < kCount; ++p) {
          int32_t four;
          memcpy(&four, from[p] + a.taps[tap] + 4 * step, 4);
          inputs[p] = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; ++i) {
          const __m256i w = _mm256_cvtepi8_epi16(
              _mm_loadu_si128(reinterpret_cast<const __m128i *>(weights + 16 * i)));
#pragma GCC unroll 2
          for (int p = 0; p < kCount; ++p) {
            sums[p][i] = _mm256_add_epi32(sums[p][i], _mm256_madd_epi16(w, inputs[p]));
          }
        }
      }
    }
    for (int p = 0; p < kCount; ++p) {
      for (int i = 0; i < 2; ++i) {
        const __m256i pairs = _mm256_hadd_epi32(sums[p][2 * i], sums[p][2 * i + 1]);
        const __m256i start =
            _mm256_loadu_si256(reinterpret_cast<const __m256i *>(a.sums + channel + 8 * i));
        const __m256i sum = _mm256_add_epi32(start, _mm256_permute4x64_epi64(pairs, 0xD8));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out[p] + 8 * i), sum);
      }
    }
  }

  template <bool kOnce>
  SCALPEL_INLINE static void Scale(int32_t (&sums)[kChannels], const int32_t *multipliers,
                                   const int32_t *shifts) {
    for (int i = 0; i < kChannels; i += 8) {
      const __m256i sum = Scaled<kOnce>(Load(sums + i), Load(multipliers + i), Load(shifts + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i *>(sums + i), sum);
    }
  }

 private:
  SCALPEL_INLINE static __m256i Load(const int32_t *from) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from));
  }

  template <bool kOnce>
  SCALPEL_INLINE static __m256i Scaled(__m256i sum, __m256i multiplier, __m256i shift) {
    const __m256i zero = _mm256_setzero_si256(), one = _mm256_set1_epi32(1);
    if constexpr (kOnce) {
      const __m256i total = _mm256_sub_epi32(_mm256_set1_epi32(31), shift);
      const __m256i even =
          ScaledOnce(sum, multiplier, _mm256_and_si256(total, _mm256_set1_epi64x(0xFFFFFFFF)));
      return Together(even, ScaledOnce(Odd(sum), Odd(multiplier), Odd(total)));
    } else {
      const __m256i left = _mm256_max_epi32(shift, zero);
      const __m256i right = _mm256_max_epi32(_mm256_sub_epi32(zero, shift), zero);
      const __m256i wide = _mm256_sllv_epi32(sum, left);
      const __m256i half = _mm256_set1_epi64x(INT64_C(1) << 30);
      const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(wide, multiplier), half);
      const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(Odd(wide), Odd(multiplier)), half);
      const __m256i high = Together(_mm256_srli_epi64(even, 31), _mm256_srli_epi64(odd, 31));
      const __m256i mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, right), one);
      const __m256i most =
          _mm256_add_epi32(_mm256_srli_epi32(mask, 1), _mm256_srli_epi32(high, 31));
      const __m256i up = _mm256_cmpgt_epi32(_mm256_and_si256(high, mask), most);
      return _mm256_sub_epi32(_mm256_srav_epi32(high, right), up);
    }
  }

  // The odd lanes, where the products of 64 bits take them from.
  SCALPEL_INLINE static __m256i Odd(__m256i lanes) { return _mm256_srli_epi64(lanes, 32); }

  SCALPEL_INLINE static __m256i Together(__m256i even, __m256i odd) {
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  }

  // (sum * multiplier, to the nearest) >> total, of the even lanes; total is of 64 bits. There is
  // no arithmetic shift of those: what is not negative is shifted, and then moved back.
  SCALPEL_INLINE static __m256i ScaledOnce(__m256i sum, __m256i multiplier, __m256i total) {
    const __m256i product = _mm256_mul_epi32(sum, multiplier), one = _mm256_set1_epi64x(1);
    const __m256i half = _mm256_sllv_epi64(one, _mm256_sub_epi64(total, one));
    const __m256i less = _mm256_cmpgt_epi64(_mm256_setzero_si256(), product);
    const __m256i nearest = _mm256_add_epi64(product, _mm256_add_epi64(half, less));
    const __m256i lowest = _mm256_set1_epi64x(INT64_MIN);
    return _mm256_sub_epi64(_mm256_srlv_epi64(_mm256_xor_si256(nearest, lowest), total),
                            _mm256_srlv_epi64(lowest, total));
  }
};

int Supported() { return __builtin_cpu_supports("avx2"); }

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_int8_kernels scalpel_int8_avx2 = {
    "avx2",
    scalpel::Supported,
    scalpel::Int8Dense<scalpel::Avx2Bytes>,
    scalpel::PoolOf<scalpel::Largest>,
    scalpel::PoolOf<scalpel::Mean>,
};

#endif  // defined(__x86_64__)
