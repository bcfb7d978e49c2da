// For any processor: plain C++, as good as the compiler makes it.
#define SCALPEL_TARGET
#define SCALPEL_INLINE inline

#include "float_kernels.h"
#include "vector_portable.h"

namespace scalpel {
namespace {

struct PortableIsa {
  using Eight = Portable;
  using Wide = Portable;
  static constexpr int kStrips = 1;
  static constexpr int kStrip = 0;

  static void Dense(const scalpel_dense &a, const scalpel_panel &panel, const float *x, float *y) {
    for (int64_t at = 0; at < panel.width; at += 8) {
      Tiles<Portable, 1, 4>(a, PartOf(a, panel, at), x, y + at);
    }
  }

  static void Vector(const scalpel_dense &a, const scalpel_panel &panel, const float *x, float *y) {
    for (int64_t at = 0; at < panel.width; at += 8) {
      scalpel::Vector<Portable, 1, 1>(a, PartOf(a, panel, at), x, y + at);
    }
  }
};

int Supported() { return 1; }

}  // namespace
}  // namespace scalpel

extern "C" const scalpel_float_kernels scalpel_float_portable =
    scalpel::Table<scalpel::PortableIsa>("portable", scalpel::Supported);
