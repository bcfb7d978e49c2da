// What an instruction set provides, and how it is found. One file per instruction set adds itself.
#ifndef SCALPEL_CUSTOM_OPS_KERNELS_H_
#define SCALPEL_CUSTOM_OPS_KERNELS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "scalpel_kernels.h"

namespace scalpel {

// Where the right-hand matrix X (cols, n) of W X lies, and Y (rows, n) like it.
enum class Layout {
  kSamples,  // X^T: x (n, cols), y (n, rows)
  kColumns,  // X: x (cols, n), y (rows, n)
  kImages,   // NHWC images; column p of X is what output pixel p sees; y (n, rows)
};

// Columns of W in blocks, so small that a block's part of a panel of X stays in the first-level
// cache. Groups belong to the block that they start in.
struct Blocks {
  int64_t size;  // columns of a block; the last one may have up to 15 more
  int64_t count;
  int64_t overlap;       // columns that groups of a block reach into the next one
  const uint32_t *cuts;  // (count + 1, rows): the first group of a row that starts in a block
};

struct Product {
  scalpel_gcsr w;
  Layout layout;
  scalpel_conv2d conv;  // kImages only
  int64_t n;
  const float *x;
  int64_t x_stride;   // floats from one sample to the next, for Kernels::rows of kSamples
  const float *bias;  // may be null
  int activation;
  float *y;
  Blocks blocks;  // for Kernels::panel
};

// The gradients of a linear product; layout is kSamples or kImages.
struct Gradient {
  scalpel_gcsr w;
  Layout layout;
  scalpel_conv2d conv;
  int64_t n;
  const float *x;   // of grad_values
  const float *dy;  // (n, rows)
  float *dx;        // of grad_inputs
  float *dvalues;   // of grad_values
};

struct Range {
  int64_t begin, end;
};

// Functions of one instruction set. Ranges partition the work; each part may run on any thread, and
// partitioning changes no bit. `scratch` has scratch_bytes bytes for as many rows of W, aligned to
// 64.
struct Kernels {
  const char *isa;
  int rank;  // the highest that is supported is chosen
  bool (*supported)();

  // Rows of y, for all n.
  void (*rows)(const Product &, Range rows);
  // At most kPanel columns of y; null where `rows` does everything.
  void (*panel)(const Product &, Range columns, Range rows, char *scratch);
  // dvalues of the groups whose column lies in `columns`, multiples of kBlock but for the end.
  void (*grad_values)(const Gradient &, Range columns, char *scratch);
  // dx of whole samples or images.
  void (*grad_inputs)(const Gradient &, Range samples, char *scratch);
  size_t (*scratch_bytes)(int64_t rows);
};

std::vector<Kernels> &AllKernels();

struct AddKernels {
  explicit AddKernels(const Kernels &kernels) { AllKernels().push_back(kernels); }
};

// Up to this many samples a product is limited by reading the weights, and goes by rows.
constexpr int64_t kNarrow = 8;
// Columns of W that one task of grad_values owns.
constexpr int64_t kBlock = 96;
// A panel has at most this many columns; as many floats are packed at a time, in at most so many
// rows.
constexpr int64_t kPanel = 96;
constexpr int64_t kBlockFloats = 6400;
constexpr int64_t kBlockMost = 448;

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_KERNELS_H_
