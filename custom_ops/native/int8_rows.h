// int8 products with a matrix that skip zeros: sixteen rows of about as many words of four weights,
// one in each lane, which gather the words of x that theirs meet. For files that define
// SCALPEL_TARGET, SCALPEL_INLINE and an Isa as int8_dense.h, which also has
//   Gathered(weights, columns, steps, x, sums)  of sixteen rows
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_INT8_ROWS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_INT8_ROWS_H_

#include "int8_dense.h"
#include "scalpel_int8.h"

namespace scalpel {
namespace {

template <typename Isa, bool kOnce>
SCALPEL_TARGET void Int8RowsOf(const scalpel_int8_rows &a, const uint8_t *x, int8_t *y) {
  for (int32_t row = 0, step = 0, block = 0; row < a.rows; row += kChannels, ++block) {
    int32_t sums[kChannels];
    const int64_t begin = int64_t{kChannels} * step;
    Isa::Gathered(a.weights + 4 * begin, a.columns + begin, a.ends[block] - step, x, a.sums + row,
                  sums);
    step = a.ends[block];
    const typename Isa::template Scaler<kOnce> scale(a.multipliers + row, a.shifts + row);
    scale(sums);
    int8_t out[kChannels];
    ToBytes(a.out_zero_point, a.lowest, a.highest, sums, out);
    const int32_t live = a.rows - row < kChannels ? a.rows - row : kChannels;
    for (int32_t i = 0; i < live; ++i) y[a.order[row + i]] = out[i];
  }
}

template <typename Isa>
SCALPEL_TARGET void Int8Rows(const scalpel_int8_rows *a, const int8_t *x, uint8_t *scratch,
                             int8_t *y) {
  CopyImage(a->image, x, scratch);
  a->once ? Int8RowsOf<Isa, true>(*a, scratch, y) : Int8RowsOf<Isa, false>(*a, scratch, y);
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_INT8_ROWS_H_
