#include "scalpel_ops.h"
#include "scalpel_simd.h"

void scalpel_lookup_s8(const int8_t *table, int32_t count, const int8_t *x, int8_t *y) {
  const int8_t *end = x + count;
#if SCALPEL_SIMD
  for (; end - x >= 4; x += 4, y += 4) {
    const uint32_t bytes = scalpel_load4(x);
    scalpel_store4(y, scalpel_pack4(table[bytes & 255], table[bytes >> 8 & 255],
                                    table[bytes >> 16 & 255], table[bytes >> 24]));
  }
#endif
  while (x < end) {
    *y++ = table[(uint8_t)*x++];
  }
}
