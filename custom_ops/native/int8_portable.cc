// For any processor: plain C++, and the table of what there is.
#define SCALPEL_TARGET
#define SCALPEL_INLINE inline

#include "int8_dense.h"
#include "int8_pool.h"

namespace scalpel {
namespace {

struct PortableBytes {
  static constexpr int kPixels = 1;

  template <int kCount>
  static void Sums(const scalpel_int8_dense &a, int32_t channel,
                   const uint8_t *const (&from)[kCount], int32_t (&out)[kCount][kChannels]) {
    static_assert(kCount == 1);
    uint32_t sums[kChannels];
    for (int i = 0; i < kChannels; ++i) sums[i] = static_cast<uint32_t>(a.sums[channel + i]);
    const int8_t *weights = WeightsOf(a, channel);
    for (int32_t tap = 0; tap < a.tap_count; ++tap) {
      const uint8_t *x = from[0] + a.taps[tap];
      for (int32_t step = 0; step < a.steps; ++step, x += 4, weights += 64) {
        for (int i = 0; i < kChannels; ++i) {
          int32_t sum = 0;
          for (int k = 0; k < 4; ++k) sum += weights[4 * i + k] * x[k];
          sums[i] += static_cast<uint32_t>(sum);
        }
      }
    }
    for (int i = 0; i < kChannels; ++i) out[0][i] = static_cast<int32_t>(sums[i]);
  }

  template <bool kOnce>
  static void Scale(int32_t (&sums)[kChannels], const int32_t *multipliers, const int32_t *shifts) {
    for (int i = 0; i < kChannels; ++i) {
      sums[i] = Requantize<kOnce>(sums[i], multipliers[i], shifts[i]);
    }
  }
};

int Supported() { return 1; }

}  // namespace
}  // namespace scalpel

extern "C" {
#if defined(__x86_64__)
extern const scalpel_int8_kernels scalpel_int8_vnni, scalpel_int8_avx2;
#endif
extern const scalpel_int8_kernels scalpel_int8_portable;

const scalpel_int8_kernels scalpel_int8_portable = {
    "portable",
    scalpel::Supported,
    scalpel::Int8Dense<scalpel::PortableBytes>,
    scalpel::PoolOf<scalpel::Largest>,
    scalpel::PoolOf<scalpel::Mean>,
};

const scalpel_int8_kernels *scalpel_int8_isa(int index) {
  static const scalpel_int8_kernels *const kAll[] = {
#if defined(__x86_64__)
      &scalpel_int8_vnni,
      &scalpel_int8_avx2,
#endif
      &scalpel_int8_portable,
  };
  for (const scalpel_int8_kernels *kernels : kAll) {
    if (kernels->supported() && index-- == 0) return kernels;
  }
  return nullptr;
}

}  // extern "C"
