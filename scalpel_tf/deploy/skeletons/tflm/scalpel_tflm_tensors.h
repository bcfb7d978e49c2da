// What both operators do with tensors: hold them for the length of Prepare, and look at them.
#ifndef SCALPEL_TFLM_TENSORS_H
#define SCALPEL_TFLM_TENSORS_H

#include <cstdint>

#include "tensorflow/lite/c/common.h"
#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_log.h"

namespace scalpel {

// The inputs and the output of a node, given back when this goes out of scope.
template <int kInputs>
class NodeTensors {
 public:
  NodeTensors(TfLiteContext *context, const TfLiteNode *node)
      : context_(tflite::GetMicroContext(context)) {
    if (node->inputs->size != kInputs || node->outputs->size != 1) return;
    for (int i = 0; i < kInputs; ++i) inputs_[i] = context_->AllocateTempInputTensor(node, i);
    output_ = context_->AllocateTempOutputTensor(node, 0);
  }
  ~NodeTensors() {
    for (TfLiteTensor *tensor : inputs_) Free(tensor);
    Free(output_);
  }
  NodeTensors(const NodeTensors &) = delete;
  NodeTensors &operator=(const NodeTensors &) = delete;

  // Whether there are as many as there should be.
  bool complete() const {
    for (const TfLiteTensor *tensor : inputs_) {
      if (tensor == nullptr) return false;
    }
    return output_ != nullptr;
  }
  const TfLiteTensor &input(int i) const { return *inputs_[i]; }
  const TfLiteTensor &output() const { return *output_; }

 private:
  void Free(TfLiteTensor *tensor) {
    if (tensor != nullptr) context_->DeallocateTempTfLiteTensor(tensor);
  }

  tflite::MicroContext *context_;
  TfLiteTensor *inputs_[kInputs] = {};
  TfLiteTensor *output_ = nullptr;
};

// The constant data of a tensor; null where it has another type, changes, or is not aligned.
template <class T>
const T *Constant(const TfLiteTensor &tensor, TfLiteType type, uintptr_t alignment) {
  const bool good = tensor.type == type && tensor.allocation_type == kTfLiteMmapRo &&
                    reinterpret_cast<uintptr_t>(tensor.data.data) % alignment == 0;
  return good ? static_cast<const T *>(tensor.data.data) : nullptr;
}

inline uint32_t Bytes(const TfLiteTensor &tensor) { return static_cast<uint32_t>(tensor.bytes); }

inline bool IsActivation(const TfLiteTensor &tensor, int32_t zero_point) {
  return tensor.type == kTfLiteInt8 && tensor.params.zero_point == zero_point;
}

// The `size` rows of a tensor of the shape (size, width); -1 where it has another.
inline int Rows(const TfLiteTensor &tensor, int width) {
  const TfLiteIntArray *dims = tensor.dims;
  return dims != nullptr && dims->size == 2 && dims->data[1] == width ? dims->data[0] : -1;
}

// Reads little-endian numbers from the custom options of a node.
class Options {
 public:
  Options(const char *data, size_t size)
      : data_(reinterpret_cast<const uint8_t *>(data)), left_(data == nullptr ? 0 : size) {}
  int32_t Int8() { return static_cast<int8_t>(Next()); }
  int32_t Int16() {
    const uint32_t low = Next();
    return static_cast<int16_t>(low | Next() << 8);
  }
  int32_t Int32() {
    const uint32_t low = static_cast<uint16_t>(Int16());
    return static_cast<int32_t>(low | static_cast<uint32_t>(static_cast<uint16_t>(Int16())) << 16);
  }
  // Whether exactly as much was read as there is.
  bool Done() const { return left_ == 0 && !short_; }

 private:
  uint32_t Next() {
    if (left_ == 0) {
      short_ = true;
      return 0;
    }
    --left_;
    return *data_++;
  }

  const uint8_t *data_;
  size_t left_;
  bool short_ = false;
};

// Says why a model is refused; what is constant in flash is still data that somebody wrote.
#define SCALPEL_ENSURE(condition, sentence)   \
  do {                                        \
    if (!(condition)) {                       \
      MicroPrintf("%s: %s", kName, sentence); \
      return kTfLiteError;                    \
    }                                         \
  } while (false)

}  // namespace scalpel

#endif  // SCALPEL_TFLM_TENSORS_H
