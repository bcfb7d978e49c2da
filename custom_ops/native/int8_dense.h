// int8 convolutions and products: the image is copied once, as x + 128 and with its border, and
// then looked at where it lies. For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct
// Isa:
//   kPixels                      pixels whose sums fit the registers
//   Sums<n>(a, channel, from, sums)  of sixteen channels of n pixels, which begin at from[i]
//   Scaler<once>(multipliers, shifts)(sums)  of sixteen channels, in place
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_INT8_DENSE_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_INT8_DENSE_H_

#include <string.h>

#include "scalpel_int8.h"

namespace scalpel {
namespace {

constexpr int kChannels = 16;

// What scalpel_requantize.h of the runtime computes, without branches.
template <bool kOnce>
SCALPEL_INLINE int32_t Requantize(int32_t sum, int32_t multiplier, int32_t shift) {
  if constexpr (kOnce) {
    const int32_t total = 31 - shift;
    const int64_t half = (INT64_C(1) << (total - 1)) - (sum < 0);
    return static_cast<int32_t>((int64_t{sum} * multiplier + half) >> total);
  } else {
    const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
    const int32_t wide = static_cast<int32_t>(static_cast<uint32_t>(sum) << left);
    const int32_t high =
        static_cast<int32_t>((int64_t{wide} * multiplier + (INT64_C(1) << 30)) >> 31);
    const int32_t mask = static_cast<int32_t>((UINT32_C(1) << right) - 1);
    const int32_t half = (mask >> 1) + (high < 0);
    return (high >> right) + ((high & mask) > half);
  }
}

SCALPEL_INLINE void ToBytes(int32_t zero_point, int32_t lowest, int32_t highest,
                            const int32_t (&scaled)[kChannels], void *bytes) {
  int8_t out[kChannels];
  for (int i = 0; i < kChannels; ++i) {
    const int32_t moved =
        static_cast<int32_t>(static_cast<uint32_t>(scaled[i]) + static_cast<uint32_t>(zero_point));
    const int32_t above = moved < lowest ? lowest : moved;
    out[i] = static_cast<int8_t>(above > highest ? highest : above);
  }
  memcpy(bytes, out, kChannels);
}

// The outputs of sixteen channels from `channel` on, of which those that exist are written.
template <typename Scaler>
SCALPEL_INLINE void StoreOutputs(const scalpel_int8_dense &a, const Scaler &scale, int32_t channel,
                                 int32_t (&sums)[kChannels], int8_t *y) {
  scale(sums);
  int8_t out[kChannels];
  ToBytes(a.out_zero_point, a.lowest, a.highest, sums, out);
  const int32_t live = a.channels - channel;
  memcpy(y, out, live < kChannels ? live : kChannels);
}

SCALPEL_TARGET inline void CopyImage(const scalpel_int8_image &a, const int8_t *x, uint8_t *to) {
  const int64_t row = int64_t{a.width} * a.depth, padded = int64_t{a.padded_width} * a.depth;
  const int64_t size = padded * a.padded_height;
  const uint8_t outside = static_cast<uint8_t>(a.zero_point + 128);
  if (size != row * a.height) memset(to, outside, size);
  memset(to + size, outside, SCALPEL_INT8_SLACK);
  to += a.top * padded + int64_t{a.left} * a.depth;
  for (int32_t i = 0; i < a.height; ++i, x += row, to += padded) {
    for (int64_t j = 0; j < row; ++j) to[j] = static_cast<uint8_t>(x[j] ^ 0x80);
  }
}

template <typename Isa, bool kOnce, int kCount>
SCALPEL_TARGET void PixelsOf(const scalpel_int8_dense &a, int32_t channel, const uint8_t *x,
                             int32_t pixel, int8_t *y) {
  const uint8_t *from[kCount];
  for (int p = 0; p < kCount; ++p) from[p] = x + a.pixels[pixel + p];
  int32_t sums[kCount][kChannels];
  Isa::template Sums<kCount>(a, channel, from, sums);
  y += int64_t{pixel} * a.channels + channel;
  const typename Isa::template Scaler<kOnce> scale(a.multipliers + channel, a.shifts + channel);
  for (int p = 0; p < kCount; ++p, y += a.channels) StoreOutputs(a, scale, channel, sums[p], y);
}

template <typename Isa, bool kOnce>
SCALPEL_TARGET void Int8DenseOf(const scalpel_int8_dense &a, const uint8_t *x, int8_t *y) {
  constexpr int kMost = Isa::kPixels;
  for (int32_t channel = 0; channel < a.channels; channel += kChannels) {
    int32_t pixel = 0;
    for (; pixel + kMost <= a.pixel_count; pixel += kMost) {
      PixelsOf<Isa, kOnce, kMost>(a, channel, x, pixel, y);
    }
    if (pixel < a.pixel_count && a.pixel_count > kMost) {  // slides back over its neighbours
      PixelsOf<Isa, kOnce, kMost>(a, channel, x, a.pixel_count - kMost, y);
      continue;
    }
    for (; pixel < a.pixel_count; ++pixel) PixelsOf<Isa, kOnce, 1>(a, channel, x, pixel, y);
  }
}

template <typename Isa>
SCALPEL_TARGET void Int8Dense(const scalpel_int8_dense *a, const int8_t *x, uint8_t *scratch,
                              int8_t *y) {
  CopyImage(a->image, x, scratch);
  a->once ? Int8DenseOf<Isa, true>(*a, scratch, y) : Int8DenseOf<Isa, false>(*a, scratch, y);
}

// Where the weights of sixteen channels begin.
SCALPEL_INLINE const int8_t *WeightsOf(const scalpel_int8_dense &a, int32_t channel) {
  return a.weights + int64_t{channel} * a.tap_count * a.steps * 4;
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_INT8_DENSE_H_
