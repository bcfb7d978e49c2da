// SCALPEL_CONV_2D: int8 weights in grouped CSR; see runtime/scalpel_conv.h for the format.
//
// Inputs   x int8; values int8; steps uint8; rows int32 (out, 4), which are scalpel_conv_row
//          structs; planes int16 (n, 3), which are scalpel_conv_plane structs
// Options  int8 version, kernel, lowest, highest, input zero point, output zero point; int32 the
//          window, then tile, tiles, entries, band_rows, line_bytes
#include "runtime/scalpel_conv.h"

#include <cstdlib>
#include <new>

#include "scalpel_tflm_ops.h"
#include "scalpel_tflm_tensors.h"
#include "tensorflow/lite/micro/kernels/kernel_util.h"

namespace scalpel {
namespace {

constexpr char kName[] = "SCALPEL_CONV_2D";
constexpr int kVersion = 1;
constexpr int64_t kMostOfASum = int64_t{1} << 30;
constexpr int64_t kMostBytes = int64_t{1} << 30;
constexpr int32_t kLargest = 1 << 20;  // of any number of the options
constexpr int32_t kMargin = 4;         // bytes before a line that a plane may point to
constexpr int32_t kWidth = 4;
constexpr uint32_t kUnrolled = 16, kGroupCode = 60;

enum Input { kX, kValues, kSteps, kRows, kPlanes, kInputs };

struct Kernel {
  scalpel_conv_kernel run;
  bool is_shared, is_relu;
};

constexpr Kernel kKernels[] = {
    {scalpel_conv4, false, false},
    {scalpel_conv4_relu, false, true},
    {scalpel_conv4_shared, true, false},
    {scalpel_conv4_relu_shared, true, true},
};

struct Data {
  scalpel_gcsr_conv conv;
  const Kernel *kernel;  // null: the options are not what this version writes
  int32_t out_zero_point;
  int scratch;
};

void *Init(TfLiteContext *context, const char *buffer, size_t length) {
  void *memory = context->AllocatePersistentBuffer(context, sizeof(Data));
  if (memory == nullptr) return nullptr;
  Data *data = new (memory) Data{};
  scalpel_gcsr_conv &w = data->conv;
  Options options(buffer, length);
  const int32_t version = options.Int8();
  const int32_t kernel = options.Int8();
  w.lowest = options.Int8();
  w.highest = options.Int8();
  w.in_zero_point = options.Int8();
  data->out_zero_point = options.Int8();
  bool in_range = true;
  for (int32_t *number :
       {&w.window.in_height, &w.window.in_width, &w.window.in_channels, &w.window.out_height,
        &w.window.out_width, &w.window.out_channels, &w.window.filter_height,
        &w.window.filter_width, &w.window.stride_height, &w.window.stride_width,
        &w.window.dilation_height, &w.window.dilation_width, &w.window.pad_top, &w.window.pad_left,
        &w.tile, &w.tiles, &w.entries, &w.band_rows, &w.line_bytes}) {
    *number = options.Int32();
    const bool is_pad = number == &w.window.pad_top || number == &w.window.pad_left;
    in_range = in_range && *number >= (is_pad ? 0 : 1) && *number <= kLargest;
  }
  w.pool = 1;
  constexpr int32_t kCount = sizeof(kKernels) / sizeof(kKernels[0]);
  if (options.Done() && version == kVersion && in_range && kernel >= 0 && kernel < kCount) {
    data->kernel = &kKernels[kernel];
    w.kernel = data->kernel->run;
  }
  return data;
}

int64_t Product(int64_t a, int64_t b, int64_t c) {
  return a * b > kMostBytes ? kMostBytes + 1 : a * b * c;
}

int64_t Reach(const scalpel_window &window) {
  return int64_t{window.filter_height - 1} * window.dilation_height + 1;
}

// Bytes that scalpel_gcsr_conv_s8 works in; above kMostBytes where it would be too much.
int64_t ScratchBytes(const scalpel_gcsr_conv &w) {
  const int64_t row = Product(w.plane_count, w.entries, 8);
  const int64_t bands = row > kMostBytes ? row : Product(row, w.band_rows, w.tiles);
  const int64_t narrow = w.window.out_width < 4 ? int64_t{4} * w.window.out_channels : 0;
  return bands > kMostBytes ? bands : bands + 2 * (w.line_bytes + kMargin) + narrow;
}

// Whether tiles cover the columns and no plane leaves its line.
bool PlanesFit(const scalpel_gcsr_conv &w) {
  const scalpel_window &window = w.window;
  const int64_t columns = window.out_width;
  const int64_t step = int64_t{window.stride_width} * window.in_channels;
  if (w.tile % 4 != 0 || w.entries % 4 != 0 || w.entries < w.tile || w.line_bytes % 4 != 0 ||
      int64_t{w.tile} * w.tiles < columns || w.band_rows < Reach(window) ||
      int64_t{window.pad_left} * window.in_channels > w.line_bytes) {
    return false;
  }
  const int64_t start = columns > w.tile ? columns - w.tile : 0;
  for (int32_t p = 0; p < w.plane_count; ++p) {
    const scalpel_conv_plane &plane = w.planes[p];
    const bool is_split = plane.split != kWidth;
    const int64_t end = is_split && plane.second > plane.first ? plane.second : plane.first;
    if (plane.split < 1 || plane.split > kWidth || plane.below < 0 || plane.below > 1 ||
        plane.first < 0 || (is_split && plane.second < -kMargin) ||
        (start + w.entries - 1) * step + end + kWidth > w.line_bytes) {
      return false;
    }
  }
  return true;
}

// Follows every row as the kernels do, but never beyond the arrays.
bool RowsFit(const Data &data, uint32_t value_bytes, uint32_t step_bytes) {
  const scalpel_gcsr_conv &w = data.conv;
  const int64_t band = Product(w.plane_count, w.entries, Reach(w.window));
  const int8_t *value = w.values;
  uint32_t stored = value_bytes / kWidth, at = 0;
  for (int32_t r = 0; r < w.window.out_channels; ++r) {
    const scalpel_conv_row &row = w.rows[r];
    const uint32_t shift = row.packed & 255, late = row.packed >> 16;
    if (shift < 1 || shift > 22 || late % kGroupCode != 0 || late < kGroupCode ||
        late > kUnrolled * kGroupCode || row.multiplier < 0 ||
        row.rounding != (1 << (shift - 1)) + data.out_zero_point * (1 << shift)) {
      return false;
    }
    const uint32_t groups = kUnrolled * (row.packed >> 8 & 255) + kUnrolled - late / kGroupCode;
    if (data.kernel->is_shared) at = 0;
    if (groups > stored || groups > step_bytes - at || groups > band) return false;
    stored -= groups;
    int64_t sum = 0, entry = 0;
    for (uint32_t i = 0; i < groups; ++i, ++at) {
      entry += w.steps[at];
      if (entry + w.tile > band) return false;
      for (int32_t lane = 0; lane < kWidth; ++lane) sum += std::abs(int32_t{*value++});
    }
    if (128 * sum + std::llabs(int64_t{row.bias}) >= kMostOfASum) return false;
  }
  return true;
}

TfLiteStatus Prepare(TfLiteContext *context, TfLiteNode *node) {
  SCALPEL_ENSURE(node->user_data != nullptr, "there is no memory for the operator.");
  Data *data = static_cast<Data *>(node->user_data);
  scalpel_gcsr_conv &w = data->conv;
  SCALPEL_ENSURE(data->kernel != nullptr, "the options are not of this version.");
  SCALPEL_ENSURE(w.lowest <= w.highest, "the bounds of the output are reversed.");
  SCALPEL_ENSURE(!data->kernel->is_relu || w.lowest >= data->out_zero_point,
                 "the kernel makes no output below the zero point.");
  const NodeTensors<kInputs> tensors(context, node);
  SCALPEL_ENSURE(tensors.complete(), "it takes 5 inputs and makes 1 output.");
  const TfLiteTensor &x = tensors.input(kX), &y = tensors.output();
  SCALPEL_ENSURE(IsActivation(x, w.in_zero_point) && IsActivation(y, data->out_zero_point),
                 "input and output are int8 with the zero points of the options.");
  const scalpel_window &window = w.window;
  SCALPEL_ENSURE(Bytes(x) == Product(window.in_height, window.in_width, window.in_channels) &&
                     Bytes(y) == Product(window.out_height, window.out_width, window.out_channels),
                 "input or output have another size than the window.");
  w.values = Constant<int8_t>(tensors.input(kValues), kTfLiteInt8, 4);
  w.steps = Constant<uint8_t>(tensors.input(kSteps), kTfLiteUInt8, 1);
  w.rows =
      Constant<scalpel_conv_row>(tensors.input(kRows), kTfLiteInt32, alignof(scalpel_conv_row));
  w.planes = Constant<scalpel_conv_plane>(tensors.input(kPlanes), kTfLiteInt16,
                                          alignof(scalpel_conv_plane));
  SCALPEL_ENSURE(
      w.values != nullptr && w.steps != nullptr && w.rows != nullptr && w.planes != nullptr,
      "values, steps, rows and planes are constants, aligned to 4 bytes.");
  const int rows = Rows(tensors.input(kRows), sizeof(scalpel_conv_row) / sizeof(int32_t));
  w.plane_count = Rows(tensors.input(kPlanes), sizeof(scalpel_conv_plane) / sizeof(int16_t));
  SCALPEL_ENSURE(rows == window.out_channels && w.plane_count > 0 && w.plane_count <= kLargest &&
                     Bytes(tensors.input(kRows)) == rows * sizeof(scalpel_conv_row) &&
                     Bytes(tensors.input(kPlanes)) == w.plane_count * sizeof(scalpel_conv_plane),
                 "rows have the shape (channels, 4), planes (any, 3).");
  SCALPEL_ENSURE(PlanesFit(w), "a plane leaves its line.");
  const int64_t scratch = ScratchBytes(w);
  SCALPEL_ENSURE(scratch <= kMostBytes, "it would work in more than 1 GiB.");
  SCALPEL_ENSURE(RowsFit(*data, Bytes(tensors.input(kValues)), Bytes(tensors.input(kSteps))),
                 "a row leaves its arrays, the band, or 30 bits.");
  return context->RequestScratchBufferInArena(context, static_cast<size_t>(scratch),
                                              &data->scratch);
}

TfLiteStatus Eval(TfLiteContext *context, TfLiteNode *node) {
  const Data &data = *static_cast<const Data *>(node->user_data);
  scalpel_gcsr_conv_s8(
      &data.conv,
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalInput(context, node, kX)),
      context->GetScratchBuffer(context, data.scratch),
      tflite::micro::GetTensorData<int8_t>(tflite::micro::GetEvalOutput(context, node, 0)));
  return kTfLiteOk;
}

}  // namespace

const TFLMRegistration *RegisterConv2D() {
  static const TFLMRegistration registration = tflite::micro::RegisterOp(Init, Prepare, Eval);
  return &registration;
}

}  // namespace scalpel
