// Kernels for processors with AVX-512: sixteen lanes where whole vectors of activations meet one
// weight, eight where single groups do.
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

#include "gcsr_gradients.h"
#include "gcsr_panel.h"
#include "gcsr_rows.h"
#include "simd_avx2.h"
#include "simd_avx512.h"

namespace scalpel {
namespace {

bool Supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("fma");
}

const AddKernels add({"avx512", /*rank=*/30, Supported, Rows<Avx2, Avx512>, Panel<Avx512, Avx2>,
                      GradValues<Avx2>, GradInputs<Avx2>, ScratchBytes});

}  // namespace
}  // namespace scalpel

#endif  // defined(__x86_64__)
