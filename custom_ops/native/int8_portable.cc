// For any processor: plain C++, and the table of what there is.
#define SCALPEL_TARGET
#define SCALPEL_INLINE inline

#include "int8_dense.h"
#include "int8_planes.h"
#include "int8_pool.h"
#include "int8_rows.h"

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

  template <int kVectors>
  static void Words(const int8_t *weights, const int32_t *offsets, int32_t count,
                    const uint32_t *from, int32_t start, int32_t (&out)[kVectors][kChannels]) {
    for (int v = 0; v < kVectors; ++v) {
      uint32_t sums[kChannels];
      for (int k = 0; k < kChannels; ++k) sums[k] = static_cast<uint32_t>(start);
      for (int32_t i = 0; i < count; ++i) {
        const int8_t *w = weights + 4 * i;
        const uint8_t *x = reinterpret_cast<const uint8_t *>(from + offsets[i] + kChannels * v);
        for (int k = 0; k < kChannels; ++k, x += 4) {
          const int32_t sum = w[0] * x[0] + w[1] * x[1] + w[2] * x[2] + w[3] * x[3];
          sums[k] += static_cast<uint32_t>(sum);
        }
      }
      for (int k = 0; k < kChannels; ++k) out[v][k] = static_cast<int32_t>(sums[k]);
    }
  }

  static void Gathered(const int8_t *weights, const uint16_t *columns, int32_t steps,
                       const uint8_t *x, const int32_t *start, int32_t (&out)[kChannels]) {
    uint32_t sums[kChannels];
    for (int k = 0; k < kChannels; ++k) sums[k] = static_cast<uint32_t>(start[k]);
    for (int32_t step = 0; step < steps; ++step, columns += kChannels) {
      for (int k = 0; k < kChannels; ++k, weights += 4) {
        const uint8_t *word = x + 4 * columns[k];
        const int32_t sum = weights[0] * word[0] + weights[1] * word[1] + weights[2] * word[2] +
                            weights[3] * word[3];
        sums[k] += static_cast<uint32_t>(sum);
      }
    }
    for (int k = 0; k < kChannels; ++k) out[k] = static_cast<int32_t>(sums[k]);
  }

  template <bool kOnce>
  struct Scaler {
    const int32_t *multipliers, *shifts;

    Scaler(const int32_t *multipliers, const int32_t *shifts)
        : multipliers(multipliers), shifts(shifts) {}

    void operator()(int32_t (&sums)[kChannels]) const {
      for (int i = 0; i < kChannels; ++i) {
        sums[i] = Requantize<kOnce>(sums[i], multipliers[i], shifts[i]);
      }
    }
  };
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
    scalpel::Int8Planes<scalpel::PortableBytes>,
    scalpel::Int8Rows<scalpel::PortableBytes>,
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
