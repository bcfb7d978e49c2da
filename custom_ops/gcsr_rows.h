// Y = W X^T by rows of W: for few samples, where reading W is what takes the time.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors like Avx2.
#ifndef SCALPEL_CUSTOM_OPS_GCSR_ROWS_H_
#define SCALPEL_CUSTOM_OPS_GCSR_ROWS_H_

#include <algorithm>

#include "kernels.h"
#include "matrix.h"

namespace scalpel {
namespace {

// Adds the products of one step to one chain of each sample. A vector holds kLanes / kWidth groups,
// or a group takes kWidth / kLanes vectors.
template <typename Simd, int kWidth, int kSamples, int kChains, typename T, typename C>
SCALPEL_INLINE void Step(const T *values, const C *columns, const float *x, int64_t stride,
                         int chain, typename Simd::V (&sums)[kSamples][kChains]) {
  constexpr int kParts = std::max(kWidth / Simd::kLanes, 1);
#pragma GCC unroll 4
  for (int part = 0; part < kParts; ++part) {
    const auto value = Simd::LoadValues(values + part * Simd::kLanes);
#pragma GCC unroll 16
    for (int s = 0; s < kSamples; ++s) {
      const float *from = x + s * stride + part * Simd::kLanes;
      typename Simd::V input;
      if constexpr (kWidth < Simd::kLanes) {
        input = Simd::template LoadGroups<kWidth>(from, columns);
      } else {
        input = Simd::Load(from + *columns);
      }
      sums[s][chain] = Simd::MultiplyAdd(value, input, sums[s][chain]);
    }
  }
}

// Bytes: far enough to hide the latency of memory, over the ends of pages, where hardware stops.
constexpr int kValuesAhead = 8192, kColumnsAhead = 1024;

// Asks for what lies kBytes behind the `kCount` items here; past an array's end that does nothing.
template <int kBytes, int kCount, typename T>
SCALPEL_INLINE void PrefetchAhead(const T *items) {
  const char *from = reinterpret_cast<const char *>(items) + kBytes;
#pragma GCC unroll 16
  for (int i = 0; i < kCount * static_cast<int>(sizeof(T)); i += 64) {
    __builtin_prefetch(from + i, /*write=*/0, /*locality=*/2);
  }
}

// Sums of one row for kSamples samples, `stride` apart; kChains independent sums for each sample
// hide the latency of one. Returns how many groups it took: those that fill whole vectors.
template <typename Simd, int kWidth, int kSamples, int kChains, typename T, typename C>
SCALPEL_INLINE int64_t RowSums(const T *values, const C *columns, int64_t groups, const float *x,
                               int64_t stride, float *out) {
  constexpr int kGroups = std::max(Simd::kLanes / kWidth, 1);  // in one step
  typename Simd::V sums[kSamples][kChains];
#pragma GCC unroll 16
  for (int s = 0; s < kSamples; ++s) {
#pragma GCC unroll 8
    for (int chain = 0; chain < kChains; ++chain) sums[s][chain] = Simd::Zero();
  }
  int64_t group = 0;
  for (; group + kChains * kGroups <= groups; group += kChains * kGroups) {
    PrefetchAhead<kValuesAhead, kChains * kGroups * kWidth>(values + group * kWidth);
    PrefetchAhead<kColumnsAhead, kChains * kGroups>(columns + group);
#pragma GCC unroll 8
    for (int chain = 0; chain < kChains; ++chain) {
      const int64_t first = group + chain * kGroups;
      Step<Simd, kWidth>(values + first * kWidth, columns + first, x, stride, chain, sums);
    }
  }
  for (; group + kGroups <= groups; group += kGroups) {
    Step<Simd, kWidth>(values + group * kWidth, columns + group, x, stride, 0, sums);
  }
#pragma GCC unroll 16
  for (int s = 0; s < kSamples; ++s) {
#pragma GCC unroll 8
    for (int chain = 1; chain < kChains; ++chain) {
      sums[s][0] = Simd::Add(sums[s][0], sums[s][chain]);
    }
    out[s] = Simd::Sum(sums[s][0]);
  }
  return group;
}

template <typename Simd, int kWidth, int kSamples, int kChains, typename T, typename C>
SCALPEL_TARGET void RowsOf(const Product &a, const T *values, const C *columns, int64_t row,
                           int64_t first) {
  const int64_t begin = a.w.offsets[row], groups = a.w.offsets[row + 1] - begin;
  const float *x = a.x + first * a.x_stride;
  float sums[kSamples];
  int64_t group = RowSums<Simd, kWidth, kSamples, kChains>(values + begin * kWidth, columns + begin,
                                                           groups, x, a.x_stride, sums);
  for (; group < groups; ++group) {
    for (int lane = 0; lane < kWidth; ++lane) {
      const float value = Value(a.w, begin + group, lane);
      const float *from = x + columns[begin + group] + lane;
      for (int s = 0; s < kSamples; ++s) sums[s] += value * from[s * a.x_stride];
    }
  }
  const float scale = Scale(a.w, row), bias = a.bias ? a.bias[row] : 0;
  for (int s = 0; s < kSamples; ++s) {
    a.y[(first + s) * a.w.rows + row] = Finish(sums[s], scale, bias, a.activation);
  }
}

// One row at a time for all samples, so that its values come from memory once.
template <typename Simd, int kWidth, typename T, typename C>
SCALPEL_TARGET void RowsOf(const Product &a, Range rows) {
  const T *values = static_cast<const T *>(a.w.values);
  const C *columns = static_cast<const C *>(a.w.columns);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t s = 0;
    for (; s + 8 <= a.n; s += 8) RowsOf<Simd, kWidth, 8, 1>(a, values, columns, row, s);
    if (s + 4 <= a.n) {
      RowsOf<Simd, kWidth, 4, 2>(a, values, columns, row, s);
      s += 4;
    }
    if (s + 2 <= a.n) {
      RowsOf<Simd, kWidth, 2, 4>(a, values, columns, row, s);
      s += 2;
    }
    if (s < a.n) RowsOf<Simd, kWidth, 1, 8>(a, values, columns, row, s);
  }
}

template <typename Simd, int kWidth, typename T>
SCALPEL_TARGET void RowsOf(const Product &a, Range rows) {
  a.w.column_bytes == 2 ? RowsOf<Simd, kWidth, T, uint16_t>(a, rows)
                        : RowsOf<Simd, kWidth, T, uint32_t>(a, rows);
}

template <typename Simd, int kWidth>
SCALPEL_TARGET void RowsOf(const Product &a, Range rows) {
  switch (a.w.value_type) {
    case SCALPEL_FLOAT32:
      return RowsOf<Simd, kWidth, float>(a, rows);
    case SCALPEL_BFLOAT16:
      return RowsOf<Simd, kWidth, uint16_t>(a, rows);
    default:
      return RowsOf<Simd, kWidth, int8_t>(a, rows);
  }
}

// Kernels::rows. Wide is what groups of 16 take, which may have more lanes than Simd.
template <typename Simd, typename Wide>
SCALPEL_TARGET void Rows(const Product &a, Range rows) {
  switch (a.w.width) {
    case 2:
      return RowsOf<Simd, 2>(a, rows);
    case 4:
      return RowsOf<Simd, 4>(a, rows);
    case 8:
      return RowsOf<Simd, 8>(a, rows);
    default:
      return RowsOf<Wide, 16>(a, rows);
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_GCSR_ROWS_H_
