// Y = W X panel by panel: a block of a panel's rows, small enough for the first-level cache, is
// packed, and all rows of W pass over it; their sums wait in the second-level cache.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and structs of vectors like Avx2, Avx512.
#ifndef SCALPEL_CUSTOM_OPS_GCSR_PANEL_H_
#define SCALPEL_CUSTOM_OPS_GCSR_PANEL_H_

#include <algorithm>
#include <optional>
#include <type_traits>

#include "gcsr_pack.h"
#include "gcsr_store.h"
#include "kernels.h"
#include "matrix.h"

namespace scalpel {
namespace {

// `count` values of bfloat16 or int8 as float.
template <typename Simd, typename T>
SCALPEL_INLINE void ToFloat(const T *from, int64_t count, float *to) {
  int64_t i = 0;
  for (; i + Simd::kLanes <= count; i += Simd::kLanes) {
    Simd::Store(to + i, Simd::LoadValues(from + i));
  }
  for (; i < count; ++i) to[i] = FromBits(from[i]);
}

// sums += one of a group's values times its row of the panel.
template <typename Simd, int kIndex, int kVectors>
SCALPEL_INLINE void AddRow(typename Simd::V values, const float *x,
                           typename Simd::V (&sums)[kVectors]) {
  const auto value = Simd::template Splat<kIndex>(values);
  x += kIndex * kVectors * Simd::kLanes;
#pragma GCC unroll 24
  for (int v = 0; v < kVectors; ++v) {
    sums[v] = Simd::MultiplyAdd(value, Simd::Load(x + v * Simd::kLanes), sums[v]);
  }
}

// sums += a group's values times its rows of the panel.
template <typename Simd, int kWidth, int kChains, int kVectors>
SCALPEL_INLINE void AddGroup(const float *values, const float *x,
                             typename Simd::V (&sums)[kChains][kVectors]) {
  if constexpr (kWidth == 2) {
    const auto two = Simd::LoadTwo(values);
    AddRow<Simd, 0>(two, x, sums[0]);
    AddRow<Simd, 1>(two, x, sums[1 % kChains]);
  } else {
#pragma GCC unroll 4
    for (int i = 0; i < kWidth; i += 4) {
      const auto four = Simd::LoadFour(values + i);
      const float *from = x + i * kVectors * Simd::kLanes;
      AddRow<Simd, 0>(four, from, sums[0]);
      AddRow<Simd, 1>(four, from, sums[1 % kChains]);
      AddRow<Simd, 2>(four, from, sums[2 % kChains]);
      AddRow<Simd, 3>(four, from, sums[3 % kChains]);
    }
  }
}

// sums += groups [group, group + count), whose values these are, times their rows of the panel.
template <typename Simd, int kWidth, int kChains, int kVectors>
SCALPEL_INLINE void AddGroups(const scalpel_gcsr &w, int64_t group, int64_t count,
                              const float *values, const float *panel,
                              typename Simd::V (&sums)[kChains][kVectors]) {
  for (int64_t i = 0; i < count; ++i) {
    const float *x = panel + Column(w, group + i) * (kVectors * Simd::kLanes);
    AddGroup<Simd, kWidth>(values + i * kWidth, x, sums);
  }
}

// Floats that stay in the last-level cache from one call to the next: asking for them is lost time.
constexpr int64_t kNear = 3 << 19;

// Memory that will be needed next, to be asked for while rows of W are multiplied: it lies in
// pieces, so that hardware does not see what comes. Float is const where it will only be read.
template <typename Float>
struct Ahead {
  Float *from;
  int64_t distance, columns, rows;
  int64_t next;

  // Asks for as many as belong to the first `done` of `all` rows of W.
  SCALPEL_INLINE void Prefetch(int64_t done, int64_t all) {
    for (; next * all < rows * done; ++next) {
      const char *bytes = reinterpret_cast<const char *>(from + next * distance);
      for (int64_t i = 0; i < columns * 4 + 60; i += 64) {
        __builtin_prefetch(bytes + i, /*write=*/!std::is_const_v<Float>, /*locality=*/2);
      }
    }
  }
};

// A row's groups of a block lie far from the next row's: hardware does not see what comes.
constexpr int64_t kRowsAhead = 4;

// Adds the groups that start in a block to the sums of their rows: for row r, groups begin[r] up to
// end[r]. `panel` is where row 0 of X would be if all of it were packed as the block is.
template <typename Simd, int kWidth, int kVectors, typename T>
SCALPEL_TARGET void MultiplyBlock(const scalpel_gcsr &w, bool first, const float *panel, Range rows,
                                  const uint32_t *begin, const uint32_t *end, float *sums) {
  constexpr int kLanes = Simd::kLanes;
  const T *values = static_cast<const T *>(w.values);
  const char *columns = static_cast<const char *>(w.columns);
  for (int64_t row = rows.begin; row < rows.end; ++row, sums += kVectors * kLanes) {
    const int64_t count = end[row] - begin[row];
    const int64_t later = row + kRowsAhead;
    if (later < w.rows) {
      __builtin_prefetch(columns + int64_t{begin[later]} * w.column_bytes);
      const char *next = reinterpret_cast<const char *>(values + int64_t{begin[later]} * kWidth);
      const int64_t bytes = int64_t{end[later] - begin[later]} * kWidth * sizeof(T);
      for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(next + i);
    }
    if (count == 0 && !first) continue;
    // Few vectors of columns alone would wait for each other's latency.
    constexpr int kChains = std::clamp(8 / kVectors, 1, 4);
    typename Simd::V sum[kChains][kVectors];
#pragma GCC unroll 4
    for (int chain = 0; chain < kChains; ++chain) {
#pragma GCC unroll 24
      for (int v = 0; v < kVectors; ++v) sum[chain][v] = Simd::Zero();
    }
    if constexpr (std::is_same_v<T, float>) {
      AddGroups<Simd, kWidth>(w, begin[row], count, values + int64_t{begin[row]} * kWidth, panel,
                              sum);
    } else {
      constexpr int64_t kAtOnce = 32;
      alignas(64) float buffer[kAtOnce * kWidth];
      for (int64_t group = begin[row]; group < end[row]; group += kAtOnce) {
        const int64_t some = std::min(end[row] - group, kAtOnce);
        ToFloat<Simd>(values + group * kWidth, some * kWidth, buffer);
        AddGroups<Simd, kWidth>(w, group, some, buffer, panel, sum);
      }
    }
#pragma GCC unroll 24
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 4
      for (int chain = 1; chain < kChains; ++chain) {
        sum[0][v] = Simd::Add(sum[0][v], sum[chain][v]);
      }
      if (!first) sum[0][v] = Simd::Add(sum[0][v], Simd::Load(sums + v * kLanes));
      Simd::Store(sums + v * kLanes, sum[0][v]);
    }
  }
}

constexpr int64_t kRowsAtOnce = 16;  // a cache line of y (n, rows)

// Simd multiplies, Pack packs and stores.
template <typename Simd, typename Pack, int kStride, typename T>
SCALPEL_TARGET void PanelOf(const Product &a, Range columns, Range rows, char *scratch) {
  constexpr int kVectors = kStride / Simd::kLanes;
  const scalpel_gcsr &w = a.w;
  float *panel = reinterpret_cast<float *>(scratch);
  float *sums = panel + kBlockFloats + 32 * kPanel;
  const auto multiply = w.width == 2   ? MultiplyBlock<Simd, 2, kVectors, T>
                        : w.width == 4 ? MultiplyBlock<Simd, 4, kVectors, T>
                        : w.width == 8 ? MultiplyBlock<Simd, 8, kVectors, T>
                                       : MultiplyBlock<Simd, 16, kVectors, T>;
  std::optional<Pixels> pixels;
  if (a.layout == Layout::kImages) pixels.emplace(a.conv, columns);
  const int64_t count = columns.end - columns.begin;
  for (int64_t block = 0; block < a.blocks.count; ++block) {
    const int64_t begin = block * a.blocks.size;
    const int64_t own_end = block + 1 == a.blocks.count ? w.cols : begin + a.blocks.size;
    const int64_t end = std::min(own_end + a.blocks.overlap, w.cols);
    Ahead<const float> x_ahead = {};
    const bool last = own_end == w.cols;
    const int64_t next_begin = last ? 0 : own_end;
    const int64_t next_rows = std::min(a.blocks.size, w.cols - next_begin);
    const int64_t next_column = last ? columns.end : columns.begin;
    const int64_t next_columns = std::min(count, a.n - next_column);
    switch (a.layout) {
      case Layout::kSamples:
        PackStrided<Pack>(a.x + columns.begin * w.cols + begin, w.cols, count, end - begin, kStride,
                          panel);
        if (a.n * w.cols > kNear) {
          x_ahead = {a.x + next_column * w.cols + next_begin, w.cols, next_rows, next_columns, 0};
        }
        break;
      case Layout::kColumns:
        PackRows<Pack>(a.x + begin * a.n + columns.begin, a.n, count, end - begin, kStride, panel);
        x_ahead = {a.x + next_begin * a.n + next_column, a.n, next_columns, next_rows, 0};
        break;
      case Layout::kImages:
        PackPixels<Pack>(*pixels, a.x, begin, end, kStride, panel);
        break;
    }
    Ahead<float> y_ahead = {};
    if (last && a.layout != Layout::kColumns && a.n * w.rows > kNear) {
      y_ahead = {a.y + next_column * w.rows + rows.begin, w.rows, rows.end - rows.begin,
                 next_columns, 0};
    }
    // Some rows at a time: when they are done for good, their sums are still near.
    const uint32_t *cuts = a.blocks.cuts + block * w.rows;
    for (int64_t row = rows.begin; row < rows.end; row += kRowsAtOnce) {
      const Range some = {row, std::min(row + kRowsAtOnce, rows.end)};
      float *own = sums + (row - rows.begin) * kStride;
      x_ahead.Prefetch(some.end - rows.begin, rows.end - rows.begin);
      y_ahead.Prefetch(some.end - rows.begin, rows.end - rows.begin);
      multiply(w, block == 0, panel - begin * kStride, some, cuts, cuts + w.rows, own);
      if (last) {
        if (a.layout == Layout::kColumns) {
          StoreRows<Pack>(a, columns, some, kStride, own);
        } else {
          StoreColumns<Pack>(a, columns, some, kStride, own);
        }
      }
    }
  }
}

template <typename Simd, typename Pack, int kStride>
SCALPEL_TARGET void PanelOf(const Product &a, Range columns, Range rows, char *scratch) {
  switch (a.w.value_type) {
    case SCALPEL_FLOAT32:
      return PanelOf<Simd, Pack, kStride, float>(a, columns, rows, scratch);
    case SCALPEL_BFLOAT16:
      return PanelOf<Simd, Pack, kStride, uint16_t>(a, columns, rows, scratch);
    default:
      return PanelOf<Simd, Pack, kStride, int8_t>(a, columns, rows, scratch);
  }
}

// Kernels::panel.
template <typename Simd, typename Pack>
SCALPEL_TARGET void Panel(const Product &a, Range columns, Range rows, char *scratch) {
  switch ((columns.end - columns.begin + 15) / 16) {
    case 1:
      return PanelOf<Simd, Pack, 16>(a, columns, rows, scratch);
    case 2:
      return PanelOf<Simd, Pack, 32>(a, columns, rows, scratch);
    case 3:
      return PanelOf<Simd, Pack, 48>(a, columns, rows, scratch);
    case 4:
      return PanelOf<Simd, Pack, 64>(a, columns, rows, scratch);
    case 5:
      return PanelOf<Simd, Pack, 80>(a, columns, rows, scratch);
    default:
      return PanelOf<Simd, Pack, 96>(a, columns, rows, scratch);
  }
}

inline size_t ScratchBytes(int64_t rows) {
  return sizeof(float) * (kBlockFloats + 32 * kPanel + rows * kPanel);
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_GCSR_PANEL_H_
