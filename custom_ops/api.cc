// The C ABI: chooses the kernels, cuts the work into tasks, hands out scratch memory.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "kernels.h"
#include "threads.h"

namespace scalpel {

std::vector<Kernels> &AllKernels() {
  static std::vector<Kernels> *all = new std::vector<Kernels>;
  return *all;
}

namespace {

constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kCacheLine = 16;        // floats
constexpr int64_t kFewRows = 32;          // packing a panel pays from about that many
constexpr int64_t kManyGroups = 1 << 15;  // waking a thread to look through fewer does not pay
constexpr int64_t kManyRows = 512;        // their sums fit the second-level cache

// Those that this machine supports, best first.
const std::vector<Kernels> &Supported() {
  static const std::vector<Kernels> *supported = [] {
    auto *kernels = new std::vector<Kernels>;
    for (const Kernels &k : AllKernels()) {
      if (k.supported()) kernels->push_back(k);
    }
    std::sort(kernels->begin(), kernels->end(),
              [](const Kernels &a, const Kernels &b) { return a.rank > b.rank; });
    return kernels;
  }();
  return *supported;
}

std::atomic<int> chosen{0};

const Kernels &Chosen() { return Supported()[chosen.load(std::memory_order_relaxed)]; }

// Kernels on vectors read whole groups of x: where a row is shorter than a group, they cannot.
const Kernels &For(const scalpel_gcsr &w) {
  return w.cols < w.width ? Supported().back() : Chosen();
}

struct Free {
  void operator()(char *memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<char, Free>;

// `bytes` for each of `count`, cache lines of their own; null where there are none to be had.
Memory Scratch(size_t *bytes, int64_t count) {
  *bytes = (*bytes + 63) / 64 * 64;
  void *memory = nullptr;
  if (posix_memalign(&memory, 64, std::max<size_t>(*bytes * count, 64))) return nullptr;
  return Memory(static_cast<char *>(memory));
}

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

Range Part(int64_t size, int64_t parts, int64_t part, int64_t multiple = 1) {
  const int64_t units = CeilDivide(size, multiple);
  return {std::min(units * part / parts * multiple, size),
          std::min(units * (part + 1) / parts * multiple, size)};
}

// Rows cut where the groups are cut into equal parts, a row counted like a few groups.
int64_t RowAt(const scalpel_gcsr &w, int64_t parts, int64_t part) {
  constexpr int64_t kRowCost = 4;
  const int64_t all = w.offsets[w.rows] + kRowCost * w.rows;
  int64_t low = 0, high = w.rows;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (w.offsets[middle] + kRowCost * middle < all * part / parts) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// The cuts of Blocks for some rows; whether some group reaches into a block that is not its own.
template <typename T>
bool Cut(const scalpel_gcsr &w, const Blocks &blocks, Range rows, uint32_t *cuts) {
  const T *columns = static_cast<const T *>(w.columns);
  bool reaches = false;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    int64_t group = w.offsets[row];
    const int64_t end = w.offsets[row + 1];
    cuts[row] = static_cast<uint32_t>(group);
    for (int64_t block = 1; block < blocks.count; ++block) {
      const int64_t begin = block * blocks.size;
      while (group < end && columns[group] < begin) ++group;
      if (group > w.offsets[row]) reaches |= columns[group - 1] + w.width > begin;
      cuts[block * w.rows + row] = static_cast<uint32_t>(group);
    }
    cuts[blocks.count * w.rows + row] = static_cast<uint32_t>(end);
  }
  return reaches;
}

Range RowsOf(const scalpel_gcsr &w, int64_t parts, int64_t part) {
  return {RowAt(w, parts, part), RowAt(w, parts, part + 1)};
}

int64_t Tasks(int threads) { return threads == 1 ? 1 : kTasksPerThread * threads; }

int MultiplyByRows(const Kernels &kernels, Product product) {
  const int threads = Threads();
  const int64_t parts = std::min(Tasks(threads), product.w.rows);
  // Samples that lie a power of two apart would share the same few lines of a cache.
  Memory samples;
  if (product.n > 1 && kernels.panel && product.x_stride % kCacheLine == 0) {
    product.x_stride += kCacheLine;
    size_t bytes = product.n * product.x_stride * sizeof(float);
    samples = Scratch(&bytes, 1);
    if (!samples) return SCALPEL_OUT_OF_MEMORY;
    float *to = reinterpret_cast<float *>(samples.get());
    for (int64_t sample = 0; sample < product.n; ++sample) {
      const float *from = product.x + sample * product.w.cols;
      std::copy(from, from + product.w.cols, to + sample * product.x_stride);
    }
    product.x = to;
  }
  ParallelFor(threads, parts,
              [&](int64_t part, int) { kernels.rows(product, RowsOf(product.w, parts, part)); });
  return SCALPEL_OK;
}

int MultiplyByPanels(const Kernels &kernels, Product product) {
  const scalpel_gcsr &w = product.w;
  const int threads = Threads();
  const int64_t panels = CeilDivide(product.n, kPanel);
  const int64_t parts = std::clamp<int64_t>(
      std::max(CeilDivide(Tasks(threads), panels), CeilDivide(w.rows, kManyRows)), 1,
      CeilDivide(w.rows, kFewRows));
  int64_t most_rows = 0;
  for (int64_t part = 0; part < parts; ++part) {
    const Range rows = RowsOf(w, parts, part);
    most_rows = std::max(most_rows, rows.end - rows.begin);
  }
  const int64_t stride = CeilDivide(CeilDivide(product.n, 16), panels) * 16;
  Blocks &blocks = product.blocks;
  blocks.size = std::min<int64_t>(kBlockFloats / stride / 16 * 16, kBlockMost - 64);
  blocks.count = (w.cols - w.width) / blocks.size + 1;

  size_t bytes = kernels.scratch_bytes(most_rows);
  size_t cut_bytes = (blocks.count + 1) * w.rows * sizeof(uint32_t);
  const Memory scratch = Scratch(&bytes, threads), cut_memory = Scratch(&cut_bytes, 1);
  if (!scratch || !cut_memory) return SCALPEL_OUT_OF_MEMORY;
  uint32_t *cuts = reinterpret_cast<uint32_t *>(cut_memory.get());
  const int64_t cutters = w.offsets[w.rows] < kManyGroups ? 1 : std::min(Tasks(threads), w.rows);
  std::atomic<bool> reaches{false};
  ParallelFor(threads, cutters, [&](int64_t part, int) {
    const Range rows = RowsOf(w, cutters, part);
    if (w.column_bytes == 2 ? Cut<uint16_t>(w, blocks, rows, cuts)
                            : Cut<uint32_t>(w, blocks, rows, cuts)) {
      reaches = true;
    }
  });
  blocks.cuts = cuts;
  blocks.overlap = reaches ? w.width - 1 : 0;

  ParallelFor(threads, panels * parts, [&](int64_t task, int worker) {
    kernels.panel(product, Part(product.n, panels, task / parts, 16),
                  RowsOf(w, parts, task % parts), scratch.get() + worker * bytes);
  });
  return SCALPEL_OK;
}

int Multiply(const Product &product) {
  if (!product.w.rows || !product.n) return SCALPEL_OK;
  const Kernels &kernels = For(product.w);
  const bool by_rows = product.layout == Layout::kSamples   ? product.n <= kNarrow
                       : product.layout == Layout::kColumns ? product.n == 1
                                                            : false;
  return by_rows || !kernels.panel ? MultiplyByRows(kernels, product)
                                   : MultiplyByPanels(kernels, product);
}

int GradValues(const Gradient &gradient) {
  const int threads = Threads();
  const scalpel_gcsr &w = gradient.w;
  const Kernels &kernels = For(w);
  const int64_t blocks = CeilDivide(w.cols, kBlock);
  size_t bytes = kernels.scratch_bytes(w.rows);
  const Memory scratch = Scratch(&bytes, threads);
  if (!scratch) return SCALPEL_OUT_OF_MEMORY;
  ParallelFor(threads, blocks, [&](int64_t block, int worker) {
    kernels.grad_values(gradient, Part(w.cols, blocks, block, kBlock),
                        scratch.get() + worker * bytes);
  });
  return SCALPEL_OK;
}

int GradInputs(const Gradient &gradient, int64_t samples) {
  if (!samples) return SCALPEL_OK;
  const int threads = Threads();
  const Kernels &kernels = For(gradient.w);
  const int64_t parts = std::min<int64_t>(samples, kTasksPerThread * threads);
  size_t bytes = kernels.scratch_bytes(gradient.w.rows);
  const Memory scratch = Scratch(&bytes, threads);
  if (!scratch) return SCALPEL_OUT_OF_MEMORY;
  ParallelFor(threads, parts, [&](int64_t part, int worker) {
    kernels.grad_inputs(gradient, Part(samples, parts, part), scratch.get() + worker * bytes);
  });
  return SCALPEL_OK;
}

int64_t Pixels(const scalpel_conv2d &conv) { return conv.batch * conv.out_height * conv.out_width; }

}  // namespace
}  // namespace scalpel

using scalpel::Layout;

int scalpel_gcsr_matmul(const scalpel_gcsr *w, int64_t n, const float *x, const float *bias,
                        int activation, float *y) {
  return scalpel::Multiply({*w, Layout::kSamples, {}, n, x, w->cols, bias, activation, y, {}});
}

int scalpel_gcsr_matmul_columns(const scalpel_gcsr *w, int64_t n, const float *x, const float *bias,
                                int activation, float *y) {
  return scalpel::Multiply({*w, Layout::kColumns, {}, n, x, w->cols, bias, activation, y, {}});
}

int scalpel_gcsr_conv2d(const scalpel_gcsr *w, const scalpel_conv2d *conv, const float *x,
                        const float *bias, int activation, float *y) {
  const int64_t pixels = scalpel::Pixels(*conv);
  const bool every_pixel = conv->kernel_height * conv->kernel_width == 1 &&
                           conv->out_height == conv->in_height &&
                           conv->out_width == conv->in_width && conv->stride_height == 1 &&
                           conv->stride_width == 1 && !conv->pad_top && !conv->pad_left;
  if (every_pixel) return scalpel_gcsr_matmul(w, pixels, x, bias, activation, y);
  return scalpel::Multiply({*w, Layout::kImages, *conv, pixels, x, 0, bias, activation, y, {}});
}

int scalpel_gcsr_matmul_grad_inputs(const scalpel_gcsr *w, int64_t n, const float *dy, float *dx) {
  return scalpel::GradInputs({*w, Layout::kSamples, {}, n, nullptr, dy, dx, nullptr}, n);
}

int scalpel_gcsr_matmul_grad_values(const scalpel_gcsr *w, int64_t n, const float *x,
                                    const float *dy, float *dvalues) {
  return scalpel::GradValues({*w, Layout::kSamples, {}, n, x, dy, nullptr, dvalues});
}

int scalpel_gcsr_conv2d_grad_inputs(const scalpel_gcsr *w, const scalpel_conv2d *conv,
                                    const float *dy, float *dx) {
  return scalpel::GradInputs(
      {*w, Layout::kImages, *conv, scalpel::Pixels(*conv), nullptr, dy, dx, nullptr}, conv->batch);
}

int scalpel_gcsr_conv2d_grad_values(const scalpel_gcsr *w, const scalpel_conv2d *conv,
                                    const float *x, const float *dy, float *dvalues) {
  return scalpel::GradValues(
      {*w, Layout::kImages, *conv, scalpel::Pixels(*conv), x, dy, nullptr, dvalues});
}

int scalpel_bias_grad(int64_t rows, int64_t n, const float *dy, float *dbias) {
  std::fill(dbias, dbias + rows, 0.0f);
  if (!rows) return SCALPEL_OK;  // n may then be anything
  for (int64_t p = 0; p < n; ++p) {
    for (int64_t row = 0; row < rows; ++row) dbias[row] += dy[p * rows + row];
  }
  return SCALPEL_OK;
}

const char *scalpel_isa_name(int index) {
  const auto &supported = scalpel::Supported();
  return index >= 0 && index < static_cast<int>(supported.size()) ? supported[index].isa : nullptr;
}

const char *scalpel_isa(void) { return scalpel::Chosen().isa; }

int scalpel_use_isa(const char *name) {
  const auto &supported = scalpel::Supported();
  for (size_t i = 0; i < supported.size(); ++i) {
    if (!std::strcmp(supported[i].isa, name)) {
      scalpel::chosen.store(static_cast<int>(i), std::memory_order_relaxed);
      return SCALPEL_OK;
    }
  }
  return SCALPEL_INVALID;
}

int scalpel_threads(void) { return scalpel::Threads(); }

void scalpel_set_threads(int threads) { scalpel::SetThreads(threads); }
