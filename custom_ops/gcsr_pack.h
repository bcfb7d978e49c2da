// A panel: some columns of X, `stride` floats a row, row after row, as the other kernels read it.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct of vectors like Avx2.
#ifndef SCALPEL_CUSTOM_OPS_GCSR_PACK_H_
#define SCALPEL_CUSTOM_OPS_GCSR_PACK_H_

#include <algorithm>
#include <cstring>

#include "kernels.h"

namespace scalpel {
namespace {

constexpr int64_t kLongestRun = 64;  // floats of a run of several taps

// `length` floats from each of `columns` addresses become columns of `length` rows. Columns up to
// `stride`, a multiple of the lanes, become 0.
template <typename Simd>
SCALPEL_TARGET void PackColumns(const float *const *from, int64_t columns, int64_t length,
                                int64_t stride, float *to) {
  constexpr int kLanes = Simd::kLanes;
  for (int64_t column = 0; column < stride; column += kLanes) {
    const int64_t real = std::clamp<int64_t>(columns - column, 0, kLanes);
    for (int64_t i = 0; i < length; i += kLanes) {
      const int64_t rows = std::min<int64_t>(length - i, kLanes);
      typename Simd::V block[kLanes];
      if (real == kLanes && rows == kLanes) {
#pragma GCC unroll 8
        for (int c = 0; c < kLanes; ++c) block[c] = Simd::Load(from[column + c] + i);
      } else {
        for (int c = 0; c < kLanes; ++c) {
          block[c] = c < real ? Simd::LoadSome(from[column + c] + i, rows) : Simd::Zero();
        }
      }
      Simd::Transpose(block);
      float *row = to + i * stride + column;
      if (rows == kLanes) {
#pragma GCC unroll 8
        for (int r = 0; r < kLanes; ++r) Simd::Store(row + r * stride, block[r]);
      } else {
        for (int r = 0; r < rows; ++r) Simd::Store(row + r * stride, block[r]);
      }
    }
  }
}

// The same for addresses at equal distances.
template <typename Simd>
SCALPEL_TARGET void PackStrided(const float *from, int64_t distance, int64_t columns,
                                int64_t length, int64_t stride, float *to) {
  const float *addresses[kPanel];
  for (int64_t c = 0; c < columns; ++c) addresses[c] = from + c * distance;
  PackColumns<Simd>(addresses, columns, length, stride, to);
}

// Rows of X that lie in rows already.
template <typename Simd>
SCALPEL_TARGET void PackRows(const float *from, int64_t distance, int64_t columns, int64_t rows,
                             int64_t stride, float *to) {
  constexpr int kLanes = Simd::kLanes;
  for (int64_t r = 0; r < rows; ++r, from += distance, to += stride) {
    int64_t c = 0;
    for (; c + kLanes <= columns; c += kLanes) Simd::Store(to + c, Simd::Load(from + c));
    if (c < columns) {
      Simd::Store(to + c, Simd::LoadSome(from + c, columns - c));
      c += kLanes;
    }
    for (; c < stride; c += kLanes) Simd::Store(to + c, Simd::Zero());
  }
}

// The output pixels of a panel, and where in its images each of them looks. A run is a part of W's
// row that lies in one piece in an image: the channels of one tap, or where these are few, the taps
// of one kernel row.
class Pixels {
 public:
  SCALPEL_TARGET Pixels(const scalpel_conv2d &conv, Range columns) : conv_(conv) {
    count_ = columns.end - columns.begin;
    const int64_t channels = conv.channels * conv.kernel_width;
    taps_ = conv.channels < 8 && conv.dilation_width == 1 && channels <= kLongestRun
                ? conv.kernel_width
                : 1;
    int64_t out_x = columns.begin % conv.out_width;
    int64_t out_y = columns.begin / conv.out_width % conv.out_height;
    int64_t image = columns.begin / conv.out_width / conv.out_height;
    for (int64_t p = 0; p < count_; ++p) {
      y_[p] = out_y * conv.stride_height - conv.pad_top;
      x_[p] = out_x * conv.stride_width - conv.pad_left;
      start_[p] = ((image * conv.in_height + y_[p]) * conv.in_width + x_[p]) * conv.channels;
      if (++out_x == conv.out_width) {
        out_x = 0;
        if (++out_y == conv.out_height) {
          out_y = 0;
          ++image;
        }
      }
    }
  }

  int64_t count() const { return count_; }
  bool several_taps() const { return taps_ > 1; }
  // Floats of a run.
  int64_t run() const { return taps_ * conv_.channels; }

  // Where in the images each pixel sees float `begin` of run `run`, and whether the whole run lies
  // inside its image.
  SCALPEL_TARGET void Find(int64_t run, int64_t begin, int64_t *offsets, bool *inside) const {
    const int64_t row = taps_ == 1 ? run / conv_.kernel_width : run;
    const int64_t y = row * conv_.dilation_height;
    const int64_t x = taps_ == 1 ? run % conv_.kernel_width * conv_.dilation_width : 0;
    const int64_t step = (y * conv_.in_width + x) * conv_.channels + begin;
    for (int64_t p = 0; p < count_; ++p) {
      offsets[p] = start_[p] + step;
      const uint64_t left = static_cast<uint64_t>(x_[p] + x);
      inside[p] = (static_cast<uint64_t>(y_[p] + y) < static_cast<uint64_t>(conv_.in_height)) &
                  (left < static_cast<uint64_t>(conv_.in_width)) &
                  (x_[p] + x + taps_ <= conv_.in_width);
    }
  }

  // Whether float `i` of run `run` lies in the image that pixel p looks at.
  bool Contains(int64_t p, int64_t run, int64_t i) const {
    const int64_t row = taps_ == 1 ? run / conv_.kernel_width : run;
    const int64_t tap = taps_ == 1 ? run % conv_.kernel_width : i / conv_.channels;
    const int64_t y = y_[p] + row * conv_.dilation_height;
    const int64_t x = x_[p] + tap * conv_.dilation_width;
    return y >= 0 && y < conv_.in_height && x >= 0 && x < conv_.in_width;
  }

 private:
  const scalpel_conv2d &conv_;
  int64_t count_, taps_;
  int64_t x_[kPanel], y_[kPanel], start_[kPanel];
};

// Rows [begin, end) of X for those pixels.
template <typename Simd>
SCALPEL_TARGET void PackPixels(const Pixels &pixels, const float *images, int64_t begin,
                               int64_t end, int64_t stride, float *to) {
  static const float zeros[kBlockMost] = {};
  const float *from[kPanel];
  int64_t offsets[kPanel];
  bool inside[kPanel];
  float staged[kPanel][kLongestRun];
  while (begin < end) {
    const int64_t run = begin / pixels.run(), first = begin % pixels.run();
    const int64_t length = std::min(end - begin, pixels.run() - first);
    pixels.Find(run, first, offsets, inside);
    for (int64_t p = 0; p < pixels.count(); ++p) {
      if (inside[p]) {
        from[p] = images + offsets[p];
      } else if (!pixels.several_taps()) {
        from[p] = zeros;
      } else {
        for (int64_t i = 0; i < length; ++i) {
          staged[p][i] = pixels.Contains(p, run, first + i) ? images[offsets[p] + i] : 0.0f;
        }
        from[p] = staged[p];
      }
    }
    PackColumns<Simd>(from, pixels.count(), length, stride, to);
    to += length * stride;
    begin += length;
  }
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_GCSR_PACK_H_
