// Eight float lanes in plain C++. For files that define SCALPEL_INLINE.
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_PORTABLE_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_PORTABLE_H_

#include <cstdint>

namespace scalpel {
namespace {

struct Portable {
  struct V {
    float lane[8];
  };
  static constexpr int kLanes = 8;

  template <typename Function>
  SCALPEL_INLINE static V Each(Function function) {
    V v;
    for (int i = 0; i < kLanes; ++i) v.lane[i] = function(i);
    return v;
  }
  SCALPEL_INLINE static V Zero() { return Set(0); }
  SCALPEL_INLINE static V Set(float value) {
    return Each([=](int) { return value; });
  }
  SCALPEL_INLINE static V Load(const float *p) {
    return Each([=](int i) { return p[i]; });
  }
  SCALPEL_INLINE static V LoadSome(const float *p, int64_t lanes) {
    return Each([=](int i) { return i < lanes ? p[i] : 0.0f; });
  }
  SCALPEL_INLINE static void Store(float *p, const V &v) {
    for (int i = 0; i < kLanes; ++i) p[i] = v.lane[i];
  }
  SCALPEL_INLINE static void StoreSome(float *p, const V &v, int64_t lanes) {
    for (int i = 0; i < kLanes && i < lanes; ++i) p[i] = v.lane[i];
  }
  SCALPEL_INLINE static V Add(const V &a, const V &b) {
    return Each([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  SCALPEL_INLINE static V Multiply(const V &a, const V &b) {
    return Each([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  SCALPEL_INLINE static V MultiplyAdd(const V &a, const V &b, const V &c) {
    return Each([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; });
  }
  SCALPEL_INLINE static V Min(const V &a, const V &b) {
    return Each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  SCALPEL_INLINE static V Max(const V &a, const V &b) {
    return Each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  // Lane i is the sum of the lanes of rows[i].
  SCALPEL_INLINE static V Sums(V (&rows)[8]) {
    return Each([&](int r) {
      float sum = 0;
      for (int i = 0; i < kLanes; ++i) sum += rows[r].lane[i];
      return sum;
    });
  }
  SCALPEL_INLINE static void Transpose(V (&rows)[8]) {
    V out[8];
    for (int r = 0; r < 8; ++r) out[r] = Each([&](int i) { return rows[i].lane[r]; });
    for (int r = 0; r < 8; ++r) rows[r] = out[r];
  }
  SCALPEL_INLINE static V LoadFours(const float *low, const float *high) {
    return Each([=](int i) { return i < 4 ? low[i] : high[i - 4]; });
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_VECTOR_PORTABLE_H_
