// Four float lanes of Advanced SIMD.
#ifndef SCALPEL_CUSTOM_OPS_SIMD_NEON_H_
#define SCALPEL_CUSTOM_OPS_SIMD_NEON_H_

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

namespace scalpel {
namespace {

struct Neon {
  using V = float32x4_t;
  static constexpr int kLanes = 4;

  SCALPEL_INLINE static V Zero() { return vdupq_n_f32(0); }
  SCALPEL_INLINE static V Load(const float *p) { return vld1q_f32(p); }
  SCALPEL_INLINE static void Store(float *p, V v) { vst1q_f32(p, v); }
  SCALPEL_INLINE static V Set(float value) { return vdupq_n_f32(value); }
  SCALPEL_INLINE static V Add(V a, V b) { return vaddq_f32(a, b); }
  SCALPEL_INLINE static V MultiplyAdd(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  SCALPEL_INLINE static V Min(V a, V b) { return vminq_f32(a, b); }
  SCALPEL_INLINE static V Max(V a, V b) { return vmaxq_f32(a, b); }
  SCALPEL_INLINE static float Sum(V v) { return vaddvq_f32(v); }

  // The first `lanes` lanes; the others are 0 and their memory is not touched.
  SCALPEL_INLINE static V LoadSome(const float *p, int64_t lanes) {
    float some[4] = {};
    for (int64_t i = 0; i < lanes && i < 4; ++i) some[i] = p[i];
    return Load(some);
  }
  SCALPEL_INLINE static void StoreSome(float *p, V v, int64_t lanes) {
    float some[4];
    Store(some, v);
    for (int64_t i = 0; i < lanes && i < 4; ++i) p[i] = some[i];
  }

  // kLanes values of any type, as float.
  SCALPEL_INLINE static V LoadValues(const float *p) { return Load(p); }
  SCALPEL_INLINE static V LoadValues(const uint16_t *p) {
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
  }
  SCALPEL_INLINE static V LoadValues(const int8_t *p) {
    int32_t bytes;
    std::memcpy(&bytes, p, sizeof bytes);
    const int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(bytes)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
  }

  // The activations that kLanes / kWidth groups meet, side by side.
  template <int kWidth, typename Column>
  SCALPEL_INLINE static V LoadGroups(const float *x, const Column *columns) {
    static_assert(kWidth == 2);
    return vcombine_f32(vld1_f32(x + columns[0]), vld1_f32(x + columns[1]));
  }

  // Four (or two) values, again and again, for Splat to take one of.
  SCALPEL_INLINE static V LoadFour(const float *p) { return vld1q_f32(p); }
  SCALPEL_INLINE static V LoadTwo(const float *p) {
    const float32x2_t two = vld1_f32(p);
    return vcombine_f32(two, two);
  }
  template <int kIndex>
  SCALPEL_INLINE static V Splat(V v) {
    return vdupq_laneq_f32(v, kIndex);
  }

  // rows[i] becomes column i.
  SCALPEL_INLINE static void Transpose(V (&rows)[4]) {
    const float32x4x2_t a = vtrnq_f32(rows[0], rows[1]), b = vtrnq_f32(rows[2], rows[3]);
    for (int i = 0; i < 2; ++i) {
      rows[i] = vcombine_f32(vget_low_f32(a.val[i]), vget_low_f32(b.val[i]));
      rows[i + 2] = vcombine_f32(vget_high_f32(a.val[i]), vget_high_f32(b.val[i]));
    }
  }
};

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_SIMD_NEON_H_
