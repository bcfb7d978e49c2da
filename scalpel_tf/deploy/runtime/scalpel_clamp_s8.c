#include "scalpel_runtime.h"
#include "scalpel_tier.h"

#if SCALPEL_MVE
#include <arm_mve.h>
#endif

void scalpel_clamp_s8(int8_t *y, uint32_t n, int32_t lowest, int32_t highest) {
#if SCALPEL_MVE
  const int8x16_t least = vdupq_n_s8((int8_t)lowest), most = vdupq_n_s8((int8_t)highest);
  for (uint32_t i = 0; i < n; i += 16) {
    const mve_pred16_t some = vctp8q(n - i);
    const int8x16_t bounded = vminq_s8(vmaxq_s8(vldrbq_z_s8(y + i, some), least), most);
    vstrbq_p_s8(y + i, bounded, some);
  }
#else
  for (uint32_t i = 0; i < n; ++i) {
    y[i] = (int8_t)(y[i] < lowest ? lowest : y[i] > highest ? highest : y[i]);
  }
#endif
}
