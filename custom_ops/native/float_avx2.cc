// For processors with AVX2 and FMA: 16 registers of eight lanes.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2,fma")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2,fma")))

#include "float_kernels.h"
#include "vector_avx2.h"

namespace scalpel {
namespace {

struct Avx2Isa {
  using Eight = scalpel::Eight;
  using Wide = Eight;
  static constexpr int kStrips = 1;
  static constexpr int kStrip = 8;

  SCALPEL_TARGET static void Dense(const scalpel_dense &a, const scalpel_panel &panel,
                                   const float *x, float *y) {
    if (panel.width == 8) return Tiles<Eight, 1, 12>(a, PartOf(a, panel), x, y);
    if (panel.width == 24) return Tiles<Eight, 3, 4>(a, PartOf(a, panel), x, y);
    for (int64_t at = 0; at < panel.width; at += 16) {
      Tiles<Eight, 2, 6>(a, PartOf(a, panel, at), x, y + at);
    }
  }

  SCALPEL_TARGET static void Vector(const scalpel_dense &a, const scalpel_panel &panel,
                                    const float *x, float *y) {
    const Part part = PartOf(a, panel);
    if (panel.width == 32) return scalpel::Vector<Eight, 4, 2>(a, part, x, y);
    if (panel.width == 24) return scalpel::Vector<Eight, 3, 4>(a, part, x, y);
    if (panel.width == 16) return scalpel::Vector<Eight, 2, 4>(a, part, x, y);
    scalpel::Vector<Eight, 1, 8>(a, part, x, y);
  }
};

int Supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_float_kernels scalpel_float_avx2 =
    scalpel::Table<scalpel::Avx2Isa>("avx2", scalpel::Supported);

#endif  // defined(__x86_64__)
