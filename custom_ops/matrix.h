// Reading grouped CSR, one weight at a time: for code that need not be fast.
#ifndef SCALPEL_CUSTOM_OPS_MATRIX_H_
#define SCALPEL_CUSTOM_OPS_MATRIX_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "scalpel_kernels.h"

namespace scalpel {

inline int64_t Column(const scalpel_gcsr &w, int64_t group) {
  return w.column_bytes == 2 ? static_cast<const uint16_t *>(w.columns)[group]
                             : static_cast<const uint32_t *>(w.columns)[group];
}

// Lanes of a group that lie within a row: all, unless a row is shorter than a group.
inline int64_t Lanes(const scalpel_gcsr &w) { return std::min<int64_t>(w.width, w.cols); }

// A value as float; bfloat16 comes as its bits.
inline float FromBits(float value) { return value; }
inline float FromBits(int8_t value) { return value; }
inline float FromBits(uint16_t value) {
  const uint32_t bits = uint32_t{value} << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

// Value `lane` of a group, without its row's scale.
inline float Value(const scalpel_gcsr &w, int64_t group, int64_t lane) {
  const int64_t index = group * w.width + lane;
  switch (w.value_type) {
    case SCALPEL_FLOAT32:
      return static_cast<const float *>(w.values)[index];
    case SCALPEL_BFLOAT16:
      return FromBits(static_cast<const uint16_t *>(w.values)[index]);
    default:
      return static_cast<const int8_t *>(w.values)[index];
  }
}

inline float Scale(const scalpel_gcsr &w, int64_t row) {
  return w.value_type == SCALPEL_INT8 ? w.scales[row] : 1.0f;
}

// bias + scale * sum, clamped.
inline float Finish(float sum, float scale, float bias, int activation) {
  const float y = sum * scale + bias;
  if (activation == SCALPEL_LINEAR) return y;
  const float positive = y > 0 ? y : 0;
  return activation == SCALPEL_RELU6 && positive > 6 ? 6 : positive;
}

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_MATRIX_H_
