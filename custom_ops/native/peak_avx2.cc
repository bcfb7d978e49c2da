// For processors with AVX2 and FMA.
#if defined(__x86_64__)

#include <immintrin.h>

#define SCALPEL_TARGET __attribute__((target("avx2,fma")))
#define SCALPEL_INLINE inline __attribute__((always_inline, target("avx2,fma")))

#include "peak.h"
#include "vector_avx2.h"

extern "C" const scalpel_peak scalpel_peak_avx2 = {"avx2", scalpel::Multiply<scalpel::Eight, 12>,
                                                   scalpel::Load<scalpel::Eight>};

#endif  // defined(__x86_64__)
