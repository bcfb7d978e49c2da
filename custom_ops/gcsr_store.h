// What becomes of a panel's sums: scaled, with their bias, clamped, and where y has them.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors like Avx2.
#ifndef SCALPEL_CUSTOM_OPS_GCSR_STORE_H_
#define SCALPEL_CUSTOM_OPS_GCSR_STORE_H_

#include <algorithm>

#include "kernels.h"
#include "matrix.h"

namespace scalpel {
namespace {

// bias + scale * sum, clamped.
template <typename Simd>
SCALPEL_INLINE typename Simd::V FinishVector(typename Simd::V sum, float scale, float bias,
                                             int activation) {
  auto y = Simd::MultiplyAdd(sum, Simd::Set(scale), Simd::Set(bias));
  if (activation != SCALPEL_LINEAR) y = Simd::Max(y, Simd::Zero());
  if (activation == SCALPEL_RELU6) y = Simd::Min(y, Simd::Set(6.0f));
  return y;
}

// Writes the sums of a panel to y (rows, n).
template <typename Simd>
SCALPEL_TARGET void StoreRows(const Product &a, Range columns, Range rows, int64_t stride,
                              const float *sums) {
  const int64_t count = columns.end - columns.begin;
  for (int64_t row = rows.begin; row < rows.end; ++row, sums += stride) {
    const float scale = Scale(a.w, row), bias = a.bias ? a.bias[row] : 0;
    float *y = a.y + row * a.n + columns.begin;
    for (int64_t c = 0; c < count; c += Simd::kLanes) {
      const auto value = FinishVector<Simd>(Simd::Load(sums + c), scale, bias, a.activation);
      if (c + Simd::kLanes <= count) {
        Simd::Store(y + c, value);
      } else {
        Simd::StoreSome(y + c, value, count - c);
      }
    }
  }
}

// Writes the sums of a panel to y (n, rows), for a cache line of columns after another.
template <typename Simd>
SCALPEL_TARGET void StoreColumns(const Product &a, Range columns, Range rows, int64_t stride,
                                 const float *sums) {
  constexpr int kLanes = Simd::kLanes;
  constexpr int64_t kLine = 16;
  for (int64_t line = columns.begin; line < columns.end; line += kLine) {
    const int64_t end = std::min(line + kLine, columns.end);
    const float *from = sums + line - columns.begin;
    for (int64_t row = rows.begin; row < rows.end; row += kLanes, from += kLanes * stride) {
      const int64_t real = std::min<int64_t>(rows.end - row, kLanes);
      float scales[kLanes] = {}, biases[kLanes] = {};
      for (int r = 0; r < real; ++r) {
        scales[r] = Scale(a.w, row + r);
        biases[r] = a.bias ? a.bias[row + r] : 0;
      }
      for (int64_t column = line; column < end; column += kLanes) {
        typename Simd::V block[kLanes];
        for (int r = 0; r < kLanes; ++r) {
          block[r] = r < real ? Simd::Load(from + r * stride + column - line) : Simd::Zero();
          block[r] = FinishVector<Simd>(block[r], scales[r], biases[r], a.activation);
        }
        Simd::Transpose(block);
        const int64_t count = std::min<int64_t>(end - column, kLanes);
        float *y = a.y + column * a.w.rows + row;
        for (int64_t c = 0; c < count; ++c, y += a.w.rows) {
          if (real == kLanes) {
            Simd::Store(y, block[c]);
          } else {
            Simd::StoreSome(y, block[c], real);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_GCSR_STORE_H_
