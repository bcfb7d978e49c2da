// Kernels for 64-bit Arm processors, which all have Advanced SIMD: four lanes.
#if defined(__aarch64__)

#define SCALPEL_TARGET
#define SCALPEL_INLINE inline __attribute__((always_inline))

#include "gcsr_gradients.h"
#include "gcsr_panel.h"
#include "gcsr_rows.h"
#include "simd_neon.h"

namespace scalpel {
namespace {

bool Supported() { return true; }

const AddKernels add({"neon", /*rank=*/20, Supported, Rows<Neon, Neon>, Panel<Neon, Neon>,
                      GradValues<Neon>, GradInputs<Neon>, ScratchBytes});

}  // namespace
}  // namespace scalpel

#endif  // defined(__aarch64__)
