// The gradients of Y = W X for the values of W and for X, panel by panel. Nothing is ever as large
// as the dense W.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors like Avx2.
#ifndef SCALPEL_CUSTOM_OPS_GCSR_GRADIENTS_H_
#define SCALPEL_CUSTOM_OPS_GCSR_GRADIENTS_H_

#include <algorithm>
#include <cstring>
#include <optional>

#include "gcsr_pack.h"
#include "kernels.h"
#include "matrix.h"

namespace scalpel {
namespace {

constexpr int64_t kGradientPanel = 64;  // columns

// The part of the scratch memory that holds rows of X, and the one that holds all rows of dY.
constexpr int64_t kScratchRows = kBlock + 32;

// The first group of a row that starts at `column` or right of it.
inline int64_t GroupAt(const scalpel_gcsr &w, int64_t row, int64_t column) {
  int64_t low = w.offsets[row], high = w.offsets[row + 1];
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (Column(w, middle) < column) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// dvalues[i] += dy . x[i] for the values of one group.
template <typename Simd, int kWidth>
SCALPEL_INLINE void AddProducts(const float *dy, const float *x, float *dvalues) {
  constexpr int kAtOnce = std::min(kWidth, Simd::kLanes);
#pragma GCC unroll 4
  for (int first = 0; first < kWidth; first += kAtOnce) {
    typename Simd::V sums[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) sums[i] = Simd::Zero();
    for (int64_t p = 0; p < kGradientPanel; p += Simd::kLanes) {
      const auto d = Simd::Load(dy + p);
#pragma GCC unroll 8
      for (int i = 0; i < kAtOnce; ++i) {
        const float *from = x + (first + i) * kGradientPanel + p;
        sums[i] = Simd::MultiplyAdd(d, Simd::Load(from), sums[i]);
      }
    }
    if constexpr (kAtOnce == Simd::kLanes) {
      Simd::Transpose(sums);
      for (int i = 1; i < kAtOnce; ++i) sums[0] = Simd::Add(sums[0], sums[i]);
      Simd::Store(dvalues + first, Simd::Add(Simd::Load(dvalues + first), sums[0]));
    } else {
      for (int i = 0; i < kAtOnce; ++i) dvalues[first + i] += Simd::Sum(sums[i]);
    }
  }
}

template <typename Simd, int kWidth>
SCALPEL_TARGET void GradValuesOf(const Gradient &a, Range columns, char *scratch) {
  const scalpel_gcsr &w = a.w;
  float *x = reinterpret_cast<float *>(scratch);
  float *dy = x + kScratchRows * kGradientPanel;
  uint32_t *first = reinterpret_cast<uint32_t *>(dy + w.rows * kGradientPanel);
  uint32_t *last = first + w.rows;
  for (int64_t row = 0; row < w.rows; ++row) {
    first[row] = static_cast<uint32_t>(GroupAt(w, row, columns.begin));
    last[row] = static_cast<uint32_t>(GroupAt(w, row, columns.end));
    std::fill(a.dvalues + int64_t{first[row]} * kWidth, a.dvalues + int64_t{last[row]} * kWidth,
              0.0f);
  }
  const int64_t end = std::min(columns.end + kWidth - 1, w.cols);
  for (int64_t p = 0; p < a.n; p += kGradientPanel) {
    const int64_t count = std::min(a.n - p, kGradientPanel);
    if (a.layout == Layout::kImages) {
      PackPixels<Simd>(Pixels(a.conv, {p, p + count}), a.x, columns.begin, end, kGradientPanel, x);
    } else {
      PackStrided<Simd>(a.x + p * w.cols + columns.begin, w.cols, count, end - columns.begin,
                        kGradientPanel, x);
    }
    PackStrided<Simd>(a.dy + p * w.rows, w.rows, count, w.rows, kGradientPanel, dy);
    for (int64_t row = 0; row < w.rows; ++row) {
      for (int64_t group = first[row]; group < last[row]; ++group) {
        AddProducts<Simd, kWidth>(dy + row * kGradientPanel,
                                  x + (Column(w, group) - columns.begin) * kGradientPanel,
                                  a.dvalues + group * kWidth);
      }
    }
  }
}

// Kernels::grad_values.
template <typename Simd>
SCALPEL_TARGET void GradValues(const Gradient &a, Range columns, char *scratch) {
  switch (a.w.width) {
    case 2:
      return GradValuesOf<Simd, 2>(a, columns, scratch);
    case 4:
      return GradValuesOf<Simd, 4>(a, columns, scratch);
    case 8:
      return GradValuesOf<Simd, 8>(a, columns, scratch);
    default:
      return GradValuesOf<Simd, 16>(a, columns, scratch);
  }
}

// Column c of the `rows` rows at `from` becomes `rows` floats at to + c * distance.
template <typename Simd>
SCALPEL_TARGET void UnpackColumns(const float *from, int64_t columns, int64_t rows, float *to,
                                  int64_t distance) {
  constexpr int kLanes = Simd::kLanes;
  for (int64_t column = 0; column < columns; column += kLanes) {
    const int64_t count = std::min<int64_t>(columns - column, kLanes);
    for (int64_t row = 0; row < rows; row += kLanes) {
      const int64_t length = std::min<int64_t>(rows - row, kLanes);
      typename Simd::V block[kLanes];
      for (int r = 0; r < kLanes; ++r) {
        block[r] =
            r < length ? Simd::Load(from + (row + r) * kGradientPanel + column) : Simd::Zero();
      }
      Simd::Transpose(block);
      float *address = to + column * distance + row;
      for (int64_t c = 0; c < count; ++c, address += distance) {
        Simd::StoreSome(address, block[c], length);
      }
    }
  }
}

// Adds rows [block.begin, block.end) of dX to what the pixels see of the images.
template <typename Simd>
SCALPEL_TARGET void AddToPixels(const Pixels &pixels, const float *dx, Range block, float *images) {
  int64_t offsets[kPanel];
  bool inside[kPanel];
  float staged[kGradientPanel * kScratchRows];
  for (int64_t begin = block.begin; begin < block.end;) {
    const int64_t run = begin / pixels.run(), first = begin % pixels.run();
    const int64_t length = std::min(block.end - begin, pixels.run() - first);
    UnpackColumns<Simd>(dx, pixels.count(), length, staged, length);
    pixels.Find(run, first, offsets, inside);
    for (int64_t p = 0; p < pixels.count(); ++p) {
      const float *from = staged + p * length;
      if (inside[p]) {
        for (int64_t i = 0; i < length; ++i) images[offsets[p] + i] += from[i];
      } else if (pixels.several_taps()) {
        for (int64_t i = 0; i < length; ++i) {
          if (pixels.Contains(p, run, first + i)) images[offsets[p] + i] += from[i];
        }
      }
    }
    dx += length * kGradientPanel;
    begin += length;
  }
}

// dX of samples or pixels `columns`, at most kGradientPanel of them.
template <typename Simd>
SCALPEL_TARGET void GradInputsPanel(const Gradient &a, Range columns, char *scratch) {
  const scalpel_gcsr &w = a.w;
  float *dx = reinterpret_cast<float *>(scratch);
  float *dy = dx + kScratchRows * kGradientPanel;
  uint32_t *next = reinterpret_cast<uint32_t *>(dy + w.rows * kGradientPanel);
  const int64_t count = columns.end - columns.begin;
  PackStrided<Simd>(a.dy + columns.begin * w.rows, w.rows, count, w.rows, kGradientPanel, dy);
  std::copy(w.offsets, w.offsets + w.rows, next);
  std::optional<Pixels> pixels;
  if (a.layout == Layout::kImages) pixels.emplace(a.conv, columns);
  const int64_t carried = (w.width - 1) * kGradientPanel;  // what groups add right of a block
  std::fill(dx, dx + kScratchRows * kGradientPanel, 0.0f);
  for (Range block{0, 0}; block.end < w.cols; block.begin = block.end) {
    block.end = std::min(block.begin + kBlock, w.cols);
    for (int64_t row = 0; row < w.rows; ++row) {
      const float scale = Scale(w, row);
      int64_t group = next[row];
      for (; group < w.offsets[row + 1] && Column(w, group) < block.end; ++group) {
        float *to = dx + (Column(w, group) - block.begin) * kGradientPanel;
        for (int lane = 0; lane < w.width; ++lane, to += kGradientPanel) {
          const auto value = Simd::Set(Value(w, group, lane) * scale);
          for (int64_t p = 0; p < kGradientPanel; p += Simd::kLanes) {
            const auto d = Simd::Load(dy + row * kGradientPanel + p);
            Simd::Store(to + p, Simd::MultiplyAdd(value, d, Simd::Load(to + p)));
          }
        }
      }
      next[row] = static_cast<uint32_t>(group);
    }
    if (pixels) {
      AddToPixels<Simd>(*pixels, dx, block, a.dx);
    } else {
      UnpackColumns<Simd>(dx, count, block.end - block.begin,
                          a.dx + columns.begin * w.cols + block.begin, w.cols);
    }
    float *rest = dx + (block.end - block.begin) * kGradientPanel;
    std::copy(rest, rest + carried, dx);
    std::fill(dx + carried, dx + kScratchRows * kGradientPanel, 0.0f);
  }
}

// Kernels::grad_inputs.
template <typename Simd>
SCALPEL_TARGET void GradInputs(const Gradient &a, Range samples, char *scratch) {
  Range columns = samples;
  if (a.layout == Layout::kImages) {
    const int64_t pixels = a.conv.out_height * a.conv.out_width;
    const int64_t size = a.conv.in_height * a.conv.in_width * a.conv.channels;
    columns = {samples.begin * pixels, samples.end * pixels};
    std::fill(a.dx + samples.begin * size, a.dx + samples.end * size, 0.0f);
  }
  for (int64_t p = columns.begin; p < columns.end; p += kGradientPanel) {
    GradInputsPanel<Simd>(a, {p, std::min(p + kGradientPanel, columns.end)}, scratch);
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_GCSR_GRADIENTS_H_
