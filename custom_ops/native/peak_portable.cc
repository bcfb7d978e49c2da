// For any processor: plain C++, whose vectors of eight lanes may take two registers each.
#define SCALPEL_TARGET
#define SCALPEL_INLINE inline

#include "peak.h"
#include "vector_portable.h"

extern "C" const scalpel_peak scalpel_peak_portable = {
    "portable", scalpel::Multiply<scalpel::Portable, 7>, scalpel::Load<scalpel::Portable>};
