// What is the same for every instruction set: which there are, and copies.
#include <string.h>

#include "scalpel_float.h"

extern "C" {
#if defined(__x86_64__)
extern const scalpel_float_kernels scalpel_float_avx512, scalpel_float_avx2;
#endif
extern const scalpel_float_kernels scalpel_float_portable;

const scalpel_float_kernels *scalpel_float_isa(int index) {
  static const scalpel_float_kernels *const kAll[] = {
#if defined(__x86_64__)
      &scalpel_float_avx512,
      &scalpel_float_avx2,
#endif
      &scalpel_float_portable,
  };
  for (const scalpel_float_kernels *kernels : kAll) {
    if (kernels->supported() && index-- == 0) return kernels;
  }
  return nullptr;
}

void scalpel_float_copy(const float *x, int64_t outer, int64_t size, int64_t out, int64_t at,
                        float *y) {
  for (int64_t row = 0; row < outer; ++row) {
    memcpy(y + row * out + at, x + row * size, size * sizeof(float));
  }
}

void scalpel_float_pad(const scalpel_border *border, const float *x, float *y) {
  const int64_t channels = border->channels, row = border->width * channels;
  const int64_t padded = border->padded_width * channels, before = border->left * channels;
  const int64_t after = padded - before - row;
  memset(y, 0, (border->top * padded + before) * sizeof(float));
  y += border->top * padded + before;
  for (int32_t i = 0; i < border->height; ++i, x += row, y += padded) {
    memcpy(y, x, row * sizeof(float));
    // The end of this row and the beginning of the next.
    const bool last = i + 1 == border->height;
    memset(y + row, 0, (last ? after : after + before) * sizeof(float));
  }
  const int64_t below = border->padded_height - border->top - border->height;
  memset(y - before, 0, below * padded * sizeof(float));
}

}  // extern "C"
