// SCALPEL_FULLY_CONNECTED: int8 weights in grouped CSR, rounded as TensorFlow Lite Micro rounds.
//
// Inputs   x int8; values int8; indices uint8; rows int32 (out, 3), which are scalpel_row structs
// Options  int8 version, kernel, lowest, highest, input zero point, output zero point;
//          int32 inputs of a row
#include <cstdlib>
#include <new>

#include "runtime/scalpel_runtime.h"
#include "runtime/scalpel_tier.h"
#include "scalpel_tflm_ops.h"
#include "scalpel_tflm_tensors.h"
#include "tensorflow/lite/micro/kernels/kernel_util.h"

namespace scalpel {
namespace {

constexpr char kName[] = "SCALPEL_FULLY_CONNECTED";
constexpr int kVersion = 1;
constexpr int64_t kMostNarrow = int64_t{1} << 30;  // of a sum that an int8 kernel takes
constexpr int64_t kMost = int64_t{1} << 31;
constexpr bool kNeedsScratch = SCALPEL_DSP || SCALPEL_MVE;

enum Input { kX, kValues, kIndices, kRows, kInputs };

using NarrowKernel = void (*)(const scalpel_gcsr_fc *, const int8_t *, int16_t *, int8_t *);
using WideKernel = void (*)(const scalpel_gcsr_fc *, const int8_t *, int16_t *, int32_t *);

struct Kernel {
  uint32_t width;
  bool delta;
  NarrowKernel narrow;
  WideKernel wide;
};

constexpr Kernel kKernels[] = {
    {4, false, scalpel_gcsr_fc4_s8, scalpel_gcsr_fc4_s32},
    {8, false, scalpel_gcsr_fc8_s8, scalpel_gcsr_fc8_s32},
    {4, true, scalpel_gcsr_fc4_delta_s8, scalpel_gcsr_fc4_delta_s32},
};

struct Data {
  scalpel_gcsr_fc weights;
  const Kernel *kernel;  // null: the options are not what this version writes
  int32_t lowest, highest;
  int32_t in_zero_point;
  uint32_t batches;
  bool is_narrow;  // whether the int8 kernel is exact
  int widened, sums;
};

void *Init(TfLiteContext *context, const char *buffer, size_t length) {
  void *memory = context->AllocatePersistentBuffer(context, sizeof(Data));
  if (memory == nullptr) return nullptr;
  Data *data = new (memory) Data{};
  Options options(buffer, length);
  const int32_t version = options.Int8();
  const int32_t kernel = options.Int8();
  data->lowest = options.Int8();
  data->highest = options.Int8();
  data->in_zero_point = options.Int8();
  data->weights.zero_point = options.Int8();
  data->weights.in = static_cast<uint32_t>(options.Int32());
  constexpr int32_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);
  if (options.Done() && version == kVersion && kernel >= 0 && kernel < kCount) {
    data->kernel = &kKernels[kernel];
  }
  return data;
}

// What a walk through the rows finds.
struct Walk {
  bool is_valid;
  bool is_narrow;
};

// Follows every row as the kernels do, but never beyond the arrays.
Walk Follow(const Data &data, uint32_t value_bytes, uint32_t index_bytes) {
  const scalpel_gcsr_fc &w = data.weights;
  const uint32_t width = data.kernel->width;
  const uint32_t row_groups = w.in / width + (w.in % width != 0);
  const uint32_t stored = value_bytes / width < index_bytes ? value_bytes / width : index_bytes;
  const int8_t *value = w.values;
  uint32_t at = 0;
  Walk walk = {true, true};
  for (uint32_t r = 0; r < w.out; ++r) {
    const scalpel_row &row = w.rows[r];
    const int32_t shift = static_cast<int8_t>(row.packed & 255);
    const uint32_t late = row.packed >> 8 & 15;
    const uint32_t odd = row.packed >> 12 & 1;
    if (late < 1 || late > 8 || (row.packed >> 13 & 7) != 0 || (width == 8 && odd != 0) ||
        row.multiplier < 0 || shift < -31 || shift > 31) {
      return {false, false};
    }
    const uint32_t groups = 8 / width * (8 * (row.packed >> 16) + 8 - late) + odd;
    if (groups > stored - at) return {false, false};
    int64_t sum = 0;
    uint32_t group = 0;
    for (uint32_t i = 0; i < groups; ++i, ++at) {
      group = (data.kernel->delta ? group : 0) + w.indices[at];
      if (group >= row_groups) return {false, false};
      for (uint32_t lane = 0; lane < width; ++lane) sum += std::abs(int32_t{*value++});
    }
    sum = 128 * sum + std::llabs(int64_t{row.bias});
    if (sum >= kMost) return {false, false};
    walk.is_narrow = walk.is_narrow && sum < kMostNarrow && shift >= 1 && shift <= 22;
  }
  return walk;
}

TfLiteStatus Prepare(TfLiteContext *context, TfLiteNode *node) {
  SCALPEL_ENSURE(node->user_data != nullptr, "there is no memory for the operator.");
  Data *data = static_cast<Data *>(node->user_data);
  scalpel_gcsr_fc &w = data->weights;
  SCALPEL_ENSURE(data->kernel != nullptr, "the options are not of this version.");
  SCALPEL_ENSURE(data->lowest <= data->highest, "the bounds of the output are reversed.");
  const NodeTensors<kInputs> tensors(context, node);
  SCALPEL_ENSURE(tensors.complete(), "it takes 4 inputs and makes 1 output.");
  const TfLiteTensor &x = tensors.input(kX), &y = tensors.output();
  SCALPEL_ENSURE(IsActivation(x, data->in_zero_point) && IsActivation(y, w.zero_point),
                 "input and output are int8 with the zero points of the options.");
  w.values = Constant<int8_t>(tensors.input(kValues), kTfLiteInt8, 4);
  w.indices = Constant<uint8_t>(tensors.input(kIndices), kTfLiteUInt8, 1);
  w.rows = Constant<scalpel_row>(tensors.input(kRows), kTfLiteInt32, alignof(scalpel_row));
  SCALPEL_ENSURE(w.values != nullptr && w.indices != nullptr && w.rows != nullptr,
                 "values, indices and rows are constants, aligned to 4 bytes.");

  const int rows = Rows(tensors.input(kRows), sizeof(scalpel_row) / sizeof(int32_t));
  SCALPEL_ENSURE(rows > 0 && Bytes(tensors.input(kRows)) == rows * sizeof(scalpel_row),
                 "rows have the shape (outputs, 3).");
  w.out = static_cast<uint32_t>(rows);
  SCALPEL_ENSURE(w.in >= data->kernel->width && Bytes(x) % w.in == 0 && Bytes(x) > 0,
                 "the input is whole rows, not shorter than a group.");
  data->batches = Bytes(x) / w.in;
  SCALPEL_ENSURE(Bytes(y) % w.out == 0 && Bytes(y) / w.out == data->batches,
                 "the output has another size than the rows make.");
  const Walk walk = Follow(*data, Bytes(tensors.input(kValues)), Bytes(tensors.input(kIndices)));
  SCALPEL_ENSURE(walk.is_valid, "a row leaves its arrays, the input, or 32 bits.");

  data->is_narrow = walk.is_narrow;
  if (kNeedsScratch) {
    TF_LITE_ENSURE_STATUS(
        context->RequestScratchBufferInArena(context, SCALPEL_FC_SCRATCH(w.in), &data->widened));
  }
  if (!data->is_narrow) {
    TF_LITE_ENSURE_STATUS(
        context->RequestScratchBufferInArena(context, sizeof(int32_t) * w.out, &data->sums));
  }
  return kTfLiteOk;
}

TfLiteStatus Eval(TfLiteContext *context, TfLiteNode *node) {
  const Data &data = *static_cast<const Data *>(node->user_data);
  const scalpel_gcsr_fc &w = data.weights;
  const int8_t *x =
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalInput(context, node, kX));
  int8_t *y = tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalOutput(context, node, 0));
  int16_t *widened = nullptr;
  if (kNeedsScratch) {
    widened = static_cast<int16_t *>(context->GetScratchBuffer(context, data.widened));
  }
  for (uint32_t b = 0; b < data.batches; ++b, x += w.in, y += w.out) {
    if (data.is_narrow) {
      data.kernel->narrow(&w, x, widened, y);
    } else {
      int32_t *sums = static_cast<int32_t *>(context->GetScratchBuffer(context, data.sums));
      data.kernel->wide(&w, x, widened, sums);
      scalpel_requantize_rows_s8(w.rows, w.out, sums, w.zero_point, y);
    }
    if (data.lowest > -128 || data.highest < 127) {
      scalpel_clamp_s8(y, w.out, data.lowest, data.highest);
    }
  }
  return kTfLiteOk;
}

}  // namespace

const TFLMRegistration *RegisterFullyConnected() {
  static const TFLMRegistration registration = tflite::micro::RegisterOp(Init, Prepare, Eval);
  return &registration;
}

}  // namespace scalpel
