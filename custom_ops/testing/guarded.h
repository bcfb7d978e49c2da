// What the test programs share: arrays between pages that nobody may touch, and random numbers that
// are the same everywhere.
#ifndef SCALPEL_CUSTOM_OPS_TESTING_GUARDED_H_
#define SCALPEL_CUSTOM_OPS_TESTING_GUARDED_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace scalpel {

// `bytes` bytes flush against the page that follows them, or the one that precedes them. They hold
// 0xFF, a NaN wherever a float is read, until somebody writes.
class Guarded {
 public:
  Guarded(size_t bytes, bool at_end) {
    const size_t page = sysconf(_SC_PAGESIZE);
    room_ = (bytes + page - 1) / page * page;
    size_ = room_ + 2 * page;
    base_ = static_cast<char *>(
        mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (base_ == MAP_FAILED || (room_ && mprotect(base_ + page, room_, PROT_READ | PROT_WRITE))) {
      std::perror("mmap");
      std::abort();
    }
    first_ = base_ + page;
    for (size_t i = 0; i < room_; ++i) first_[i] = static_cast<char>(0xFF);
    data_ = at_end ? first_ + room_ - bytes : first_;
  }
  ~Guarded() { munmap(base_, size_); }
  Guarded(const Guarded &) = delete;
  Guarded &operator=(const Guarded &) = delete;

  void Freeze() {
    if (room_) mprotect(first_, room_, PROT_READ);
  }

  template <typename T>
  T *as() const {
    return reinterpret_cast<T *>(data_);
  }

 private:
  char *base_, *first_, *data_;
  size_t size_, room_;
};

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t Bits() {
    uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // In [0, n).
  int64_t Below(int64_t n) { return static_cast<int64_t>(Bits() % static_cast<uint64_t>(n)); }
  // In [-1, 1).
  float Uniform() { return static_cast<float>(Below(1 << 24)) / (1 << 23) - 1; }

  template <typename T, size_t n>
  T Pick(const T (&choices)[n]) {
    return choices[Below(n)];
  }

 private:
  uint64_t state_;
};

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_TESTING_GUARDED_H_
