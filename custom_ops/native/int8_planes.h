// int8 convolutions that skip zeros: the image is copied into planes of words, four bytes of every
// pixel, so that a word of weights meets the words of neighbouring pixels with plain loads. For
// files that define SCALPEL_TARGET, SCALPEL_INLINE and an Isa as int8_dense.h, which also has
//   Words<vectors>(weights, offsets, count, from, start, sums)  of 16 * vectors pixels of a channel
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_INT8_PLANES_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_INT8_PLANES_H_

#include <string.h>

#include "int8_dense.h"
#include "scalpel_int8.h"

namespace scalpel {
namespace {

constexpr int kQuad = 4;  // channels that are written together

SCALPEL_TARGET inline void FillPlanes(const scalpel_int8_planes &a, const uint8_t *image,
                                      uint32_t *words) {
  const int32_t pixels = a.image.padded_width * a.image.padded_height;
  for (int32_t plane = 0; plane < a.planes; ++plane) {
    const uint8_t *from = image + a.bytes[plane];
    for (int32_t i = 0; i < pixels; ++i) memcpy(words++, from + int64_t{i} * a.image.depth, 4);
  }
  memset(words, 0, SCALPEL_INT8_PLANES_SLACK);
}

// Four channels of 16 * kVectors positions of the padded image from `first` on, of which those that
// are pixels of y are written.
template <typename Isa, bool kOnce, int kVectors>
SCALPEL_TARGET void QuadOf(const scalpel_int8_planes &a, int32_t channel, const uint32_t *words,
                           int32_t first, int8_t *y) {
  constexpr int kPositions = kChannels * kVectors;
  uint8_t made[kQuad][kPositions] = {};
  const int32_t live = a.channels - channel < kQuad ? a.channels - channel : kQuad;
  for (int32_t q = 0; q < live; ++q) {
    const int32_t c = channel + q, begin = c ? a.ends[c - 1] : 0;
    int32_t sums[kVectors][kChannels], multipliers[kChannels], shifts[kChannels];
    Isa::template Words<kVectors>(a.weights + int64_t{begin} * 4, a.offsets + begin,
                                  a.ends[c] - begin, words + first, a.sums[c], sums);
    for (int i = 0; i < kChannels; ++i) {
      multipliers[i] = a.multipliers[c];
      shifts[i] = a.shifts[c];
    }
    const typename Isa::template Scaler<kOnce> scale(multipliers, shifts);
    for (int v = 0; v < kVectors; ++v) {
      scale(sums[v]);
      ToBytes(a.out_zero_point, a.lowest, a.highest, sums[v], made[q] + kChannels * v);
    }
  }
  uint32_t four[kPositions];  // the first channel in the lowest byte, which comes first
  for (int i = 0; i < kPositions; ++i) {
    four[i] = made[0][i] | uint32_t{made[1][i]} << 8 | uint32_t{made[2][i]} << 16 |
              uint32_t{made[3][i]} << 24;
  }
  int32_t row = first / a.image.padded_width, column = first % a.image.padded_width;
  for (int32_t i = 0; i < kPositions && row < a.out_height; ++row, column = 0) {
    const int32_t left = a.image.padded_width - column;
    const int32_t end = i + left < kPositions ? i + left : kPositions;
    const int32_t pixels = a.out_width - column;
    const int32_t last = i + (pixels < 0 ? 0 : pixels) < end ? i + (pixels < 0 ? 0 : pixels) : end;
    int8_t *to = y + (int64_t{row} * a.out_width + column) * a.channels + channel;
    if (live == kQuad) {
      for (; i < last; ++i, to += a.channels) memcpy(to, four + i, kQuad);
    } else {
      for (; i < last; ++i, to += a.channels) memcpy(to, four + i, live);
    }
    i = end;
  }
}

template <typename Isa, bool kOnce, int kVectors>
SCALPEL_TARGET void QuadsOf(const scalpel_int8_planes &a, const uint32_t *words, int32_t first,
                            int8_t *y) {
  for (int32_t channel = 0; channel < a.channels; channel += kQuad) {
    QuadOf<Isa, kOnce, kVectors>(a, channel, words, first, y);
  }
}

template <typename Isa, bool kOnce>
SCALPEL_TARGET void Int8PlanesOf(const scalpel_int8_planes &a, const uint32_t *words, int8_t *y) {
  const int32_t positions = (a.out_height - 1) * a.image.padded_width + a.out_width;
  int32_t first = 0;
  for (; first + 8 * kChannels <= positions; first += 8 * kChannels) {
    QuadsOf<Isa, kOnce, 8>(a, words, first, y);
  }
  const int32_t left = positions - first;
  if (left > 6 * kChannels) return QuadsOf<Isa, kOnce, 8>(a, words, first, y);
  if (left > 4 * kChannels) return QuadsOf<Isa, kOnce, 6>(a, words, first, y);
  if (left > 2 * kChannels) return QuadsOf<Isa, kOnce, 4>(a, words, first, y);
  if (left > kChannels) return QuadsOf<Isa, kOnce, 2>(a, words, first, y);
  if (left > 0) QuadsOf<Isa, kOnce, 1>(a, words, first, y);
}

template <typename Isa>
SCALPEL_TARGET void Int8Planes(const scalpel_int8_planes *a, const int8_t *x, uint8_t *scratch,
                               int8_t *y) {
  CopyImage(a->image, x, scratch);
  uint32_t *words = reinterpret_cast<uint32_t *>(scratch + a->words);
  FillPlanes(*a, scratch, words);
  a->once ? Int8PlanesOf<Isa, true>(*a, words, y) : Int8PlanesOf<Isa, false>(*a, words, y);
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_INT8_PLANES_H_
