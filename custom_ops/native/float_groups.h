// Products with weights in groups: a group of weights is multiplied with the activations beside one
// another that it meets, lane by lane, and the lanes are added up at the end of a row.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of eight lanes.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_GROUPS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_GROUPS_H_

#include "scalpel_float.h"

namespace scalpel {
namespace {

constexpr int kRows = 8;               // rows that are stored together
constexpr int32_t kNearGroups = 8192;  // 256 KiB of weights
constexpr int32_t kFarSteps = 1024;    // more do not stay in the first- and second-level cache

// Sums of one row for kStrips strips of kStrip pixels, one pixel a lane; kStrip of 0 stands for
// any.
template <typename Simd, int kStrips, int kStrip>
SCALPEL_INLINE void StripSums(const scalpel_groups_conv &a, int64_t row,
                              const float *const (&from)[kStrips],
                              typename Simd::V (&out)[kStrips]) {
  using V = typename Simd::V;
  const int pixels = kStrip ? kStrip : a.strip;
  V sums[kStrips][8];
#pragma GCC unroll 4
  for (int s = 0; s < kStrips; ++s) {
#pragma GCC unroll 8
    for (int p = 0; p < 8; ++p) sums[s][p] = Simd::Zero();
  }
  const int64_t step = a.step, end = a.rows[row + 1];
  for (int64_t group = a.rows[row]; group < end; ++group) {
    const int64_t column = a.columns[group];
    const V w = Simd::Load(a.values + group * 8);
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      // So that three pixels share a register for their addresses.
      const float *first = from[s] + column, *third = first + 3 * step, *sixth = third + 3 * step;
      const float *inputs[8] = {first, first + step, first + 2 * step,
                                third, third + step, third + 2 * step,
                                sixth, sixth + step};
#pragma GCC unroll 8
      for (int p = 0; p < pixels; ++p) {
        sums[s][p] = Simd::MultiplyAdd(w, Simd::Load(inputs[p]), sums[s][p]);
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStrips; ++s) out[s] = Simd::Sums(sums[s]);
}

// Rows [begin, end), from a multiple of kRows on, for kStrips strips.
template <typename Simd, int kStrips, int kStrip>
SCALPEL_TARGET void StripsOf(const scalpel_groups_conv &a, const float *x,
                             const int32_t *const (&strips)[kStrips], int64_t begin, int64_t end,
                             float *y) {
  using V = typename Simd::V;
  const int pixels = kStrip ? kStrip : a.strip;
  const float *from[kStrips];
  for (int s = 0; s < kStrips; ++s) from[s] = x + strips[s][0];
  const V low = Simd::Set(a.low), high = Simd::Set(a.high);
  V block[kStrips][kRows];
  for (int64_t first = begin; first < end; first += kRows) {
    const int64_t live = end - first < kRows ? end - first : kRows;
    for (int64_t r = 0; r < live; ++r) {
      V sums[kStrips];
      StripSums<Simd, kStrips, kStrip>(a, first + r, from, sums);
      const V bias = Simd::Set(a.bias[first + r]);
#pragma GCC unroll 4
      for (int s = 0; s < kStrips; ++s) {
        block[s][r] = Simd::Min(high, Simd::Max(low, Simd::Add(sums[s], bias)));
      }
    }
    for (int64_t r = live; r < kRows; ++r) {
      for (int s = 0; s < kStrips; ++s) block[s][r] = Simd::Zero();
    }
#pragma GCC unroll 4
    for (int s = 0; s < kStrips; ++s) {
      Simd::Transpose(block[s]);
      float *to = y + static_cast<int64_t>(strips[s][1]) * a.channels + first;
      for (int p = 0; p < pixels; ++p, to += a.channels) {
        if (live == kRows) {
          Simd::Store(to, block[s][p]);
        } else {
          Simd::StoreSome(to, block[s][p], live);
        }
      }
    }
  }
}

// Strips [strip, strip + kStrips), or the last ones.
template <typename Simd, int kStrips, int kStrip>
SCALPEL_INLINE void StripsFrom(const scalpel_groups_conv &a, const float *x, int32_t strip,
                               int64_t begin, int64_t end, float *y) {
  const int32_t *strips[kStrips];
  for (int s = 0; s < kStrips; ++s) {
    const int32_t last = a.strip_count - kStrips + s;
    const int32_t number = strip + s < last || last < 0 ? strip + s : last;
    strips[s] = a.strips + 2 * (number < a.strip_count ? number : a.strip_count - 1);
  }
  StripsOf<Simd, kStrips, kStrip>(a, x, strips, begin, end, y);
}

// Rows whose weights stay in the second-level cache at a time. Strips by threes, the last two or
// four by twos, so that only one strip alone is computed twice; where there are registers for two
// only, the last ones slide back over their neighbours.
template <typename Simd, int kStrips, int kStrip>
SCALPEL_TARGET void ConvolveStrips(const scalpel_groups_conv &a, const float *x, float *y) {
  constexpr int kRest = kStrips > 2 ? 2 : kStrips;
  for (int64_t begin = 0, end = 0; begin < a.channels; begin = end) {
    do {
      end = end + kRows < a.channels ? end + kRows : a.channels;
    } while (end < a.channels && a.rows[end] - a.rows[begin] < kNearGroups);
    int32_t strip = 0;
    if constexpr (kStrips > kRest) {
      for (; a.strip_count - strip >= kStrips && a.strip_count - strip != 4; strip += kStrips) {
        StripsFrom<Simd, kStrips, kStrip>(a, x, strip, begin, end, y);
      }
    }
    for (; strip < a.strip_count; strip += kRest) {
      StripsFrom<Simd, kRest, kStrip>(a, x, strip, begin, end, y);
    }
  }
}

template <typename Simd, int kStrips, int kStrip>
SCALPEL_INLINE void ConvolveGroups(const scalpel_groups_conv &a, const float *x, float *y) {
  if constexpr (kStrip <= 1) {
    ConvolveStrips<Simd, kStrips, kStrip>(a, x, y);
  } else if (a.strip == kStrip) {
    ConvolveStrips<Simd, kStrips, kStrip>(a, x, y);
  } else {
    ConvolveGroups<Simd, kStrips, kStrip - 1>(a, x, y);
  }
}

// The columns of a step, two by a load: of four by a load the shifts would take longer, which share
// their ports with products, and of each by its own the loads.
struct Columns16 {
  const uint16_t *columns;

  SCALPEL_INLINE explicit Columns16(const uint16_t *from) : columns(from) {}
  SCALPEL_INLINE uint64_t operator[](int i) const {
    uint32_t two;
    __builtin_memcpy(&two, columns + i / 2 * 2, sizeof two);
    return i % 2 ? two >> 16 : two & 0xFFFF;
  }
};

struct Columns32 {
  const int32_t *columns;

  SCALPEL_INLINE explicit Columns32(const int32_t *from) : columns(from) {}
  SCALPEL_INLINE uint64_t operator[](int i) const { return static_cast<uint32_t>(columns[i]); }
};

SCALPEL_INLINE void Prefetch(const float *values, int64_t floats) {
  constexpr int64_t kAhead = 2048;
#pragma GCC unroll 8
  for (int64_t i = 0; i < floats; i += 16) __builtin_prefetch(values + kAhead + i, 0, 2);
}

// One vector. The steps of a slice follow one another in memory, so that it is read once, in order.
template <typename Simd, int kWidth, typename Columns, typename Column, bool kFar>
SCALPEL_TARGET void Slices(const scalpel_groups_fc &a, const float *x, float *y) {
  using V = typename Simd::V;
  constexpr int kStep = kWidth < 8 ? 8 : kWidth;  // values of a row in a step
  constexpr int kColumns = kStep / kWidth;
  const float *values = a.values;
  const Column *from = static_cast<const Column *>(a.columns);
  const V low = Simd::Set(a.low), high = Simd::Set(a.high);
  for (int64_t slice = 0; slice < a.slice_count; ++slice) {
    V sums[8];
#pragma GCC unroll 8
    for (int r = 0; r < 8; ++r) sums[r] = Simd::Zero();
    const int32_t steps = a.steps[slice + 1] - a.steps[slice];
    for (int32_t step = 0; step < steps; ++step) {
      const Columns columns(from);
      if constexpr (kFar) Prefetch(values, 8 * kStep);
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        if constexpr (kWidth == 4) {
          sums[r] = Simd::MultiplyAdd(Simd::Load(values + r * kStep),
                                      Simd::LoadFours(x + columns[2 * r], x + columns[2 * r + 1]),
                                      sums[r]);
        } else {
#pragma GCC unroll 2
          for (int part = 0; part < kStep; part += 8) {
            sums[r] = Simd::MultiplyAdd(Simd::Load(values + r * kStep + part),
                                        Simd::Load(x + columns[r] + part), sums[r]);
          }
        }
      }
      values += 8 * kStep;
      from += 8 * kColumns;
    }
    float out[8];
    V sum = Simd::Load(a.bias + 8 * slice);
    if (steps) sum = Simd::Add(sum, Simd::Sums(sums));
    Simd::Store(out, Simd::Min(high, Simd::Max(low, sum)));
    const int32_t *order = a.order + 8 * slice;
    const int64_t live = a.rows - 8 * slice;
    if (live >= 8) {
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) y[order[r]] = out[r];
    } else {
      for (int64_t r = 0; r < live; ++r) y[order[r]] = out[r];
    }
  }
}

template <typename Simd, typename Columns, typename Column, bool kFar>
SCALPEL_INLINE void SlicesOf(const scalpel_groups_fc &a, const float *x, float *y) {
  if (a.width == 8) return Slices<Simd, 8, Columns, Column, kFar>(a, x, y);
  if (a.width == 4) return Slices<Simd, 4, Columns, Column, kFar>(a, x, y);
  Slices<Simd, 16, Columns, Column, kFar>(a, x, y);
}

template <typename Simd>
SCALPEL_TARGET void GroupsFc(const scalpel_groups_fc *a, const float *x, float *y) {
  for (int32_t sample = 0; sample < a->batch; ++sample, x += a->columns_of_x, y += a->rows) {
    if (a->column_bytes == 4) {
      SlicesOf<Simd, Columns32, int32_t, true>(*a, x, y);
    } else if (a->steps[a->slice_count] > kFarSteps) {
      SlicesOf<Simd, Columns16, uint16_t, true>(*a, x, y);
    } else {
      SlicesOf<Simd, Columns16, uint16_t, false>(*a, x, y);
    }
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_GROUPS_H_
