// What the test programs multiply: random matrices in grouped CSR, and products as tables of
// indices, so that one sum in double serves every function of scalpel_kernels.h.
#ifndef SCALPEL_CUSTOM_OPS_TESTING_PROBLEM_H_
#define SCALPEL_CUSTOM_OPS_TESTING_PROBLEM_H_

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "scalpel_kernels.h"
#include "testing/guarded.h"

namespace scalpel {

// A dot product, and what bounds the rounding of any float32 evaluation of it.
struct Sum {
  double value = 0, magnitude = 0;
  int64_t terms = 0;

  void Add(double a, double b) {
    value += a * b;
    magnitude += std::fabs(a * b);
    ++terms;
  }
  // Higham, Accuracy and Stability, section 3.1, for any order of the sum; two roundings more for
  // the scale and the bias. float's epsilon is twice the unit roundoff: room for the second order.
  double Tolerance() const {
    return (terms + 2) * double{std::numeric_limits<float>::epsilon()} * magnitude;
  }
};

// One matrix, its arrays guarded, and its stored weights as they are meant.
struct Matrix {
  scalpel_gcsr w = {};
  std::vector<uint32_t> columns;
  std::vector<int64_t> row;  // of each group
  std::vector<double> weights;
  std::vector<std::unique_ptr<Guarded>> arrays;

  int64_t groups() const { return static_cast<int64_t>(columns.size()); }
};

inline Guarded &Keep(Matrix *m, size_t bytes, bool at_end) {
  m->arrays.push_back(std::make_unique<Guarded>(bytes, at_end));
  return *m->arrays.back();
}

inline float Rounded(float value, int type, Random *random) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (type == SCALPEL_BFLOAT16) bits &= 0xFFFF0000u;
  std::memcpy(&value, &bits, sizeof bits);
  return type == SCALPEL_INT8 ? static_cast<float>(random->Below(256) - 128) : value;
}

inline std::unique_ptr<Matrix> MakeMatrix(Random *random, int64_t rows, int64_t cols, bool at_end) {
  auto m = std::make_unique<Matrix>();
  const int width = random->Pick({2, 4, 8, 16});
  const int type = random->Pick({SCALPEL_FLOAT32, SCALPEL_BFLOAT16, SCALPEL_INT8});
  const int column_bytes = random->Pick({2, 4});
  const int percent = random->Pick({0, 5, 30, 50, 90, 100});
  // The encoder's groups start at multiples of the width; the format asks only that they ascend.
  const int64_t step = random->Below(4) ? width : 1 + random->Below(width);
  const int64_t last = cols > width ? cols - width : 0;

  std::vector<uint32_t> offsets{0};
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t column = 0; column < cols; column += step) {
      const int64_t start = column < last ? column : last;
      const bool new_start = offsets.back() == m->columns.size() || m->columns.back() < start;
      if (random->Below(100) < percent && new_start) {
        m->columns.push_back(static_cast<uint32_t>(start));
        m->row.push_back(r);
      }
    }
    offsets.push_back(static_cast<uint32_t>(m->columns.size()));
  }

  const int64_t groups = m->groups();
  const int bytes = type == SCALPEL_FLOAT32 ? 4 : type == SCALPEL_BFLOAT16 ? 2 : 1;
  Guarded &values = Keep(m.get(), groups * width * bytes, at_end);
  Guarded &columns = Keep(m.get(), groups * column_bytes, at_end);
  Guarded &starts = Keep(m.get(), offsets.size() * sizeof(uint32_t), at_end);
  Guarded &scales = Keep(m.get(), rows * sizeof(float), at_end);
  std::memcpy(starts.as<uint32_t>(), offsets.data(), offsets.size() * sizeof(uint32_t));
  for (int64_t r = 0; r < rows; ++r) scales.as<float>()[r] = 0.01f + std::fabs(random->Uniform());
  for (int64_t g = 0; g < groups; ++g) {
    if (column_bytes == 2) columns.as<uint16_t>()[g] = static_cast<uint16_t>(m->columns[g]);
    if (column_bytes == 4) columns.as<uint32_t>()[g] = m->columns[g];
    for (int lane = 0; lane < width; ++lane) {
      const int64_t at = g * width + lane;
      const float value = Rounded(random->Uniform(), type, random);
      uint32_t word;
      std::memcpy(&word, &value, sizeof word);
      if (m->columns[g] + lane >= cols) word = ~0u;  // lanes past a short row: a NaN, never used
      const uint16_t half = static_cast<uint16_t>(word >> 16);
      const int8_t byte = static_cast<int8_t>(value);
      if (type == SCALPEL_FLOAT32) std::memcpy(values.as<char>() + 4 * at, &word, sizeof word);
      if (type == SCALPEL_BFLOAT16) std::memcpy(values.as<char>() + 2 * at, &half, sizeof half);
      if (type == SCALPEL_INT8) std::memcpy(values.as<char>() + at, &byte, sizeof byte);
      const double scale = type == SCALPEL_INT8 ? scales.as<float>()[m->row[g]] : 1.0;
      m->weights.push_back(value * scale);
    }
  }
  for (auto &array : m->arrays) array->Freeze();
  m->w = {values.as<void>(),
          columns.as<void>(),
          starts.as<uint32_t>(),
          type == SCALPEL_INT8 ? scales.as<float>() : nullptr,
          rows,
          cols,
          type,
          width,
          column_bytes};
  return m;
}

// One product and its gradients as a table: column c of the matrix meets x[input[p * cols + c]] at
// position p, or nothing where that is -1; row r gives y[output[p * rows + r]].
struct Problem {
  std::string name;
  std::unique_ptr<Matrix> matrix;
  int64_t positions = 0, x_size = 0;
  std::vector<int64_t> input, output;
  std::function<int(const float *x, const float *bias, int activation, float *y)> forward;
  std::function<int(const float *dy, float *dx)> grad_inputs;  // none: empty
  std::function<int(const float *x, const float *dy, float *dvalues)> grad_values;
};

inline Problem MakeMatmul(Random *random, bool at_end, bool by_columns) {
  const int64_t rows = random->Pick({1, 2, 3, 4, 5, 7, 8, 13, 16, 17, 33, 64, 70});
  const int64_t cols =
      random->Pick({1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 64, 65, 129, 257, 600});
  const int64_t n = random->Below(2) ? random->Below(18) : random->Pick({31, 32, 64, 65, 100, 729});
  Problem p;
  p.name = by_columns ? "matmul_columns" : "matmul";
  p.matrix = MakeMatrix(random, rows, cols, at_end);
  p.positions = n;
  p.x_size = n * cols;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < cols; ++c) p.input.push_back(by_columns ? c * n + i : i * cols + c);
    for (int64_t r = 0; r < rows; ++r) p.output.push_back(by_columns ? r * n + i : i * rows + r);
  }
  const scalpel_gcsr *w = &p.matrix->w;
  if (by_columns) {
    p.forward = [=](const float *x, const float *bias, int activation, float *y) {
      return scalpel_gcsr_matmul_columns(w, n, x, bias, activation, y);
    };
    return p;
  }
  p.forward = [=](const float *x, const float *bias, int activation, float *y) {
    return scalpel_gcsr_matmul(w, n, x, bias, activation, y);
  };
  p.grad_inputs = [=](const float *dy, float *dx) {
    return scalpel_gcsr_matmul_grad_inputs(w, n, dy, dx);
  };
  p.grad_values = [=](const float *x, const float *dy, float *dvalues) {
    return scalpel_gcsr_matmul_grad_values(w, n, x, dy, dvalues);
  };
  return p;
}

inline Problem MakeConv2d(Random *random, bool at_end) {
  scalpel_conv2d c = {};
  c.batch = random->Pick({0, 1, 1, 2, 3});
  c.in_height = 1 + random->Below(14);
  c.in_width = 1 + random->Below(14);
  c.channels = random->Pick({1, 2, 3, 4, 5, 7, 8, 16, 17, 32});
  c.kernel_height = random->Pick({1, 1, 2, 3, 5});
  c.kernel_width = random->Pick({1, 1, 2, 3, 5});
  c.stride_height = 1 + random->Below(3);
  c.stride_width = 1 + random->Below(3);
  c.dilation_height = 1 + random->Below(3);
  c.dilation_width = 1 + random->Below(3);
  c.pad_top = random->Below(c.kernel_height * c.dilation_height);
  c.pad_left = random->Below(c.kernel_width * c.dilation_width);
  c.out_height = 1 + (c.in_height - 1) / c.stride_height;
  c.out_width = 1 + (c.in_width - 1) / c.stride_width;
  const int64_t rows = random->Pick({1, 2, 5, 8, 17, 32});
  const int64_t cols = c.kernel_height * c.kernel_width * c.channels;
  Problem p;
  p.name = "conv2d";
  p.matrix = MakeMatrix(random, rows, cols, at_end);
  p.positions = c.batch * c.out_height * c.out_width;
  p.x_size = c.batch * c.in_height * c.in_width * c.channels;
  for (int64_t i = 0; i < p.positions; ++i) {
    const int64_t image = i / (c.out_height * c.out_width);
    const int64_t top = i / c.out_width % c.out_height * c.stride_height - c.pad_top;
    const int64_t left = i % c.out_width * c.stride_width - c.pad_left;
    for (int64_t k = 0; k < cols; ++k) {
      const int64_t tap = k / c.channels;
      const int64_t y = top + tap / c.kernel_width * c.dilation_height;
      const int64_t x = left + tap % c.kernel_width * c.dilation_width;
      const bool inside = y >= 0 && y < c.in_height && x >= 0 && x < c.in_width;
      const int64_t pixel = (image * c.in_height + y) * c.in_width + x;
      p.input.push_back(inside ? pixel * c.channels + k % c.channels : -1);
    }
    for (int64_t r = 0; r < rows; ++r) p.output.push_back(i * rows + r);
  }
  const scalpel_gcsr *w = &p.matrix->w;
  p.forward = [=](const float *x, const float *bias, int activation, float *y) {
    return scalpel_gcsr_conv2d(w, &c, x, bias, activation, y);
  };
  p.grad_inputs = [=](const float *dy, float *dx) {
    return scalpel_gcsr_conv2d_grad_inputs(w, &c, dy, dx);
  };
  p.grad_values = [=](const float *x, const float *dy, float *dvalues) {
    return scalpel_gcsr_conv2d_grad_values(w, &c, x, dy, dvalues);
  };
  return p;
}

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_TESTING_PROBLEM_H_
