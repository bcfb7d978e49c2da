// For processors with AVX-512.
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

#include "peak.h"
#include "vector_avx512.h"

extern "C" const scalpel_peak scalpel_peak_avx512 = {
    "avx512", scalpel::Multiply<scalpel::Sixteen, 12>, scalpel::Load<scalpel::Sixteen>};

#endif  // defined(__x86_64__)
