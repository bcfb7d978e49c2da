// The same for every instruction set that this machine has float32 kernels for.
#define SCALPEL_TARGET

#include <string.h>

#include "peak.h"
#include "scalpel_float.h"

#define SCALPEL_VISIBLE __attribute__((visibility("default")))

extern "C" {
#if defined(__x86_64__)
extern const scalpel_peak scalpel_peak_avx512, scalpel_peak_avx2;
#endif
extern const scalpel_peak scalpel_peak_portable;

// The one with that number of those that run here, best first; null where there are no more.
SCALPEL_VISIBLE const scalpel_peak *scalpel_peak_isa(int index) {
  const scalpel_float_kernels *kernels = scalpel_float_isa(index);
  if (!kernels) return nullptr;
#if defined(__x86_64__)
  if (strcmp(kernels->isa, scalpel_peak_avx512.isa) == 0) return &scalpel_peak_avx512;
  if (strcmp(kernels->isa, scalpel_peak_avx2.isa) == 0) return &scalpel_peak_avx2;
#endif
  return &scalpel_peak_portable;
}

}  // extern "C"
