// For processors with AVX2: products in 16 bits, since those of bytes could saturate.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2")))

#include "int8_dense.h"

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
};

int Supported() { return __builtin_cpu_supports("avx2"); }

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_int8_kernels scalpel_int8_avx2 = {"avx2", scalpel::Supported,
                                                           scalpel::Int8Dense<scalpel::Avx2Bytes>};

#endif  // defined(__x86_64__)
