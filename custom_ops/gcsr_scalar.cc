// The reference: one weight, one activation at a time, on any machine.
#include "kernels.h"
#include "matrix.h"

namespace scalpel {
namespace {

// Where row `column` and column `p` of the right-hand matrix lie in x, or -1 outside an image.
int64_t Index(Layout layout, const scalpel_conv2d &conv, int64_t cols, int64_t n, int64_t column,
              int64_t p) {
  if (layout == Layout::kSamples) return p * cols + column;
  if (layout == Layout::kColumns) return column * n + p;
  const int64_t channel = column % conv.channels, tap = column / conv.channels;
  const int64_t kernel_y = tap / conv.kernel_width, kernel_x = tap % conv.kernel_width;
  const int64_t out_x = p % conv.out_width, out_y = p / conv.out_width % conv.out_height;
  const int64_t image = p / conv.out_width / conv.out_height;
  const int64_t y = out_y * conv.stride_height - conv.pad_top + kernel_y * conv.dilation_height;
  const int64_t x = out_x * conv.stride_width - conv.pad_left + kernel_x * conv.dilation_width;
  if (y < 0 || y >= conv.in_height || x < 0 || x >= conv.in_width) return -1;
  return ((image * conv.in_height + y) * conv.in_width + x) * conv.channels + channel;
}

void Rows(const Product &a, Range rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t p = 0; p < a.n; ++p) {
      float sum = 0;
      for (int64_t group = a.w.offsets[row]; group < a.w.offsets[row + 1]; ++group) {
        for (int64_t lane = 0; lane < Lanes(a.w); ++lane) {
          const int64_t column = Column(a.w, group) + lane;
          const int64_t i = Index(a.layout, a.conv, a.w.cols, a.n, column, p);
          if (i >= 0) sum += Value(a.w, group, lane) * a.x[i];
        }
      }
      const float bias = a.bias ? a.bias[row] : 0;
      const int64_t out = a.layout == Layout::kColumns ? row * a.n + p : p * a.w.rows + row;
      a.y[out] = Finish(sum, Scale(a.w, row), bias, a.activation);
    }
  }
}

void GradValues(const Gradient &a, Range columns, char *) {
  for (int64_t row = 0; row < a.w.rows; ++row) {
    for (int64_t group = a.w.offsets[row]; group < a.w.offsets[row + 1]; ++group) {
      const int64_t column = Column(a.w, group);
      if (column < columns.begin || column >= columns.end) continue;
      for (int64_t lane = 0; lane < a.w.width; ++lane) {
        float sum = 0;
        for (int64_t p = 0; p < a.n && lane < Lanes(a.w); ++p) {
          const int64_t i = Index(a.layout, a.conv, a.w.cols, a.n, column + lane, p);
          if (i >= 0) sum += a.dy[p * a.w.rows + row] * a.x[i];
        }
        a.dvalues[group * a.w.width + lane] = sum;
      }
    }
  }
}

void GradInputs(const Gradient &a, Range samples, char *) {
  const bool images = a.layout == Layout::kImages;
  const int64_t pixels = images ? a.conv.out_height * a.conv.out_width : 1;
  const int64_t size = images ? a.conv.in_height * a.conv.in_width * a.conv.channels : a.w.cols;
  std::fill(a.dx + samples.begin * size, a.dx + samples.end * size, 0.0f);
  for (int64_t p = samples.begin * pixels; p < samples.end * pixels; ++p) {
    for (int64_t row = 0; row < a.w.rows; ++row) {
      const float dy = a.dy[p * a.w.rows + row] * Scale(a.w, row);
      for (int64_t group = a.w.offsets[row]; group < a.w.offsets[row + 1]; ++group) {
        for (int64_t lane = 0; lane < Lanes(a.w); ++lane) {
          const int64_t column = Column(a.w, group) + lane;
          const int64_t i = Index(a.layout, a.conv, a.w.cols, a.n, column, p);
          if (i >= 0) a.dx[i] += dy * Value(a.w, group, lane);
        }
      }
    }
  }
}

bool Supported() { return true; }
size_t ScratchBytes(int64_t) { return 0; }

const AddKernels add({"scalar", /*rank=*/0, Supported, Rows, /*panel=*/nullptr, GradValues,
                      GradInputs, ScratchBytes});

}  // namespace
}  // namespace scalpel
