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
};

int Supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_int8_kernels scalpel_int8_vnni = {"avx512vnni", scalpel::Supported,
                                                           scalpel::Int8Dense<scalpel::Vnni>};

#endif  // defined(__x86_64__)
