// A call of a TensorFlow kernel through the C API: its tensors and attributes, and how it refuses
// them. A refusal is an exception, which `Report` turns into a TF_Status before TensorFlow sees it.
#ifndef SCALPEL_CUSTOM_OPS_TF_CALL_H_
#define SCALPEL_CUSTOM_OPS_TF_CALL_H_

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "tensorflow/c/kernels.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace scalpel {

template <auto kDelete>
struct Deleter {
  template <typename T>
  void operator()(T *pointer) const {
    kDelete(pointer);
  }
};

using Sizes = std::vector<int64_t>;

struct Refusal {
  TF_Code code;
  std::string sentence;
};

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void Refuse(const char *format, ...) {
  char sentence[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  throw Refusal{TF_INVALID_ARGUMENT, sentence};
}

inline std::string Text(const Sizes &sizes) {
  std::string text = "(";
  for (int64_t size : sizes) text += std::to_string(size) + ", ";
  if (!sizes.empty()) text.resize(text.size() - (sizes.size() == 1 ? 1 : 2));
  return text + ")";
}

inline int64_t Product(const Sizes &sizes, int64_t unit) {
  int64_t product = unit;
  // A zero makes the product zero, wherever it stands.
  if (std::find(sizes.begin(), sizes.end(), 0) != sizes.end()) return 0;
  for (int64_t size : sizes) {
    if (__builtin_mul_overflow(product, size, &product)) {
      Refuse("A tensor of the shape %s has too many elements to count.", Text(sizes).c_str());
    }
  }
  return product;
}

class Status {
 public:
  operator TF_Status *() const { return status_.get(); }
  void ThrowIfFailed() const {
    const TF_Code code = TF_GetCode(*this);
    if (code != TF_OK) throw Refusal{code, TF_Message(*this)};
  }

 private:
  std::unique_ptr<TF_Status, Deleter<TF_DeleteStatus>> status_{TF_NewStatus()};
};

// Runs `body`; hands what it throws to `fail`, as a TF_Status.
template <typename Body, typename Fail>
void Report(Body body, Fail fail) {
  const Status status;
  try {
    return body();
  } catch (const Refusal &refusal) {
    TF_SetStatus(status, refusal.code, refusal.sentence.c_str());
  } catch (const std::bad_alloc &) {
    TF_SetStatus(status, TF_RESOURCE_EXHAUSTED, "There is no memory left for a grouped CSR op.");
  } catch (...) {
    TF_SetStatus(status, TF_INTERNAL, "A grouped CSR op failed in a way that nobody foresaw.");
  }
  fail(status);
}

class Tensor {
 public:
  Tensor(TF_OpKernelContext *context, int index, const char *name) : name(name) {
    const Status status;
    TF_Tensor *tensor = nullptr;
    TF_GetInput(context, index, &tensor, status);
    tensor_.reset(tensor);
    status.ThrowIfFailed();
    type = TF_TensorType(tensor);
    for (int axis = 0; axis < TF_NumDims(tensor); ++axis) sizes.push_back(TF_Dim(tensor, axis));
  }

  // No element may be read where a size is 0.
  template <typename T>
  const T *data() const {
    return static_cast<const T *>(TF_TensorData(tensor_.get()));
  }

  void CheckRank(size_t rank, const char *meaning) const {
    if (sizes.size() == rank) return;
    Refuse("`%s` has the shape %s; got %s.", name, meaning, Text(sizes).c_str());
  }

  void CheckSizes(const Sizes &expected) const {
    if (sizes == expected) return;
    Refuse("`%s` has to have the shape %s here; got %s.", name, Text(expected).c_str(),
           Text(sizes).c_str());
  }

  const char *const name;
  TF_DataType type;
  Sizes sizes;

 private:
  std::unique_ptr<TF_Tensor, Deleter<TF_DeleteTensor>> tensor_;
};

class Output {
 public:
  Output(TF_OpKernelContext *context, const Sizes &sizes) {
    const int64_t bytes = Product(sizes, sizeof(float));
    const Status status;
    tensor_.reset(TF_AllocateOutput(context, 0, TF_FLOAT, sizes.data(),
                                    static_cast<int>(sizes.size()), bytes, status));
    status.ThrowIfFailed();
  }
  operator float *() const { return static_cast<float *>(TF_TensorData(tensor_.get())); }

 private:
  std::unique_ptr<TF_Tensor, Deleter<TF_DeleteTensor>> tensor_;
};

class AttributeReader {
 public:
  explicit AttributeReader(TF_OpKernelConstruction *construction) : construction_(construction) {}

  void Read(const char *name, int64_t *value) {
    if (!Has(name)) return;
    TF_OpKernelConstruction_GetAttrInt64(construction_, name, value, status_);
    status_.ThrowIfFailed();
  }

  void Read(const char *name, std::array<int64_t, 2> *pair) {
    if (!Has(name)) return;
    int32_t count = 0, bytes = 0;
    TF_OpKernelConstruction_GetAttrSize(construction_, name, &count, &bytes, status_);
    status_.ThrowIfFailed();
    if (count != 2) Refuse("`%s` is a height and a width; got %d numbers.", name, count);
    TF_OpKernelConstruction_GetAttrInt64List(construction_, name, pair->data(), 2, status_);
    status_.ThrowIfFailed();
    for (int64_t size : *pair) {
      if (size >= 1 && size <= INT32_MAX) continue;
      Refuse("`%s` has numbers in [1, %d]; got %lld.", name, INT32_MAX,
             static_cast<long long>(size));
    }
  }

  // One of the words that tf_ops.cc lists; empty where the op has no such attribute.
  std::string Word(const char *name) {
    char word[16] = "";
    if (!Has(name)) return word;
    TF_OpKernelConstruction_GetAttrString(construction_, name, word, sizeof word - 1, status_);
    status_.ThrowIfFailed();
    return word;
  }

 private:
  bool Has(const char *name) {
    const bool has = TF_OpKernelConstruction_HasAttr(construction_, name, status_);
    status_.ThrowIfFailed();
    return has;
  }

  TF_OpKernelConstruction *construction_;
  Status status_;
};

}  // namespace scalpel

#endif  // SCALPEL_CUSTOM_OPS_TF_CALL_H_
