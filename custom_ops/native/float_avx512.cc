// For processors with AVX-512: 32 registers of sixteen lanes, or of eight.
#if defined(__x86_64__)

// GCC 12 takes the intrinsics' undefined vectors for a mistake of those who call them.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#pragma GCC diagnostic pop

#define SCALPEL_FEATURES "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"
#define SCALPEL_TARGET __attribute__((target(SCALPEL_FEATURES)))
#define SCALPEL_INLINE inline __attribute__((always_inline, target(SCALPEL_FEATURES)))

#include "float_kernels.h"
#include "vector_avx2.h"
#include "vector_avx512.h"

namespace scalpel {
namespace {

struct Avx512Isa {
  using Eight = scalpel::Eight;
  using Wide = Sixteen;
  static constexpr int kStrips = 3;
  static constexpr int kStrip = 8;

  SCALPEL_TARGET static void Dense(const scalpel_dense &a, const scalpel_panel &panel,
                                   const float *x, float *y) {
    const Part part = PartOf(a, panel);
    if (panel.width == 32) return Tiles<Sixteen, 2, 14>(a, part, x, y);
    if (panel.width == 24) return Tiles<Eight, 3, 9>(a, part, x, y);
    if (panel.width == 16) return Tiles<Sixteen, 1, 14>(a, part, x, y);
    Tiles<Eight, 1, 14>(a, part, x, y);
  }

  SCALPEL_TARGET static void Vector(const scalpel_dense &a, const scalpel_panel &panel,
                                    const float *x, float *y) {
    const Part part = PartOf(a, panel);
    if (panel.width == 32) return scalpel::Vector<Sixteen, 2, 4>(a, part, x, y);
    if (panel.width == 24) return scalpel::Vector<Eight, 3, 4>(a, part, x, y);
    if (panel.width == 16) return scalpel::Vector<Sixteen, 1, 8>(a, part, x, y);
    scalpel::Vector<Eight, 1, 8>(a, part, x, y);
  }
};

int Supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_float_kernels scalpel_float_avx512 =
    scalpel::Table<scalpel::Avx512Isa>("avx512", scalpel::Supported);

#endif  // defined(__x86_64__)
