// Kernels for processors with AVX2 and FMA: eight lanes.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2,fma")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2,fma")))

#include "gcsr_gradients.h"
#include "gcsr_panel.h"
#include "gcsr_rows.h"
#include "simd_avx2.h"

namespace scalpel {
namespace {

bool Supported() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

const AddKernels add({"avx2", /*rank=*/20, Supported, Rows<Avx2, Avx2>, Panel<Avx2, Avx2>,
                      GradValues<Avx2>, GradInputs<Avx2>, ScratchBytes});

}  // namespace
}  // namespace scalpel

#endif  // defined(__x86_64__)
