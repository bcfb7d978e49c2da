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
#include "int8_planes.h"
#include "int8_pool.h"
#include "int8_rows.h"

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

  template <int kVectors>
  SCALPEL_INLINE static void Words(const int8_t *weights, const int32_t *offsets, int32_t count,
                                   const uint32_t *from, int32_t start,
                                   int32_t (&out)[kVectors][kChannels]) {
    __m512i sums[kVectors];
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm512_set1_epi32(start);
    for (int32_t i = 0; i < count; ++i, weights += 4) {
      int32_t four;
      memcpy(&four, weights, 4);
      const __m512i w = _mm512_set1_epi32(four);
      const uint32_t *x = from + offsets[i];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sums[v] = _mm512_dpbusd_epi32(sums[v], _mm512_loadu_si512(x + 16 * v), w);
      }
    }
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_si512(out[v], sums[v]);
  }

  SCALPEL_INLINE static void Gathered(const int8_t *weights, const uint16_t *columns, int32_t steps,
                                      const uint8_t *x, const int32_t *start,
                                      int32_t (&out)[kChannels]) {
    __m512i sums = _mm512_loadu_si512(start);
    for (int32_t step = 0; step < steps; ++step, weights += 64, columns += kChannels) {
      const __m512i column =
          _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(columns)));
      const __m512i words = _mm512_i32gather_epi32(column, x, 4);
      sums = _mm512_dpbusd_epi32(sums, words, _mm512_loadu_si512(weights));
    }
    _mm512_storeu_si512(out, sums);
  }

  // What is the same for all sums of sixteen channels is computed once.
  template <bool kOnce>
  struct Scaler {
    __m512i multiplier, multiplier_odd, left, right, mask, half;  // rounded twice
    __m512i total, total_odd, nearest, nearest_odd;               // rounded once

    SCALPEL_INLINE Scaler(const int32_t *multipliers, const int32_t *shifts) {
      const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
      const __m512i shift = _mm512_loadu_si512(shifts);
      multiplier = _mm512_loadu_si512(multipliers);
      multiplier_odd = Odd(multiplier);
      if constexpr (kOnce) {
        const __m512i both = _mm512_sub_epi32(_mm512_set1_epi32(31), shift);
        const __m512i wide = _mm512_set1_epi64(1);
        total = _mm512_and_si512(both, _mm512_set1_epi64(0xFFFFFFFF));
        total_odd = Odd(both);
        nearest = _mm512_sllv_epi64(wide, _mm512_sub_epi64(total, wide));
        nearest_odd = _mm512_sllv_epi64(wide, _mm512_sub_epi64(total_odd, wide));
      } else {
        left = _mm512_max_epi32(shift, zero);
        right = _mm512_max_epi32(_mm512_sub_epi32(zero, shift), zero);
        mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, right), one);
        half = _mm512_srli_epi32(mask, 1);
      }
    }

    SCALPEL_INLINE void operator()(int32_t (&sums)[kChannels]) const {
      __m512i sum = _mm512_loadu_si512(sums);
      if constexpr (kOnce) {
        sum = Together(Once(sum, multiplier, nearest, total),
                       Once(Odd(sum), multiplier_odd, nearest_odd, total_odd));
      } else {
        const __m512i wide = _mm512_sllv_epi32(sum, left);
        const __m512i middle = _mm512_set1_epi64(INT64_C(1) << 30);
        const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(wide, multiplier), middle);
        const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(Odd(wide), multiplier_odd), middle);
        const __m512i high = Together(_mm512_srli_epi64(even, 31), _mm512_srli_epi64(odd, 31));
        const __m512i most = _mm512_add_epi32(half, _mm512_srli_epi32(high, 31));
        const __mmask16 up = _mm512_cmpgt_epi32_mask(_mm512_and_si512(high, mask), most);
        const __m512i down = _mm512_srav_epi32(high, right);
        sum = _mm512_mask_add_epi32(down, up, down, _mm512_set1_epi32(1));
      }
      _mm512_storeu_si512(sums, sum);
    }
  };

 private:
  // The odd lanes, where the products of 64 bits take them from.
  SCALPEL_INLINE static __m512i Odd(__m512i lanes) { return _mm512_srli_epi64(lanes, 32); }

  SCALPEL_INLINE static __m512i Together(__m512i even, __m512i odd) {
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  }

  // (sum * multiplier, to the nearest) >> total, of the even lanes; total is of 64 bits.
  SCALPEL_INLINE static __m512i Once(__m512i sum, __m512i multiplier, __m512i nearest,
                                     __m512i total) {
    const __m512i product = _mm512_mul_epi32(sum, multiplier);
    const __m512i less = _mm512_srai_epi64(product, 63);
    return _mm512_srav_epi64(_mm512_add_epi64(product, _mm512_add_epi64(nearest, less)), total);
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
    scalpel::Int8Planes<scalpel::Vnni>,
    scalpel::Int8Rows<scalpel::Vnni>,
    scalpel::PoolOf<scalpel::Largest>,
    scalpel::PoolOf<scalpel::Mean>,
};

#endif  // defined(__x86_64__)
