// The table of one instruction set: the same operators on its vectors.
// For files that define SCALPEL_TARGET, SCALPEL_INLINE and a struct Isa:
//   Eight, Wide          vectors of eight lanes, and the widest
//   kStrips              strips of eight pixels whose sums fit the registers
//   kStrip               8, or 0 for slower code without an own version for every shorter strip
//   Dense(a, panel, x, y), Vector(a, panel, x, y)   one panel of output channels
#ifndef SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_KERNELS_H_
#define SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_KERNELS_H_

#include "float_dense.h"
#include "float_elements.h"
#include "float_groups.h"
#include "float_windows.h"
#include "float_winograd.h"
#include "float_winograd_lines.h"

namespace scalpel {
namespace {

template <typename Isa>
SCALPEL_TARGET void DenseOf(const scalpel_dense *a, const float *x, float *scratch, float *y) {
  if (a->border) {
    scalpel_float_pad(a->border, x, scratch);
    x = scratch;
  }
  for (int32_t i = 0; i < a->panel_count; ++i) {
    const scalpel_panel &panel = a->panels[i];
    Isa::Dense(*a, panel, x + panel.x, y + panel.first);
  }
}

template <typename Isa>
SCALPEL_TARGET void VectorOf(const scalpel_dense *a, const float *x, float *y) {
  for (int32_t i = 0; i < a->panel_count; ++i) {
    Isa::Vector(*a, a->panels[i], x, y + a->panels[i].first);
  }
}

template <typename Isa>
SCALPEL_TARGET void GroupsConv(const scalpel_groups_conv *a, const float *x, float *scratch,
                               float *y) {
  if (a->border) {
    scalpel_float_pad(a->border, x, scratch);
    x = scratch;
  }
  ConvolveGroups<typename Isa::Eight, Isa::kStrips, Isa::kStrip>(*a, x, y);
}

template <typename Isa>
constexpr scalpel_float_kernels Table(const char *name, int (*supported)(void)) {
  using Wide = typename Isa::Wide;
  return {name,
          supported,
          DenseOf<Isa>,
          VectorOf<Isa>,
          Winograd<Isa>,
          WinogradLines<Isa>,
          GroupsConv<Isa>,
          GroupsFc<typename Isa::Eight>,
          Depthwise<Wide>,
          Pool<Wide, Largest>,
          Pool<Wide, Average>,
          Combine<Wide, Sum>,
          Combine<Wide, ProductOf>,
          Clamp<Wide>,
          Logistic,
          Softmax,
          Mean<Wide>};
}

}  // namespace
}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_NATIVE_FLOAT_KERNELS_H_
