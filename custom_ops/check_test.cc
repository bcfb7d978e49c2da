// scalpel_gcsr_check and scalpel_conv2d_check against damaged matrices and convolutions: what they
// let pass has to be valid and is multiplied; what they refuse has to be invalid and has a
// sentence.
//
// check_test [first seed [seeds]]: exit code 0, or 1 and the seed that failed.
#include <signal.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <vector>

#include "scalpel_kernels.h"
#include "testing/guarded.h"

namespace {

using scalpel::Guarded;
using scalpel::Random;

constexpr int64_t kMost = int64_t{1} << 40;
constexpr int64_t kOdd[] = {0,
                            1,
                            2,
                            3,
                            -1,
                            255,
                            65535,
                            65536,
                            int64_t{1} << 20,
                            int64_t{1} << 31,
                            (int64_t{1} << 32) + 1,
                            kMost,
                            kMost + 1,
                            std::numeric_limits<int64_t>::max(),
                            std::numeric_limits<int64_t>::min()};

char current[64] = "the start";

void Fail(const char *what) {
  std::fprintf(stderr, "check_test: %s: %s\n", current, what);
  std::exit(1);
}

void OnSignal(int) {
  const char *parts[] = {"check_test: ", current, ": touched what is not an argument\n"};
  for (const char *part : parts) {
    if (write(STDERR_FILENO, part, std::strlen(part)) < 0) break;
  }
  _exit(1);
}

// A matrix as it is handed over: sizes that were given, arrays of just those sizes.
struct Given {
  scalpel_gcsr w;
  int64_t groups, offset_count;
  std::vector<uint32_t> columns, offsets;
};

Given MakeValid(Random *random) {
  Given m = {};
  m.w.rows = random->Below(9);
  m.w.cols = random->Pick({1, 2, 7, 8, 16, 17, 40, 200});
  m.w.width = random->Pick({2, 4, 8, 16});
  m.w.value_type = static_cast<int32_t>(random->Below(3));
  m.w.column_bytes = random->Pick({2, 4});
  const int64_t last = std::max<int64_t>(m.w.cols - m.w.width, 0);
  m.offsets = {0};
  for (int64_t row = 0; row < m.w.rows; ++row) {
    int64_t column = random->Below(2) ? 0 : random->Below(last + 1);
    for (; column <= last && random->Below(8); column += 1 + random->Below(2 * m.w.width)) {
      m.columns.push_back(static_cast<uint32_t>(column));
    }
    m.offsets.push_back(static_cast<uint32_t>(m.columns.size()));
  }
  m.groups = static_cast<int64_t>(m.columns.size());
  m.offset_count = static_cast<int64_t>(m.offsets.size());
  return m;
}

void Damage(Random *random, Given *m) {
  const auto at = [&](const std::vector<uint32_t> &v) { return random->Below(v.size()); };
  switch (random->Below(10)) {
    case 0:
      m->w.rows = random->Pick(kOdd);
      break;
    case 1:
      m->w.cols = random->Below(2) ? random->Pick(kOdd) : m->w.cols - 1;
      break;
    case 2:
      m->w.width = static_cast<int32_t>(random->Below(2) ? random->Pick(kOdd) : random->Below(33));
      break;
    case 3:
      m->w.value_type = static_cast<int32_t>(random->Below(6) - 2);
      break;
    case 4:
      m->w.column_bytes = static_cast<int32_t>(random->Below(6) - 1);
      break;
    case 5:
      m->offsets[at(m->offsets)] = static_cast<uint32_t>(random->Pick(kOdd));
      break;
    case 6:
      m->offsets[at(m->offsets)] += static_cast<uint32_t>(random->Below(5) - 2);
      break;
    case 7:
      if (!m->columns.empty()) {
        m->columns[at(m->columns)] = static_cast<uint32_t>(random->Pick(kOdd));
      }
      break;
    case 8:
      if (!m->columns.empty()) std::swap(m->columns[at(m->columns)], m->columns[at(m->columns)]);
      break;
    case 9:
      m->columns.resize(random->Below(m->columns.size() + 3));
      m->groups = static_cast<int64_t>(m->columns.size());
      break;
  }
  // Fewer or more offsets than rows; a number of groups that no array could have.
  if (random->Below(20) == 0) m->offsets.resize(1 + random->Below(m->offsets.size() + 2));
  m->offset_count = static_cast<int64_t>(m->offsets.size());
  if (random->Below(40) == 0) m->groups = random->Pick({int64_t{-1}, kMost, int64_t{1} << 32});
}

// What the head of scalpel_kernels.h asks for, in 128 bits.
bool IsValid(const Given &m) {
  const scalpel_gcsr &w = m.w;
  const __int128 area = static_cast<__int128>(std::max<int64_t>(w.rows, 1)) * w.cols;
  if (w.value_type < 0 || w.value_type > 2 || w.rows < 0 || w.cols < 1 || area > kMost)
    return false;
  if (w.width != 2 && w.width != 4 && w.width != 8 && w.width != 16) return false;
  if (w.column_bytes != 2 && w.column_bytes != 4) return false;
  if (m.groups != static_cast<int64_t>(m.columns.size())) return false;
  if (m.offset_count != w.rows + 1 || m.offsets.front() != 0) return false;
  if (m.offsets.back() != m.groups) return false;
  if (!std::is_sorted(m.offsets.begin(), m.offsets.end())) return false;
  for (int64_t row = 0; row < w.rows; ++row) {
    for (int64_t group = m.offsets[row]; group < m.offsets[row + 1]; ++group) {
      const auto column = [&](int64_t i) {
        return w.column_bytes == 2 ? m.columns[i] & 0xFFFF : m.columns[i];
      };
      if (column(group) > std::max<int64_t>(w.cols - w.width, 0)) return false;
      if (group > m.offsets[row] && column(group) <= column(group - 1)) return false;
    }
  }
  return true;
}

scalpel_conv2d MakeConv(Random *random, const scalpel_gcsr &w) {
  const int64_t kernel = random->Pick({1, 1, 2, 3});
  const int64_t channels = w.cols % kernel ? w.cols : w.cols / kernel;
  scalpel_conv2d c = {random->Below(3),
                      1 + random->Below(6),
                      1 + random->Below(6),
                      channels,
                      1 + random->Below(6),
                      1 + random->Below(6),
                      kernel,
                      1,
                      1 + random->Below(3),
                      1 + random->Below(3),
                      1 + random->Below(3),
                      1 + random->Below(3),
                      random->Below(4),
                      random->Below(4)};
  int64_t *const fields[] = {
      &c.batch,           &c.in_height,      &c.in_width,     &c.channels,      &c.out_height,
      &c.out_width,       &c.kernel_height,  &c.kernel_width, &c.stride_height, &c.stride_width,
      &c.dilation_height, &c.dilation_width, &c.pad_top,      &c.pad_left};
  for (int64_t left = random->Below(4); left > 0; --left) {
    *random->Pick(fields) = random->Pick(kOdd);
  }
  return c;
}

// Sizes of which an empty axis hides none, as floating point: for limits far from each other.
template <typename... Sizes>
double Product(Sizes... sizes) {
  double product = 1;
  for (const int64_t size : {static_cast<int64_t>(sizes)...}) product *= std::max<int64_t>(size, 1);
  return product;
}

// The largest number that indexing a convolution comes to.
double Largest(const scalpel_gcsr &w, const scalpel_conv2d &c) {
  return std::max(
      {Product(c.batch, c.in_height, c.in_width, c.channels),
       Product(c.batch, c.out_height, c.out_width, w.rows),
       Product(c.kernel_height, c.kernel_width, c.channels), Product(c.out_height, c.stride_height),
       Product(c.out_width, c.stride_width), Product(c.kernel_height, c.dilation_height),
       Product(c.kernel_width, c.dilation_width), Product(c.pad_top), Product(c.pad_left)});
}

bool IsValid(const scalpel_gcsr &w, const scalpel_conv2d &c) {
  for (const int64_t size :
       {c.in_height, c.in_width, c.channels, c.kernel_height, c.kernel_width, c.stride_height,
        c.stride_width, c.dilation_height, c.dilation_width}) {
    if (size < 1) return false;
  }
  for (const int64_t size : {c.batch, c.out_height, c.out_width, c.pad_top, c.pad_left}) {
    if (size < 0) return false;
  }
  return Largest(w, c) <= static_cast<double>(kMost) &&
         c.kernel_height * c.kernel_width * c.channels == w.cols;
}

// Whether it was accepted; checks the sentence where not.
template <typename Function>
bool Accepts(Random *random, Function function) {
  Guarded text(512, true);
  const size_t size = random->Pick({512, 512, 512, 21, 1, 0});
  const int status = function(text.as<char>() + 512 - size, size);
  const char *message = text.as<char>() + 512 - size;
  if (status != SCALPEL_OK && status != SCALPEL_INVALID) Fail("an unknown status");
  if (status == SCALPEL_INVALID && size > 0) {
    const size_t length = strnlen(message, size);
    if (length == size) Fail("a message without its end");
    if (size == 512 && (length < 20 || message[length - 1] != '.')) Fail("not a sentence");
  }
  return status == SCALPEL_OK;
}

enum Outcome { kRefused, kConvRefused, kMultiplied, kConvolved, kOutcomes };

Outcome RunSeed(uint64_t seed) {
  std::snprintf(current, sizeof current, "seed %" PRIu64, seed);
  Random random(seed);
  Given m = MakeValid(&random);
  for (int64_t left = random.Below(3); left > 0; --left) Damage(&random, &m);
  const bool at_end = random.Below(2);

  Guarded columns(m.columns.size() * std::clamp(m.w.column_bytes, 0, 4), at_end);
  Guarded offsets(m.offsets.size() * sizeof(uint32_t), at_end);
  for (size_t i = 0; i < m.columns.size(); ++i) {
    if (m.w.column_bytes == 2) columns.as<uint16_t>()[i] = static_cast<uint16_t>(m.columns[i]);
    if (m.w.column_bytes == 4) columns.as<uint32_t>()[i] = m.columns[i];
  }
  std::copy(m.offsets.begin(), m.offsets.end(), offsets.as<uint32_t>());
  m.w.columns = columns.as<void>();
  m.w.offsets = offsets.as<uint32_t>();
  const bool accepted = Accepts(&random, [&](char *message, size_t size) {
    return scalpel_gcsr_check(&m.w, m.groups, m.offset_count, message, size);
  });
  if (accepted != IsValid(m)) Fail(accepted ? "a bad matrix passed" : "a good matrix was refused");
  if (!accepted) return kRefused;

  const int bytes[] = {4, 2, 1};
  Guarded values(m.groups * m.w.width * bytes[m.w.value_type], at_end);
  Guarded scales(m.w.rows * sizeof(float), at_end);
  std::memset(values.as<char>(), 1, m.groups * m.w.width * bytes[m.w.value_type]);
  std::fill_n(scales.as<float>(), m.w.rows, 1.0f);
  m.w.values = values.as<void>();
  m.w.scales = m.w.value_type == SCALPEL_INT8 ? scales.as<float>() : nullptr;
  if (m.w.cols > 100000) return kMultiplied;

  const scalpel_conv2d c = MakeConv(&random, m.w);
  const bool conv_accepted = Accepts(&random, [&](char *message, size_t size) {
    return scalpel_conv2d_check(&m.w, &c, message, size);
  });
  if (conv_accepted != IsValid(m.w, c)) {
    Fail(conv_accepted ? "a bad convolution passed" : "a good convolution was refused");
  }
  const bool convolve = conv_accepted && Largest(m.w, c) < 20000;
  const int64_t n = random.Below(20);
  const int64_t x_size = convolve ? c.batch * c.in_height * c.in_width * c.channels : n * m.w.cols;
  const int64_t y_size = (convolve ? c.batch * c.out_height * c.out_width : n) * m.w.rows;
  Guarded x(x_size * sizeof(float), at_end), y(y_size * sizeof(float), at_end);
  std::fill_n(x.as<float>(), x_size, 1.0f);
  for (int i = 0; scalpel_isa_name(i) != nullptr; ++i) {
    scalpel_use_isa(scalpel_isa_name(i));
    const int status =
        convolve
            ? scalpel_gcsr_conv2d(&m.w, &c, x.as<float>(), nullptr, SCALPEL_RELU, y.as<float>())
            : scalpel_gcsr_matmul(&m.w, n, x.as<float>(), nullptr, SCALPEL_RELU, y.as<float>());
    if (status != SCALPEL_OK) Fail("a product failed");
    for (int64_t at = 0; at < y_size; ++at) {
      if (!(y.as<float>()[at] >= 0)) Fail("an output was not written");
    }
  }
  return convolve ? kConvolved : conv_accepted ? kMultiplied : kConvRefused;
}

}  // namespace

int main(int argc, char **argv) {
  const uint64_t first = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1;
  const uint64_t seeds = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 20000;
  signal(SIGSEGV, OnSignal);
  signal(SIGBUS, OnSignal);
  uint64_t counts[kOutcomes] = {};
  for (uint64_t seed = first; seed < first + seeds; ++seed) ++counts[RunSeed(seed)];
  std::printf("%" PRIu64 " cases: %" PRIu64 " matrices refused, %" PRIu64
              " convolutions refused, %" PRIu64 " products, %" PRIu64 " convolutions\n",
              seeds, counts[kRefused], counts[kConvRefused], counts[kMultiplied],
              counts[kConvolved]);
  return 0;
}
