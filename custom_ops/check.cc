// Whether arrays from outside are grouped CSR: the kernels trust what has passed here.
#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <limits>
#include <type_traits>

#include "kernels.h"
#include "threads.h"

namespace scalpel {
namespace {

constexpr int64_t kMost = int64_t{1} << 40;
constexpr int64_t kGroupsOfTask = 1 << 16;  // checked at a time by one thread

struct Message {
  char *text;
  size_t size;

  __attribute__((format(printf, 2, 3))) int operator()(const char *format, ...) const {
    va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text, size, format, arguments);
    va_end(arguments);
    return SCALPEL_INVALID;
  }
};

// Whether the product of these sizes, 0 counted as 1, stays below kMost: what no array holds may
// still be added up.
template <typename... Sizes>
bool Fits(Sizes... sizes) {
  double product = 1;
  for (const int64_t size : {static_cast<int64_t>(sizes)...}) {
    product *= static_cast<double>(std::max<int64_t>(size, 1));
  }
  return product <= static_cast<double>(kMost);
}

// The first of some rows whose columns do not ascend or end past `last`, or rows.end.
template <typename T>
int64_t FirstWrongRow(const scalpel_gcsr &w, int64_t last, Range rows) {
  using Wide = std::conditional_t<sizeof(T) == 2, int32_t, int64_t>;
  const T *columns = static_cast<const T *>(w.columns);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t begin = w.offsets[row], end = w.offsets[row + 1];
    // Negative where a column is not greater than the one before. Without early exit or comparison,
    // the loop runs on vectors.
    Wide signs = 0;
    for (int64_t group = begin + 1; group < end; ++group) {
      signs |= static_cast<Wide>(columns[group]) - static_cast<Wide>(columns[group - 1]) - 1;
    }
    if (signs < 0 || (begin < end && columns[end - 1] > last)) return row;
  }
  return rows.end;
}

template <typename T>
int CheckColumns(const scalpel_gcsr &w, const Message &fail) {
  const T *columns = static_cast<const T *>(w.columns);
  const int64_t last = std::max<int64_t>(w.cols - w.width, 0);
  const int64_t parts = std::min<int64_t>(w.offsets[w.rows] / kGroupsOfTask + 1, w.rows);
  std::atomic<int64_t> row{w.rows};  // the lowest wrong one
  ParallelFor(Threads(), parts, [&](int64_t part, int) {
    const Range rows = {w.rows * part / parts, w.rows * (part + 1) / parts};
    const int64_t wrong = FirstWrongRow<T>(w, last, rows);
    if (wrong == rows.end) return;
    int64_t lowest = row;
    while (wrong < lowest && !row.compare_exchange_weak(lowest, wrong)) continue;
  });
  if (row == w.rows) return SCALPEL_OK;
  const int64_t begin = w.offsets[row], end = w.offsets[row + 1];
  for (int64_t group = begin + 1; group < end; ++group) {
    if (columns[group] > columns[group - 1]) continue;
    return fail("Columns ascend within a row; column %" PRId64 " follows %" PRId64
                " in row %" PRId64 ".",
                int64_t{columns[group]}, int64_t{columns[group - 1]}, row.load());
  }
  return fail("Columns lie in [0, %" PRId64 "] so that a group of %d ends within a row of %" PRId64
              "; got %" PRId64 " in row %" PRId64 ".",
              last, w.width, w.cols, int64_t{columns[end - 1]}, row.load());
}

int CheckMatrix(const scalpel_gcsr &w, int64_t groups, int64_t offset_count, const Message &fail) {
  if (w.value_type < SCALPEL_FLOAT32 || w.value_type > SCALPEL_INT8) {
    return fail("Values are float32, bfloat16 or int8; got type %d.", w.value_type);
  }
  if (w.width != 2 && w.width != 4 && w.width != 8 && w.width != 16) {
    return fail("Groups hold 2, 4, 8 or 16 values; got values of width %d.", w.width);
  }
  if (w.column_bytes != 2 && w.column_bytes != 4) {
    return fail("Columns have 2 or 4 bytes; got %d.", w.column_bytes);
  }
  if (w.rows < 0 || w.cols < 1 || !Fits(w.rows, w.cols)) {
    return fail("A matrix has rows and at least one column, fewer than 2^40 together; got %" PRId64
                " x %" PRId64 ".",
                w.rows, w.cols);
  }
  if (groups < 0 || groups > std::numeric_limits<uint32_t>::max()) {
    return fail("Offsets of 32 bits reach 4294967295 groups; got %" PRId64 ".", groups);
  }
  if (offset_count != w.rows + 1) {
    return fail("A matrix of %" PRId64 " rows has %" PRId64 " offsets; got %" PRId64 ".", w.rows,
                w.rows + 1, offset_count);
  }
  if (w.offsets[0] != 0 || w.offsets[w.rows] != groups) {
    return fail("Offsets run from 0 to the number of groups, %" PRId64 "; got %" PRIu32
                " to %" PRIu32 ".",
                groups, w.offsets[0], w.offsets[w.rows]);
  }
  for (int64_t row = 0; row < w.rows; ++row) {
    if (w.offsets[row + 1] < w.offsets[row]) {
      return fail("Offsets never fall from one row to the next; row %" PRId64 " has %" PRIu32
                  " to %" PRIu32 ".",
                  row, w.offsets[row], w.offsets[row + 1]);
    }
  }
  return w.column_bytes == 2 ? CheckColumns<uint16_t>(w, fail) : CheckColumns<uint32_t>(w, fail);
}

int CheckConv(const scalpel_gcsr &w, const scalpel_conv2d &c, const Message &fail) {
  const int64_t least_one[] = {c.in_height,     c.in_width,        c.channels,
                               c.kernel_height, c.kernel_width,    c.stride_height,
                               c.stride_width,  c.dilation_height, c.dilation_width};
  for (const int64_t size : least_one) {
    if (size < 1 || size > kMost) {
      return fail(
          "Images, channels, kernel, strides and dilations are at least 1; got %" PRId64 ".", size);
    }
  }
  if (c.batch < 0 || c.out_height < 0 || c.out_width < 0 || c.pad_top < 0 || c.pad_left < 0 ||
      c.pad_top > kMost || c.pad_left > kMost || c.batch > kMost || c.out_height > kMost ||
      c.out_width > kMost) {
    return fail("Batch, outputs and padding of a convolution are at least 0 and below 2^40.");
  }
  if (!Fits(c.batch, c.in_height, c.in_width, c.channels) ||
      !Fits(c.batch, c.out_height, c.out_width, w.rows) ||
      !Fits(c.kernel_height, c.kernel_width, c.channels) || !Fits(c.out_height, c.stride_height) ||
      !Fits(c.out_width, c.stride_width) || !Fits(c.kernel_height, c.dilation_height) ||
      !Fits(c.kernel_width, c.dilation_width)) {
    return fail("A convolution is computed up to 2^40 inputs and outputs; got a larger one.");
  }
  if (w.cols != c.kernel_height * c.kernel_width * c.channels) {
    return fail("A %" PRId64 " x %" PRId64 " kernel on %" PRId64 " channels has %" PRId64
                " columns; got %" PRId64 ".",
                c.kernel_height, c.kernel_width, c.channels,
                c.kernel_height * c.kernel_width * c.channels, w.cols);
  }
  return SCALPEL_OK;
}

}  // namespace
}  // namespace scalpel

int scalpel_gcsr_check(const scalpel_gcsr *w, int64_t groups, int64_t offset_count, char *message,
                       size_t size) {
  return scalpel::CheckMatrix(*w, groups, offset_count, {message, size});
}

int scalpel_conv2d_check(const scalpel_gcsr *w, const scalpel_conv2d *conv, char *message,
                         size_t size) {
  return scalpel::CheckConv(*w, *conv, {message, size});
}
