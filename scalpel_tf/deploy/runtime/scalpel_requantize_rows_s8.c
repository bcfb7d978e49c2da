#include "scalpel_fc_plain.h"

void scalpel_requantize_rows_s8(const scalpel_row *rows, uint32_t n, const int32_t *acc,
                                int32_t zero_point, int8_t *y) {
  for (uint32_t r = 0; r < n; ++r) {
    y[r] = scalpel_requantize_row(acc[r], &rows[r], zero_point);
  }
}
