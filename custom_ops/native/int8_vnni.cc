// For processors with AVX-512 VNNI: four products of a byte and a byte at a time in each lane.
#if defined(__x86_64__)

// GCC 12 takes the intrinsics' undefined vectors for a mistake of those who call them.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#define SCALPEL_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2"
#define SCALPEL_TARGET __attribute__((target(SCALPEL_FEATURES)))
#define SCALPEL_INLINE inline __attribute__((always_inline, target(SCALPEL_FEATURES)))

#include "int8_dense.h"
#include "int8_pool.h"

namespace scalpel {
namespace {

struct Vnni {
  static constexpr int kPixels = 12;

  template <int kCount>
  SCALPEL_INLINE static void Sums(const scalpel_int8_dense &a, int32_t channel,
                                  const uint8_t *const (&from)[kCount],
                                  int32_t (&out)[kCount][kChannels]) {
    constexpr int kChains = kCount == 1 ? 4 : 1;  // a lone pixel would wait for its own sum
    __m512i sums[kCount][kChains];
    const __m512i start = _mm512_loadu_si512(a.sums + channel);
    for (int p = 0; p < kCount; ++p) {
      sums[p][0] = start;
      for (int chain = 1; chain < kChains; ++chain) sums[p][chain] = _mm512_setzero_si512();
    }
    const int8_t *weights = WeightsOf(a, channel);
    for (int32_t tap = 0; tap < a.tap_count; ++tap) {
      const int64_t begin = a.taps[tap];
      int32_t step = 0;
      for (; step + kChains <= a.steps; step += kChains) {
#pragma GCC unroll 4
        for (int chain = 0; chain < kChains; ++chain, weights += 64) {
          const __m512i w = _mm512_loadu_si512(weights);
#pragma GCC unroll 16
          for (int p = 0; p < kCount; ++p) {
            int32_t four;
            memcpy(&four, from[p] + begin + 4 * (step + chain), 4);
            sums[p][chain] = _mm512_dpbusd_epi32(sums[p][chain], _mm512_set1_epi32(four), w);
          }
        }
      }
      for (; step < a.steps; ++step, weights += 64) {
        const __m512i w = _mm512_loadu_si512(weights);
        for (int p = 0; p < kCount; ++p) {
          int32_t four;
          memcpy(&four, from[p] + begin + 4 * step, 4);
          sums[p][0] = _mm512_dpbusd_epi32(sums[p][0], _mm512_set1_epi32(four), w);
        }
      }
    }
    for (int p = 0; p < kCount; ++p) {
      for (int chain = 1; chain < kChains; ++chain) {
        sums[p][0] = _mm512_add_epi32(sums[p][0], sums[p][chain]);
      }
      _mm512_storeu_si512(out[p], sums[p][0]);
    }
  }

  template <bool kOnce>
  SCALPEL_INLINE static void Scale(int32_t (&sums)[kChannels], const int32_t *multipliers,
                                   const int32_t *shifts) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    const __m512i multiplier = _mm512_loadu_si512(multipliers);
    const __m512i shift = _mm512_loadu_si512(shifts);
    __m512i sum = _mm512_loadu_si512(sums);
    if constexpr (kOnce) {
      const __m512i total = _mm512_sub_epi32(_mm512_set1_epi32(31), shift);
      const __m512i even =
          ScaledOnce(sum, multiplier, _mm512_and_si512(total, _mm512_set1_epi64(0xFFFFFFFF)));
      const __m512i odd = ScaledOnce(Odd(sum), Odd(multiplier), Odd(total));
      sum = Together(even, odd);
    } else {
      const __m512i left = _mm512_max_epi32(shift, zero);
      const __m512i right = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
      const __m512i wide = _mm512_sllv_epi32(sum, left);
      const __m512i half = _mm512_set1_epi64(INT64_C(1) << 30);
      const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(wide, multiplier), half);
      const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(Odd(wide), Odd(multiplier)), half);
      const __m512i high = Together(_mm512_srli_epi64(even, 31), _mm512_srli_epi64(odd, 31));
      const __m512i mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
      const __m512i most =
          _mm512_add_epi32(_mm512_srli_epi32(mask, 1), _mm512_srli_epi32(high, 31));
      const __mmask16 up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(high, mask), most);
      const __m512i down = _mm512_srav_epi32(high, right);
      sum = _mm512_mask_add_epi32(down, up, down, one);
    }
    _mm512_storeu_si512(sums, sum);
  }

 private:
  // The odd lanes, where the products of 64 bits take them from.
  SCALPEL_INLINE static __m512i Odd(__m512i lanes) { return _mm512_srli_epi64(lanes, 32); }

  SCALPEL_INLINE static __m512i Together(__m512i even, __m512i odd) {
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  }

  // (sum * multiplier, to the nearest) >> total, of the even lanes; total is of 64 bits.
  SCALPEL_INLINE static __m512i ScaledOnce(__m512i sum, __m512i multiplier, __m512i total) {
    const __m512i product = _mm512_mul_epi32(sum, multiplier), one = _mm512_set1_epi64(1);
    const __m512i half = _mm512_sllv_epi64(one, _mm512_sub_epi64(total, one));
    const __m512i less = _mm512_srai_epi64(product, 63);
    return _mm512_srav_epi64(_mm512_add_epi64(product, _mm512_add_epi64(half, less)), total);
  }
};

int Supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_int8_kernels scalpel_int8_vnni = {
    "avx512vnni",
    scalpel::Supported,
    scalpel::Int8Dense<scalpel::Vnni>,
    scalpel::PoolOf<scalpel::Largest>,
    scalpel::PoolOf<scalpel::Mean>,
};

#endif  // defined(__x86_64__)
